package replica

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
)

// fabric connects the groups of several nodes in one test process. Links can be cut,
// each way on its own, and slowed down.
type fabric struct {
	t     testing.TB
	opts  Options
	nodes []*peer

	mu    sync.Mutex
	cut   map[[2]int]bool // guarded by mu; from, to
	delay time.Duration   // guarded by mu; each message takes up to that long, so that they overtake each other
	sent  map[Kind]int    // guarded by mu
	large int             // guarded by mu; bytes of the largest message
}

// peer is a node: its drives and, while it runs, its group.
type peer struct {
	f    *fabric
	i    int
	dirs []Dir // grows with mu held

	mu sync.Mutex
	g  *Group // guarded by mu; nil: down
}

var _ Wire = (*peer)(nil)

const testPromise = 500 * time.Millisecond

// newFabric makes nodes with so many drives each. None runs.
func newFabric(t testing.TB, drives ...int) *fabric {
	f := &fabric{t: t, cut: map[[2]int]bool{}, sent: map[Kind]int{}}
	f.opts = Options{NewMachine: newFake, HeartbeatTimeout: 300 * time.Millisecond, promise: testPromise}
	for i, n := range drives {
		f.nodes = append(f.nodes, &peer{f: f, i: i, dirs: testDirs(t, n)})
	}
	t.Cleanup(func() {
		f.heal()
		var wg sync.WaitGroup
		for _, p := range f.nodes {
			wg.Go(p.stop)
		}
		wg.Wait()
	})
	return f
}

// startFabric makes a group over nodes and waits until every drive has a vote.
func startFabric(t testing.TB, drives ...int) *fabric {
	t.Helper()
	f := newFabric(t, drives...)
	f.nodes[0].start(true)
	total := 0
	for i, n := range drives {
		if total += n; i > 0 {
			f.nodes[i].start(false)
		}
	}
	f.settled(total)
	return f
}

func (p *peer) start(bootstrap bool) {
	p.f.t.Helper()
	o := p.f.opts
	o.Dirs, o.Bootstrap, o.Wire = p.dirs, bootstrap, p
	o.Logger = testLogger(p.f.t).With("node", p.i)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	g, err := Open(ctx, o)
	if err != nil {
		p.f.t.Fatalf("node %d: %v", p.i, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.g = g
}

func (p *peer) group() *Group {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.g
}

// stop takes the node down. Others see it vanish at once.
func (p *peer) stop() {
	p.mu.Lock()
	g := p.g
	p.g = nil
	p.mu.Unlock()
	if g == nil {
		return
	}
	for _, n := range g.running() {
		n.port.cut() // as when it is killed: nothing more is said
	}
	if err := g.Close(context.Background()); err != nil {
		p.f.t.Logf("close: %v", err)
	}
}

// Others implements Wire.
func (p *peer) Others() (list []twofold.DriveID) {
	for _, q := range p.f.nodes {
		if q != p {
			list = append(list, q.dirs[0].Drive)
		}
	}
	return list
}

// Send implements Wire.
func (p *peer) Send(ctx context.Context, to twofold.DriveID, kind Kind, msg []byte) ([]byte, error) {
	var q *peer
	for _, c := range p.f.nodes {
		c.mu.Lock()
		if slices.ContainsFunc(c.dirs, func(d Dir) bool { return d.Drive == to }) {
			q = c
		}
		c.mu.Unlock()
	}
	p.f.mu.Lock()
	p.f.sent[kind]++
	p.f.large = max(p.f.large, len(msg))
	p.f.mu.Unlock()
	msg = slices.Clone(msg)
	if err := p.f.pass(ctx, p, q); err != nil {
		return nil, err
	}
	g := q.group()
	if g == nil {
		return nil, errUnreachable
	}
	answer, err := g.Receive(ctx, to, kind, msg)
	for i := range msg {
		msg[i] = 0xa5 // nobody may have kept it
	}
	if lost := p.f.pass(ctx, q, p); lost != nil {
		return nil, lost
	}
	return answer, err
}

// pass is a message on its way. On a cut link it is lost, which the sender finds out
// after a while.
func (f *fabric) pass(ctx context.Context, from, to *peer) error {
	f.mu.Lock()
	cut, delay := f.cut[[2]int{from.i, to.i}], f.delay
	f.mu.Unlock()
	if cut {
		select { // as long as it takes to find out that nobody answers
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
		}
		return errs.E("fabric", errs.Unavailable, ctx.Err())
	}
	if delay > 0 {
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(delay)))):
		case <-ctx.Done():
			return errs.E("fabric", errs.Unavailable, ctx.Err())
		}
	}
	return nil
}

// oneWay cuts or mends a link from one node to another.
func (f *fabric) oneWay(from, to int, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[[2]int{from, to}] = cut
}

// isolate cuts a node off from the others, both ways.
func (f *fabric) isolate(i int) {
	for j := range f.nodes {
		f.oneWay(i, j, true)
		f.oneWay(j, i, true)
	}
}

// heal mends every link.
func (f *fabric) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.cut)
	f.delay = 0
}

func (f *fabric) slow(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

// leading is the node that leads, proven; nil: none does at the moment.
func (f *fabric) leading() *peer {
	for _, p := range f.nodes {
		if g := p.group(); g != nil && g.Leads() {
			return p
		}
	}
	return nil
}

// leader waits for a node that leads.
func (f *fabric) leader() (p *peer) {
	f.t.Helper()
	wait(f.t, 20*time.Second, "a node leads", func() bool { p = f.leading(); return p != nil })
	return p
}

// follower is a node that runs and does not lead.
func (f *fabric) follower() *peer {
	l := f.leader()
	for _, p := range f.nodes {
		if p != l && p.group() != nil {
			return p
		}
	}
	f.t.Fatal("no follower")
	return nil
}

// settled waits until there are so many voters by the leader's configuration.
func (f *fabric) settled(voters int) {
	f.t.Helper()
	wait(f.t, 30*time.Second, "every drive has a vote", func() bool {
		p := f.leading()
		if p == nil {
			return false
		}
		n := p.group().leader()
		return n != nil && len(votersIn(n.raft.GetConfiguration().Configuration())) == voters
	})
}

// apply increments a counter where the leader is, as often as it takes for it to be
// acknowledged, and returns how often it may have been incremented.
func (f *fabric) apply(name string) {
	f.t.Helper()
	cmd := incr(name)
	wait(f.t, 30*time.Second, "a command is acknowledged", func() bool {
		p := f.leading()
		if p == nil {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := p.group().Apply(ctx, cmd)
		return err == nil
	})
}

// value reads a counter where the leader is.
func (f *fabric) value(name string) (n int) {
	f.t.Helper()
	wait(f.t, 30*time.Second, "a read is answered", func() bool {
		p := f.leading()
		if p == nil {
			return false
		}
		v, err := counter(p.group(), name)
		n = v
		return err == nil
	})
	return n
}
