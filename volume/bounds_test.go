package volume

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// counting counts the commands of one kind.
func (h *harness) counting(op metadata.Op) *atomic.Int64 {
	n := new(atomic.Int64)
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	h.store.fail = func(c *metadata.Command) error {
		if c.Op == op {
			n.Add(1)
		}
		return nil
	}
	return n
}

// TestWriteOverVeryManyExtents: a write that replaces more extents than a command may
// drop is several commands, and one write.
func TestWriteOverVeryManyExtents(t *testing.T) {
	h := newHarness(t)
	h.open(Options{Idle: time.Hour}) // nobody compacts
	h.bucket("docs")
	m := h.mount()
	a, _, err := m.s.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile, Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	const n, apart = 25_000, 16 // bytes that no extent joins: there are holes between them
	for from := 0; from < n; from += 5000 {
		var segs []api.Segment
		for i := from; i < from+5000; i++ {
			segs = append(segs, api.Segment{Off: int64(i * apart), Data: []byte{1}})
		}
		m.flush(a, segs...)
	}
	if got := h.extents(a); got < n {
		t.Fatalf("%d extents, and not %d: the test shows nothing", got, n)
	}
	commands := h.counting(metadata.OpWrite)
	want := random(n * apart)
	m.flush(a, api.Segment{Data: want})
	if commands.Load() < 3 {
		t.Errorf("%d commands replaced %d extents: the test shows nothing", commands.Load(), n)
	}
	if got := h.get("docs", "f"); !bytes.Equal(got, want) {
		t.Errorf("the file has %d other bytes", len(got))
	}
	if got := h.extents(a); got > 10 {
		t.Errorf("%d extents are left", got)
	}
}

// TestCompleteDropsVeryManyParts: more parts than a command may drop are not listed by
// Complete. They go, by several commands, and the object is what was listed.
func TestCompleteDropsVeryManyParts(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	id, err := h.v.CreateUpload(ctx, &api.UploadInput{Bucket: "docs", Key: "f"})
	if err != nil {
		t.Fatal(err)
	}
	ref := api.UploadRef{Bucket: "docs", Key: "f", ID: id}
	var listed []metadata.PartRef
	for n := 1; n <= 2500; n++ {
		p := put("docs", "f", fmt.Appendf(nil, "part %d", n))
		info, err := h.v.PutPart(ctx, &api.PartInput{UploadRef: ref, Number: n, Body: p.Body, Size: p.Size, Finish: p.Finish})
		if err != nil {
			t.Fatal(err)
		}
		if n == 1700 {
			listed = append(listed, metadata.PartRef{Number: n, ETag: info.ETag})
		}
	}
	commands := h.counting(metadata.OpCompleteUpload)
	if _, err := h.v.CompleteUpload(ctx, &api.CompleteInput{UploadRef: ref, Parts: listed, Sum: api.Sum{ETag: "e-1"}}); err != nil {
		t.Fatal(err)
	}
	if commands.Load() < 3 {
		t.Errorf("%d commands: the test shows nothing", commands.Load())
	}
	if got := h.get("docs", "f"); string(got) != "part 1700" {
		t.Errorf("the object is %q", got)
	}
}

// TestWriteRefusedHalfWay: what an earlier command of a write has put into the file
// stays readable when a later one is refused.
func TestWriteRefusedHalfWay(t *testing.T) {
	h := newHarness(t)
	h.open(Options{Idle: time.Hour}) // nobody compacts
	h.bucket("docs")
	m := h.mount()
	a, _, err := m.s.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile, Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	const n, apart = 25_000, 16
	old := make([]byte, (n-1)*apart+1)
	for from := 0; from < n; from += 5000 {
		var segs []api.Segment
		for i := from; i < from+5000; i++ {
			segs = append(segs, api.Segment{Off: int64(i * apart), Data: []byte{1}})
			old[i*apart] = 1
		}
		m.flush(a, segs...)
	}
	writes := 0
	h.store.mu.Lock()
	h.store.fail = func(c *metadata.Command) error {
		if c.Op == metadata.OpWrite {
			if writes++; writes == 2 {
				return errs.Newf("test", errs.NoSpace, "refused")
			}
		}
		return nil
	}
	h.store.mu.Unlock()
	l, err := m.s.AcquireWrite(ctx, a.Ino)
	if err != nil {
		t.Fatal(err)
	}
	data := random(len(old))
	_, err = m.s.Write(ctx, a.Ino, api.Write{Token: l.Token, Segments: []api.Segment{{Data: data}}, Size: int64(len(data))})
	if !errs.Is(err, errs.NoSpace) || writes != 2 {
		t.Fatalf("%d commands, %v", writes, err)
	}
	if err := m.s.ReleaseWrite(ctx, a.Ino, l.Token); err != nil {
		t.Fatal(err)
	}
	if _, err := h.v.CollectOrphans(ctx); err != nil {
		t.Fatal(err)
	}
	got := h.get("docs", "f")
	same := 0
	for same < len(got) && got[same] == data[same] {
		same++
	}
	if same < 1000 || len(got) < len(old)-apart || !bytes.Equal(got[same+apart:], old[same+apart:len(got)]) {
		t.Fatalf("%d bytes, of them %d of the refused write, and others", len(got), same)
	}
}
