package repair

import (
	"sync/atomic"
	"time"

	"twofold"
	"twofold/engine/erasure"
)

// Progress is how far the refill of drives of a set is. Blobs are looked for in steps
// (walkChunk), so that Lacking may still grow; a refill in which something failed
// begins again, from zero.
type Progress struct {
	Set     twofold.SetID
	At      erasure.Set // the positions that are refilled
	Since   time.Time
	Seen    int64 // blobs looked at
	Lacking int64 // of them, those that a drive lacks
	Done    int64 // of these, those that were healed, or could not be
}

// progress is a refill under way.
type progress struct {
	set                 twofold.SetID
	at                  erasure.Set
	since               time.Time
	seen, lacking, done atomic.Int64
}

// progress begins to count a refill; forget ends that.
func (h *Healer) progress(set twofold.SetID, at erasure.Set) *progress {
	p := &progress{set: set, at: at, since: time.Now()}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fills[p] = struct{}{}
	return p
}

func (h *Healer) forget(p *progress) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.fills, p)
}

// begin is called when a walk over the set begins.
func (p *progress) begin() {
	p.seen.Store(0)
	p.lacking.Store(0)
	p.done.Store(0)
}

// Progress tells of the refills under way, in no order.
func (h *Healer) Progress() (all []Progress) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p := range h.fills {
		all = append(all, Progress{
			Set: p.set, At: p.at, Since: p.since,
			Seen: p.seen.Load(), Lacking: p.lacking.Load(), Done: p.done.Load(),
		})
	}
	return all
}
