package repair

import (
	"context"
	"sync"
	"time"

	"twofold"
	"twofold/engine"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// ScrubPosition is a place in a scrub: the last blob that was looked at.
type ScrubPosition struct {
	Set   twofold.SetID
	After twofold.BlobID
}

// ScrubStats counts what scrubs have seen since the start of the process.
type ScrubStats struct {
	Running       bool
	Position      ScrubPosition
	Cycles        int64 // finished
	Blobs         int64
	Bytes         int64 // read
	Bad           int64 // shards that were missing or bad
	Repaired      int64 // shards rewritten
	Unrecoverable int64 // blobs with too few good shards
	Mismatched    int64 // stripes whose blocks all pass their hashes and do not fit each other
}

// sub is s less t, but for the place.
func (s ScrubStats) sub(t ScrubStats) ScrubStats {
	s.Cycles -= t.Cycles
	s.Blobs -= t.Blobs
	s.Bytes -= t.Bytes
	s.Bad -= t.Bad
	s.Repaired -= t.Repaired
	s.Unrecoverable -= t.Unrecoverable
	s.Mismatched -= t.Mismatched
	return s
}

type scrubStats struct {
	mu sync.Mutex
	s  ScrubStats // guarded by mu
}

func (s *scrubStats) get() ScrubStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.s
}

func (s *scrubStats) update(fn func(*ScrubStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.s)
}

// Scrub reads every block of every shard of all sets once, parity too, as fast as it
// can, checks the hashes and that parity fits, and heals what is not right. It
// returns what it counted. One scrub runs at a time: a second waits. errs.Canceled.
func (h *Healer) Scrub(ctx context.Context) (ScrubStats, error) {
	h.scrubbing.Lock()
	defer h.scrubbing.Unlock()
	before := h.stats.scrub.get()
	err := h.scrub(ctx, ScrubPosition{}, nil)
	return h.stats.scrub.get().sub(before), err
}

// scrubForever scrubs at the pace of Options.Cycle until ctx ends.
func (h *Healer) scrubForever(ctx context.Context) {
	from := h.o.Start
	for ctx.Err() == nil {
		started := time.Now()
		p := &pacer{h: h, cycle: h.o.Cycle}
		h.scrubbing.Lock()
		err := h.scrub(ctx, from, p)
		h.scrubbing.Unlock()
		if err != nil && ctx.Err() == nil {
			h.log.Warn("scrub ended", "err", err)
		}
		from = ScrubPosition{}
		if !sleep(ctx, max(h.o.Cycle-time.Since(started), time.Minute)) {
			return
		}
	}
}

// scrub goes through all sets from a place on. The caller holds scrubbing.
func (h *Healer) scrub(ctx context.Context, from ScrubPosition, p *pacer) error {
	h.stats.scrub.update(func(s *ScrubStats) { s.Running = true })
	defer h.stats.scrub.update(func(s *ScrubStats) { s.Running = false })
	for _, set := range h.e.Sets() {
		after := from.After
		switch {
		case set.Pool < from.Set.Pool, set.Pool == from.Set.Pool && set.Set < from.Set.Set:
			continue
		case set != from.Set:
			after = twofold.BlobID{}
		}
		all := func(engine.Found) bool { return true }
		_, err := h.walk(ctx, set, after, all, func(f engine.Found) error {
			if ctx.Err() != nil {
				return errs.E("repair.Scrub", errs.Canceled, context.Cause(ctx))
			}
			started := time.Now()
			bytes := h.scrubBlob(ctx, set, f.ID)
			h.scrubbed(ScrubPosition{set, f.ID}, bytes)
			if p != nil {
				p.pause(ctx, bytes, time.Since(started))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	h.stats.scrub.update(func(s *ScrubStats) { s.Cycles++ })
	if h.o.Progress != nil {
		h.o.Progress(ScrubPosition{})
	}
	return nil
}

// progressEvery is after how many blobs the place is given away to be kept.
const progressEvery = 256

func (h *Healer) scrubbed(at ScrubPosition, bytes int64) {
	var blobs int64
	h.stats.scrub.update(func(s *ScrubStats) {
		s.Position = at
		s.Blobs++
		s.Bytes += bytes
		blobs = s.Blobs
	})
	if h.o.Progress != nil && blobs%progressEvery == 0 {
		h.o.Progress(at)
	}
}

// scrubBlob verifies one blob and heals it. It returns the bytes read.
func (h *Healer) scrubBlob(ctx context.Context, set twofold.SetID, id twofold.BlobID) int64 {
	if h.e.Writing(id) {
		return 0
	}
	v, err := h.verify(ctx, set, id)
	if ctx.Err() != nil {
		return v.bytes
	}
	if err != nil {
		h.scrubFailed(ctx, id, err)
		return v.bytes
	}
	if v.mismatched > 0 {
		h.log.Error("blocks of a blob pass their hashes and do not fit each other", "blob", id, "set", set, "stripes", v.mismatched)
		h.stats.scrub.update(func(s *ScrubStats) { s.Mismatched += v.mismatched })
	}
	if v.bad|v.wrong == 0 && v.missing == 0 {
		return v.bytes
	}
	d := engine.Damage{Blob: id, Set: set, Shards: v.bad, Wrong: v.wrong}
	res, err := h.Heal(ctx, d)
	if res.Unwanted {
		return v.bytes // garbage, which collection deletes
	}
	h.stats.scrub.update(func(s *ScrubStats) {
		s.Bad += int64(v.missing + (v.bad | v.wrong).Len())
		s.Repaired += int64(res.Healed)
	})
	if err != nil {
		h.scrubFailed(ctx, id, err)
	}
	if err != nil || res.Waiting > 0 {
		h.queue.add(d)
	}
	return v.bytes
}

// scrubFailed counts a blob that can't be rebuilt, if anybody wants it.
func (h *Healer) scrubFailed(ctx context.Context, id twofold.BlobID, err error) {
	if !errs.Is(err, errs.ReadQuorum) {
		if !errs.Is(err, errs.NotFound) {
			h.log.Warn("blob not verified", "blob", id, "err", err)
		}
		return
	}
	if wanted, werr := h.o.Wanted(ctx, id); werr == nil && wanted {
		h.stats.scrub.update(func(s *ScrubStats) { s.Unrecoverable++ })
		h.log.Error("blob can't be rebuilt now", "blob", id, "err", err)
	}
}

// pacer stretches a scrub over its cycle: it reads so many bytes a second that what
// the drives hold takes that long.
type pacer struct {
	h     *Healer
	cycle time.Duration
	rate  float64 // bytes a second
	asked time.Time
}

// maxPause bounds one pause, so that new data does not wait behind an old estimate.
const maxPause = time.Hour

func (p *pacer) pause(ctx context.Context, bytes int64, took time.Duration) {
	if time.Since(p.asked) > time.Hour {
		p.asked = time.Now()
		p.rate = max(1, float64(p.h.usedBytes(ctx))/p.cycle.Seconds())
	}
	// An empty blob costs as much as a block of a disk.
	d := time.Duration(float64(max(bytes, 4096)) / p.rate * float64(time.Second))
	sleep(ctx, min(d-took, maxPause))
}

// usedBytes is what the drives hold, of anybody's.
func (h *Healer) usedBytes(ctx context.Context) uint64 {
	var used uint64
	for _, id := range h.e.Sets() {
		for _, s := range h.e.Slots(id) {
			if u, err := s.Drive().Usage(ctx); err == nil && u.Total > u.Free {
				used += u.Total - u.Free
			}
		}
	}
	return used
}

// verdict is what verify found of a blob.
type verdict struct {
	bad        erasure.Set // shards with a bad block, or that open no more
	wrong      erasure.Set // shards with a block that passes its hash and does not fit
	missing    int         // shards that are not there, or not the blob's, on drives that could have them
	mismatched int64       // stripes of which it could not be told which shard is wrong
	bytes      int64       // read
}
