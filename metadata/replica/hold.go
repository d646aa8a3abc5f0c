package replica

import (
	"sync"
	"sync/atomic"
	"time"

	"twofold/internal/errs"
	"twofold/metadata"
)

// How much a replica holds back, and for how long.
const (
	holdEntries = 64
	holdBytes   = 1 << 20
	holdTime    = 20 * time.Millisecond
)

// held are entries that a replica has been given by the library and has not applied yet,
// because nobody waits for their results here: several of them are one write of the index
// later, instead of one each, which is most of the cost of small ones. Nobody reads a
// replica that does not lead; one that comes to lead settles before it is read (Group.prove),
// and what is acknowledged is applied by the leader before, with all in front of it. The log
// has them, so that nothing is lost with the process.
type held struct {
	mu      sync.Mutex  // serialises whoever applies: the library's goroutine and the others
	entries []Entry     // guarded by mu
	bytes   int         // guarded by mu; of entries
	err     error       // guarded by mu: why what was held could not be applied; nothing is behind it
	over    atomic.Bool // the replica is out: only who closes it applies what is held
}

// hold takes entries in, and tells whether it did. h.held.mu is held.
func (h *stateHost) hold(entries []Entry, bytes int) bool {
	d := &h.held
	if h.holdFor < 0 || len(d.entries)+len(entries) > holdEntries || d.bytes+bytes > holdBytes {
		return false
	}
	if _, ok := h.cur.Load().machine.(sharer); !ok || h.waiting.Load() > 0 {
		return false
	}
	if len(d.entries) == 0 {
		time.AfterFunc(h.holdFor, h.settleLate)
	}
	d.entries, d.bytes = append(d.entries, entries...), d.bytes+bytes
	return true
}

// applyNext applies or holds entries of the library, and returns their results as apply does.
func (h *stateHost) applyNext(entries []Entry, bytes int) ([]*metadata.Result, error) {
	h.held.mu.Lock()
	defer h.held.mu.Unlock()
	if h.held.err == nil && h.hold(entries, bytes) {
		return make([]*metadata.Result, len(entries)), nil
	}
	if err := h.settleLocked(); err != nil {
		return nil, err
	}
	return h.applyBusy(entries, h.waiting.Load() == 0)
}

// settle applies what is held. An error is for stateHost.die, or fail.
func (h *stateHost) settle() error {
	h.held.mu.Lock()
	defer h.held.mu.Unlock()
	return h.settleLocked()
}

func (h *stateHost) settleLocked() error {
	d := &h.held
	if d.err != nil || len(d.entries) == 0 {
		return d.err
	}
	_, d.err = h.applyBusy(d.entries, true)
	clear(d.entries) // keep no command alive
	d.entries, d.bytes = d.entries[:0], 0
	return d.err
}

func (h *stateHost) applyBusy(entries []Entry, take bool) ([]*metadata.Result, error) {
	defer h.busy.start()()
	return h.apply(h.cur.Load().machine, entries, take)
}

// settleLate is settle of a replica that nothing more came to.
func (h *stateHost) settleLate() {
	h.held.mu.Lock()
	defer h.held.mu.Unlock()
	if h.held.over.Load() {
		return
	}
	if err := h.settleLocked(); err != nil && h.fail != nil {
		h.fail(errs.E("replica.settle", errs.KindOf(err), err))
	}
}

// rest returns when nothing is being applied, and nothing will be that is not asked for.
func (h *stateHost) rest() {
	h.held.over.Store(true)
	h.held.mu.Lock()
	defer h.held.mu.Unlock()
}
