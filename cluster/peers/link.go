package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

const (
	// pingInterval and pingTimeout: a node that stopped just behind an answer is asked
	// 0.25 s later, given up 1.1 s after that, and its connections are closed within the
	// transport's grace of 0.1 s: 1.45 s.
	pingInterval = 250 * time.Millisecond
	pingTimeout  = 1100 * time.Millisecond

	// dialTimeout is for a connection and its hello: a host that is cut off says nothing.
	dialTimeout = 3 * time.Second
	// Waits between attempts. A node that refuses, or is refused, needs an operator.
	minWait     = 50 * time.Millisecond
	maxWait     = time.Second
	refusedWait = 2 * time.Second
)

// State is how a node is reached from here.
type State struct {
	Up    bool
	Epoch uint64    // counts the times that it came up: two looks at an up node with the same one had no loss between them
	Since time.Time // of the last change of Up
	Why   string    // while it is down: the node's address and why
	// What the node has said when it was reached last.
	Program  string
	Protocol int           // the version agreed on
	Skew     time.Duration // how far its clock is ahead of this node's
	RTT      time.Duration // of the last ping
}

// link is this node's way to another one.
type link struct {
	p    *Peers
	node int
	to   Node
	pair atomic.Pointer[pair] // nil while it is down
	kick chan struct{}        // one item: dial now

	mu sync.Mutex
	st State // guarded by mu
}

// pair are the connections to a node that is up.
type pair struct{ control, data *rpc.Conn }

func (p *pair) of(c Class) *rpc.Conn {
	if c == Data {
		return p.data
	}
	return p.control
}

// close ends both, at the same time: each may take the transport's grace.
func (p *pair) close() {
	var wg sync.WaitGroup
	wg.Go(p.control.Close)
	p.data.Close()
	wg.Wait()
}

func newLink(p *Peers, node int) *link {
	l := &link{p: p, node: node, to: p.opts.Nodes[node], kick: make(chan struct{}, 1)}
	l.st = State{Since: time.Now(), Why: l.to.Address + ": not tried yet"}
	return l
}

func (l *link) state() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st
}

// wake has a node that is down dialled now.
func (l *link) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// run dials, watches, and dials again, until Close.
func (l *link) run() {
	defer l.p.wg.Done()
	wait := minWait
	for l.p.ctx.Err() == nil {
		pair, st, err := l.connect(l.p.ctx)
		if err == nil {
			l.up(pair, st)
			err = l.watch(pair)
			l.down(pair, err)
			if errors.Is(err, errSilent) {
				l.p.dropInbound(l.node)
			}
			pair.close()
			wait = minWait
		} else {
			l.fail(err)
		}
		var r *refusal
		if errors.As(err, &r) {
			wait = refusedWait
		}
		l.sleep(wait)
		wait = min(2*wait, maxWait)
	}
}

// sleep waits between attempts, shorter where wake is called, but never not at all: two
// nodes that wake each other must not spin.
func (l *link) sleep(d time.Duration) {
	select {
	case <-l.p.ctx.Done():
	case <-time.After(minWait):
	}
	select {
	case <-l.p.ctx.Done():
	case <-l.kick:
	case <-time.After(d - minWait):
	}
}

// connect makes both connections.
func (l *link) connect(ctx context.Context) (*pair, State, error) {
	control, st, err := l.dial(ctx, Control)
	if err != nil {
		return nil, State{}, err
	}
	data, _, err := l.dial(ctx, Data)
	if err != nil {
		control.Close()
		return nil, State{}, err
	}
	return &pair{control, data}, st, nil
}

// dial makes one connection and says hello on it. A *refusal is one of either side.
func (l *link) dial(ctx context.Context, class Class) (*rpc.Conn, State, error) {
	p := l.p
	cfg := rpc.Config{Secret: p.opts.Secret, Role: rpc.RoleNode, Logger: p.log, Dial: p.opts.Dial, HandshakeTimeout: dialTimeout}
	if class == Data {
		// The pings of Control tell first; these find the end of this connection alone.
		// A shard's frame may take seconds on a slow network.
		cfg.PingInterval, cfg.PingTimeout = 2*time.Second, 10*time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := rpc.Dial(ctx, l.to.Address, cfg, nil)
	if err != nil {
		return nil, State{}, l.dialError(err)
	}
	var w welcome
	sent, begin := p.opts.Now(), time.Now()
	_, err = c.Call(ctx, &rpc.Call{Method: mHello, Header: hello{Facts: p.facts(), To: l.node, Class: class}, Reply: &w, Urgent: true})
	rtt := time.Since(begin)
	ahead := skew(sent, sent.Add(rtt), w.Facts.Wall)
	if err == nil {
		err = l.judge(w, ahead)
	} else if c.Err() != nil {
		err = c.Err()
	}
	if err != nil {
		c.Close()
		return nil, State{}, err
	}
	return c, State{Program: w.Facts.Program, Protocol: min(MaxProtocol, w.Facts.Max), Skew: ahead, RTT: rtt}, nil
}

// judge checks who has answered, and what it thinks of this node.
func (l *link) judge(w welcome, ahead time.Duration) error {
	if why := l.p.check(l.to.Address, w.Facts, ahead); why != "" {
		return &refusal{why}
	}
	if w.Facts.Node != l.node {
		return &refusal{fmt.Sprintf("%s is answered by another node, %s: names and addresses of the nodes must be the same everywhere",
			l.to.Address, l.p.opts.Nodes[w.Facts.Node].Address)}
	}
	if w.Refused != "" {
		return &refusal{fmt.Sprintf("%s refuses this node: %s", l.to.Address, w.Refused)}
	}
	return nil
}

// watch returns why the pair has ended. Either connection's end is the end of both:
// whoever sees a node go up finds both classes working.
func (l *link) watch(c *pair) error {
	paused := false
	for {
		begin := time.Now()
		limit := time.NewTimer(pingTimeout)
		// A call that has to wait for the socket does not heed its context: hence the
		// goroutine, which ends with the connection at the latest.
		answer := make(chan error, 1)
		go func() { answer <- l.ping(c) }()
		var err error
		select {
		case err = <-answer:
			limit.Stop()
		case <-limit.C:
			if late := time.Since(begin) - pingTimeout; late > pingInterval && !paused {
				paused = true // this process stood still itself, and the answer may be waiting here
				continue
			}
			return errSilent
		case <-c.data.Done():
			return l.cause(c, c.data.Err())
		case <-l.p.ctx.Done():
			return l.p.ctx.Err()
		}
		if err != nil {
			return l.cause(c, err)
		}
		paused = false
		select {
		case <-c.control.Done():
			return l.cause(c, c.control.Err())
		case <-c.data.Done():
			return l.cause(c, c.data.Err())
		case <-l.p.ctx.Done():
			return l.p.ctx.Err()
		case <-time.After(time.Until(begin.Add(pingInterval))):
		}
	}
}

// cause is what lies under the end of a wait for a pair.
func (l *link) cause(c *pair, err error) error {
	var r *refusal
	switch {
	case l.p.ctx.Err() != nil:
		return l.p.ctx.Err()
	case errors.As(err, &r):
		return err
	case c.control.Err() != nil:
		return c.control.Err()
	case c.data.Err() != nil:
		return c.data.Err()
	}
	return err
}

// errSilent: no answer to a ping.
var errSilent = errors.New("no answer")

// ping asks for a sign of life, and measures.
func (l *link) ping(c *pair) error {
	p := l.p
	var answer pong
	sent, begin := p.opts.Now(), time.Now()
	_, err := c.control.Call(p.ctx, &rpc.Call{Method: mPing, Header: ping{Cluster: p.cluster()}, Reply: &answer, Urgent: true})
	rtt := time.Since(begin)
	if errs.Is(err, errs.Invalid) {
		return &refusal{fmt.Sprintf("%s refuses this node: %s", l.to.Address, reason(err))}
	}
	if err != nil {
		return err
	}
	if why := p.otherStore(l.to.Address, answer.Cluster); why != "" {
		return &refusal{why}
	}
	ahead := skew(sent, sent.Add(rtt), answer.Wall)
	l.mu.Lock()
	was := l.st.Skew
	l.st.Skew, l.st.RTT = ahead, rtt
	l.mu.Unlock()
	if ahead.Abs() > MaxSkew && was.Abs() <= MaxSkew {
		p.log.Warn("a node's clock has moved away from this node's", slog.String("node", l.to.Address),
			slog.Duration("ahead", ahead.Round(time.Second)), slog.Duration("allowed", MaxSkew))
	}
	return nil
}

// up publishes a pair.
func (l *link) up(c *pair, st State) {
	l.mu.Lock()
	st.Up, st.Since, st.Epoch = true, time.Now(), l.st.Epoch+1
	l.st = st
	l.pair.Store(c)
	l.mu.Unlock()
	l.p.broadcast()
	l.p.log.Info("connected to a node", slog.String("node", l.to.Address), slog.String("version", st.Program),
		slog.Duration("clock_ahead", st.Skew.Round(time.Millisecond)), slog.Duration("round_trip", st.RTT.Round(time.Microsecond)))
}

// down takes a pair back, before its connections are closed, or when somebody finds
// that they are; later ones are too late.
func (l *link) down(c *pair, err error) {
	l.mu.Lock()
	if !l.pair.CompareAndSwap(c, nil) {
		l.mu.Unlock()
		return
	}
	l.st.Up, l.st.Since, l.st.Why = false, time.Now(), l.words(err)
	why := l.st.Why
	l.mu.Unlock()
	l.p.broadcast()
	if l.p.ctx.Err() == nil {
		l.p.log.Warn("lost a node", slog.String("node", l.to.Address), slog.String("why", why))
	}
}

// fail keeps why an attempt failed, and logs it where it is another reason than before.
func (l *link) fail(err error) {
	if l.p.ctx.Err() != nil {
		return
	}
	why := l.words(err)
	l.mu.Lock()
	was := l.st.Why
	l.st.Why = why
	l.mu.Unlock()
	if why != was {
		l.p.log.Warn("a node can't be reached", slog.String("node", l.to.Address), slog.String("why", why))
	}
}
