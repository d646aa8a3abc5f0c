package volume

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// TestReadPieces: any range of a file in pieces, with holes and with parts that share
// a blob, is what was written, in both views.
func TestReadPieces(t *testing.T) {
	h := newHarness(t)
	h.uncompacted()
	h.bucket("base")
	m := h.mount()
	const size = 3 << 20
	a, want := h.overwritten(m, "f", size, 3000, 700)
	rnd := rand.New(rand.NewPCG(3, 4))
	l, err := m.s.AcquireWrite(ctx, a.Ino)
	if err != nil {
		t.Fatal(err)
	}
	w := api.Write{Token: l.Token, Size: size}
	for range 100 { // small holes, which are read with what is around them, and large ones
		n := 1 + rnd.Int64N(int64([]int{300, 2 * pieceGap}[rnd.IntN(2)]))
		off := rnd.Int64N(size - n)
		clear(want[off:][:n])
		w.Punch = append(w.Punch, metadata.Range{Off: off, Len: n})
	}
	if _, err := m.s.Write(ctx, a.Ino, w); err != nil {
		t.Fatal(err)
	}
	if err := m.s.ReleaseWrite(ctx, a.Ino, l.Token); err != nil {
		t.Fatal(err)
	}
	const from, to, n = 100_000, 1_500_000, 400_000 // the same bytes of blobs, twice
	if _, _, err := m.s.CopyRange(ctx, api.CopyRange{Src: a.Ino, SrcOff: from, Dst: a.Ino, DstOff: to, Len: n}); err != nil {
		t.Fatal(err)
	}
	copy(want[to:][:n], want[from:])
	if n := h.extents(a); n < 3000 {
		t.Fatalf("only %d extents: nothing to see", n)
	}
	_, r, err := h.v.GetObject(ctx, "base", "f")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 300 {
		n := 1 + rnd.Int64N(int64([]int{100, 5000, size}[i%3]))
		off := rnd.Int64N(size - n + 1)
		var got bytes.Buffer
		if err := r.WriteRange(ctx, &got, off, n); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want[off:][:n]) {
			t.Fatalf("GET of [%d, +%d): other bytes", off, n)
		}
		n = min(n, api.MaxIO)
		p := bytes.Repeat([]byte{0xee}, int(n))
		if got, err := m.s.Read(ctx, a.Ino, off, p); err != nil || got != len(p) || !bytes.Equal(p, want[off:][:n]) {
			t.Fatalf("read of [%d, +%d): %d %v", off, n, got, err)
		}
	}
}

// countingBlobs counts reads.
type countingBlobs struct {
	Blobs
	reads atomic.Int64
}

func (c *countingBlobs) ReadAt(ctx context.Context, b twofold.Blob, p []byte, off int64) (int, error) {
	c.reads.Add(1)
	return c.Blobs.ReadAt(ctx, b, p, off)
}

// TestPiecesAreReadTogether: what a read needs of a blob is few reads of it, however
// many pieces it is.
func TestPiecesAreReadTogether(t *testing.T) {
	h := newHarness(t)
	h.uncompacted()
	h.bucket("base")
	m := h.mount()
	const size, flushes = 4 << 20, 6
	a, want := h.overwritten(m, "f", size, flushes*1024, 600)
	n := h.extents(a)
	if n < flushes*1000 {
		t.Fatalf("only %d extents: nothing to see", n)
	}
	var exts []metadata.Extent
	if err := h.v.Meta.View(ctx, func(w metadata.View) (err error) {
		exts, err = w.Extents(a.Ino, 0, size, 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	blobs := &countingBlobs{Blobs: h.v.Blobs}
	var got bytes.Buffer
	r := &objectReader{v: &Volume{Options: Options{Blobs: blobs}}, size: size, exts: exts}
	if err := r.WriteRange(ctx, &got, 0, size); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Fatal("other bytes", err)
	}
	// A read of a MiB touches each blob, once or where it goes on.
	if got, most := blobs.reads.Load(), int64(size/pieceBuf*(flushes+1)*2); got > most {
		t.Fatalf("%d reads of blobs for %d extents of %d blobs, wanted at most %d", got, n, flushes+1, most)
	}
}

// TestTinyPiecesMakeNoBlob: what many small writes flush is in the metadata, where a
// read of it opens nothing; pieces that are larger share a blob.
func TestTinyPiecesMakeNoBlob(t *testing.T) {
	h := newHarness(t)
	h.uncompacted()
	h.bucket("base")
	m := h.mount()
	a, want := h.overwritten(m, "f", 1<<20, 0, 1)
	blobs := h.shards()
	flush := func(n int) {
		var segs []api.Segment
		for off := 0; off < len(want)-n; off += 4 * tinySegment {
			copy(want[off:], random(n))
			segs = append(segs, api.Segment{Off: int64(off), Data: want[off : off+n]})
		}
		m.flush(a, append(segs, api.Segment{Off: int64(len(want) - 1), Data: want[len(want)-1:]})...) // the size stays
	}
	for _, n := range []int{tinySegment, 50} { // more than maxInlineWrite, the first time
		flush(n)
		// A compaction that was refused may have a blob for a moment.
		now := h.shards()
		for end := time.Now().Add(20 * time.Second); now > blobs && time.Now().Before(end); now = h.shards() {
			time.Sleep(10 * time.Millisecond)
		}
		if now > blobs {
			t.Fatalf("pieces of %d bytes: %d shards, before %d", n, now, blobs)
		}
	}
	flush(tinySegment + 1)
	if now := h.shards(); now <= blobs {
		t.Fatalf("pieces of %d bytes: %d shards, before %d", tinySegment+1, now, blobs)
	}
	if got := h.get("base", "f"); !bytes.Equal(got, want) {
		t.Fatal("other bytes")
	}
}
