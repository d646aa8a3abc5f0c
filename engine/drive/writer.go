package drive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// writer writes one shard into a file of tmp/, and moves it to its place at Commit.
//
// Blocks gather in a buffer, a small one until they do not fit it. A large one that is
// full is written by a task of the drive's while the next fills; a medium one, which
// there is where many shards are written at once, before the next is taken. At most
// one task runs at a time, and each begins after the one before was waited for: so the
// fields that only tasks use need no lock.
type writer struct {
	d   *Local
	ctx context.Context // of Create: ends every wait of the writer's
	h   ShardHeader
	gen uint64 // of the drive, at Create

	buf     []byte
	off     int64 // in the file, of buf's first byte
	pending *task // the write under way
	err     error // the first error: nothing is done after it
	closed  bool  // committed or aborted

	blocks     int64
	first, end int // lengths of the first and of the last block

	tmp string   // used by tasks
	f   vfs.File // used by tasks; nil before the first write
}

var _ ShardWriter = (*writer)(nil)

// Create starts a shard, see Drive. ctx holds until Commit or Abort. No file is made
// before there is something to write.
func (d *Local) Create(ctx context.Context, h ShardHeader) (ShardWriter, error) {
	const op = "drive.Create"
	if err := checkHeader(&h); err != nil {
		return nil, errs.E(op, errs.Invalid, err)
	}
	if h.Cluster != d.format.Cluster {
		return nil, errs.Newf(op, errs.Invalid, "a shard of cluster %s on a drive of %s", h.Cluster, d.format.Cluster)
	}
	switch s := d.State(); {
	case s == Offline:
		return nil, errs.Newf(op, errs.Unavailable, "%s is offline", d)
	case s == Full:
		return nil, errs.Newf(op, errs.NoSpace, "%s is full", d)
	case d.health.isReadOnly():
		return nil, errs.Newf(op, errs.ReadOnly, "%s is on a read-only file system", d)
	}
	w := &writer{d: d, ctx: ctx, h: h, gen: d.health.gen.Load()}
	w.buf = appendHeader(d.buffers.get(0), &h)
	return w, nil
}

// WriteBlock appends a block, see ShardWriter.
func (w *writer) WriteBlock(p []byte) error {
	const op = "drive.WriteBlock"
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		return errs.Newf(op, errs.Invalid, "the shard is closed")
	case len(p) == 0 || int64(len(p)) > BlockLen(w.h, int64(w.h.Stripe), 0):
		return w.stop(errs.Newf(op, errs.Invalid, "a block of %d bytes", len(p)))
	case w.blocks > 0 && w.end != w.first:
		return w.stop(errs.Newf(op, errs.Invalid, "a block behind a short one"))
	}
	if w.blocks == 0 {
		w.first = len(p)
	}
	w.end = len(p)
	size := int(pieceLen(&w.h, int64(len(p))))
	for j := int64(0); len(p) > 0; j++ {
		piece := p[:min(size, len(p))]
		p = p[len(piece):]
		s := sum(piece, pieceSeed(&w.h, w.blocks, j))
		if err := w.append(s[:]); err != nil {
			return w.stop(err)
		}
		if err := w.append(piece); err != nil {
			return w.stop(err)
		}
	}
	w.blocks++
	return nil
}

// append adds p to the buffer and has full buffers written.
func (w *writer) append(p []byte) error {
	for len(p) > 0 {
		if len(w.buf)+len(p) > cap(w.buf) && cap(w.buf) == smallBuf {
			old := w.buf
			w.buf = append(w.d.buffers.gather(), old...)
			w.d.buffers.put(old)
		}
		n := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush starts the write of the buffer, after the write before has ended.
func (w *writer) flush() error {
	const op = "drive.WriteBlock"
	if err := w.settle(); err != nil {
		return err
	}
	buf, off := w.buf, w.off
	t, err := w.d.guard.start(w.ctx, op, w.d.opt.Deadline, func() error { return w.write(op, buf, off) }, w.discard)
	if err != nil {
		return err
	}
	w.pending = t
	w.off += int64(len(buf))
	w.buf = w.d.buffers.get(0) // what is left of a block may be little
	if cap(buf) < largeBuf {
		return w.settle()
	}
	return nil
}

// settle waits for the write under way.
func (w *writer) settle() error {
	t := w.pending
	if t == nil {
		return nil
	}
	w.pending = nil
	err := w.d.guard.wait(w.ctx, "drive.WriteBlock", t)
	if err != nil && t.abandoned() {
		w.closed = true // the task itself cleans up when it ends
	}
	return err
}

// stop ends the writer with an error.
func (w *writer) stop(err error) error {
	w.err = err
	w.Abort()
	return err
}

// Abort discards the shard, see ShardWriter.
func (w *writer) Abort() error {
	w.settle() // its error does not matter: the bytes are thrown away
	w.d.buffers.putGather(w.buf)
	w.buf = nil
	if w.closed {
		return nil
	}
	w.closed = true
	if w.err == nil {
		w.err = errs.Newf("drive.WriteBlock", errs.Invalid, "the shard was aborted")
	}
	if w.f == nil {
		return nil
	}
	ctx := context.WithoutCancel(w.ctx)
	t, err := w.d.guard.start(ctx, "drive.Abort", w.d.opt.Deadline, func() error { w.discard(); return nil }, nil)
	if err != nil {
		go w.discard() // the drive is offline, where this may hang
		return nil
	}
	return w.d.guard.wait(ctx, "drive.Abort", t)
}

// Commit makes the shard durable under its blob's id, see ShardWriter. When the
// outcome is not known (a deadline) the shard may be found later.
func (w *writer) Commit(t ShardTrailer) error {
	const op = "drive.Commit"
	if w.err != nil {
		return w.err
	}
	if w.closed {
		return errs.Newf(op, errs.Invalid, "the shard is closed")
	}
	if err := w.checkTrailer(&t); err != nil {
		return w.stop(errs.E(op, errs.Invalid, err))
	}
	if err := w.append(appendTail(nil, w.h.Blob, &t, w.off+int64(len(w.buf)))); err != nil {
		return w.stop(err)
	}
	if err := w.settle(); err != nil {
		return w.stop(err)
	}
	buf, off := w.buf, w.off
	w.buf = nil
	last := &task{late: w.discard}
	last.fn = func() error { return w.commit(op, last, buf, off) }
	if err := w.d.guard.launch(w.ctx, op, 3*w.d.opt.Deadline, last); err != nil {
		w.buf = buf // no task has it
		return w.stop(err)
	}
	err := w.d.guard.wait(w.ctx, op, last)
	w.closed = true
	if err != nil {
		w.err = err
	}
	return err
}

// checkTrailer compares what was written with what the trailer says.
func (w *writer) checkTrailer(t *ShardTrailer) error {
	n := Blocks(w.h, t.Size)
	switch {
	case len(t.Purpose) > MaxPurpose:
		return fmt.Errorf("a purpose of %d bytes", len(t.Purpose))
	case t.Size < 0 || n != w.blocks:
		return fmt.Errorf("%d blocks for %d bytes of content", w.blocks, t.Size)
	case n > 0 && int64(w.end) != BlockLen(w.h, t.Size, n-1):
		return fmt.Errorf("a last block of %d bytes for %d bytes of content", w.end, t.Size)
	case n > 1 && int64(w.first) != BlockLen(w.h, t.Size, 0):
		return fmt.Errorf("blocks of %d bytes in stripes of %d", w.first, w.h.Stripe)
	}
	return nil
}

// write is a task: it writes buf at off, making the file first, and returns the
// buffer for reuse.
func (w *writer) write(op string, buf []byte, off int64) error {
	defer w.d.buffers.putGather(buf)
	d := w.d
	if _, err := d.space(len(buf)); err != nil {
		return w.missing(op, err)
	}
	if w.f == nil {
		tmp := fmt.Sprintf("%s/%s/%s.%d", d.opt.Path, tmpDir, w.h.Blob, d.tmpSeq.Add(1))
		create := d.fs.Create
		if len(buf) >= mediumBuf {
			create = d.fs.CreateDirect
		}
		f, err := create(tmp)
		if err != nil {
			return w.missing(op, err)
		}
		w.tmp, w.f = tmp, f
	}
	_, err := w.f.WriteAt(buf, off)
	return d.fail(op, err)
}

// missing explains ENOENT where a directory of the drive's should be.
func (w *writer) missing(op string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return w.d.fail(op, err)
	}
	if err := w.d.still(op); err != nil {
		return err
	}
	why := "directories of the drive are gone: " + err.Error()
	w.d.lose(why) // the monitor makes them again, and has the drive refilled
	return errs.Newf(op, errs.Unavailable, "%s: %s", w.d, why)
}

// commit is the last task.
func (w *writer) commit(op string, t *task, buf []byte, off int64) error {
	d := w.d
	err := w.write(op, buf, off)
	if err == nil {
		err = d.fail(op, w.f.Sync())
	}
	if err == nil && t.abandoned() {
		err = errs.Newf(op, errs.Canceled, "nobody waits for the shard")
	}
	if err == nil {
		err = w.sameGeneration(op)
	}
	if err != nil {
		w.discard()
		return err
	}
	name, dir, fan := d.blobPath(w.h.Blob)
	err = d.makeFan(fan, dir)
	if err == nil {
		err = d.fs.Rename(w.tmp, name)
	}
	if err != nil {
		w.discard()
		return w.missing(op, err)
	}
	w.tmp = ""
	err = d.fail(op, d.dirs[fan].sync(d.fs, dir))
	if err == nil {
		err = d.still(op) // an fsync counts only while the path is the drive
	}
	if err == nil {
		err = w.sameGeneration(op)
	}
	w.discard()
	if err == nil {
		d.lastGood.Store(time.Now().UnixNano())
	}
	return err
}

// sameGeneration fails where the drive was lost since Create, even if it is back.
func (w *writer) sameGeneration(op string) error {
	if w.d.health.gen.Load() != w.gen {
		return errs.Newf(op, errs.Unavailable, "%s was lost while the shard was written", w.d)
	}
	return nil
}

// discard closes the file, and removes it where it was not moved to its place. A
// task, or after all tasks.
func (w *writer) discard() {
	if w.f != nil {
		w.f.Close() // what had to be durable was fsynced before
		w.f = nil
	}
	if w.tmp != "" {
		w.d.fs.Remove(w.tmp) // else the next start does
		w.tmp = ""
	}
}
