package peers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// Peers are the other nodes, as this one reaches them and serves them. Safe for
// concurrent use.
type Peers struct {
	opts     Options
	log      *slog.Logger
	process  twofold.UUID // of this run
	store    atomic.Pointer[twofold.ClusterID]
	handlers handlers
	refusals said    // of nodes that have dialled
	links    []*link // by node; nil for this one

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // links' goroutines, inbound connections

	mu      sync.Mutex
	started bool                  // guarded by mu
	closed  bool                  // guarded by mu
	inbound map[*inbound]struct{} // guarded by mu
	changed chan struct{}         // guarded by mu; closed and made anew at each change
}

// New makes the connections' owner; nothing is dialled before Start. errs.Invalid for
// bad options.
func New(o Options) (*Peers, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Peers{
		opts: o, log: o.Logger, process: twofold.NewUUID(),
		links:   make([]*link, len(o.Nodes)),
		inbound: map[*inbound]struct{}{},
		changed: make(chan struct{}),
	}
	p.store.Store(&o.Cluster)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for i := range o.Nodes {
		if i != o.Self {
			p.links[i] = newLink(p, i)
		}
	}
	return p, nil
}

// Start begins to dial the other nodes. What is to serve them from the first request on
// was given to Handle before.
func (p *Peers) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started || p.closed {
		return
	}
	p.started = true
	for _, l := range p.links {
		if l != nil {
			p.wg.Add(1)
			go l.run()
		}
	}
}

// Close ends all connections, those accepted too, and waits for that; not for handlers
// that still run, whose contexts have ended.
func (p *Peers) Close() {
	p.mu.Lock()
	p.closed = true
	p.cancel()
	for in := range p.inbound {
		p.closeSoon(in.conn)
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// Handle has h serve the methods from to to, both included, that other nodes ask for.
// It panics where they have a handler, or are this package's. A method without one is
// errs.Unsupported.
func (p *Peers) Handle(from, to rpc.Method, h Handler) { p.handlers.add(from, to, h) }

// Call asks another node and waits for its answer; see rpc.Conn.Call, whose errors and
// buffers are the same. errs.Unavailable: the node is down, or went down before it
// answered, and then (rpc.ErrLost) the call may or may not have been served.
// errs.Invalid: no such node, or this one. The end of ctx may be heeded late, but not
// later than the node is found to be down, where the connection takes no bytes.
func (p *Peers) Call(ctx context.Context, node int, class Class, c *rpc.Call) (int, error) {
	const op = "peers.Call"
	if node < 0 || node >= len(p.links) || p.links[node] == nil || !class.known() {
		return 0, errs.Newf(op, errs.Invalid, "no way to node %d by class %d", node, class)
	}
	l := p.links[node]
	pair := l.pair.Load()
	if pair == nil {
		return 0, errs.Newf(op, errs.Unavailable, "%s", l.state().Why)
	}
	n, err := pair.of(class).Call(ctx, c)
	if err != nil && errors.Is(err, rpc.ErrLost) {
		l.down(pair, l.cause(pair, err)) // not later than the caller knows it
	}
	return n, err
}

// Up reports whether a node can be called now. This one always is.
func (p *Peers) Up(node int) bool { return p.State(node).Up }

// State says how a node is reached. This one is always up.
func (p *Peers) State(node int) State {
	if node == p.opts.Self {
		return State{Up: true, Program: p.opts.Program, Protocol: MaxProtocol}
	}
	if node < 0 || node >= len(p.links) {
		return State{Why: "no such node"}
	}
	return p.links[node].state()
}

// Watch returns a channel that is closed when a node goes up or down next. Who waits for
// a state gets the channel, looks, and then waits, so that no change is missed.
func (p *Peers) Watch() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *Peers) broadcast() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Waiting says of each node that is not up which it is and why, in the nodes' order:
// "node3:9000: connection refused".
func (p *Peers) Waiting() []string {
	var out []string
	for _, l := range p.links {
		if l == nil {
			continue
		}
		if s := l.state(); !s.Up {
			out = append(out, s.Why)
		}
	}
	return out
}

// SetCluster says which store this node's drives belong to, when that is known. Nodes
// of another one are refused from then on; those that are up go down with their next
// ping.
func (p *Peers) SetCluster(id twofold.ClusterID) { p.store.Store(&id) }

func (p *Peers) cluster() twofold.ClusterID { return *p.store.Load() }
