package volume

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// flush writes segments and commits them, as a mount's fsync does.
func (m *mount) flush(a api.Attr, segs ...api.Segment) {
	m.t.Helper()
	l, err := m.s.AcquireWrite(ctx, a.Ino)
	if err != nil {
		m.t.Fatal(err)
	}
	var size int64
	for _, s := range segs {
		size = max(size, s.Off+int64(len(s.Data)))
	}
	if _, err := m.s.Write(ctx, a.Ino, api.Write{Token: l.Token, Segments: segs, Size: size}); err != nil {
		m.t.Fatal(err)
	}
	if err := m.s.ReleaseWrite(ctx, a.Ino, l.Token); err != nil {
		m.t.Fatal(err)
	}
}

func (h *harness) extents(a api.Attr) (n int) {
	h.t.Helper()
	if err := h.v.Meta.View(ctx, func(w metadata.View) error {
		e, err := w.Extents(a.Ino, 0, 1<<40, 0)
		n = len(e)
		return err
	}); err != nil {
		h.t.Fatal(err)
	}
	return n
}

func TestOverwrittenFileIsCompacted(t *testing.T) {
	h := newHarness(t)
	h.bucket("base")
	m := h.mount()
	a, _, err := m.s.Create(ctx, m.lookup("base").Ino, "t.db", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	const size = 3 << 20
	want := random(size)
	m.flush(a, api.Segment{Data: want})
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		p := make([]byte, 1+rnd.IntN(20<<10))
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		off := rnd.Int64N(size - int64(len(p)))
		copy(want[off:], p)
		m.flush(a, api.Segment{Off: off, Data: p})
	}
	before, etag := h.extents(a), m.lookup("base", "t.db").ETag
	if before < 100 {
		t.Fatalf("only %d extents: nothing to compact", before)
	}
	eventually(t, "the file is compacted", func() bool { return h.extents(a) < compactMany })
	if got := h.get("base", "t.db"); !bytes.Equal(got, want) {
		t.Fatal("other bytes after compaction")
	}
	if b := m.lookup("base", "t.db"); b.ETag != etag || b.Size != size {
		t.Fatalf("compaction changed attributes: %+v", b)
	}
	eventually(t, "the blobs of before are gone", func() bool { return h.shards() <= 4 })
}

func TestCompactionDoesNotDisturbWriters(t *testing.T) {
	h := newHarness(t)
	h.bucket("base")
	m := h.mount()
	a, _, err := m.s.Create(ctx, m.lookup("base").Ino, "t.db", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	want := random(1 << 20)
	m.flush(a, api.Segment{Data: want})
	stop := time.Now().Add(time.Second)
	done := make(chan struct{})
	go func() { // again and again, also while it is being written
		defer close(done)
		for time.Now().Before(stop) {
			h.v.compactRange(ctx, a.Ino, 0, twofold.MaxFileLen)
		}
	}()
	for i := 0; time.Now().Before(stop); i++ {
		off := int64(i*7919) % (1<<20 - 4096)
		p := bytes.Repeat([]byte{byte(i)}, 4096)
		copy(want[off:], p)
		m.flush(a, api.Segment{Off: off, Data: p})
	}
	<-done
	if got := h.get("base", "t.db"); !bytes.Equal(got, want) {
		t.Fatal("a write was lost to compaction")
	}
}

func TestTruncatedObjectGivesItsSpaceBack(t *testing.T) {
	h := newHarness(t)
	h.bucket("base")
	data := random(24 << 20)
	h.put("base", "big", data)
	m := h.mount()
	a := m.lookup("base", "big")
	size := int64(9 << 20) // more than a window, less than half
	if _, err := m.s.SetAttr(ctx, a.Ino, api.SetAttr{Size: &size}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the blob is rewritten", func() bool { return h.extents(a) == 3 })
	if got := h.get("base", "big"); !bytes.Equal(got, data[:size]) {
		t.Fatal("other bytes after compaction")
	}
}

// TestCompactionGoesOnAfterARestart: what the process of before had not come to.
func TestCompactionGoesOnAfterARestart(t *testing.T) {
	h := newHarness(t)
	h.bucket("base")
	m := h.mount()
	a, _, err := m.s.Create(ctx, m.lookup("base").Ino, "t.db", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	want := random(2 << 20)
	m.flush(a, api.Segment{Data: want})
	for i := range 100 {
		p := random(5000)
		off := i * 20011
		copy(want[off:], p)
		m.flush(a, api.Segment{Off: int64(off), Data: p})
	}
	if n := h.extents(a); n < 100 { // the mount wrote a moment ago: it is left alone
		t.Fatalf("only %d extents: nothing to compact", n)
	}
	if err := m.s.End(ctx); err != nil {
		t.Fatal(err)
	}
	h.open(Options{})
	eventually(t, "the file is compacted", func() bool { return h.extents(a) < compactMany })
	if got := h.get("base", "t.db"); !bytes.Equal(got, want) {
		t.Fatal("other bytes after compaction")
	}
	eventually(t, "nothing is marked any more", func() bool { return len(h.due()) == 0 })
}

// due lists the files that are marked for compaction.
func (h *harness) due() (marks []metadata.CompactionMark) {
	h.t.Helper()
	if err := h.v.Meta.View(ctx, func(w metadata.View) (err error) {
		marks, err = w.CompactionDue(0, 100)
		return err
	}); err != nil {
		h.t.Fatal(err)
	}
	return marks
}

// TestSharedBlobGivesItsSpaceBack: a blob that copies keep alive in part, each a
// little of it.
func TestSharedBlobGivesItsSpaceBack(t *testing.T) {
	h := newHarness(t)
	h.bucket("base")
	data := random(16 << 20)
	h.put("base", "a", data)
	m := h.mount()
	keys := []string{"a", "b", "c"}
	for _, key := range keys[1:] {
		if _, err := h.v.CopyObject(ctx, &api.CopyInput{
			SrcBucket: "base", SrcKey: "a", Bucket: "base", Key: twofold.Key(key),
			Prepare: func(s api.ObjectInfo) (api.Attrs, api.Sum, error) { return api.Attrs{}, api.Sum{ETag: s.ETag}, nil },
		}); err != nil {
			t.Fatal(err)
		}
	}
	blobs := h.shards()
	for i, key := range keys {
		size := int64(i+1) << 20 // 6 of 16 MiB, at last
		a := m.lookup("base", key)
		if _, err := m.s.SetAttr(ctx, a.Ino, api.SetAttr{Size: &size}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "each has a blob of its own, and the shared one is gone", func() bool {
		for _, key := range keys {
			if h.blobSize(m.lookup("base", key)) > 3<<20 {
				return false
			}
		}
		return h.shards() == len(keys)*blobs
	})
	for i, key := range keys {
		if got := h.get("base", key); !bytes.Equal(got, data[:(i+1)<<20]) {
			t.Fatalf("%s: other bytes after compaction", key)
		}
	}
}

// blobSize is the size of the largest blob that a file refers to.
func (h *harness) blobSize(a api.Attr) (size int64) {
	h.t.Helper()
	if err := h.v.Meta.View(ctx, func(w metadata.View) error {
		exts, err := w.Extents(a.Ino, 0, 1<<40, 0)
		for _, e := range exts {
			if e.Blob != nil {
				size = max(size, e.Blob.Size)
			}
		}
		return err
	}); err != nil {
		h.t.Fatal(err)
	}
	return size
}

// TestOneBadFileHoldsUpNoOther: a file that can't be read keeps its mark; those behind
// it are compacted.
func TestOneBadFileHoldsUpNoOther(t *testing.T) {
	h := newHarness(t)
	h.bucket("base")
	m := h.mount()
	var files []api.Attr
	for _, key := range []string{"bad", "good"} {
		h.put("base", key, random(16<<20))
		files = append(files, m.lookup("base", key))
		if key == "bad" {
			for _, dir := range h.dirs {
				shards, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
				if err != nil || len(shards) == 0 {
					t.Fatal(shards, err)
				}
				for _, path := range shards {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	for _, a := range files {
		size := int64(1 << 20)
		if _, err := m.s.SetAttr(ctx, a.Ino, api.SetAttr{Size: &size}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the good file has a blob of its own", func() bool { return h.blobSize(files[1]) <= 1<<20 })
	eventually(t, "only the bad one is marked", func() bool { d := h.due(); return len(d) == 1 && d[0].Ino == files[0].Ino })
}

// stored adds up the sizes of all blobs that have shards, without parity.
func (h *harness) stored() (size int64) {
	h.t.Helper()
	for _, dir := range h.dirs {
		if err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil // deleted meanwhile
			}
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
			return nil
		}); err != nil {
			h.t.Fatal(err)
		}
	}
	return size / int64(len(h.dirs)) * 2 // two data shards of four
}

// TestFileThatNeverRestsIsCompacted: each flush writes over the same first MiB and adds
// a little, so that of each blob a little is alive for good. The stated bound holds
// while that goes on.
func TestFileThatNeverRestsIsCompacted(t *testing.T) {
	h := newHarness(t)
	h.restless()
	h.bucket("base")
	m := h.mount()
	a, _, err := m.s.Create(ctx, m.lookup("base").Ino, "t.db", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	const hot, cold, flushes = 1 << 20, 64 << 10, 80
	want := make([]byte, hot+flushes*cold)
	n := int64(hot)
	write := func(add bool) {
		copy(want, random(hot))
		segs := []api.Segment{{Data: want[:hot]}}
		if add {
			copy(want[n:], random(cold))
			segs = append(segs, api.Segment{Off: n, Data: want[n : n+cold]})
			n += cold
		} else {
			segs = append(segs, api.Segment{Off: n - 1, Data: want[n-1 : n]}) // the size stays
		}
		m.flush(a, segs...)
	}
	for range flushes {
		write(true)
	}
	// The writer goes on, and with it the tests that the volume makes of its turn.
	bound := 3*n + compactBytes + 2*compactWindow
	eventually(t, "the bound holds", func() bool {
		write(false)
		return h.stored() <= bound
	})
	for range 20 { // the file was not let rest for it
		write(false)
	}
	eventually(t, "the bound still holds", func() bool {
		write(false)
		return h.stored() <= bound
	})
	if got := h.get("base", "t.db"); !bytes.Equal(got, want[:n]) {
		t.Fatal("other bytes after compaction")
	}
}

// restless makes no pause long enough for a file to have rested.
func (h *harness) restless() {
	h.v.touched.mu.Lock()
	defer h.v.touched.mu.Unlock()
	h.v.touched.rest = time.Hour
}

// TestPiecesOfAFileThatNeverRests: a file that is written over in small pieces without
// a pause, all over or in one place, does not come to have ever more extents, and what
// compaction writes for it stays within its bound.
func TestPiecesOfAFileThatNeverRests(t *testing.T) {
	for _, where := range []int{compactWindow + 1<<20, 1 << 20} {
		t.Run(fmt.Sprintf("of %d bytes", where), func(t *testing.T) {
			h := newHarness(t)
			h.restless()
			var compacted atomic.Int64
			h.store.failing(func(c *metadata.Command) error {
				if r, ok := c.Body.(metadata.ReplaceExtents); ok {
					compacted.Add(r.Len)
				}
				return nil
			})
			h.bucket("base")
			m := h.mount()
			want := random(compactWindow + 1<<20)
			h.put("base", "f", want)
			a := m.lookup("base", "f")
			rnd := rand.New(rand.NewPCG(5, 6))
			var written, pieces int64
			flush := func(n int) { // about n pieces
				w := api.Write{Size: int64(len(want))}
				step := 2 * where / n
				for off := rnd.IntN(step); off+90 < where; off += 90 + rnd.IntN(step) {
					for i := range 90 {
						want[off+i] = byte(rnd.Uint32())
					}
					w.Segments = append(w.Segments, api.Segment{Off: int64(off), Data: bytes.Clone(want[off : off+90])})
				}
				w.Segments = append(w.Segments, api.Segment{Off: int64(len(want) - 1), Data: want[len(want)-1:]}) // the size stays
				m.flush(a, w.Segments...)
				pieces += int64(len(w.Segments))
				written += 90*int64(len(w.Segments)-1) + 1
			}
			const turn = (compactWindow + 1<<20) / compactPiece // pieces after which both windows had one, or the one
			for range 3 {
				for end := pieces + turn; pieces < end; {
					flush(400)
				}
				// Nothing rests here: it is merged because so much was written.
				eventually(t, "it is in few pieces", func() bool { flush(8); return h.extents(a) < turn/2 })
			}
			t.Logf("%d pieces of %d bytes, %d bytes compacted", pieces, written, compacted.Load())
			if got, bound := compacted.Load(), 2*written+pieces*compactPiece; got > bound {
				t.Errorf("compaction wrote %d bytes, wanted at most %d", got, bound)
			}
			if got := h.get("base", "f"); !bytes.Equal(got, want) {
				t.Fatal("other bytes")
			}
		})
	}
}

// TestCopyOfPiecesIsCompacted: what is copied is in as many pieces as its source was,
// and nobody has written to it.
func TestCopyOfPiecesIsCompacted(t *testing.T) {
	h := newHarness(t)
	h.bucket("base")
	m := h.mount()
	h.uncompacted()
	src, want := h.overwritten(m, "f", 2<<20, 1000, 600)
	if _, err := h.v.CopyObject(ctx, &api.CopyInput{
		SrcBucket: "base", SrcKey: "f", Bucket: "base", Key: "copy",
		Prepare: func(s api.ObjectInfo) (api.Attrs, api.Sum, error) { return api.Attrs{}, api.Sum{ETag: s.ETag}, nil },
	}); err != nil {
		t.Fatal(err)
	}
	a, _, err := m.s.Create(ctx, m.lookup("base").Ino, "range", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	if _, n, err := m.s.CopyRange(ctx, api.CopyRange{Src: src.Ino, Dst: a.Ino, Len: int64(len(want))}); err != nil || n != int64(len(want)) {
		t.Fatal(n, err)
	}
	for _, key := range []string{"f", "copy", "range"} {
		if n := h.extents(m.lookup("base", key)); n < 1000 {
			t.Fatalf("%s: only %d extents: nothing to compact", key, n)
		}
	}
	h.store.failing(nil)
	for _, key := range []string{"f", "copy", "range"} {
		eventually(t, key+" is compacted", func() bool { return h.extents(m.lookup("base", key)) < compactMany })
		if got := h.get("base", key); !bytes.Equal(got, want) {
			t.Fatalf("%s: other bytes after compaction", key)
		}
	}
}
