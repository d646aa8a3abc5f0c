package remote

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// Client is a mount's view of the volume on a server. While there is no connection
// calls wait; they end with their context, or with Close. Safe for concurrent use.
//
// Calls fail with errs.Canceled when their context ended and they have no effect,
// and with errs.UnknownOutcome when they may have one.
type Client struct {
	opts  Options
	log   *slog.Logger
	codec *rpc.Codec
	nodes nodes

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	link     *link         // nil while there is no connection
	up       chan struct{} // closed when link is set
	numbers  *numbers      // of the session; nil before the first, and between two
	token    []byte
	id       twofold.SessionID
	opens    map[twofold.Ino]int // opens answered less releases answered
	promised int64               // bytes of Promise answered less those of Writes answered
	locks    lockTable           // guarded by itself
	recalls  map[leaseReq]*recall
	heard    time.Time     // when the last keep-alive was sent that was answered
	term     time.Duration // of read leases; 0: the server gives none
	beat     time.Duration // between two keep-alives
	closing  bool          // Close was called: the session's end is no loss
}

var _ api.Files = (*Client)(nil)

// link is a connection with the session it was attached to.
type link struct {
	conn    *rpc.Conn
	at      string        // HOST:PORT
	url     string        // of the same node, as the nodes call it; "" from a server that does not tell
	numbers *numbers      // names the session: a new one has a new table
	calls   int           // guarded by Client.mu: attempts not yet accounted for
	down    bool          // guarded by Client.mu: calls does not grow any more
	idle    chan struct{} // closed when down and calls is 0
	gone    chan struct{} // closed when it is not Client.link any more
}

// Dial connects to the node that leads and begins a session. A server that can't be reached, or is
// starting, is waited for until ctx ends. errs.Access: it has other credentials;
// errs.Unsupported: it is no server of this protocol.
func Dial(ctx context.Context, o Options) (*Client, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	codec, err := rpc.NewCodec()
	if err != nil {
		return nil, err
	}
	c := &Client{
		opts:    o,
		log:     o.Logger,
		codec:   codec,
		up:      make(chan struct{}),
		opens:   make(map[twofold.Ino]int),
		recalls: make(map[leaseReq]*recall),
	}
	for _, e := range o.Endpoints {
		c.nodes.given = append(c.nodes.given, hostPort(e))
	}
	c.locks.init()
	c.keep(0)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	l, err := c.connect(ctx, func(err error) bool {
		return errs.Is(err, errs.Access) || errs.Is(err, errs.Unsupported) || errs.Is(err, errs.Invalid)
	})
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.wg.Add(1)
	go c.run(l)
	return c, nil
}

// SessionID is the current session's id; 0 between two.
func (c *Client) SessionID() twofold.SessionID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// CachedUntil is when the read leases of the session end, unless the server is heard of
// again: the mount serves nothing from a cache behind it. The zero time where the server
// gives none.
func (c *Client) CachedUntil() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.term == 0 || c.heard.IsZero() {
		return time.Time{}
	}
	return c.heard.Add(c.term)
}

// alive notes that the server has heard of us: of something sent at t, or later. False
// when the read leases had ended by then: the server may have given up waiting for us, and
// what is cached is not to come to life again.
func (c *Client) alive(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.term > 0 && time.Now().After(c.heard.Add(c.term)) {
		return false
	}
	if t.After(c.heard) {
		c.heard = t
	}
	return true
}

// Close ends the session on the server, as far as that can be reached until ctx
// ends, and the client in any case. Everything must have been flushed and released:
// calls still in flight fail.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closing = true
	n := c.numbers
	c.mu.Unlock()
	_, what, err := c.attempt(ctx, n, &rpc.Call{Method: mEnd, Urgent: true}, new(attempts), nil)
	if what == over || errs.Is(err, errs.Fenced) {
		err = nil // it had ended already, or the answer to our first try was lost
	}
	c.mu.Lock()
	c.cancel() // under mu: see background
	c.mu.Unlock()
	c.wg.Wait()
	return err
}

// enter waits for a link and counts the caller in: exit must follow.
func (c *Client) enter(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		l, up := c.link, c.up
		if l != nil {
			l.calls++
			c.mu.Unlock()
			return l, nil
		}
		c.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return nil, errs.E("remote.call", errs.Canceled, ctx.Err())
		case <-c.ctx.Done():
			return nil, errs.Newf("remote.call", errs.Unavailable, "the mount is shutting down")
		}
	}
}

// exit counts the caller out; account, which may be nil, runs under the lock before.
func (c *Client) exit(l *link, account func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if account != nil {
		account()
	}
	if l.calls--; l.calls == 0 && l.down {
		close(l.idle)
	}
}
