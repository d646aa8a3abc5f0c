package repair

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/erasure"
)

const (
	// settlePolls is after how many looks a set's drives are first held against each
	// other: a start has more urgent things to read.
	settlePolls = 30
	// refillRetry is the pause after a refill that ended early.
	refillRetry = time.Minute
)

// watch looks at the drives' states and refills those that came back, those that
// were replaced, and those that an earlier process had not finished with. Once after
// the start it holds every set's drives against each other, for what was written
// while the process was killed or a report was lost.
func (h *Healer) watch(ctx context.Context) {
	sets := make(map[twofold.SetID]*watched)
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(h.o.Poll)
	defer tick.Stop()
	for ctx.Err() == nil {
		spilled, isSpilled := h.queue.spilled()
		for _, id := range h.e.Sets() {
			w := sets[id]
			if w == nil {
				w = &watched{}
				sets[id] = w
			}
			w.look(h.e.Slots(id))
			if isSpilled && id == spilled {
				w.all()
			}
			if at, fresh, ok := w.take(); ok {
				wg.Go(func() { w.ended(ctx, h, id, at, h.refill(ctx, id, at, fresh)) })
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// watched is what watch has seen of a set. Only its goroutine touches it, but for
// the atomic fields.
type watched struct {
	looks int
	last  []drive.Drive // in the slots, as last seen
	away  erasure.Set   // slots whose drives can't take shards
	todo  erasure.Set   // slots to be refilled
	fresh erasure.Set   // those of them whose drives are to be marked
	busy  atomic.Bool   // a refill runs
	again atomic.Uint32 // slots of a refill that ended early
	retry atomic.Int64  // Unix nanoseconds before which no refill starts, after a failure
}

// look notes what has changed.
func (w *watched) look(slots []*drive.Slot) {
	if w.looks++; w.looks == 1 {
		w.last = make([]drive.Drive, len(slots))
	}
	busy := w.busy.Load()
	w.todo |= erasure.Set(w.again.Swap(0))
	for i, s := range slots {
		d := s.Drive()
		was, changed := w.away.Has(i), w.looks > 1 && w.last[i] != d
		w.last[i] = d
		if st := d.State(); st == drive.Offline || st == drive.Full {
			w.away = w.away.With(i)
			continue
		}
		w.away = w.away.Without(i)
		if was || changed {
			w.todo, w.fresh = w.todo.With(i), w.fresh.With(i)
		} else if m, ok := d.(Marker); ok && !busy && m.Healing() {
			w.todo = w.todo.With(i)
		}
	}
	if w.looks == settlePolls {
		w.all()
	}
}

// all asks for all slots that can take shards.
func (w *watched) all() { w.todo = erasure.Span(0, len(w.last)) }

// take returns what a refill should do now.
func (w *watched) take() (at, fresh erasure.Set, ok bool) {
	at = w.todo &^ w.away
	if at == 0 || w.busy.Load() || time.Now().UnixNano() < w.retry.Load() {
		return 0, 0, false
	}
	fresh = w.fresh & at
	w.todo, w.fresh = 0, w.fresh&^at
	w.busy.Store(true)
	return at, fresh, true
}

// ended notes how a refill ended.
func (w *watched) ended(ctx context.Context, h *Healer, id twofold.SetID, at erasure.Set, err error) {
	if err != nil && ctx.Err() == nil {
		h.log.Warn("refill ended early", "set", id, "err", err)
		w.again.Store(uint32(at))
		w.retry.Store(time.Now().Add(refillRetry).UnixNano())
	}
	w.busy.Store(false)
}
