package fusefs

import (
	"context"
	"time"

	"twofold/internal/errs"
	"twofold/volume/api"
)

// kick starts a flush of everything that is dirty now; n.mu is held.
func (n *node) kick() {
	n.want = n.wseq
	if n.flusher || n.token == 0 || n.done >= n.want {
		return
	}
	n.flusher = true
	n.fs.again(n)
	go n.runFlush()
}

// flushHere flushes everything that is dirty without a goroutine of the flusher's own, where the
// volume need not be asked, and reports whether it did: close(2) of a new small file need not
// wake anybody, nor be woken. n.mu is held, but not meanwhile.
func (n *node) flushHere() bool {
	if n.flusher || n.token == 0 || n.done >= n.wseq || !n.fs.takesHere(n.ino, n.dirty.bytes) {
		return false
	}
	n.want = n.wseq
	n.flusher = true
	n.fs.again(n)
	n.mu.Unlock()
	n.runFlush()
	n.mu.Lock()
	return true
}

// settle waits until the writes up to target are committed or dropped with an
// error, which the node keeps for its handles. n.mu is held. An error is that of
// ctx: then the flush goes on.
func (n *node) settle(ctx context.Context, target uint64) error {
	for n.done < target {
		if n.demand < target {
			n.demand = target
			n.broadcast() // a flush that pauses between attempts has to come to an end
		}
		if n.flushHere() {
			continue
		}
		n.kick()
		if err := n.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// press has a flush tried now, and waits until everything is committed or dropped,
// or an attempt has failed that will be repeated: errs.Unwritten says why. n.mu is
// held.
func (n *node) press(ctx context.Context) error {
	failures, target := n.failures, n.wseq
	n.urge = true
	n.broadcast()
	for n.done < target {
		if n.failures != failures {
			return errs.E("fusefs.recall", errs.Unwritten, n.failing)
		}
		n.kick()
		if err := n.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// runFlush is the inode's flusher: there is at most one, so that what the volume
// has is always a prefix of what was written. Each layer is one atomic Write.
func (n *node) runFlush() {
	defer n.fs.unref(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.token != 0 && n.done < n.want && len(n.dirty.segs) > 0 {
		l := n.dirty
		n.dirty = layer{}
		n.flushing = &l
		n.stream = l.bytes >= streamAt
		n.rev++
		w := api.Write{Token: n.token, Size: n.size, Mtime: n.mtime, Atime: l.atime, KillPriv: l.kill}
		sum := n.sum // its hash is ours alone until the flush is over
		if n.taken.of(n.size) {
			sum = n.taken.clone()
			w.ETag = sum.etag()
		}
		n.broadcast() // there is room again
		n.mu.Unlock()

		w.Segments = l.joined()
		if w.ETag == "" {
			w.ETag = sum.add(w.Segments, w.Size)
		}
		a, err := n.commit(&l, w)

		n.mu.Lock()
		if n.flushing != &l {
			continue // lost meanwhile, and reported
		}
		if err == nil {
			sum.version = a.Version
			n.sum = sum
			n.committed(&l, a)
			n.fs.buffers.give(&l)
		} else {
			n.lose(err)
		}
	}
	n.flusher = false
	if n.token != 0 && len(n.dirty.segs) == 0 && n.flushing == nil {
		n.done = n.wseq
		n.fs.setDirty(n, false)
	}
	n.broadcast()
}

// committed notes a flush that the volume has; n.mu is held.
func (n *node) committed(l *layer, a api.Attr) {
	n.flushing, n.failing, n.urge = nil, nil, false
	n.done = l.seq
	n.base = a
	n.kver = max(n.kver, a.Version)
	n.fs.budget.spend(l.bytes)
	if len(n.dirty.segs) == 0 {
		n.done = n.wseq
		n.taken = n.sum.clone()
		n.reset()
		n.fs.setDirty(n, false)
	}
	n.broadcast()
}

// outcome is what can be done about a flush that failed.
type outcome uint8

const (
	again outcome = iota // it will succeed some time
	maybe                // it may; those who wait for it are told at once
	never                // the bytes are lost
)

func outcomeOf(err error) outcome {
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.UnknownOutcome, errs.Conflict, errs.Busy:
		return again
	case errs.NoSpace, errs.Quota, errs.WriteQuorum, errs.ReadQuorum, errs.ReadOnly:
		return maybe
	}
	return never
}

// commit sends w until it is committed, or there is no hope, or somebody waits for
// an outcome that only patience could give. Sending it again is safe: under the
// lease it writes the same bytes to the same places.
func (n *node) commit(l *layer, w api.Write) (api.Attr, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		a, err := n.fs.files.Write(n.fs.ctx, n.ino, w)
		if err == nil {
			return a, nil
		}
		n.fs.log.Warn("a flush failed", "ino", n.ino, "bytes", l.bytes, "err", err)
		switch outcomeOf(err) {
		case again:
			if !sleep(n.fs.ctx, pause) {
				return a, err
			}
		case maybe:
			if !n.hope(l, err, pause) {
				return a, err
			}
		case never:
			return a, err
		}
	}
}

// hope waits before another attempt at a flush that failed with err, if nobody
// waits for its outcome yet. Until then new writes get err, and recalls are refused.
func (n *node) hope(l *layer, err error, pause time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.flushing != l || n.demand > n.done {
		return false
	}
	n.failing = err
	n.failures++
	n.broadcast()
	ctx, stop := context.WithTimeout(n.fs.ctx, pause)
	defer stop()
	for n.flushing == l && n.demand <= n.done && !n.urge {
		if n.wait(ctx) != nil {
			break
		}
	}
	n.urge = false
	return n.flushing == l && n.fs.ctx.Err() == nil
}

// lose drops everything that is not committed, and keeps the error for those who
// have the file open. The view becomes that of the volume again. n.mu is held.
func (n *node) lose(err error) {
	lost := n.dirty.bytes
	if n.flushing != nil {
		lost += n.flushing.bytes
	}
	if n.done < n.wseq {
		n.err = err
		n.errSeq++
		n.fs.log.Error("written bytes are lost", "ino", n.ino, "bytes", lost, "err", err)
	}
	n.fs.budget.give(lost)
	n.dirty, n.flushing, n.failing = layer{}, nil, nil
	n.done = n.wseq
	n.rev++
	n.fs.setDirty(n, false)
	n.sum, n.taken = digest{}, digest{}
	n.reset()
	n.invalidate()
	if errs.Is(err, errs.Fenced) && n.token != 0 {
		n.unlease()
	}
	n.broadcast()
}
