// Package repair brings blobs back to full strength in the background: what reads
// and writes report as missing or bad (a queue), what a drive missed while it was
// away (Refill), and what nobody has read for long (Scrub).
//
// All of it goes through Heal, which rewrites the bad shards of one blob from the
// good ones. A shard is replaced as a whole and atomically, from content that passed
// its hashes: a heal that fails half-way, or is killed, changes nothing. Heals are
// idempotent, so nothing of a refill or a scrub needs to be remembered but that it
// is not finished.
//
// A blob that nobody wants is not healed. Wanted is asked before, so as not to do
// useless work, and after, because a blob that was deleted meanwhile would have got
// a shard again: it is taken away.
package repair

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/engine"
	"twofold/internal/errs"
)

// Options configure a Healer. Zero values get the defaults named.
type Options struct {
	Engine *engine.Engine
	// Wanted reports whether anything refers to a blob, or may still come to: it is
	// true for a blob that a live session has written and not yet committed. Once
	// false it stays false. An error: not known now, asked again later.
	Wanted func(context.Context, twofold.BlobID) (bool, error)
	Logger *slog.Logger

	// Workers is how many blobs are healed at once. Default 2.
	Workers int
	// QueueLen bounds the reports that wait. What does not fit is found by a walk
	// over its set a little later. Default 65,536.
	QueueLen int
	// Cycle is how long a scrub of everything takes at its own pace; negative: no
	// scrub but on demand. Default 30 days.
	Cycle time.Duration
	// Poll is how often drives' states are looked at. Default 1 s.
	Poll time.Duration
	// RetryDelay is the first delay before a heal that failed is tried again; it
	// doubles from there. Default 1 s.
	RetryDelay time.Duration
	// Start is where the scrub of an earlier process got to, and Progress, where
	// set, is told of the place from time to time to keep it.
	Start    ScrubPosition
	Progress func(ScrubPosition)
}

// Healer repairs. Safe for concurrent use.
type Healer struct {
	o     Options
	e     *engine.Engine
	log   *slog.Logger
	queue *queue
	stats stats
	chunk int // walkChunk, but in tests

	scrubbing sync.Mutex // held by the scrub under way

	mu     sync.Mutex               // guards what follows
	active map[twofold.BlobID]*heal // heals under way
	fills  map[*progress]struct{}   // refills under way
}

// Stats counts since the start.
type Stats struct {
	Queued        int   // reports that wait now
	Healed        int64 // shards rewritten
	HealedBytes   int64 // bytes of shards rewritten
	Unrecoverable int64 // heals that found too few good shards
	Failed        int64 // heals that failed otherwise
	Refilling     int64 // drives being refilled now
	Scrub         ScrubStats
}

type stats struct {
	healed, healedBytes, unrecoverable, failed, refilling atomic.Int64
	scrub                                                 scrubStats
}

// New returns a healer of an engine's blobs, to which damage is reported from now
// on. Run makes it work.
func New(o Options) (*Healer, error) {
	if o.Engine == nil || o.Wanted == nil {
		return nil, errs.Newf("repair.New", errs.Invalid, "an engine and Wanted are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.Workers, 2)
	setDefault(&o.QueueLen, 1<<16)
	setDefault(&o.Poll, time.Second)
	setDefault(&o.RetryDelay, time.Second)
	if o.Cycle == 0 {
		o.Cycle = 30 * 24 * time.Hour
	}
	h := &Healer{
		o: o, e: o.Engine, log: o.Logger, chunk: walkChunk,
		queue:  newQueue(o.QueueLen, o.RetryDelay),
		active: make(map[twofold.BlobID]*heal),
		fills:  make(map[*progress]struct{}),
	}
	o.Engine.OnDamage(h.report)
	return h, nil
}

func setDefault[T int | time.Duration](p *T, d T) {
	if *p <= 0 {
		*p = d
	}
}

// Run works until ctx ends: it heals what is reported, refills drives that come back
// and scrubs. It returns when all of that has stopped.
func (h *Healer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for range h.o.Workers {
		wg.Go(func() { h.work(ctx) })
	}
	wg.Go(func() { h.watch(ctx) })
	if h.o.Cycle > 0 {
		wg.Go(func() { h.scrubForever(ctx) })
	}
	wg.Wait()
}

// Stats returns the counters.
func (h *Healer) Stats() Stats {
	return Stats{
		Queued:        h.queue.len(),
		Healed:        h.stats.healed.Load(),
		HealedBytes:   h.stats.healedBytes.Load(),
		Unrecoverable: h.stats.unrecoverable.Load(),
		Failed:        h.stats.failed.Load(),
		Refilling:     h.stats.refilling.Load(),
		Scrub:         h.stats.scrub.get(),
	}
}

// report is what the engine calls when it meets damage. It does not block.
func (h *Healer) report(d engine.Damage) {
	h.mu.Lock()
	x := h.active[d.Blob]
	if x != nil {
		x.found |= d.Shards
	}
	h.mu.Unlock()
	if x == nil {
		h.queue.add(d)
	}
}

// work heals what the queue gives out.
func (h *Healer) work(ctx context.Context) {
	for {
		it, ok := h.queue.take(ctx)
		if !ok {
			return
		}
		if h.e.Writing(it.damage.Blob) {
			h.queue.retry(it, maxAttempts)
			continue
		}
		res, err := h.Heal(ctx, it.damage)
		switch {
		case ctx.Err() != nil:
			return
		case errs.Is(err, errs.ReadQuorum), errs.Is(err, errs.NotFound):
			h.log.Error("blob can't be rebuilt now", "blob", it.damage.Blob, "attempt", it.attempts+1, "err", err)
			h.queue.retry(it, hopelessAttempts)
		case err != nil:
			h.log.Warn("heal failed", "blob", it.damage.Blob, "attempt", it.attempts+1, "err", err)
			h.retryOrWalk(it)
		case res.Unwanted:
			h.queue.retry(it, unwantedAttempts)
		case res.Waiting > 0:
			h.retryOrWalk(it)
		}
	}
}

// retryOrWalk tries again later, and in the end leaves it to a refill, which goes on
// until the drives take their shards.
func (h *Healer) retryOrWalk(it *item) {
	if !h.queue.retry(it, maxAttempts) {
		h.queue.spill(it.damage.Set)
	}
}

// sleep waits, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
