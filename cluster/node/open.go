package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/placement"
	"twofold/internal/errs"
	"twofold/internal/vfs"
	"twofold/metadata/fsm"
	"twofold/metadata/kv"
	"twofold/metadata/replica"
)

// Open opens the store of the layout: it checks what is on the drives, formats what
// is new, and returns when both views can be served. errs.Invalid says what to
// change on the command line; errs.Unavailable that too few drives are there.
//
// Of a store over several nodes it opens this node's part, and returns when some node leads,
// however long that takes (errs.Canceled when ctx ends): Options.Cluster.Views are told when
// it is this one, also before Open returns.
func Open(ctx context.Context, o Options) (*Node, error) {
	n := &Node{opts: o, log: o.Logger, fs: vfs.Keeping(o.Locks), wantReplica: make(chan struct{}, 1), began: time.Now(), running: newRunning(), where: newWhere(), failed: make(chan error, 1)}
	if err := n.open(ctx); err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
		defer cancel()
		n.Close(closing)
		return nil, err
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	if n.several() {
		return n.openAmong(ctx)
	}
	fresh, err := n.begin(ctx)
	if err != nil {
		return err
	}
	if err := n.openMetadata(ctx, fresh || n.unfinished(ctx)); err != nil {
		return err
	}
	if err := n.lead(ctx); err != nil {
		return err
	}
	if err := n.opts.Locks.Settle(); err != nil {
		n.log.Warn("the locks of the drives will not outlive this process", "err", err)
	}
	n.watchDrives()
	n.wg.Go(n.keepReplicas)
	return nil
}

// unfinished reports whether the drives were formatted by a start that did not get
// further: all of them are there, and none has a shard. Then the metadata may still
// have to begin; replicas that had begun are not touched.
func (n *Node) unfinished(ctx context.Context) bool {
	if len(n.drives) < len(n.opts.Layout.Drives()) {
		return false
	}
	some := errors.New("there is a shard")
	for _, d := range n.drives {
		if err := d.Walk(ctx, twofold.BlobID{}, func(twofold.BlobID) error { return some }); err != nil {
			return false
		}
	}
	return true
}

// poolsKey is the cluster-wide value that has the number of pools.
const poolsKey = "node/pools"

// checkPools refuses a command line without a pool that the store has: its objects
// could not be read. A pool that is new is remembered, when all of its drives are there.
func (l *Leading) checkPools(ctx context.Context) error {
	value, err := l.volume.Config(ctx, poolsKey)
	if err != nil {
		return err
	}
	given := len(l.n.opts.Layout.Pools)
	known, err := strconv.Atoi(string(value))
	switch {
	case err == nil && known > given:
		return errs.Newf("node.checkPools", errs.Invalid, "the store has %d pools and the command line gives %d: give the drives of every pool, in the order in which they were added", known, given)
	case err == nil && known < given && l.n.several():
		l.pools.Store(int32(known))
		return nil // see addPools
	}
	l.pools.Store(int32(given))
	if err == nil && known == given {
		return nil
	}
	return l.volume.SetConfig(ctx, poolsKey, []byte(strconv.Itoa(given)))
}

// openMetadata opens the replicas: those that are there, and as many more as the
// layout wants and the drives allow.
func (n *Node) openMetadata(ctx context.Context, fresh bool) error {
	var dirs []replica.Dir
	for _, i := range n.replicaDrives() {
		d := n.drives[i]
		dirs = append(dirs, replicaDir(d))
	}
	if n.several() {
		dirs = n.ownReplicas(fresh)
	} else if len(dirs) == 0 {
		return errs.Newf("node.openMetadata", errs.Unavailable, "none of the drives can be used")
	}
	o := replica.Options{
		Dirs: dirs, Bootstrap: fresh, Logger: n.log, Locks: n.opts.Locks, Verify: n.opts.AfterCrash,
		NewMachine: func(s kv.Store) (replica.StateMachine, error) {
			m, err := fsm.New(s, fsm.Options{})
			if err != nil {
				return nil, err
			}
			return m, nil
		},
	}
	if n.several() {
		o.Wire = wire{n}
	}
	g, err := replica.Open(ctx, o)
	n.group = g
	return err
}

// replicaDrives chooses the drives with a metadata replica, as positions in n.drives.
func (n *Node) replicaDrives() []int {
	var open []placement.Drive
	var keep []int
	for i, d := range n.drives {
		f := d.Format()
		open = append(open, placement.Drive{Path: d.Path(), Set: f.SetID(), Index: f.Index})
		if hasReplica(d) {
			keep = append(keep, i)
		}
	}
	want := n.opts.Layout.ReplicaCount()
	return placement.Replicas(open, keep, want, nil)
}

// hasReplica reports whether a drive has had a metadata replica. One that hangs has
// none.
func hasReplica(d *drive.Local) bool {
	return within(crashTimeout, func() error {
		_, err := os.Stat(filepath.Join(d.Path(), drive.MetaDir, "g0"))
		return err
	}) == nil
}

// Close stops everything, in the opposite order. Requests must have ended.
func (n *Node) Close(ctx context.Context) error {
	n.cancel()
	if n.monitor != nil {
		n.monitor.Stop()
	}
	n.wg.Wait()
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	if l := n.leads.cur.Load(); l != nil {
		keep(l.close(ctx))
	}
	if n.group != nil {
		keep(n.group.Close(ctx))
	}
	if n.served != nil {
		n.served.Close()
	}
	for _, d := range n.drives {
		d.Close()
	}
	return first
}
