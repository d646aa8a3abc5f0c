package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/placement"
	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// place is one directory of the command line, and what was found there.
type place struct {
	path    string
	name    string          // for people: the path, behind the node's URL where there are several
	planned placement.Drive // where the command line puts it
	format  *drive.Format   // its identity; nil where it has none
	absent  error           // why nothing can be read there; nil where something can
}

// fresh reports whether the directory can be formatted: it is there and empty.
func (p *place) fresh() bool { return p.format == nil && p.absent == nil }

// inventory is what the command line's directories turned out to be.
type inventory struct {
	cluster twofold.ClusterID // zero where no drive has one
	created twofold.Time
	drives  []placement.Drive // of this node
	places  []*place          // one for each
}

// inspect reads the identity of every directory of this node and refuses what does
// not belong together. It changes nothing.
func (o *Options) inspect(fsys vfs.FS) (*inventory, error) {
	inv := &inventory{drives: o.ownDrives()}
	limit := o.lookLimit()
	var looks []<-chan look
	for _, d := range inv.drives {
		p := &place{path: d.Path, name: o.nameOf(d), planned: d}
		inv.places = append(inv.places, p)
		looks = append(looks, lookAt(fsys, p.path, p.name))
	}
	late, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for i, p := range inv.places {
		l := look{absent: errs.Newf("node.inspect", errs.Unavailable, "it has not answered for %v", limit)}
		select {
		case l = <-looks[i]:
		case <-late.Done():
			select {
			case l = <-looks[i]: // it is another one that hangs
			default:
			}
		}
		if l.err != nil {
			return nil, l.err
		}
		p.format, p.absent = l.format, l.absent
	}
	return inv, inv.check(o)
}

// ownDrives are those of this node.
func (o *Options) ownDrives() []placement.Drive {
	all := o.Layout.Drives()
	if o.Cluster == nil {
		return all
	}
	return slices.DeleteFunc(all, func(d placement.Drive) bool { return d.Node != o.Cluster.Self })
}

// nameOf is how people know a drive.
func (o *Options) nameOf(d placement.Drive) string {
	if o.Cluster == nil {
		return d.Path
	}
	return o.Cluster.Topology.Nodes[d.Node].String() + d.Path
}

// nameAt is the name of the drive that the command line has at a position.
func (o *Options) nameAt(pos [3]int) string {
	for _, d := range o.Layout.Drives() {
		if position(d) == pos {
			return o.nameOf(d)
		}
	}
	return "no drive"
}

// How long a drive may take to say who it is. One that hangs is a missing one: the
// start must not hang with it. A disk that sleeps takes seconds to spin up; those of
// a server that crashed a moment ago do not sleep.
const (
	lookTimeout  = 10 * time.Second
	crashTimeout = 5 * time.Second
)

// lookLimit is which of the two it is.
func (o *Options) lookLimit() time.Duration {
	if o.AfterCrash {
		return crashTimeout
	}
	return lookTimeout
}

// within runs f on a goroutine of its own, which a disk that hangs keeps, and fails
// when it takes longer than limit.
func within(limit time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return errs.Newf("node", errs.Unavailable, "it has not answered for %v", limit)
	}
}

// look is what is found at a path: an identity, nothing (all zero), or why nothing
// can be read; err is why it must not be used.
type look struct {
	format *drive.Format
	absent error
	err    error
}

// lookAt reads a drive's identity in a goroutine, which a disk that hangs keeps.
func lookAt(fsys vfs.FS, path, name string) <-chan look {
	out := make(chan look, 1)
	go func() {
		var l look
		f, err := drive.ReadFormat(fsys, path)
		switch {
		case err == nil:
			l.format = &f
		case errs.Is(err, errs.NotFound):
			if _, serr := os.Stat(path); errors.Is(serr, fs.ErrNotExist) {
				l.absent = serr
			}
		case errs.Is(err, errs.Invalid):
			l.err = errs.Newf("node.inspect", errs.Invalid,
				"%s holds files that are not Twofold's (%s). Give an empty directory, for example %s", name, plainText(err), filepath.Join(path, "twofold"))
		default:
			l.absent = err // unreadable, or its identity is damaged: a lost drive
		}
		out <- l
	}()
	return out
}

// check compares the identities with each other and with the layout.
func (inv *inventory) check(o *Options) error {
	const op = "node.inspect"
	layout := o.Layout
	votes := map[twofold.ClusterID][]string{}
	for _, p := range inv.places {
		if p.format != nil {
			votes[p.format.Cluster] = append(votes[p.format.Cluster], p.path)
		}
	}
	for c, paths := range votes {
		if len(paths) > len(votes[inv.cluster]) {
			inv.cluster = c
		}
	}
	own := map[[3]int]bool{}
	for _, d := range inv.drives {
		own[position(d)] = true
	}
	at := map[[3]int]*place{}
	ids := map[twofold.DriveID]*place{}
	for _, p := range inv.places {
		f := p.format
		if f == nil {
			continue
		}
		if f.Cluster != inv.cluster {
			return errs.Newf(op, errs.Invalid, "%s is a drive of another store: %s, and this one is %s. Take it off the command line, or give an empty directory",
				p.name, f.Cluster, inv.cluster)
		}
		if other := ids[f.Drive]; other != nil {
			return errs.Newf(op, errs.Invalid, "%s and %s are the same drive %s (a copy, or one directory under two names). Keep one of them", other.name, p.name, f.Drive)
		}
		ids[f.Drive] = p
		if int(f.Pool) >= len(layout.Pools) {
			return errs.Newf(op, errs.Invalid, "%s belongs to pool %d of the store, and the command line has %d: give all pools, in the order in which they were added", p.name, f.Pool+1, len(layout.Pools))
		}
		if pool := layout.Pools[f.Pool]; pool.Sets() != f.Sets || pool.SetSize != f.SetSize {
			return errs.Newf(op, errs.Invalid, "%s belongs to a pool of %d sets of %d drives, and the command line makes pool %d of %d sets of %d drives: a pool keeps its drives; give it as it was, and new drives as another argument",
				p.name, f.Sets, f.SetSize, f.Pool+1, pool.Sets(), pool.SetSize)
		}
		pos := [3]int{int(f.Pool), int(f.Set), f.Index}
		if !own[pos] {
			return errs.Newf(op, errs.Invalid, "%s is drive %d of set %s, and the command line has that one on another node, as %s: put the drive back where it was, give an empty directory here, or correct --node",
				p.name, f.Index+1, f.SetID(), o.nameAt(pos))
		}
		if other := at[pos]; other != nil {
			return errs.Newf(op, errs.Invalid, "%s and %s both are drive %d of set %s: one of them was replaced by the other. Empty the one that is out of date, or take it off", other.name, p.name, f.Index+1, f.SetID())
		}
		at[pos] = p
		if inv.created == 0 || f.Created < inv.created {
			inv.created = f.Created
		}
	}
	return nil
}

// isNew reports whether no directory has an identity.
func (inv *inventory) isNew() bool { return inv.cluster.IsZero() }

// missing lists the directories that can't be read.
func (inv *inventory) missing() []string {
	var out []string
	for _, p := range inv.places {
		if p.absent != nil {
			out = append(out, p.path)
		}
	}
	return out
}

// assign gives every place its position: a drive that has an identity keeps its
// own, wherever it is plugged in now; the others take the positions that are left,
// their own first. moved lists drives that are not where the command line has them.
func (inv *inventory) assign() (at map[[3]int]*place, moved []string) {
	at = map[[3]int]*place{}
	for _, p := range inv.places {
		if f := p.format; f != nil {
			pos := [3]int{int(f.Pool), int(f.Set), f.Index}
			at[pos] = p
			if pos != position(p.planned) {
				moved = append(moved, fmt.Sprintf("%s is drive %d of set %s (the command line has it as drive %d of set %s)",
					p.name, f.Index+1, f.SetID(), p.planned.Index+1, p.planned.Set))
			}
		}
	}
	var homeless []*place
	for _, p := range inv.places {
		if p.format != nil {
			continue
		}
		if pos := position(p.planned); at[pos] == nil {
			at[pos] = p
		} else {
			homeless = append(homeless, p)
		}
	}
	for _, d := range inv.drives {
		if len(homeless) > 0 && at[position(d)] == nil {
			at[position(d)] = homeless[0]
			homeless = homeless[1:]
		}
	}
	return at, moved
}

// setOf is the set of a position.
func setOf(pos [3]int) twofold.SetID {
	return twofold.SetID{Pool: uint16(pos[0]), Set: uint16(pos[1])}
}

func position(d placement.Drive) [3]int {
	return [3]int{int(d.Set.Pool), int(d.Set.Set), d.Index}
}

// advice warns of what works but promises less than it seems.
func advice(paths []string) []string {
	var out []string
	byFS := map[uint64][]string{}
	var order []uint64
	kinds := map[string][]string{}
	for _, p := range paths {
		dev, kind, ok := fileSystem(p)
		if !ok {
			continue
		}
		if byFS[dev] == nil {
			order = append(order, dev)
		}
		byFS[dev] = append(byFS[dev], p)
		kinds[kind] = append(kinds[kind], p)
	}
	for _, dev := range order {
		if l := byFS[dev]; len(l) > 1 {
			out = append(out, fmt.Sprintf("%s are on one file system: when that disk fails they all fail, and parity can't help. Fine for a trial; for real data give each drive a disk of its own.", list(l)))
		}
	}
	if l := kinds["ext4"]; len(l) > 0 {
		out = append(out, fmt.Sprintf("%s: ext4. The store works there, and is tested there; XFS is what it is meant for.", list(l)))
	}
	if l := kinds["nfs"]; len(l) > 0 {
		out = append(out, fmt.Sprintf("%s: NFS. Durability and consistency then are the NFS server's promise, not the store's; use local disks (if it has to be NFS, version 4).", list(l)))
	}
	if l := kinds["tmpfs"]; len(l) > 0 {
		out = append(out, fmt.Sprintf("%s: tmpfs. Everything there is gone after a reboot.", list(l)))
	}
	return out
}

func list(paths []string) string {
	if len(paths) > 4 {
		return fmt.Sprintf("%s, %s and %d more", paths[0], paths[1], len(paths)-2)
	}
	return strings.Join(paths, ", ")
}
