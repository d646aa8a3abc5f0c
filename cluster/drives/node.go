package drives

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/semaphore"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// Caller sends requests to one other node. Safe for concurrent use. The calls of one
// Caller go over one connection at a time, in the order in which they are made.
type Caller interface {
	// Call is rpc.Conn.Call; errs.Unavailable while the node can't be reached.
	Call(ctx context.Context, c *rpc.Call) (int, error)
	// Up reports, without waiting, whether the node answers.
	Up() bool
}

// Options configure a Node. Zero values are the defaults.
type Options struct {
	Name    string // of the node, for people
	Logger  *slog.Logger
	Control Caller        // for questions of states, which blocks would hold up; the one for all else
	Poll    time.Duration // between questions of states; 250 ms
	// Deadline is how long a call may take before its caller gets errs.Unavailable; a
	// commit three times as long. A little longer than the drive's own, which then says
	// why; 12 s.
	Deadline time.Duration
	// Changed is called when a drive's state became another one, from one goroutine, which
	// asks for no states meanwhile.
	Changed func(d *Remote, was, is drive.State)
}

// How long what was told of a drive holds without being told again, while the node is up.
const (
	suspectAfter = 3 * time.Second
	offlineAfter = 10 * time.Second
)

// keepEvery is how often the server is told which shards are still being written, and
// how often, at most, the handles of readers that were closed.
const keepEvery = 20 * time.Second

// maxAheadBytes bounds what is read ahead from all drives of a node.
const maxAheadBytes = 32 << 20

// Node is the drives of another node. It asks the node for their states until Close. Safe
// for concurrent use.
type Node struct {
	caller Caller
	opt    Options
	codec  *rpc.Codec
	ctx    context.Context // ends at Close
	stop   context.CancelFunc
	seed   uint64       // of the numbers of the node's file systems
	handle atomic.Int64 // the last one used
	ahead  *semaphore.Weighted
	closer *closer
	wg     sync.WaitGroup

	refreshing sync.Mutex // held while the node is asked for states

	mu      sync.Mutex
	down    context.CancelFunc          // guarded by mu; ends upCtx
	upCtx   context.Context             // guarded by mu; ends when the node is seen to be down
	remotes map[twofold.DriveID]*Remote // guarded by mu
	writers map[handle]struct{}         // guarded by mu; those that the server has
	drives  []twofold.DriveID           // guarded by mu; that the node told of last
}

// NewNode returns the drives of the node that c calls. They are Offline until the node
// told of them: see Refresh.
func NewNode(c Caller, o Options) (*Node, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Control == nil {
		o.Control = c
	}
	if o.Poll == 0 {
		o.Poll = 250 * time.Millisecond
	}
	if o.Deadline == 0 {
		o.Deadline = 12 * time.Second
	}
	codec, err := rpc.NewCodec()
	if err != nil {
		return nil, err
	}
	n := &Node{
		caller: c, opt: o, codec: codec, seed: rand.Uint64(), ahead: semaphore.NewWeighted(maxAheadBytes),
		remotes: make(map[twofold.DriveID]*Remote), writers: make(map[handle]struct{}),
	}
	n.handle.Store(rand.Int64N(1 << 40)) // another Node of the process may share the connection
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.upCtx, n.down = context.WithCancel(n.ctx)
	n.closer = &closer{n: n}
	n.wg.Add(1)
	go n.run()
	return n, nil
}

// Close ends the questions and all calls. The drives are Offline from here on.
func (n *Node) Close() {
	n.stop()
	n.wg.Wait()
}

// Drive is the node's drive of an id; name is its path for people. The same one is
// returned each time. It need not be there (yet).
func (n *Node) Drive(id twofold.DriveID, name string) *Remote {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.remotes[id]
	if d == nil {
		d = newRemote(n, id, name)
		n.remotes[id] = d
	}
	return d
}

// Drives lists the drives that the node told of last, by id.
func (n *Node) Drives() []twofold.DriveID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.drives
}

// run asks for states, and keeps handles alive.
func (n *Node) run() {
	defer n.wg.Done()
	tick := time.NewTicker(n.opt.Poll)
	defer tick.Stop()
	kept := time.Now()
	for {
		ctx, cancel := context.WithTimeout(n.ctx, max(4*n.opt.Poll, time.Second))
		if err := n.Refresh(ctx); err != nil {
			n.opt.Logger.Debug("drives of another node", "node", n.opt.Name, "err", err)
		}
		cancel()
		if time.Since(kept) >= keepEvery {
			kept = time.Now()
			n.wg.Go(n.keep)
		}
		select {
		case <-n.ctx.Done():
			n.look() // tells of the drives that are Offline now
			return
		case <-tick.C:
		}
	}
}

// Refresh asks the node for the states of its drives now, and returns when they are known.
// errs.Unavailable: it can't be asked; its drives are then Offline, at once where it is
// known to be down.
func (n *Node) Refresh(ctx context.Context) error {
	n.refreshing.Lock()
	defer n.refreshing.Unlock()
	defer n.look()
	up := n.opt.Control.Up() && n.caller.Up()
	n.setUp(up)
	if !up {
		return errs.Newf("drives.Refresh", errs.Unavailable, "%s is down", n.opt.Name)
	}
	at := time.Now()
	var a tellAnswer
	var s sealed
	q, err := seal(n.codec, mTell, nil, nil)
	if err == nil {
		_, err = n.opt.Control.Call(ctx, &rpc.Call{Method: mTell, Header: &q, Reply: &s})
	}
	if err == nil {
		err = s.open(n.codec, mTell, nil, &a)
	}
	if err == nil {
		err = a.check()
	}
	if err != nil {
		return driveError("drives.Refresh", err)
	}
	n.learn(at, a.Drives)
	return nil
}

// learn notes what the node told of its drives.
func (n *Node) learn(at time.Time, all []told) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drives = make([]twofold.DriveID, 0, len(all))
	byID := make(map[twofold.DriveID]*told, len(all))
	for i := range all {
		n.drives = append(n.drives, all[i].Drive)
		byID[all[i].Drive] = &all[i]
	}
	for id, d := range n.remotes {
		t := byID[id]
		if t == nil { // the node does not have it, or not any more
			d.told.Store(nil)
			continue
		}
		d.told.Store(&toldAt{told: *t, at: at})
	}
}

// look reports the drives whose state is another one than at the last look. n.refreshing
// is held, or the node is closed.
func (n *Node) look() {
	type change struct {
		d       *Remote
		was, is drive.State
	}
	var changes []change
	n.mu.Lock()
	for _, d := range n.remotes {
		if is := d.State(); is != d.seen {
			changes = append(changes, change{d, d.seen, is})
			d.seen = is
		}
	}
	n.mu.Unlock()
	for _, c := range changes {
		n.opt.Logger.Info("drive of another node changed", "drive", c.d.String(), "from", c.was.String(), "to", c.is.String())
		if n.opt.Changed != nil {
			n.opt.Changed(c.d, c.was, c.is)
		}
	}
}

// setUp notes whether the node is up: calls under way end when it is down.
func (n *Node) setUp(up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case !up:
		n.down()
	case n.upCtx.Err() != nil && n.ctx.Err() == nil:
		n.upCtx, n.down = context.WithCancel(n.ctx)
	}
}

// whileUp is a context that ends when the node is seen to be down.
func (n *Node) whileUp() context.Context {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.upCtx
}

// up reports whether calls to the node make sense.
func (n *Node) up() bool { return n.ctx.Err() == nil && n.caller.Up() }

// newHandle returns a number that no other handle of the connection has.
func (n *Node) newHandle() handle { return handle(n.handle.Add(1)) }

// fileSystem is the number of one of the node's file systems, different from those of
// other nodes.
func (n *Node) fileSystem(dev uint64) uint64 {
	var b [8]byte
	for i := range b {
		b[i] = byte(dev >> (8 * i))
	}
	return xxh3.HashSeed(b[:], n.seed)
}

// writing notes that a shard is being written, or is not any more.
func (n *Node) writing(id handle, is bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if is {
		n.writers[id] = struct{}{}
	} else {
		delete(n.writers, id)
	}
}

// keep tells the server which shards are still being written: whoever sends a shard's
// content to us may be slow.
func (n *Node) keep() {
	n.mu.Lock()
	var q handlesRequest
	for id := range n.writers {
		if q.Handles = append(q.Handles, id); len(q.Handles) == maxHandles {
			break
		}
	}
	n.mu.Unlock()
	if len(q.Handles) == 0 {
		return
	}
	c := n.newCall("drives.Keep", mKeep, &q)
	if err := c.run(n.ctx, n.opt.Deadline); err != nil {
		n.opt.Logger.Debug("shards being written on another node", "node", n.opt.Name, "err", err)
	}
}

// closer tells the server of readers that were closed, several at once while a call is
// under way.
type closer struct {
	n *Node

	mu      sync.Mutex
	ids     []handle // guarded by mu
	running bool     // guarded by mu
}

// add closes a reader's handle some time. Where that fails the server does it in time.
func (c *closer) add(id handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ids) < maxHandles {
		c.ids = append(c.ids, id)
	}
	if !c.running {
		c.running = true
		go c.run()
	}
}

func (c *closer) run() {
	for {
		c.mu.Lock()
		q := handlesRequest{Handles: c.ids}
		c.ids = nil
		if len(q.Handles) == 0 {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		call := c.n.newCall("drives.Close", mClose, &q)
		if err := call.run(c.n.ctx, c.n.opt.Deadline); err != nil {
			c.n.opt.Logger.Debug("readers of another node's drives", "node", c.n.opt.Name, "err", err)
		}
	}
}
