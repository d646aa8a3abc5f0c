package volume

import (
	"bytes"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// TestCopyRangeSharesBlobs: the copy is there for both views without a byte on the
// drives, from what another mount has not flushed, and outlives its source.
func TestCopyRangeSharesBlobs(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m, other := h.mount(), h.mount()
	dir := m.lookup("docs").Ino
	data := random(1 << 20)
	h.put("docs", "src", data)
	src := m.lookup("docs", "src")
	dst, _, err := m.s.Create(ctx, dir, "dst", api.Create{Type: metadata.TypeFile, Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	other.write(src.Ino, 0, "unflushed") // it holds the lease
	copy(data, "unflushed")
	if _, err := m.s.GetAttr(ctx, src.Ino); err != nil { // which flushes: then nothing more is to be stored
		t.Fatal(err)
	}
	shards := h.shards()
	other.write(src.Ino, 3, "_")
	data[3] = '_'
	a, n, err := m.s.CopyRange(ctx, api.CopyRange{Src: src.Ino, SrcOff: 1, Dst: dst.Ino, DstOff: 2, Len: 1 << 30})
	if err != nil || n != 1<<20-1 || a.Size != 1<<20+1 {
		t.Fatal(a, n, err)
	}
	want := append([]byte{0, 0}, data[1:]...)
	if got := h.get("docs", "dst"); !bytes.Equal(got, want) {
		t.Fatal("GET of the copy gives something else")
	}
	if got := h.shards(); got != shards {
		t.Fatalf("%d shards became %d", shards, got)
	}
	if err := h.v.DeleteObject(ctx, "docs", "src", metadata.Conditions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the source to be freed", func() bool { _, err := m.s.GetAttr(ctx, src.Ino); return errs.Is(err, errs.Stale) })
	if got := h.get("docs", "dst"); !bytes.Equal(got, want) {
		t.Fatal("the copy went with its source")
	}
	if _, _, err := m.s.CopyRange(ctx, api.CopyRange{Src: dir, Dst: dst.Ino, Len: 1}); !errs.Is(err, errs.IsDir) {
		t.Fatal("from a directory:", err)
	}
	if _, _, err := m.s.CopyRange(ctx, api.CopyRange{Src: dst.Ino, SrcOff: 100, Dst: dst.Ino, Len: 1, DstToken: 1 << 50}); !errs.Is(err, errs.Fenced) {
		t.Fatal("under a lease that is not there:", err)
	}
}

// TestSeek: data and holes as the extents are, also what another mount has not flushed.
func TestSeek(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m, other := h.mount(), h.mount()
	f, _, err := m.s.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile, Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	// More extents in a row than are looked at in one go, and a hole behind them.
	const extents = seekBatch + 3
	var segs []api.Segment
	for i := range int64(extents) {
		segs = append(segs, api.Segment{Off: 10 + i*5000, Data: random(5000)})
	}
	if _, err := m.s.Write(ctx, f.Ino, api.Write{Segments: segs, Size: 10 + extents*5000 + 7}); err != nil {
		t.Fatal(err)
	}
	end := int64(10 + extents*5000)
	seek := func(off int64, hole bool, want int64) {
		t.Helper()
		if got, err := m.s.Seek(ctx, f.Ino, off, hole); err != nil || got != want {
			t.Fatalf("from %d, hole %v: %d, %v, want %d", off, hole, got, err, want)
		}
	}
	seek(0, false, 10)
	seek(0, true, 0)
	seek(10, true, end)
	seek(end, false, -1)
	seek(end+6, true, end+6)
	seek(end+7, true, -1)
	other.write(f.Ino, end+1, "x")
	seek(end, false, end+1)
	if _, err := m.s.Seek(ctx, m.lookup("docs").Ino, 0, true); !errs.Is(err, errs.IsDir) {
		t.Fatal(err)
	}
}

// TestTmpfile: a file without a name is in no listing, stays while it is open, takes a
// name, and goes with its last descriptor otherwise.
func TestTmpfile(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m := h.mount()
	dir := m.lookup("docs").Ino
	tmp := func() twofold.Ino {
		a, err := m.s.Tmpfile(ctx, dir, api.Create{Mode: 0o600})
		if err == nil {
			_, err = m.s.Open(ctx, a.Ino)
		}
		if err != nil {
			t.Fatal(err)
		}
		return a.Ino
	}
	keep, drop := tmp(), tmp()
	m.write(keep, 0, "kept")
	if page, err := h.v.List(ctx, "docs", metadata.ListQuery{Max: 10}); err != nil || len(page.Items) != 0 {
		t.Fatal(page, err)
	}
	if _, err := m.s.Link(ctx, keep, dir, "named"); err != nil {
		t.Fatal(err)
	}
	if got := h.get("docs", "named"); string(got) != "kept" {
		t.Fatalf("GET: %q", got)
	}
	if err := m.s.Release(ctx, drop); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other one to go", func() bool { _, err := m.s.GetAttr(ctx, drop); return errs.Is(err, errs.Stale) })
	if _, err := m.s.Tmpfile(ctx, twofold.RootIno, api.Create{Mode: 0o600}); !errs.Is(err, errs.Permission) {
		t.Fatal("among the buckets:", err)
	}
}
