package lease

import (
	"maps"
	"slices"
	"time"
)

// A reader that is heard of, and never answers an Invalidate, would have whoever changes
// what it caches wait for ever: S3 as well. After patience it is cut off:
//
//	grants     it gets none any more
//	Revoked    its connection is closed: what it hears of again is a new one, for which
//	           it drops what it has cached
//	a term     later its leases have ended by its own clock, also if it does not come
//	           back, and are taken: those who waited go on
//	barred     for a while it is granted nothing, so that it does not cost as much again
//
// A mount that works answers within about a second (the kernel's timeouts).
const (
	minPatience = 10 * time.Second
	minBar      = time.Minute // doubled each time
	maxBar      = time.Hour
)

// cutOff begins to cut a session off, unless that is under way.
func (t *Table) cutOff(s *session) {
	t.mu.Lock()
	if s.cutting || t.readers.sessions[s.reader.ID()] != s {
		t.mu.Unlock()
		return
	}
	s.cutting = true
	inos := slices.Collect(maps.Keys(s.inos))
	t.mu.Unlock()
	t.log.Warn("a mount is heard of, and does not give read leases back: it is cut off",
		"session", s.reader.ID(), "leases", len(inos), "patience", t.patience)
	s.reader.Revoked(inos)
	time.AfterFunc(t.term, func() { t.lose(s) }) // from here on it can't be heard of as of before
}

// lose takes the leases of a session that was cut off a term ago.
func (t *Table) lose(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers.sessions[s.reader.ID()] == s {
		t.forgetReader(s.reader.ID())
	}
	s.cutting = false
	s.lost++
	s.bar = min(max(2*s.bar, minBar), maxBar)
	s.barred = time.Now().Add(s.bar)
}

// losses is how often a session has lost its leases by being cut off.
func (t *Table) losses(s *session) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.lost
}
