package engine

import (
	"bytes"
	"container/heap"
	"context"
	"slices"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// Found is a blob that a walk over a set met.
type Found struct {
	ID twofold.BlobID
	// On are the positions whose drives list the blob.
	On erasure.Set
	// Asked are the positions whose drives have been walked up to here: a blob is
	// missing on those that are not On.
	Asked erasure.Set
}

// WalkBlobs calls fn for every blob of which a reachable drive has a shard, in
// ascending order, with the sets it was found on (as a rule one). Blobs that come or
// go meanwhile may or may not be seen. It returns fn's error, or errs.Canceled; a
// drive that fails is left out with a warning.
func (e *Engine) WalkBlobs(ctx context.Context, fn func(twofold.BlobID, []twofold.SetID) error) error {
	var streams []*walkStream
	for _, s := range e.allSets() {
		for i := range s.at {
			streams = append(streams, &walkStream{set: s, at: i})
		}
	}
	return e.merge(ctx, twofold.BlobID{}, streams, func(id twofold.BlobID, from []*walkStream) error {
		var sets []twofold.SetID
		for _, w := range from {
			if !slices.Contains(sets, w.set.id) {
				sets = append(sets, w.set.id)
			}
		}
		slices.SortFunc(sets, compareSets)
		return fn(id, sets)
	})
}

// WalkSet calls fn for every blob of a set behind after, in ascending order, and
// returns the positions whose drives were walked to the end. Errors as WalkBlobs;
// errs.NotFound where there is no such set.
func (e *Engine) WalkSet(ctx context.Context, id twofold.SetID, after twofold.BlobID, fn func(Found) error) (erasure.Set, error) {
	s, err := e.set(id)
	if err != nil {
		return 0, err
	}
	streams := make([]*walkStream, len(s.at))
	for i := range s.at {
		streams[i] = &walkStream{set: s, at: i}
	}
	asked := func() (a erasure.Set) {
		for _, w := range streams {
			if !w.failed {
				a = a.With(w.at)
			}
		}
		return a
	}
	err = e.merge(ctx, after, streams, func(id twofold.BlobID, from []*walkStream) error {
		f := Found{ID: id, Asked: asked()}
		for _, w := range from {
			f.On = f.On.With(w.at)
		}
		return fn(f)
	})
	return asked(), err
}

// walkStream is one drive's walk. merge's goroutine owns it.
type walkStream struct {
	set    *set
	at     int
	head   twofold.BlobID
	batch  []twofold.BlobID
	ch     chan walkBatch
	failed bool
}

// walkBatch is some ids in order; the last one has the walk's error.
type walkBatch struct {
	ids  []twofold.BlobID
	err  error
	last bool
}

// walkBatchLen is how many ids travel at once.
const walkBatchLen = 512

// start begins the drive's walk in a goroutine of its own.
func (w *walkStream) start(ctx context.Context, after twofold.BlobID) {
	d := w.set.at[w.at].slot.Drive()
	if d.State() == drive.Offline {
		w.failed = true
		return
	}
	w.ch = make(chan walkBatch, 1)
	go func() {
		var ids []twofold.BlobID
		send := func(b walkBatch) error {
			select {
			case w.ch <- b:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := d.Walk(ctx, after, func(id twofold.BlobID) error {
			ids = append(ids, id)
			if len(ids) < walkBatchLen {
				return ctx.Err()
			}
			full := ids
			ids = nil
			return send(walkBatch{ids: full})
		})
		send(walkBatch{ids: ids, err: err, last: true})
	}()
}

// next moves to the next id and reports whether there is one.
func (w *walkStream) next(ctx context.Context, timeout time.Duration) (bool, error) {
	for len(w.batch) == 0 {
		if w.ch == nil {
			return false, nil
		}
		timer := time.NewTimer(timeout)
		var b walkBatch
		select {
		case b = <-w.ch:
		case <-timer.C:
			b = walkBatch{last: true, err: errs.Newf("engine.walk", errs.Unavailable, "no answer in time")}
		case <-ctx.Done():
			b = walkBatch{last: true, err: ctx.Err()}
		}
		timer.Stop()
		w.batch = b.ids
		if b.last {
			w.ch = nil
			if b.err != nil {
				w.batch, w.failed = nil, true
				return false, b.err
			}
		}
	}
	w.head, w.batch = w.batch[0], w.batch[1:]
	return true, nil
}

// merge calls fn for each id that the streams have, once, with those that have it.
func (e *Engine) merge(ctx context.Context, after twofold.BlobID, streams []*walkStream, fn func(twofold.BlobID, []*walkStream) error) error {
	walkCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, w := range streams {
		w.start(walkCtx, after)
	}
	var heads walkHeap
	advance := func(w *walkStream) {
		ok, err := w.next(walkCtx, e.opts.ReadTimeout)
		if err != nil && ctx.Err() == nil {
			e.log.Warn("walk of a drive failed", "drive", w.set.at[w.at].slot.Drive().String(), "err", err)
		}
		if ok {
			heap.Push(&heads, w)
		}
	}
	for _, w := range streams {
		advance(w)
	}
	var from []*walkStream
	for len(heads) > 0 {
		id := heads[0].head
		from = from[:0]
		for len(heads) > 0 && heads[0].head == id {
			from = append(from, heap.Pop(&heads).(*walkStream))
		}
		if err := ctx.Err(); err != nil {
			break
		}
		if err := fn(id, from); err != nil {
			return err
		}
		for _, w := range from {
			advance(w)
		}
	}
	if ctx.Err() != nil {
		return errs.E("engine.walk", errs.Canceled, context.Cause(ctx))
	}
	return nil
}

// walkHeap orders streams by their heads.
type walkHeap []*walkStream

func (h walkHeap) Len() int           { return len(h) }
func (h walkHeap) Less(i, j int) bool { return bytes.Compare(h[i].head[:], h[j].head[:]) < 0 }
func (h walkHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *walkHeap) Push(x any)        { *h = append(*h, x.(*walkStream)) }
func (h *walkHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	*h = old[:len(old)-1]
	return w
}
