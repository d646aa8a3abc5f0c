package drives

import (
	"context"
	"sync/atomic"
	"time"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// call is one request to the node. It runs on a goroutine of its own, which owns the
// buffers until it has ended: whoever waits for it leaves at its context's end, at the
// deadline, or when the node is down, however long the connection takes to let go of them.
type call struct {
	n      *Node
	op     string
	method rpc.Method
	msg    any
	reply  any // the answer's message is decoded into it; nil: it has none

	free    func() // called at its end; may be nil
	payload []byte // of buffers; the call's
	into    []byte // of buffers; the caller's when wait returned nil, else the call's

	sent chan struct{} // closed when it is on its way; nil where nobody waits for that
	done chan struct{} // closed at its end; n and err are valid then
	got  int
	err  error

	ctx    context.Context
	cancel context.CancelFunc
	limit  time.Duration
	fate   atomic.Int32
}

// What became of a call: it runs, its caller has what it brought, its caller has left.
const (
	callRuns = iota
	callEnded
	callLeft
)

func (n *Node) newCall(op string, m rpc.Method, msg any) *call {
	return &call{n: n, op: op, method: m, msg: msg, done: make(chan struct{})}
}

// run is start and wait.
func (c *call) run(ctx context.Context, limit time.Duration) error {
	c.start(ctx, limit)
	return c.wait(ctx)
}

// start begins it. Each start is followed by one wait.
func (c *call) start(ctx context.Context, limit time.Duration) {
	c.limit = limit
	c.ctx, c.cancel = context.WithTimeout(ctx, limit)
	switch {
	case ctx.Err() != nil:
		c.end(errs.E(c.op, errs.Canceled, context.Cause(ctx)))
	case !c.n.up():
		c.end(errs.Newf(c.op, errs.Unavailable, "%s is down", c.n.opt.Name))
	default:
		stop := context.AfterFunc(c.n.whileUp(), c.cancel)
		go func() {
			err := c.send()
			stop()
			c.end(err)
		}()
	}
}

// end publishes the outcome and lets go of the buffers that nobody else has.
func (c *call) end(err error) {
	c.err = err
	buffers.put(c.payload)
	if c.free != nil {
		c.free()
	}
	left := !c.fate.CompareAndSwap(callRuns, callEnded)
	if left || err != nil {
		buffers.put(c.into)
		c.into = nil
	}
	close(c.done)
	c.cancel()
}

// send makes the call, once more where bytes were changed on the way: to ask twice does no
// harm, but for what makes or uses up a number at the server.
func (c *call) send() error {
	q, err := seal(c.n.codec, c.method, c.msg, c.payload)
	if err != nil {
		return err
	}
	r := rpc.Call{Method: c.method, Header: &q, Into: c.into}
	if c.payload != nil {
		r.Payload = [][]byte{c.payload}
	}
	if c.sent != nil {
		r.Sent = func() { close(c.sent) }
	}
	for try := 0; ; try++ {
		var s sealed
		r.Reply = &s
		c.got, err = c.n.caller.Call(c.ctx, &r)
		r.Sent = nil
		if err == nil {
			err = s.open(c.n.codec, c.method, c.into[:c.got], c.reply)
		}
		if try > 0 || c.method == mWrite || c.method == mOpen || !isTorn(err) {
			return err
		}
		c.n.opt.Logger.Warn("bytes were changed on the way from another node", "node", c.n.opt.Name)
	}
}

// wait waits for its end, or leaves it.
func (c *call) wait(ctx context.Context) error {
	select {
	case <-c.done:
		return c.outcome(ctx)
	case <-c.ctx.Done():
	}
	select {
	case <-c.done: // its end is what ended its context
		return c.outcome(ctx)
	default:
	}
	if !c.fate.CompareAndSwap(callRuns, callLeft) {
		<-c.done // it ended just now, and has its result
		return c.outcome(ctx)
	}
	return c.gaveUp(ctx)
}

// outcome is the error of a call that has ended.
func (c *call) outcome(ctx context.Context) error {
	if errs.Is(c.err, errs.Canceled) {
		return c.gaveUp(ctx)
	}
	if c.err != nil {
		return driveError(c.op, c.err)
	}
	return nil
}

// gaveUp is why the call was given up.
func (c *call) gaveUp(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return errs.E(c.op, errs.Canceled, context.Cause(ctx))
	case !c.n.up() || c.n.whileUp().Err() != nil:
		return errs.Newf(c.op, errs.Unavailable, "%s went down", c.n.opt.Name)
	case c.late():
		return errs.Newf(c.op, errs.Unavailable, "%s did not answer in %v", c.n.opt.Name, c.limit)
	}
	return errs.Newf(c.op, errs.Unavailable, "%s gave the call up", c.n.opt.Name)
}

// late reports whether its deadline is what ended it.
func (c *call) late() bool { return context.Cause(c.ctx) == context.DeadlineExceeded }
