package volume

import (
	"sync"
	"time"

	"twofold"
)

const (
	compactRest  = 2 * time.Second // a file is left alone for so long after a flush
	compactBytes = 16 << 20        // bytes after which a file that never rests is looked at, or as many as it has
	compactEvery = 2000            // flushes after which it is looked at in any case
)

// touched knows which inodes mounts have written to lately, and whose turn it is to be
// compacted: those that rest, and those that don't once enough was written to them that
// rewriting them costs no more than the writing did. Safe for concurrent use.
type touched struct {
	mu   sync.Mutex
	inos map[twofold.Ino]*touch // guarded by mu
}

// touch is a file that was written to. The counts are of the time since its turn came
// last.
type touch struct {
	last    time.Time
	flushes int
	bytes   int64
	stored  int64 // bytes of the file that are not holes, after the last flush
}

func newTouched() *touched { return &touched{inos: map[twofold.Ino]*touch{}} }

// note counts a flush of n bytes to a file that now has stored bytes. It reports
// whether that made it the file's turn.
func (t *touched) note(ino twofold.Ino, n, stored int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.inos[ino]
	if s == nil {
		s = &touch{}
		t.inos[ino] = s
	}
	before := s.due()
	s.last = time.Now()
	s.flushes++
	s.bytes += n
	s.stored = stored
	return !before && s.due()
}

func (s *touch) due() bool {
	return s.flushes >= compactEvery || s.bytes >= max(compactBytes, s.stored)
}

// busy reports whether a file should be left alone: it was written to a moment ago,
// and not yet much since its turn came last.
func (t *touched) busy(ino twofold.Ino) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.inos[ino]
	switch {
	case s == nil:
		return false
	case time.Since(s.last) > compactRest:
		delete(t.inos, ino)
		return false
	case s.due():
		s.flushes, s.bytes = 0, 0
		return false
	}
	return true
}

// forget drops what has rested: that a file is not known says the same.
func (t *touched) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ino, s := range t.inos {
		if time.Since(s.last) > compactRest {
			delete(t.inos, ino)
		}
	}
}
