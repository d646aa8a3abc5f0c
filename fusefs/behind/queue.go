package behind

import (
	"context"
	"slices"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

const (
	maxQueued      = 4096     // operations: who makes more waits
	maxQueuedBytes = 16 << 20 // of file content, likewise
)

// op is an operation that was answered for and is not committed yet.
type op struct {
	seq  uint64
	at   time.Time // when it was queued
	is   api.BatchOp
	of   []twofold.Ino // what it changes
	dirs []twofold.Ino // under whose leases

	bytes  int // of content
	inline int // of these, those that go to the metadata
}

// queue is what was done and is not committed, in order. Files.mu guards it.
type queue struct {
	ops   []*op
	bytes int
	seq   uint64 // of the last operation of all
	done  uint64 // operations up to this one are committed, or lost
	sent  uint64 // those up to this one were handed to the volume at least once
	want  uint64 // those up to this one are waited for
	gen   uint64 // counts losses

	touched map[twofold.Ino]uint64 // the last operation in ops that changes an inode, or names in it

	unread  map[twofold.Ino]struct{} // while a batch is under way: what it says of being their reader is old
	unsure  bool                     // a batch is under way, and all it says of being a reader is old
	sending bool                     // a call of Batch is under way
	maxOps  int                      // of a batch: fewer where the volume could not take more

	failing  error  // why the batch is being tried again: it needs space, or drives
	failures uint64 // how often that happened
}

func newQueue() queue {
	return queue{touched: make(map[twofold.Ino]uint64), maxOps: api.MaxBatchOps}
}

// full reports whether who wants to add to the queue has to wait.
func (q *queue) full() bool { return len(q.ops) >= maxQueued || q.bytes >= maxQueuedBytes }

// push adds an operation that changes inodes, under the leases of dirs; b.mu is held.
func (b *Files) push(is api.BatchOp, dirs []twofold.Ino, of ...twofold.Ino) *op {
	q := &b.queue
	q.seq++
	o := &op{seq: q.seq, at: time.Now(), is: is, of: of, dirs: dirs}
	if w := is.Write; w != nil {
		for _, s := range w.Segments {
			o.bytes += len(s.Data)
			if len(s.Data) <= twofold.MaxInline {
				o.inline += len(s.Data)
			}
		}
	}
	q.ops = append(q.ops, o)
	q.bytes += o.bytes
	for _, ino := range of {
		q.touched[ino] = o.seq
	}
	if len(q.ops) == 1 || len(q.ops) == flushOps || q.bytes >= flushBytes {
		b.wakeFlusher()
	}
	return o
}

// finish takes the operations up to seq off the queue; b.mu is held.
func (b *Files) finish(seq uint64) {
	q := &b.queue
	for len(q.ops) > 0 && q.ops[0].seq <= seq {
		b.take(0)
	}
	q.done = max(q.done, seq)
	b.passed()
	b.broadcast()
}

// passed notes that what is before the front of the queue has its end: the last ones may have
// been taken from behind it. b.mu is held.
func (b *Files) passed() {
	q := &b.queue
	if len(q.ops) == 0 {
		q.done = q.seq
	} else {
		q.done = max(q.done, q.ops[0].seq-1)
	}
}

// take removes the i-th operation; b.mu is held.
func (b *Files) take(i int) {
	q := &b.queue
	o := q.ops[i]
	if i == 0 {
		q.ops[0] = nil
		q.ops = q.ops[1:]
	} else {
		q.ops = append(q.ops[:i], q.ops[i+1:]...)
	}
	q.bytes -= o.bytes
	for _, ino := range o.of {
		if q.touched[ino] == o.seq {
			delete(q.touched, ino)
			b.retouch(ino, i)
		}
	}
	if len(q.ops) == 0 {
		q.ops = nil // and its array
	}
}

// retouch finds the last of the first n operations that changes an inode; b.mu is held.
func (b *Files) retouch(ino twofold.Ino, n int) {
	for _, o := range slices.Backward(b.queue.ops[:n]) {
		if slices.Contains(o.of, ino) {
			b.queue.touched[ino] = o.seq
			return
		}
	}
}

// settle waits until the operations up to seq are committed, or lost. An error is that of ctx,
// or why they can't be committed now; they stay then. b.mu is held, but not while it waits.
func (b *Files) settle(ctx context.Context, seq uint64) error {
	q := &b.queue
	failures := q.failures
	for q.done < seq {
		if q.failing != nil && q.failures != failures {
			return q.failing
		}
		if q.want < seq {
			q.want = seq
		}
		b.wakeFlusher()
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *Files) wakeFlusher() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// outcome is what can be done about a batch that failed.
type outcome uint8

const (
	again outcome = iota // it will succeed some time
	maybe                // it may; new operations get the error
	never
)

func outcomeOf(err error) outcome {
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.UnknownOutcome, errs.Busy, errs.Canceled:
		return again
	case errs.NoSpace, errs.Quota, errs.WriteQuorum, errs.ReadQuorum, errs.ReadOnly, errs.Unwritten:
		return maybe
	}
	return never
}
