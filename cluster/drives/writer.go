package drives

import (
	"context"

	"twofold/engine/drive"
	"twofold/internal/errs"
)

// Calls of a shard that are under way at a time, beside the buffer that fills: with large
// buffers, and with medium ones, which there are where many shards are written to one
// drive at once.
const (
	largeWindow  = 3
	mediumWindow = 1
	// maxLarge is how many large buffers a drive's shards being written have in all.
	maxLarge = 8
)

// writer writes one shard. Blocks gather in a buffer, a small one until they do not fit
// it, which is sent when it is full. So a small shard is one call, the commit.
type writer struct {
	d   *Remote
	ctx context.Context // of Create: ends every wait of the writer's
	h   drive.ShardHeader
	id  handle

	buf      []byte // of buffers; len is what is filled
	large    bool   // buf counts in d.large
	lens     []uint32
	seq      uint32  // of the next call
	underway []*call // oldest first
	err      error   // the first error: nothing is done after it
	closed   bool    // committed or aborted

	blocks     int64
	first, end int // lengths of the first and of the last block
}

var _ drive.ShardWriter = (*writer)(nil)

// Create starts a shard, see drive.Drive. ctx holds until Commit or Abort. The node learns
// of it with the first blocks that are sent: an error that only it can know comes then.
func (d *Remote) Create(ctx context.Context, h drive.ShardHeader) (drive.ShardWriter, error) {
	const op = "drives.Create"
	if err := checkShard(&h); err != nil {
		return nil, err
	}
	if c := d.cluster(); !c.IsZero() && h.Cluster != c {
		return nil, errs.Newf(op, errs.Invalid, "a shard of cluster %s on a drive of %s", h.Cluster, c)
	}
	switch {
	case ctx.Err() != nil:
		return nil, errs.E(op, errs.Canceled, context.Cause(ctx))
	case d.State() == drive.Offline:
		return nil, d.offline(op)
	case d.State() == drive.Full:
		return nil, errs.Newf(op, errs.NoSpace, "%s is full", d)
	}
	return &writer{d: d, ctx: ctx, h: h, id: d.n.newHandle()}, nil
}

// WriteBlock appends a block, see drive.ShardWriter. An error may be that of an earlier
// block.
func (w *writer) WriteBlock(p []byte) error {
	const op = "drives.WriteBlock"
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		return errs.Newf(op, errs.Invalid, "the shard is closed")
	case len(p) == 0 || int64(len(p)) > drive.BlockLen(w.h, int64(w.h.Stripe), 0):
		return w.stop(errs.Newf(op, errs.Invalid, "a block of %d bytes", len(p)))
	case w.blocks > 0 && w.end != w.first:
		return w.stop(errs.Newf(op, errs.Invalid, "a block behind a short one"))
	}
	if w.blocks == 0 {
		w.first = len(p)
	}
	w.end = len(p)
	w.blocks++
	if err := w.room(len(p)); err != nil {
		return w.stop(err)
	}
	w.buf = append(w.buf, p...)
	w.lens = append(w.lens, uint32(len(p)))
	return nil
}

// room makes room for n bytes in the buffer: a larger one, or an empty one, once the full
// one was sent.
func (w *writer) room(n int) error {
	fits := len(w.buf)+n <= cap(w.buf) && len(w.lens) < maxCallBlocks
	if fits {
		return nil
	}
	if len(w.buf) > 0 && cap(w.buf) > smallBuf || len(w.lens) == maxCallBlocks {
		if err := w.send(nil); err != nil {
			return err
		}
	}
	old := w.buf
	switch {
	case len(old)+n <= smallBuf && w.seq == 0:
		w.buf = buffers.get(smallBuf)[:0]
	case len(old)+n <= largeBuf && w.d.large.Add(1) <= maxLarge:
		w.buf, w.large = buffers.get(largeBuf)[:0], true
	default:
		if len(old)+n <= largeBuf {
			w.d.large.Add(-1)
		}
		w.buf = buffers.get(max(mediumBuf, len(old)+n))[:0]
	}
	w.buf = append(w.buf, old...)
	buffers.put(old)
	return nil
}

// send sends what has gathered, with a trailer the last of it.
func (w *writer) send(t *wireTrailer) error {
	const op = "drives.Write"
	window := mediumWindow
	if w.large {
		window = largeWindow
	}
	if w.seq == 1 {
		window = 1 // the server must have the handle before anything uses it
	}
	for len(w.underway) >= window {
		if err := w.settle(); err != nil {
			return err
		}
	}
	if err := w.awaitSent(); err != nil {
		return err
	}
	q := &writeRequest{Drive: w.d.id, Writer: w.id, Seq: w.seq, Blocks: w.lens, Trailer: t}
	limit := w.d.n.opt.Deadline
	if w.seq == 0 {
		q.Header = toWire(w.h)
	}
	if t != nil {
		limit *= 3
	}
	c := w.d.call(op, mWrite, q, nil)
	c.payload, c.sent = w.buf, make(chan struct{})
	if w.large {
		c.free = func() { w.d.large.Add(-1) }
	}
	w.buf, w.lens, w.large = nil, nil, false
	if err := w.d.start(w.ctx, limit, c); err != nil {
		return err
	}
	if w.seq == 0 && t == nil {
		w.d.n.writing(w.id, true)
	}
	w.seq++
	w.underway = append(w.underway, c)
	return nil
}

// awaitSent waits until the call before is on its way: calls that wait for the connection
// must not overtake it, or they would keep it out while the server waits for it.
func (w *writer) awaitSent() error {
	if len(w.underway) == 0 {
		return nil
	}
	c := w.underway[len(w.underway)-1]
	select {
	case <-c.sent:
	case <-c.ctx.Done(): // also behind its end: settle tells how that was
		select {
		case <-c.done:
		default:
			return c.gaveUp(w.ctx)
		}
	}
	return nil
}

// settle waits for the oldest call.
func (w *writer) settle() error {
	c := w.underway[0]
	w.underway = w.underway[1:]
	return w.d.wait(w.ctx, c)
}

// stop ends the writer with an error.
func (w *writer) stop(err error) error {
	w.err = err
	w.Abort()
	return err
}

// Abort discards the shard, see drive.ShardWriter. It does not wait for the node.
func (w *writer) Abort() error {
	if w.closed {
		return nil
	}
	w.close()
	if w.err == nil {
		w.err = errs.Newf("drives.WriteBlock", errs.Invalid, "the shard was aborted")
	}
	if w.seq == 0 {
		return nil // the node never heard of it
	}
	underway := w.underway
	w.underway = nil
	go w.d.abort(w.id, underway)
	return nil
}

// abort has the server discard a shard, behind the calls of it that are under way.
func (d *Remote) abort(id handle, underway []*call) {
	for _, c := range underway {
		c.cancel() // the server gives the shard up when it is told
		<-c.done
	}
	c := d.call("drives.Abort", mAbort, &handleRequest{Handle: id}, nil)
	if err := d.do(d.n.ctx, d.n.opt.Deadline, c); err != nil {
		d.n.opt.Logger.Debug("abort of a shard", "drive", d.String(), "err", err)
	}
}

// close lets go of what the writer has.
func (w *writer) close() {
	w.closed = true
	if w.large {
		w.d.large.Add(-1)
	}
	buffers.put(w.buf)
	w.buf, w.lens, w.large = nil, nil, false
	w.d.n.writing(w.id, false)
}

// Commit makes the shard durable under its blob's id, see drive.ShardWriter: it returns
// nil when the drive's Commit did. When the outcome is not known (a deadline, a lost
// connection) the shard may be found later.
func (w *writer) Commit(t drive.ShardTrailer) error {
	const op = "drives.Commit"
	if w.err != nil {
		return w.err
	}
	if w.closed {
		return errs.Newf(op, errs.Invalid, "the shard is closed")
	}
	if err := w.checkTrailer(&t); err != nil {
		return w.stop(err)
	}
	err := w.send(&wireTrailer{Size: t.Size, Purpose: t.Purpose})
	for err == nil && len(w.underway) > 0 {
		err = w.settle()
	}
	if err != nil {
		return w.stop(err)
	}
	w.close()
	return nil
}

// checkTrailer compares what was written with what the trailer says.
func (w *writer) checkTrailer(t *drive.ShardTrailer) error {
	const op = "drives.Commit"
	n := drive.Blocks(w.h, t.Size)
	switch {
	case len(t.Purpose) > drive.MaxPurpose:
		return errs.Newf(op, errs.Invalid, "a purpose of %d bytes", len(t.Purpose))
	case t.Size < 0 || n != w.blocks:
		return errs.Newf(op, errs.Invalid, "%d blocks for %d bytes of content", w.blocks, t.Size)
	case n > 0 && int64(w.end) != drive.BlockLen(w.h, t.Size, n-1):
		return errs.Newf(op, errs.Invalid, "a last block of %d bytes for %d bytes of content", w.end, t.Size)
	case n > 1 && int64(w.first) != drive.BlockLen(w.h, t.Size, 0):
		return errs.Newf(op, errs.Invalid, "blocks of %d bytes in stripes of %d", w.first, w.h.Stripe)
	}
	return nil
}
