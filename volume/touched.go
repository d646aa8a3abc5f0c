package volume

import (
	"sync"
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

const (
	compactRest  = 2 * time.Second  // a file is left alone for so long after a flush
	compactPause = 64 * time.Second // the longest such time, of files that never rest for long
	compactBytes = 16 << 20         // bytes after which a file that never rests is looked at, or as many as it has
	compactPiece = 1 << 10          // what a piece costs a window, beside its bytes
	compactLeast = 256 << 10        // the least cost that makes it a window's turn
	compactCount = 1 << 16          // windows of a file whose cost is counted
)

// touched knows which inodes mounts have written to lately, and whose turn it is to be
// compacted: those that rest, and of those that don't what was written to so much that
// rewriting it costs no more than the writing did.
//
// A file that never rests has a turn in two ways. The whole of it, when as many bytes
// were written to it as it has: then its blobs that are mostly dead go. And a window of
// it, when the bytes written to the window and 1 KiB for each piece, which is about
// what the metadata of a piece takes, add up to what the window has. So of n bytes in p
// pieces compaction makes at most 2n + p KiB, and between two turns no window of 4 MiB
// gets more than 4,096 pieces.
//
// A file that was rewritten when it rested has to rest twice as long the next time, a
// minute at most: one that is written to every few seconds is not rewritten each time.
//
// Safe for concurrent use.
type touched struct {
	rest time.Duration // compactRest, but for tests

	mu   sync.Mutex
	inos map[twofold.Ino]*touch // guarded by mu
}

// touch is a file that was written to. The counts are of the time since its turn, or a
// window's, came last.
type touch struct {
	last    time.Time
	rest    time.Duration // how long it has to rest
	bytes   int64
	size    int64           // of the file after the last flush
	stored  int64           // bytes of it that are not holes
	windows map[int64]int64 // cost, by window
	full    []int64         // windows whose turn it is
}

// turn is what of a file is to be compacted now.
type turn struct {
	whole   bool
	rested  bool    // the file was left alone; whole is set
	windows []int64 // numbers of windows, where not the whole of it
}

func (t turn) none() bool { return !t.whole && len(t.windows) == 0 }

func newTouched() *touched {
	return &touched{rest: compactRest, inos: map[twofold.Ino]*touch{}}
}

// note counts a flush of pieces to a file, which it left as n. It reports whether that
// made it the file's turn.
func (t *touched) note(n *metadata.Inode, pieces []api.Segment) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.touch(n)
	before := s.due()
	for _, p := range pieces {
		s.count(p.Off, int64(len(p.Data)))
	}
	return !before && s.due()
}

// noteRange is note of one piece that is not at hand.
func (t *touched) noteRange(n *metadata.Inode, off, length int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.touch(n).count(off, length)
}

// touch is the file's entry, as of now; mu is held.
func (t *touched) touch(n *metadata.Inode) *touch {
	s := t.inos[n.Ino]
	if s == nil {
		s = &touch{rest: t.rest}
		t.inos[n.Ino] = s
	}
	s.last, s.size, s.stored = time.Now(), n.Size, n.Stored
	return s
}

// count adds n bytes at off to what they cost.
func (s *touch) count(off, n int64) {
	s.bytes += n
	for n > 0 {
		w := off / compactWindow
		in := min(n, (w+1)*compactWindow-off)
		off, n = off+in, n-in
		if s.windows == nil || len(s.windows) >= compactCount {
			s.windows = map[int64]int64{} // where there are too many they are counted anew
		}
		most := max(compactLeast, min(compactWindow, s.stored, s.size-w*compactWindow))
		before := s.windows[w]
		s.windows[w] = before + in + compactPiece
		if before < most && before+in+compactPiece >= most {
			s.full = append(s.full, w)
		}
	}
}

func (s *touch) due() bool { return len(s.full) > 0 || s.whole() }

func (s *touch) whole() bool { return s.bytes >= max(compactBytes, s.stored) }

// take says what of a file is to be compacted, and counts it as done.
func (t *touched) take(ino twofold.Ino) turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.inos[ino]
	switch {
	case s == nil:
		return turn{whole: true, rested: true}
	case s.whole() || time.Since(s.last) > s.rest:
		s.bytes, s.windows, s.full = 0, nil, nil
		return turn{whole: true, rested: time.Since(s.last) > s.rest}
	}
	windows := s.full
	for _, w := range windows {
		delete(s.windows, w)
	}
	s.full = nil
	return turn{windows: windows}
}

// rewritten notes that a file that had rested was rewritten.
func (t *touched) rewritten(ino twofold.Ino) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.inos[ino]
	if s == nil { // forgotten just before
		s = &touch{rest: t.rest, last: time.Now().Add(-2 * t.rest)}
		t.inos[ino] = s
	}
	s.rest = min(2*s.rest, max(compactPause, t.rest))
}

// forget drops what has rested: that a file is not known says the same. One that was
// rewritten is remembered for longer.
func (t *touched) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ino, s := range t.inos {
		rest := t.rest
		if s.rest > rest {
			rest = compactPause
		}
		if time.Since(s.last) > rest {
			delete(t.inos, ino)
		}
	}
}
