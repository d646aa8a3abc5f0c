package volume

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

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
			h.v.compactInode(ctx, a.Ino)
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
