// Package replica keeps the metadata on several drives: a raft group with one
// replica a drive, each a log (raft-wal), an index (Badger) and snapshots of it.
//
// All replicas are in one process, or they are in several that reach each other over a
// Wire. See DESIGN.md for what the first allows (reads under a lease that needs no clock,
// going on from fewer drives than a majority), for the promises that leases are made of in
// the second, and for the arguments that this is safe.
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
	"twofold/internal/flock"
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
	// Bootstrap: the group may be new. Without it, Dirs without a replica among
	// them are errs.Unavailable.
	Bootstrap bool
	Logger    *slog.Logger
	// HeartbeatTimeout is how long a follower waits for its leader, and a leader
	// for its majority (1 s).
	HeartbeatTimeout time.Duration
	// Locks takes the replicas' locks. Nil: they end with the process.
	Locks *flock.Keeper
	// Verify: the indexes are read through before they are mapped, at Open: a drive
	// that can't be read is left out then and does not end the process, see
	// kv.Options. It takes as long as reading them takes.
	Verify bool
	// Wire reaches the replicas of other processes. Nil: Dirs are all there are. With it
	// Dirs may be empty; Bootstrap is for one process alone, the one that founds the
	// group; and HeartbeatTimeout is 600 ms unless said otherwise.
	Wire Wire

	verified func(bytes int)                                   // see kv.Options; of one replica
	wrapDisk func(Dir, disk) disk                              // for tests: between a replica and its log
	space    func(path string) (free, total uint64, err error) // for tests: in the place of statfs(2)
	holdFor  time.Duration                                     // for tests: in the place of holdTime; negative: nothing is held
	promise  time.Duration                                     // for tests: in the place of promiseTime
	clock    clock                                             // for tests: in the place of the machine's
	exchange *exchange                                         // of the group; set by Open
}

// Group is the replicated metadata. Safe for concurrent use.
type Group struct {
	opts Options
	log  *slog.Logger
	net  *network

	mu      sync.Mutex
	nodes   map[twofold.DriveID]*node // guarded by mu; running replicas
	lost    map[twofold.DriveID]error // guarded by mu; drives given up, and why
	fenced  map[twofold.DriveID]bool  // guarded by mu; lost ones behind whom the epoch was raised
	joins   map[twofold.DriveID]bool  // guarded by mu; drives on which a replica is being made
	outage  error                     // guarded by mu; why there can be no leader
	refused string                    // of the keeper: the replicas that were too few
	closing bool                      // guarded by mu

	nodeList atomic.Pointer[[]*node] // the running replicas, for readers
	changed  broadcast               // leadership, membership or outage changed

	lease  atomic.Pointer[lease]
	rounds roundGate

	// With a wire:
	publishing sync.Mutex               // serialises who stores lease
	reignOf    atomic.Pointer[reigning] // of the replica here that leads; nil: none, or it has only begun
	handing    atomic.Bool              // leadership is being handed over: no lease holds
	asking     atomic.Int64             // requests for a promise that are under way
	changing   chan struct{}            // of capacity 1; taken by who changes the configuration
	contacts   contacts

	kick   chan struct{} // wakes the keeper
	ctx    context.Context
	cancel context.CancelFunc

	background sync.WaitGroup // the keeper and joins
	watchers   sync.WaitGroup // what runs beside each replica
}

var _ metadata.Store = (*Group)(nil)

// Open opens the group and waits until it has a leader. Of a new group every drive
// takes part when it returns; replicas of an old one that have to be made again are
// made in the background.
func Open(ctx context.Context, o Options) (*Group, error) {
	const op = "replica.Open"
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.HeartbeatTimeout == 0 {
		o.HeartbeatTimeout = time.Second
		if o.Wire != nil {
			o.HeartbeatTimeout = 600 * time.Millisecond
		}
	}
	if o.holdFor == 0 {
		o.holdFor = holdTime
	}
	if o.space == nil {
		o.space = space
	}
	if o.NewMachine == nil || len(o.Dirs) == 0 && (o.Wire == nil || o.Bootstrap) {
		return nil, errs.Newf(op, errs.Invalid, "drives and a state machine are needed")
	}
	o.exchange = newExchange()
	g := &Group{
		opts: o, log: o.Logger, net: newNetwork(),
		nodes:  map[twofold.DriveID]*node{},
		lost:   map[twofold.DriveID]error{},
		fenced: map[twofold.DriveID]bool{},
		joins:  map[twofold.DriveID]bool{},
		kick:   make(chan struct{}, 1),

		changing: make(chan struct{}, 1),
	}
	g.net.wire = o.Wire
	if o.promise > 0 {
		g.net.d = o.promise
	}
	if o.clock != nil {
		g.net.clock = o.clock
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.nodeList.Store(&[]*node{})
	if err := g.boot(ctx); err != nil {
		return nil, errors.Join(err, g.Close(ctx))
	}
	return g, nil
}

// enlist puts a started replica among the running ones.
func (g *Group) enlist(n *node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nodes[n.dir.Drive] = n
	delete(g.lost, n.dir.Drive)
	delete(g.fenced, n.dir.Drive)
	g.relist()
	rank := len(g.nodes) - 1
	for _, run := range []func(){
		func() { g.follow(n) }, func() { n.keepSnapshots(rank) }, n.watchAnchor,
	} {
		g.watchers.Go(run)
	}
	if g.net.wire != nil {
		g.watchers.Go(func() { g.reign(n) })
	}
}

// delist takes a replica from the running ones.
func (g *Group) delist(n *node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.nodes[n.dir.Drive] == n {
		delete(g.nodes, n.dir.Drive)
		g.relist()
	}
}

// relist publishes the running replicas. The caller holds mu.
func (g *Group) relist() {
	list := make([]*node, 0, len(g.nodes))
	for _, n := range g.nodes {
		list = append(list, n)
	}
	g.nodeList.Store(&list)
	g.changed.notify()
}

// running lists the replicas that are not out.
func (g *Group) running() []*node {
	var list []*node
	for _, n := range *g.nodeList.Load() {
		if !n.isGone() {
			list = append(list, n)
		}
	}
	return list
}

// follow passes a replica's notices of leadership on.
func (g *Group) follow(n *node) {
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

// awaitLeader waits for a leader. errs.Unavailable when ctx ends first, or when
// there can't be one.
func (g *Group) awaitLeader(ctx context.Context) (*node, error) {
	const op = "replica"
	for {
		wait := g.changed.wait()
		if n := g.leader(); n != nil {
			return n, nil
		}
		g.mu.Lock()
		err := g.outage
		g.mu.Unlock()
		if err != nil {
			return nil, err
		}
		t := time.NewTimer(20 * time.Millisecond)
		select {
		case <-wait:
		case <-t.C:
		case <-ctx.Done():
			return nil, &errs.Error{Op: op, Kind: errs.Unavailable, Msg: "the metadata has no leader", Err: ctx.Err()}
		case <-g.ctx.Done():
			return nil, errClosed
		}
		t.Stop()
	}
}

var errClosed = errs.Newf("replica", errs.Unavailable, "the metadata is closed")

// setOutage notes why there can be no leader; nil: there can.
func (g *Group) setOutage(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && (g.outage == nil || g.outage.Error() != err.Error()) {
		g.log.Error("the metadata is not available", "err", err)
	}
	g.outage = err
	g.changed.notify()
}

// Close stops every replica in order: the next Open starts from clean indexes.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	if g.closing {
		g.mu.Unlock()
		return nil
	}
	g.closing = true
	g.mu.Unlock()
	g.cancel()
	g.background.Wait()

	limit := time.Minute
	if d, ok := ctx.Deadline(); ok {
		limit = max(time.Until(d), time.Second)
	}
	nodes := g.running()
	for _, n := range nodes {
		n.port.cut() // nobody elects while the others stop
	}
	errc := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() { errc <- n.close(limit) }()
	}
	var err error
	for range nodes {
		err = errors.Join(err, <-errc)
	}
	g.changed.notify()
	g.watchers.Wait()
	return err
}

// serverOf is a replica's entry in raft's configuration.
func serverOf(id twofold.DriveID, s raft.ServerSuffrage) raft.Server {
	return raft.Server{Suffrage: s, ID: raft.ServerID(id.String()), Address: raft.ServerAddress(id.String())}
}
