// Package node is one server's part of a store: the drives of the command line that are
// its own, the metadata replicas on them, and, where it leads, the store itself: the engine
// over all drives and the volume on top. It decides at the start what may be formatted, and
// while running what becomes of drives that are lost, come back, or are replaced.
//
// A store on one node is led there, always. Of one over several nodes (Options.Cluster) one
// node at a time leads: docs/cluster.md is a walk through it.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/cluster/drives"
	"twofold/engine/drive"
	"twofold/engine/placement"
	"twofold/internal/errs"
	"twofold/internal/flock"
	"twofold/internal/procid"
	"twofold/internal/vfs"
	"twofold/metadata/replica"
	"twofold/volume"
)

// Options for Open.
type Options struct {
	Layout placement.Layout // of the whole store
	Logger *slog.Logger
	// Program is this program's version, for Info.
	Program string
	// Say prints to the person who started the server, before anything is changed.
	Say func(text string)
	// LeaseTerm and SessionTTL: see volume.Options.
	LeaseTerm, SessionTTL time.Duration
	// ScrubCycle is how long a scrub of everything takes. Zero: 30 days.
	ScrubCycle time.Duration
	// Locks takes the locks of the drives and replicas, and has those of the process
	// before; Open settles it. Nil: locks end with the process.
	Locks *flock.Keeper
	// Cluster: the store is over several nodes, and this is one of them. Nil: this
	// process has every drive.
	Cluster *Cluster
	// AfterCrash: the process that served before did not end in order. A drive that
	// does not answer may be why: less time is given to those, and what is mapped of
	// the others is read before (replica.Options.Verify).
	AfterCrash bool
}

// Node is an open store, or one node's part of it.
type Node struct {
	opts        Options
	log         *slog.Logger
	fs          vfs.FS
	cluster     twofold.ClusterID
	slots       map[twofold.SetID][]*drive.Slot
	at          map[[3]int]*place // what is at each position
	group       *replica.Group
	monitor     *drive.Monitor
	wantReplica chan struct{} // kicks keepReplicas
	began       time.Time
	leads
	running

	// Of a store over several nodes:
	meeting meeting
	where   where
	served  *drives.Server // this node's drives, for the others
	opened  atomic.Bool    // group is there
	failed  chan error     // why this node can't lead, ever

	mu     sync.Mutex
	drives []*drive.Local // guarded by mu once the monitor runs
}

// Leading is the open store, nil while this node does not lead it.
func (n *Node) Leading() *Leading { return n.leads.cur.Load() }

// Volume is the store as the views see it, of a node that leads.
func (n *Node) Volume() *volume.Volume { return n.leads.cur.Load().volume }

// begin looks at the drives, says what will be, formats what is new, and opens them.
// fresh tells that the store is new.
func (n *Node) begin(ctx context.Context) (fresh bool, err error) {
	inv, err := n.opts.inspect(n.fs)
	if err != nil {
		return false, err
	}
	fresh = inv.isNew()
	for _, w := range n.opts.Layout.Warnings {
		n.log.Warn(w)
	}
	if fresh {
		err = n.beginNew(inv)
	} else {
		err = n.beginExisting(inv)
	}
	if err != nil {
		return false, err
	}
	return fresh, n.openDrives(ctx, inv, fresh)
}

// beginNew announces a new store and checks that every directory can be had.
func (n *Node) beginNew(inv *inventory) error {
	n.opts.Say(n.opts.Layout.Describe())
	for _, w := range advice(paths(inv.places)) {
		n.log.Warn(w)
	}
	if err := inv.make(); err != nil {
		return err
	}
	inv.cluster, inv.created = twofold.NewUUID(), twofold.Now()
	n.cluster = inv.cluster
	return nil
}

// beginExisting tells what is missing, and refuses to go on with less than it needs:
// with too few drives of a store, empty directories are not replacements but mounts
// that are not there.
func (n *Node) beginExisting(inv *inventory) error {
	n.cluster = inv.cluster
	for _, p := range inv.places {
		if p.absent != nil {
			n.log.Warn("a drive is missing; the store goes on without it", "drive", p.name, "err", p.absent)
		}
	}
	have := map[twofold.SetID]int{}
	var empty []string
	for _, p := range inv.places {
		if p.format != nil {
			have[p.format.SetID()]++
		} else if p.fresh() {
			empty = append(empty, p.name)
		}
	}
	for i, pool := range n.opts.Layout.Pools {
		known := 0
		for s := range pool.Sets() {
			known += have[twofold.SetID{Pool: uint16(i), Set: uint16(s)}]
		}
		if known == 0 && i > 0 {
			if missing := inv.missing(); len(missing) > 0 && anyOf(pool, missing) {
				return errs.Newf("node.Open", errs.Invalid, "pool %d (%s) is new or lost: of its directories %s can't be read. For a new pool make them all, empty; of a lost one bring the drives back", i+1, pool.Arg, list(missing))
			}
			n.opts.Say(fmt.Sprintf("Pool %d (%s) is added to the store.\n%s", i+1, pool.Arg, n.opts.Layout.Describe()))
			continue
		}
		need := pool.SetSize - min(n.opts.Layout.Standard, pool.SetSize/2)
		for s := range pool.Sets() {
			set := twofold.SetID{Pool: uint16(i), Set: uint16(s)}
			if have[set] < need && len(empty) > 0 {
				return errs.Newf("node.Open", errs.Invalid,
					"set %s has %d of its %d drives, which is too few to rebuild the others; %s empty. If their disks are not mounted, mount them; if they are lost, give the drives that are left and take the empty directories off",
					set, have[set], pool.SetSize, isAre(empty))
			}
		}
	}
	if _, moved := inv.assign(); len(moved) > 0 {
		for _, m := range moved {
			n.log.Warn("a drive is in another place than the command line has it; it is recognised by its id", "drive", m)
		}
	}
	return nil
}

func isAre(paths []string) string {
	if len(paths) == 1 {
		return paths[0] + " is"
	}
	return list(paths) + " are"
}

func anyOf(pool placement.Pool, missing []string) bool {
	for _, d := range pool.Drives {
		for _, m := range missing {
			if d.Path == m {
				return true
			}
		}
	}
	return false
}

func paths(places []*place) []string {
	out := make([]string, len(places))
	for i, p := range places {
		out[i] = p.path
	}
	return out
}

// openDrives formats fresh directories and opens every drive in its slot. Over several
// nodes those of the others are absent until this node leads, and fresh ones until the
// node that leads says what they are.
func (n *Node) openDrives(ctx context.Context, inv *inventory, fresh bool) error {
	n.at, _ = inv.assign()
	n.slots = map[twofold.SetID][]*drive.Slot{}
	isNew := make([]bool, len(n.opts.Layout.Pools))
	for i := range isNew {
		isNew[i] = fresh || poolFresh(inv, i)
	}
	for _, d := range n.opts.Layout.Drives() {
		slot := drive.NewSlot(d.Set, d.Index, nil)
		n.slots[d.Set] = append(n.slots[d.Set], slot)
		p := n.at[position(d)]
		switch {
		case p == nil:
			if n.several() {
				slot.Put(drive.NewAbsent(twofold.DriveID{}, n.opts.nameOf(d)))
			}
			continue
		case p.absent != nil, n.several() && p.fresh():
			slot.Put(drive.NewAbsent(twofold.DriveID{}, p.name))
			continue
		}
		if err := n.openDrive(ctx, slot, p, !isNew[d.Set.Pool]); err != nil {
			return err
		}
	}
	return nil
}

func poolFresh(inv *inventory, pool int) bool {
	for _, p := range inv.places {
		if p.format != nil && int(p.format.Pool) == pool {
			return false
		}
	}
	return true
}

// openDrive opens the drive at p in slot, formatting it if it is fresh. A drive that
// can't be opened is a missing one, not the end.
func (n *Node) openDrive(ctx context.Context, slot *drive.Slot, p *place, replacement bool) error {
	set, index := slot.Position()
	abs, err := filepath.Abs(p.path)
	if err != nil {
		return errs.E("node.openDrive", errs.Invalid, err)
	}
	if p.fresh() {
		f := n.format(set, index)
		err := within(lookTimeout, func() error { return drive.WriteFormat(n.fs, abs, f) })
		if err != nil {
			return errs.Newf("node.openDrive", errs.KindOf(err), "%s can't be formatted: %v", p.name, err)
		}
		p.format = &f
	} else {
		replacement = false
	}
	d, err := drive.Open(ctx, drive.Options{FS: n.fs, Path: abs, Logger: n.log, ID: p.format.Drive})
	if err != nil {
		if errs.Is(err, errs.Busy) {
			return errs.Newf("node.openDrive", errs.Busy, "%s is in use by another server process", p.name)
		}
		n.log.Error("a drive can't be used; the store goes on without it", "drive", p.name, "err", err)
		slot.Put(drive.NewAbsent(p.format.Drive, p.name))
		return nil
	}
	if replacement {
		if err := d.SetHealing(ctx, true); err != nil {
			n.log.Error("a drive can't be used; the store goes on without it", "drive", p.name, "err", err)
			d.Close()
			return nil
		}
		n.log.Info("an empty drive takes the place of a lost one and will be refilled", "drive", p.name, "set", set, "position", index+1)
	}
	slot.Put(d)
	n.drives = append(n.drives, d)
	return nil
}

// format is the identity of a new drive for a position.
func (n *Node) format(set twofold.SetID, index int) drive.Format {
	pool := n.opts.Layout.Pools[set.Pool]
	return drive.Format{
		Version: drive.FormatVersion, Cluster: n.cluster, Drive: twofold.NewUUID(),
		Pool: set.Pool, Set: set.Set, Index: index, Sets: pool.Sets(), SetSize: pool.SetSize, Created: twofold.Now(),
	}
}

// self names this process for its sessions.
func self() string { return procid.Self() }
