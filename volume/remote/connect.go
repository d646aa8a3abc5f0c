package remote

import (
	"context"
	"log/slog"
	"time"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// run keeps the client connected until Close.
func (c *Client) run(l *link) {
	defer c.wg.Done()
	for {
		c.keepAlive(l)
		c.unlink(l)
		if c.ctx.Err() != nil {
			return
		}
		c.log.Warn("lost the connection to the server; calls wait", slog.String("server", l.at), slog.Any("err", l.conn.Err()))
		var err error
		if l, err = c.connect(c.ctx, func(error) bool { return false }); err != nil {
			return // closed
		}
		c.log.Info("connected again", slog.String("server", l.at))
	}
}

// keepAlive tells the server that we live, until the connection ends.
func (c *Client) keepAlive(l *link) {
	c.mu.Lock()
	beat := c.beat
	c.mu.Unlock()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-l.conn.Done():
			return
		case <-c.ctx.Done():
			l.conn.Close()
			return
		case <-tick.C:
		}
		sent := time.Now()
		err := c.tellAlive(l, 3*beat)
		if err == nil {
			c.locks.heard(sent)
			if !c.alive(sent) {
				l.conn.Close() // with the next connection the holder drops what it has cached
			}
		}
		if errs.Is(err, errs.Fenced) {
			l.conn.Close() // Resume will hear the same and deal with it
		}
	}
}

// tellAlive makes one keep-alive. Where there are other nodes, one of which may lead by now, a
// server from which nothing comes for patience is given up: it may be paused, or cut off, and
// the leases that it gave end soon. Before that, when it is late, the others are asked: once
// one of them leads, there is nothing to wait for here.
func (c *Client) tellAlive(l *link, patience time.Duration) error {
	for {
		// Urgent, so that it does not wait behind calls that wait.
		call := &rpc.Call{Method: mAlive, Urgent: true}
		if !c.nodes.several() {
			_, err := l.conn.Call(c.ctx, call)
			return err
		}
		before := l.conn.Pulse()
		ctx, cancel := context.WithTimeout(c.ctx, patience)
		asking := c.whenLate(ctx, l, patience/3)
		_, err := l.conn.Call(ctx, call)
		asking()
		late := ctx.Err() != nil
		cancel()
		if !late || !errs.Is(err, errs.Canceled) || c.ctx.Err() != nil {
			return err
		}
		if l.conn.Pulse().Still(before) {
			c.log.Warn("the server does not answer", slog.String("server", l.at), slog.Duration("for", patience))
			l.conn.Close()
			return err
		}
	}
}

// whenLate asks the other nodes, until it is called off, whether one of them leads, beginning
// after a while; and then it closes l. A node says so with a proof that no other one does.
func (c *Client) whenLate(ctx context.Context, l *link, after time.Duration) (callOff func()) {
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(after):
			}
			if v, err := c.seek(ctx, visitTimeout, l); err == nil {
				v.conn.Close()
				c.log.Warn("another node leads", slog.String("node", v.at), slog.String("silent", l.at))
				l.conn.Close()
				return
			}
			after = stagger
		}
	}()
	return func() { cancel(); <-over }
}

// unlink takes the dead link away and waits until its calls are accounted for.
func (c *Client) unlink(l *link) {
	c.mu.Lock()
	c.link = nil
	c.up = make(chan struct{})
	l.down = true
	close(l.gone)
	if l.calls == 0 {
		close(l.idle)
	}
	c.mu.Unlock()
	<-l.idle
}

const (
	// changePause is the longest pause between two attempts while another node takes over,
	// which is changeTime at most.
	changePause = 200 * time.Millisecond
	changeTime  = 30 * time.Second
	// attachTimeout bounds the wait for a session of a node that leads, where there are others.
	attachTimeout = 5 * time.Second
)

// connect tries until it has a link with a session, or an error is fatal, or ctx
// ends.
func (c *Client) connect(ctx context.Context, fatal func(error) bool) (*link, error) {
	p := newPause(c.opts.MaxBackoff)
	var said time.Time
	began := time.Now()
	for round := 0; ; round++ {
		l, err := c.try(ctx, round)
		if err == nil {
			c.mu.Lock()
			c.link = l
			close(c.up)
			c.mu.Unlock()
			return l, nil
		}
		if fatal(err) || ctx.Err() != nil {
			return nil, err
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			c.log.Warn("can't connect to the server; trying on", slog.Any("servers", c.nodes.all()), slog.Any("err", err))
		}
		if c.nodes.several() && time.Since(began) < changeTime {
			p.next = min(p.next, changePause)
		}
		if !p.wait(ctx) {
			return nil, err
		}
	}
}

func (c *Client) try(ctx context.Context, round int) (*link, error) {
	v, err := c.seek(ctx, visitTimeout<<min(round, 3), nil)
	if err != nil {
		return nil, err
	}
	conn := v.conn
	if c.nodes.several() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attachTimeout<<min(round, 3))
		defer cancel()
	}
	began := time.Now()
	n, err := c.attach(ctx, conn)
	if err == nil && c.opts.Caches {
		err = c.cache(ctx, conn)
	}
	if err != nil {
		conn.Close()
		c.nodes.leads("") // it may have lost that meanwhile
		return nil, err
	}
	c.locks.attached(began)
	return &link{conn: conn, at: v.at, url: v.where.Leading, numbers: n, idle: make(chan struct{}), gone: make(chan struct{})}, nil
}

// attach resumes the session on conn, or begins one where there is none (any more).
// Nobody else touches the session meanwhile: there is no link.
func (c *Client) attach(ctx context.Context, conn *rpc.Conn) (*numbers, error) {
	if c.numbers == nil {
		return c.begin(ctx, conn)
	}
	held := c.opts.Holder.Held()
	held.Opens = c.openFiles() // ours are exact: see the package comment
	held.Locks = c.locks.held()
	c.mu.Lock()
	held.Promised = min(c.promised, maxPromise)
	c.mu.Unlock()
	payload, err := c.codec.Encode(held)
	if err != nil {
		return nil, err
	}
	var a resumeAns
	_, err = conn.Call(ctx, &rpc.Call{
		Method: mResume, Header: resumeReq{ID: c.id, Token: c.token, Promised: held.Promised, Locks: held.Locks, Terms: true},
		Payload: [][]byte{payload}, Reply: &a, Optional: true,
	})
	if err == nil {
		c.keep(a.Term)
	}
	if !errs.Is(err, errs.Fenced) {
		return c.numbers, err
	}
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if closing {
		return newNumbers(), nil // Close finds that its session is over
	}
	c.log.Error("the session ended on the server: unflushed bytes and leases are lost", slog.Uint64("session", uint64(c.id)), slog.Any("err", err))
	c.mu.Lock()
	c.numbers, c.token, c.id = nil, nil, 0
	clear(c.opens) // nothing in flight is still to be counted: see unlink
	c.promised = 0
	c.heard, c.term = time.Time{}, 0
	c.mu.Unlock()
	c.locks.loseAll(err)
	c.opts.Holder.Lost(err)
	return c.begin(ctx, conn)
}

func (c *Client) begin(ctx context.Context, conn *rpc.Conn) (*numbers, error) {
	var a beginAns
	if _, err := conn.Call(ctx, &rpc.Call{Method: mBegin, Header: beginReq{c.opts.Node}, Reply: &a}); err != nil {
		return nil, err
	}
	if a.ID == 0 || len(a.Token) == 0 {
		return nil, errs.Newf("remote.begin", errs.Invalid, "the server gave no session")
	}
	c.keep(a.Term)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.id, c.token, c.numbers = a.ID, a.Token, newNumbers()
	return c.numbers, nil
}

// keep derives from the server's lease term how often it is to hear of us, and for how long after
// that what it has delegated is certainly ours.
func (c *Client) keep(term time.Duration) {
	beat := c.opts.KeepAlive
	if beat == 0 {
		if term == 0 {
			term = 8 * time.Second // of servers that don't tell it, 5 s or more
		}
		beat = term / 4
	}
	c.mu.Lock()
	c.beat = beat
	c.mu.Unlock()
	c.locks.trustFor(2 * beat)
}

// cache asks for read leases in the session that conn was attached to.
func (c *Client) cache(ctx context.Context, conn *rpc.Conn) error {
	var a cacheAns
	sent := time.Now()
	_, err := conn.Call(ctx, &rpc.Call{Method: mCache, Header: cacheReq{Homes: true}, Reply: &a, Urgent: true})
	if errs.Is(err, errs.Unsupported) {
		err, a = nil, cacheAns{}
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard, c.term = sent, a.Term
	return nil
}

func (c *Client) openFiles() []api.HeldOpen {
	c.mu.Lock()
	defer c.mu.Unlock()
	opens := make([]api.HeldOpen, 0, len(c.opens))
	for ino, n := range c.opens {
		opens = append(opens, api.HeldOpen{Ino: ino, Count: n})
	}
	return opens
}
