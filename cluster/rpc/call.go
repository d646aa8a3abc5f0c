package rpc

import (
	"context"
	"io"

	"twofold/internal/errs"
)

// Method numbers what a request asks for. The packages that talk over rpc give
// them their meaning; they are part of the protocol version.
type Method uint16

// Call is a request and where its answer goes.
type Call struct {
	Method  Method
	Header  any      // encoded as CBOR; nil is none
	Payload [][]byte // raw bytes, the caller's again when Conn.Call returns
	Urgent  bool     // others wait for it; it must not wait for any that is not urgent
	Reply   any      // the answer's header is decoded into it; nil: it must have none
	// Optional: an answer without a header is one, too, and leaves Reply as it is.
	Optional bool
	Into     []byte // the answer's payload is read into it; a longer one is a violation
	// Sent, where set, is called when the request is on its way: the peer reads it before
	// any that is sent from then on. It is not called where nothing was sent. It must not
	// block.
	Sent func()
}

// pending is a call that waits for its answer.
type pending struct {
	urgent bool
	bytes  int64
	done   chan struct{} // closed when the outcome is there

	// Guarded by Conn.mu until done is closed.
	into      []byte
	filling   bool // the reader is writing into into
	abandoned bool // the caller has left; into is no longer ours

	// Set before done is closed.
	header []byte
	n      int // bytes of payload
	err    error
}

// finish sets the outcome; only whoever took p out of Conn.waiting may call it.
func (p *pending) finish(err error) {
	p.err = err
	close(p.done)
}

// Call sends a request and waits for its answer; it returns how many bytes of Into
// the answer filled. Errors: the handler's, as *errs.Error; ErrLost (errs.Unavailable)
// when the connection ended; errs.Canceled when ctx did, and then the peer is told
// and the request may or may not be served.
func (c *Conn) Call(ctx context.Context, call *Call) (int, error) {
	const op = "rpc.Call"
	header, err := c.codec.Encode(call.Header)
	if err != nil {
		return 0, err
	}
	var size int64
	for _, p := range call.Payload {
		size += int64(len(p))
	}
	if len(header) > MaxHeader || size > int64(c.slots.max.Payload) {
		return 0, errs.Newf(op, errs.TooLarge, "a request of %d + %d bytes", len(header), size)
	}
	if !c.slots.acquire(ctx, c.ctx, call.Urgent, size) {
		if ctx.Err() != nil {
			return 0, errs.E(op, errs.Canceled, ctx.Err())
		}
		<-c.done
		return 0, c.lost()
	}
	p := &pending{urgent: call.Urgent, bytes: size, into: call.Into, done: make(chan struct{})}
	id := c.lastID.Add(1)
	if !c.register(id, p) {
		return 0, c.lost()
	}
	var b [headLen]byte
	head{typ: frameRequest, urgent: call.Urgent, method: call.Method, id: id, header: len(header), payload: int(size)}.put(&b)
	if !c.w.send(ctx.Done(), &b, header, call.Payload...) && ctx.Err() != nil && c.unregister(id, p) {
		return 0, errs.E(op, errs.Canceled, ctx.Err()) // never sent
	}
	if call.Sent != nil {
		call.Sent()
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		if c.abandon(p) {
			c.control(frameCancel, id)
			return 0, errs.E(op, errs.Canceled, ctx.Err())
		}
		<-p.done // the reader is at it, or has been
	}
	if p.err != nil {
		return 0, p.err
	}
	if call.Optional && len(p.header) == 0 {
		return p.n, nil
	}
	return p.n, c.decodeReply(p.header, call.Reply)
}

func (c *Conn) decodeReply(header []byte, reply any) error {
	if reply == nil {
		if len(header) != 0 {
			return errs.Newf("rpc.Call", errs.Invalid, "an answer that was not asked for")
		}
		return nil
	}
	return c.codec.Decode(header, reply)
}

func (c *Conn) register(id uint64, p *pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		return false
	}
	c.waiting[id] = p
	return true
}

// unregister takes back a request of which nothing was sent.
func (c *Conn) unregister(id uint64, p *pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.waiting[id]; !ok {
		return false
	}
	delete(c.waiting, id)
	c.slots.release(p.urgent, p.bytes)
	return true
}

// abandon leaves p to the reader, unless its answer is already coming in.
func (c *Conn) abandon(p *pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-p.done:
		return false
	default:
	}
	if p.filling {
		return false
	}
	p.abandoned, p.into = true, nil
	return true
}

// readAnswer reads an answer's content and gives it to its caller.
func (c *Conn) readAnswer(f head) error {
	c.mu.Lock()
	p := c.waiting[f.id]
	if p == nil {
		c.mu.Unlock()
		return badFrame("answer to request %d, which is not waiting", f.id)
	}
	p.filling = !p.abandoned
	skip := p.abandoned
	c.mu.Unlock()
	if !skip && f.payload > len(p.into) {
		return badFrame("answer of %d bytes where %d were asked for", f.payload, len(p.into))
	}
	header := make([]byte, f.header)
	if _, err := io.ReadFull(c.r, header); err != nil {
		return err
	}
	var err error
	if skip {
		_, err = c.r.Discard(f.payload)
	} else {
		_, err = io.ReadFull(c.r, p.into[:f.payload])
	}
	if err != nil {
		return err
	}
	var outcome error
	if f.typ == frameError {
		var w wireError
		if err := c.codec.Decode(header, &w); err != nil {
			return badFrame("an error that can't be read: %v", err)
		}
		outcome = w.err()
	}
	p.header, p.n = header, f.payload
	c.mu.Lock()
	delete(c.waiting, f.id)
	p.finish(outcome)
	c.mu.Unlock()
	c.slots.release(p.urgent, p.bytes)
	return nil
}
