package remote

import (
	"context"
	"errors"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// fate is what became of a call.
type fate int

const (
	answered fate = iota // the server's last word, a success or an error
	gaveUp               // the caller, or we, stopped asking
	over                 // the session it belongs to has ended
)

// attempts is the state of a call that may be sent several times.
type attempts struct {
	doubt bool      // the server may have done it, or be at it
	since time.Time // of the first answer that asked to come again
	pause pause
}

// attempt sends a call until it is answered. n, where not nil, is the session that
// the call belongs to. account, where not nil, runs under Client.mu when the call
// was answered, before a reconnect can look at the counts.
func (c *Client) attempt(ctx context.Context, n *numbers, call *rpc.Call, a *attempts, account func(error)) (int, fate, error) {
	for {
		l, err := c.enter(ctx)
		if err != nil {
			return 0, gaveUp, err
		}
		if n != nil && l.numbers != n {
			c.exit(l, nil)
			return 0, over, errs.Newf("remote.call", errs.Fenced, "the session has ended")
		}
		got, err := l.conn.Call(ctx, call)
		lost := errors.Is(err, rpc.ErrLost)
		if !lost && (err == nil || !again(errs.KindOf(err))) {
			c.exit(l, func() {
				if account != nil {
					account(err)
				}
			})
			return got, answered, err
		}
		// errs.Unavailable says that it is certainly not done, this time.
		a.doubt = a.doubt || lost || !errs.Is(err, errs.Unavailable)
		c.exit(l, nil)
		switch {
		case lost:
			select {
			case <-l.gone: // and on with the next connection
			case <-ctx.Done():
			}
		case a.wait(ctx, c.opts):
		case ctx.Err() != nil:
			return 0, gaveUp, errs.E("remote.call", errs.Canceled, ctx.Err())
		default:
			return 0, gaveUp, err
		}
	}
}

// wait waits before a call is repeated that the server could not serve; false when
// it was repeated for long enough.
func (a *attempts) wait(ctx context.Context, o Options) bool {
	if a.since.IsZero() {
		a.since, a.pause = time.Now(), newPause(o.MaxBackoff)
	}
	return ctx.Err() == nil && time.Since(a.since) < o.RetryFor && a.pause.wait(ctx)
}

// ask makes a call that changes nothing, or that may come twice.
func (c *Client) ask(ctx context.Context, m rpc.Method, header, reply any, into []byte) (int, error) {
	n, _, err := c.attempt(ctx, nil, &rpc.Call{Method: m, Header: header, Reply: reply, Into: into}, new(attempts), nil)
	return n, err
}

// change is a call that has its effect once.
type change struct {
	method  rpc.Method
	urgent  bool // others may wait for it
	payload [][]byte
	reply   any
	dirs    *dirsAns    // part of reply, or all of it: the call may tell of directories
	pin     int         // Open +1, Release -1: what a success does to the count
	ino     twofold.Ino // of pin
	space   func()      // what a success does to Client.promised; under Client.mu
	locks   func(error) // what an answer does to Client.locks; likewise
}

// do makes a changing call with body as its request.
func do[Q any](ctx context.Context, c *Client, ch change, body Q) error {
	var tell *api.Dirs
	optional := false
	if ch.dirs != nil {
		tell = api.DirsOf(ctx)
		if ch.reply == nil {
			ch.reply, optional = ch.dirs, true
		}
	}
	for {
		n, seq, err := c.number(ctx)
		if err != nil {
			return err
		}
		s := n.seq(seq)
		call := &rpc.Call{
			Method:  ch.method,
			Header:  numbered[Q]{s.N, s.Acked, body, tell != nil},
			Payload: ch.payload,
			Urgent:  ch.urgent,
			Reply:   ch.reply,

			Optional: optional,
		}
		var a attempts
		_, what, err := c.attempt(ctx, n, call, &a, func(err error) {
			c.count(ch, err == nil)
			if ch.locks != nil {
				ch.locks(err)
			}
		})
		switch {
		case what == answered || what == gaveUp && !a.doubt:
			n.answer(seq)
			if err == nil && tell != nil {
				tell.Add(ch.dirs.Dirs...)
			}
			return err
		case what == gaveUp:
			c.settle(n, seq, ch)
		case ch.pin > 0:
			continue // it died with the old session; the caller wants it in the new one
		case ch.pin < 0:
			return nil // so did what was to be released
		case !a.doubt:
			return err
		}
		return &errs.Error{Op: "remote.call", Kind: errs.UnknownOutcome, Err: err}
	}
}

// number waits for a session and takes a number of it.
func (c *Client) number(ctx context.Context) (*numbers, uint64, error) {
	l, err := c.enter(ctx)
	if err != nil {
		return nil, 0, err
	}
	c.exit(l, nil)
	seq, err := l.numbers.next(ctx)
	return l.numbers, seq, err
}

// count keeps the table of opens, and what is promised. The caller has mu.
func (c *Client) count(ch change, done bool) {
	if done && ch.space != nil {
		ch.space()
	}
	if ch.pin == 0 || !done && ch.pin > 0 {
		return // a release that was refused is over all the same
	}
	if c.opens[ch.ino] += ch.pin; c.opens[ch.ino] <= 0 {
		delete(c.opens, ch.ino)
		c.locks.closed(ch.ino)
	}
}

// settle finds out in the background what became of a call that its caller left, so
// that the watermark can pass it. An open that nobody waits for any more is
// released.
func (c *Client) settle(n *numbers, seq uint64, ch change) {
	c.background(func() {
		var ans settleAns
		call := &rpc.Call{Method: mSettle, Header: settleReq{seq}, Reply: &ans, Urgent: true}
		_, what, err := c.attempt(c.ctx, n, call, new(attempts), func(err error) { c.count(ch, err == nil && ans.Done) })
		if what != answered {
			return // with the session, or the client
		}
		n.answer(seq)
		if err == nil && ans.Done && ch.pin > 0 {
			// An error says that the server is gone for good, and the pin with it.
			_ = c.Release(c.ctx, ch.ino)
		}
	})
}

// background runs fn unless the client is closed; Close waits for it.
func (c *Client) background(fn func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		fn()
	}()
	return true
}
