package volume

import (
	"math/rand/v2"
	"testing"
	"time"

	"twofold/metadata"
	"twofold/volume/api"
)

// age makes the last flush to an inode one of longer ago.
func (t *touched) age(n *metadata.Inode, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.inos[n.Ino]; s != nil {
		s.last = time.Now().Add(-d)
	}
}

// TestRestTwiceAsLong: a file that was rewritten when it had rested has to rest for
// longer the next time; one that was not, or that has rested for long, has not.
func TestRestTwiceAsLong(t *testing.T) {
	touched := newTouched()
	n := &metadata.Inode{Ino: 7, Size: 1 << 30, Stored: 1 << 30}
	rests := func(after time.Duration) bool {
		touched.note(n, []api.Segment{{Data: make([]byte, 10)}})
		if !touched.take(n.Ino).none() {
			t.Fatal("it has a turn right after a flush")
		}
		touched.age(n, after)
		touched.forget()
		turn := touched.take(n.Ino)
		return turn.whole && turn.rested
	}
	for range 2 { // nothing was rewritten
		if !rests(compactRest + time.Second) {
			t.Fatal("it did not rest")
		}
	}
	for rest := compactRest; rest < compactPause; rest *= 2 {
		if !rests(rest + rest/2) {
			t.Fatalf("it did not rest within %v", rest)
		}
		touched.rewritten(n.Ino)
		if rests(rest + rest/2) {
			t.Fatalf("it was rewritten, and rested within %v again", rest)
		}
	}
	touched.rewritten(n.Ino) // no further than a minute
	if !rests(compactPause+time.Second) || !rests(compactRest+time.Second) {
		t.Fatal("a long rest is not the end of it")
	}
}

// TestTurnsCostWhatTheWritingDid: what turns of files that never rest may rewrite is at
// most twice what was written, and 1 KiB for each piece.
func TestTurnsCostWhatTheWritingDid(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 1<<20)
	wholes, windows := 0, 0
	for range 60 {
		touched := newTouched()
		touched.rest = time.Hour
		n := &metadata.Inode{Ino: 7, Size: 1 + rnd.Int64N(1<<[]int{16, 22, 24, 27}[rnd.IntN(4)])}
		n.Stored = n.Size - rnd.Int64N(n.Size)/2
		largest := 1 + rnd.IntN(1<<[]int{3, 10, 16, 20}[rnd.IntN(4)])
		hot := 1 + rnd.Int64N(n.Size)
		var written, pieces, cost int64
		for range 3000 {
			off := rnd.Int64N(hot)
			p := api.Segment{Off: off, Data: data[:min(1+rnd.Int64N(int64(largest)), n.Size-off)]}
			written, pieces = written+int64(len(p.Data)), pieces+1
			if !touched.note(n, []api.Segment{p}) {
				continue
			}
			turn := touched.take(n.Ino)
			if turn.none() || turn.rested {
				t.Fatalf("its turn is %+v", turn)
			}
			if turn.whole {
				wholes++
				cost += n.Stored
			}
			windows += len(turn.windows)
			for _, w := range turn.windows {
				cost += min(compactWindow, n.Size-w*compactWindow)
			}
		}
		// A piece may be in two windows.
		if bound := 2*written + 2*pieces*compactPiece; cost > bound {
			t.Fatalf("%d pieces up to %d bytes in %d of %d: compaction may write %d bytes, wanted at most %d", pieces, largest, hot, n.Size, cost, bound)
		}
	}
	if wholes < 100 || windows < 100 {
		t.Errorf("turns of %d files and %d windows: nothing to see", wholes, windows)
	}
}
