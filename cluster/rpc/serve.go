package rpc

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	"twofold/internal/errs"
)

// Handler serves the peer's requests, each on a goroutine of its own. The context
// ends when the caller goes away (CanceledByPeer) or the connection is lost; the
// answer is sent, if it still can be, whenever the handler returns.
type Handler interface {
	Serve(ctx context.Context, r *Request) (Answer, error)
}

// Request is a request of the peer. It is the handler's until that returns.
type Request struct {
	Conn    *Conn
	Method  Method
	Urgent  bool
	Payload []byte // pooled: not to be kept
	header  []byte
}

// QuickDecoder is a header that can read its own most usual encoding, which spares the
// general decoder. It reports whether b was that, and nothing else: where it was not v is
// as it was before.
type QuickDecoder interface {
	DecodeQuick(b []byte) bool
}

// Decode reads the request's header into v; errs.Invalid.
func (r *Request) Decode(v any) error {
	if q, ok := v.(QuickDecoder); ok && q.DecodeQuick(r.header) {
		return nil
	}
	return r.Conn.codec.Decode(r.header, v)
}

// HasHeader reports whether there is one.
func (r *Request) HasHeader() bool { return len(r.header) > 0 }

// DecodePayload reads a payload that is CBOR (too long for a header) into v.
func (r *Request) DecodePayload(v any) error { return r.Conn.codec.Decode(r.Payload, v) }

// Answer is what a handler returns beside a nil error.
type Answer struct {
	Header  any    // encoded as CBOR; nil is none
	Payload []byte // raw bytes
	Free    func() // called when Payload has been written, or can't be; may be nil
}

// incoming is a request in service.
type incoming struct {
	urgent bool
	bytes  int64
	cancel context.CancelCauseFunc
}

// readRequest reads a request's content and starts its handler.
func (c *Conn) readRequest(f head, h Handler) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	in := &incoming{urgent: f.urgent, bytes: int64(f.payload), cancel: cancel}
	if err := c.admit(f.id, in); err != nil {
		cancel(nil)
		return err
	}
	r := &Request{Conn: c, Method: f.method, Urgent: f.urgent, header: make([]byte, f.header)}
	var buf *Buffer
	if f.payload > 0 {
		buf = c.cfg.Pool.Get(f.payload)
		r.Payload = buf.B
	}
	_, err := io.ReadFull(c.r, r.header)
	if err == nil {
		_, err = io.ReadFull(c.r, r.Payload)
	}
	if err != nil {
		cancel(nil)
		buf.Free()
		return err
	}
	j := job{ctx: ctx, id: f.id, in: in, r: r, buf: buf}
	select {
	case c.jobs <- j:
	default:
		c.served.Add(1)
		go c.work(h, j)
	}
	return nil
}

// job is a request with all that its answer needs.
type job struct {
	ctx context.Context
	id  uint64
	in  *incoming
	r   *Request
	buf *Buffer // of r.Payload; may be nil
}

// maxIdle is how many goroutines without a job are kept for the next one: their
// stacks have grown already, which is a tenth of a small call's time. As many as the
// threads of a busy mount.
const maxIdle = 32

// work serves j, and then others that come.
func (c *Conn) work(h Handler, j job) {
	defer c.served.Done()
	for {
		c.serve(j, h)
		if c.idle.Add(1) > maxIdle {
			c.idle.Add(-1)
			return
		}
		select {
		case j = <-c.jobs:
			c.idle.Add(-1)
		case <-c.ctx.Done():
			return
		}
	}
}

// admit counts a request in; an error is a peer that exceeds what it was told.
func (c *Conn) admit(id uint64, in *incoming) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active[id] != nil {
		return badFrame("request id %d is in use", id)
	}
	n := &c.usage.Calls
	limit := c.cfg.Limits.Calls
	if in.urgent {
		n, limit = &c.usage.Urgent, c.cfg.Limits.Urgent
	}
	if *n >= limit || c.usage.Bytes+in.bytes > c.cfg.Limits.Bytes {
		return badFrame("more requests in flight than allowed")
	}
	*n++
	c.usage.Bytes += in.bytes
	c.active[id] = in
	return nil
}

// leave counts a request out. It is called before the answer is sent: the peer may
// use the slot as soon as it has it.
func (c *Conn) leave(id uint64, in *incoming) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.active, id)
	if in.urgent {
		c.usage.Urgent--
	} else {
		c.usage.Calls--
	}
	c.usage.Bytes -= in.bytes
}

func (c *Conn) cancelRequest(id uint64) {
	c.mu.Lock()
	in := c.active[id]
	c.mu.Unlock()
	if in != nil { // else it was answered in the meantime
		in.cancel(errPeerCanceled)
	}
}

func (c *Conn) serve(j job, h Handler) {
	a, err := c.run(j.ctx, h, j.r)
	j.in.cancel(nil)
	j.buf.Free()
	var header []byte
	if err == nil {
		header, err = c.codec.Encode(a.Header)
		if err == nil && (len(header) > MaxHeader || len(a.Payload) > maxPayload) {
			err = errs.Newf("rpc.serve", errs.TooLarge, "an answer of %d + %d bytes", len(header), len(a.Payload))
		}
	}
	f := head{typ: frameAnswer, id: j.id, header: len(header), payload: len(a.Payload)}
	payload := a.Payload
	if err != nil {
		header, _ = c.codec.Encode(encodeError(err)) // two strings and a number
		f = head{typ: frameError, id: j.id, header: len(header)}
		payload = nil
	}
	c.leave(j.id, j.in)
	var b [headLen]byte
	f.put(&b)
	c.w.send(nil, &b, header, payload)
	if a.Free != nil {
		a.Free()
	}
}

// run calls the handler. A handler that panics fails its request and is logged:
// one malformed request must not end everybody's mounts.
func (c *Conn) run(ctx context.Context, h Handler, r *Request) (a Answer, err error) {
	if h == nil {
		return Answer{}, errs.Newf("rpc.serve", errs.Unsupported, "no requests are served here")
	}
	defer func() {
		if v := recover(); v != nil {
			c.cfg.Logger.Error("request handler panicked", slog.Int("method", int(r.Method)),
				slog.String("panic", fmt.Sprint(v)), slog.String("stack", string(debug.Stack())))
			a, err = Answer{}, errs.Newf("rpc.serve", errs.Other, "internal error")
		}
	}()
	return h.Serve(ctx, r)
}
