package drive

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"twofold/internal/errs"
)

// faultLimit is how many failed probes in a row take a drive offline.
const faultLimit = 3

// health joins what is known of a drive into its State, which anybody reads
// without a lock.
type health struct {
	log   *slog.Logger
	guard *guard
	state atomic.Uint32 // a State

	mu       sync.Mutex
	closed   bool   // Close was called
	lost     string // why the path is not the drive any more; empty: it is
	hung     bool   // an operation is past its deadline
	slow     bool   // an operation has been running for long
	readOnly bool
	faults   int // I/O errors since the last good probe
	failed   int // probes that failed in a row
	healing  bool
	full     bool

	// gen counts the times that the drive was lost: what began in one generation
	// does not commit in another.
	gen atomic.Uint64
}

// State is what the drive can do now.
func (h *health) State() State { return State(h.state.Load()) }

// change applies fn to the conditions, works out the state, and logs when it is
// another one.
func (h *health) change(why string, fn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fn()
	next := h.work()
	prev := State(h.state.Swap(uint32(next)))
	h.guard.setDown(next == Offline) // after the state: whom this wakes finds it so
	if prev == next || prev == 0 {
		return
	}
	level := slog.LevelInfo
	switch {
	case h.closed:
		level = slog.LevelDebug // the server stops
	case next == Offline || next == Suspect:
		level = slog.LevelWarn
	}
	h.log.Log(context.Background(), level, "drive state changed",
		"drive", h.guard.name, "from", prev.String(), "to", next.String(), "why", why)
}

// work works out the state. h.mu is held.
func (h *health) work() State {
	switch {
	case h.closed || h.lost != "" || h.hung || h.failed >= faultLimit:
		return Offline
	case h.slow || h.readOnly || h.faults > 0 || h.failed > 0:
		return Suspect
	case h.full:
		return Full
	case h.healing:
		return Healing
	}
	return Online
}

// setLost takes the drive offline because its path is not the drive any more, and
// reports whether that is news.
func (h *health) setLost(why string) (news bool) {
	h.change(why, func() {
		news = h.lost == ""
		h.lost = why
		if news {
			h.gen.Add(1)
		}
	})
	return news
}

// hungChanged is the guard's callback. A drive that answers again stays suspect
// until a probe has succeeded.
func (h *health) hungChanged() {
	h.change("an operation did not answer before its deadline", func() {
		was := h.hung
		h.hung = h.guard.anyHung()
		if was && !h.hung {
			h.faults++
		}
	})
}

// lostWhy tells why the drive is lost, or "".
func (h *health) lostWhy() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

// suspicious reports whether errors ask for a probe now.
func (h *health) suspicious() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.faults > 0 || h.failed > 0 || h.readOnly
}

func (h *health) isHung() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hung
}

func (h *health) isHealing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.healing
}

func (h *health) isReadOnly() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readOnly
}

// setFull is called at every look at the free space; it is quick when nothing changed.
func (h *health) setFull(full bool) {
	h.mu.Lock()
	same := h.full == full
	h.mu.Unlock()
	if !same {
		h.change("free space against the reserve", func() { h.full = full })
	}
}

// setSlow tells whether an operation has been under way for long.
func (h *health) setSlow(slow bool) {
	h.mu.Lock()
	same := h.slow == slow
	h.mu.Unlock()
	if !same {
		h.change("an operation takes long", func() { h.slow = slow })
	}
}

// probed takes the outcome of a test write: success clears what errors had said of
// the drive, faultLimit failures in a row take it offline.
func (h *health) probed(err error) {
	why := "a test write succeeded"
	if err != nil {
		why = err.Error()
	}
	h.change(why, func() {
		switch {
		case err == nil:
			h.faults, h.failed, h.readOnly = 0, 0, false
		case kindOf(err) == errs.ReadOnly:
			h.faults, h.failed, h.readOnly = 0, 0, true // it still reads
		default:
			h.failed++
		}
	})
}

// dead takes the drive offline at once, until a test write succeeds.
func (h *health) dead(err error) {
	h.change(err.Error(), func() { h.failed = faultLimit })
}

// String is the state in a word.
func (s State) String() string {
	switch s {
	case Online:
		return "online"
	case Suspect:
		return "suspect"
	case Offline:
		return "offline"
	case Healing:
		return "healing"
	case Full:
		return "full"
	}
	return "unknown"
}
