// Package replica keeps the metadata on several drives: a raft group with one
// replica a drive, each a log (raft-wal), an index (Badger) and snapshots of it.
//
// For now every replica is in one process. See DESIGN.md for what that allows
// (reads under a lease that needs no clock, going on from fewer drives than a
// majority) and for the argument that it is safe.
package replica

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// Options of Open.
type Options struct {
	// Dirs are the drives that have replicas, or get them. Those that are missing
	// are left out.
	Dirs []Dir
	// NewMachine makes the state machine on an index.
	NewMachine func(kv.Store) (StateMachine, error)
	// Bootstrap: the group is new. Without it, Dirs without a replica among them
	// are errs.Unavailable.
	Bootstrap bool
	Logger    *slog.Logger
	// HeartbeatTimeout is how long a follower waits for its leader, and a leader
	// for its majority (1 s).
	HeartbeatTimeout time.Duration

	wrapDisk func(Dir, disk) disk // for tests: between a replica and its log
}

// Group is the replicated metadata. Safe for concurrent use.
type Group struct {
	opts Options
	log  *slog.Logger
	net  *network

	mu     sync.Mutex
	nodes  map[twofold.DriveID]*node // guarded by mu; running replicas
	lost   map[twofold.DriveID]error // guarded by mu; drives given up, and why
	closed bool                      // guarded by mu

	nodeList atomic.Pointer[[]*node] // the running replicas, for readers
	changed  broadcast               // leadership or membership changed

	lease  atomic.Pointer[lease]
	rounds roundGate

	work   chan func() // the manager's inbox: membership changes, one at a time
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

var _ metadata.Store = (*Group)(nil)

// Open opens the group and waits until it has a leader and every drive that is
// there takes part.
func Open(ctx context.Context, o Options) (*Group, error) {
	const op = "replica.Open"
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.HeartbeatTimeout == 0 {
		o.HeartbeatTimeout = time.Second
	}
	if o.NewMachine == nil || len(o.Dirs) == 0 {
		return nil, errs.Newf(op, errs.Invalid, "drives and a state machine are needed")
	}
	g := &Group{
		opts: o, log: o.Logger, net: newNetwork(),
		nodes: map[twofold.DriveID]*node{}, lost: map[twofold.DriveID]error{},
		work: make(chan func(), 16),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.nodeList.Store(&[]*node{})
	if err := g.boot(ctx); err != nil {
		return nil, errors.Join(err, g.Close(ctx))
	}
	return g, nil
}

// add puts a started replica among the running ones.
func (g *Group) add(n *node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nodes[n.dir.Drive] = n
	delete(g.lost, n.dir.Drive)
	g.relist()
	g.wg.Add(1)
	go g.follow(n)
}

// drop takes a replica from the running ones.
func (g *Group) drop(n *node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.nodes[n.dir.Drive] == n {
		delete(g.nodes, n.dir.Drive)
		g.relist()
	}
}

func (g *Group) relist() {
	list := make([]*node, 0, len(g.nodes))
	for _, n := range g.nodes {
		list = append(list, n)
	}
	g.nodeList.Store(&list)
	g.changed.notify()
}

// follow passes a replica's notices of leadership on.
func (g *Group) follow(n *node) {
	defer g.wg.Done()
	for {
		select {
		case <-n.leading:
			g.changed.notify()
		case <-n.gone:
			g.changed.notify()
			return
		}
	}
}

// leader is the replica that leads, the one of the highest term where two believe to.
func (g *Group) leader() *node {
	var best *node
	var term uint64
	for _, n := range *g.nodeList.Load() {
		if !n.leads() {
			continue
		}
		if t := n.raft.CurrentTerm(); best == nil || t > term {
			best, term = n, t
		}
	}
	return best
}

// awaitLeader waits for a leader. errs.Unavailable when ctx ends first.
func (g *Group) awaitLeader(ctx context.Context) (*node, error) {
	for {
		wait := g.changed.wait()
		if n := g.leader(); n != nil {
			return n, nil
		}
		if err := g.outage(); err != nil {
			return nil, err
		}
		select {
		case <-wait:
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, errs.E("replica", errs.Unavailable, errors.Join(errs.Newf("", errs.Unavailable, "the metadata has no leader"), ctx.Err()))
		case <-g.ctx.Done():
			return nil, errClosed
		}
	}
}

var errClosed = errs.Newf("replica", errs.Unavailable, "the metadata is closed")

// outage says why the group can't have a leader, if it can't.
func (g *Group) outage() error {
	if g.ctx.Err() != nil {
		return errClosed
	}
	return nil
}

// Close stops every replica in order: the next Open starts from clean indexes.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.lease.Store(nil)

	limit := 10 * time.Second
	if d, ok := ctx.Deadline(); ok {
		limit = max(time.Until(d), time.Second)
	}
	nodes := *g.nodeList.Load()
	errc := make(chan error, len(nodes))
	for _, n := range nodes {
		n.port.cut() // nobody elects while the others stop
	}
	for _, n := range nodes {
		go func() { errc <- n.close(limit) }()
	}
	var err error
	for range nodes {
		err = errors.Join(err, <-errc)
	}
	g.changed.notify()
	g.wg.Wait()
	return err
}

// serverOf is a replica's entry in raft's configuration.
func serverOf(id twofold.DriveID, s raft.ServerSuffrage) raft.Server {
	return raft.Server{Suffrage: s, ID: raft.ServerID(id.String()), Address: raft.ServerAddress(id.String())}
}
