package volume

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// quota is a bucket with one, with an object from before it.
func quotaHarness(t *testing.T, limit int64) *harness {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "old", random(mib))
	if err := h.v.SetQuota(ctx, "docs", limit); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *harness) wantQuota(used, reserved int64) {
	h.t.Helper()
	q, err := h.v.Quota(ctx, "docs")
	if err != nil || q.Used != used || q.Reserved != reserved {
		h.t.Fatalf("%+v, %v: want %d used, %d reserved", q, err, used, reserved)
	}
}

// unread is a body that must not be asked for.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a PUT that can't fit was read")
	return 0, errs.Newf("test", errs.Canceled, "")
}

func TestQuotaOfObjects(t *testing.T) {
	h := quotaHarness(t, 3*mib)
	h.wantQuota(mib, 0)
	// Eight at once, of which four fit.
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for i := range 8 {
		wg.Go(func() {
			_, err := h.v.PutObject(ctx, put("docs", string(rune('a'+i)), random(mib/2)))
			if err != nil && !errs.Is(err, errs.Quota) {
				t.Errorf("%v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				done++
			}
		})
	}
	wg.Wait()
	if done != 4 {
		t.Fatalf("%d of 8 fitted, want 4", done)
	}
	h.wantQuota(3*mib, 0)
	eventually(t, "nothing is left of those that were refused", func() bool { return h.shards() == 5*4 })
	in := put("docs", "large", nil)
	in.Body, in.Size = unread{t}, 100*mib
	_, err := h.v.PutObject(ctx, in)
	wantKind(t, err, errs.Quota)
	// In the place of what is there, and where something was.
	h.put("docs", "old", bytes.Repeat([]byte("x"), mib))
	_, err = h.v.PutObject(ctx, put("docs", "small", []byte("x")))
	wantKind(t, err, errs.Quota)
	_, err = h.v.CopyObject(ctx, &api.CopyInput{
		SrcBucket: "docs", SrcKey: "old", Bucket: "docs", Key: "copy",
		Prepare: func(api.ObjectInfo) (api.Attrs, api.Sum, error) { return api.Attrs{}, api.Sum{}, nil },
	})
	wantKind(t, err, errs.Quota)
	up, err := h.v.CreateUpload(ctx, &api.UploadInput{Bucket: "docs", Key: "up"})
	if err != nil {
		t.Fatal(err)
	}
	part := func(size int) error {
		p := put("docs", "up", random(size))
		_, err := h.v.PutPart(ctx, &api.PartInput{UploadRef: api.UploadRef{Bucket: "docs", Key: "up", ID: up}, Number: 1, Body: p.Body, Size: p.Size, Finish: p.Finish})
		return err
	}
	wantKind(t, part(10), errs.Quota)
	wantKind(t, part(mib), errs.Quota)
	if err := h.v.DeleteObject(ctx, "docs", "old", metadata.Conditions{}); err != nil {
		t.Fatal(err)
	}
	if err := part(mib); err != nil {
		t.Fatal(err)
	}
	if err := part(mib); err != nil { // again: in its own place
		t.Fatal(err)
	}
	h.wantQuota(3*mib, 0)
	if err := h.v.SetQuota(ctx, "docs", 0); err != nil {
		t.Fatal(err)
	}
	h.put("docs", "large", random(4*mib))
	_, err = h.v.Quota(ctx, "nothing")
	wantKind(t, err, errs.NoBucket)
	wantKind(t, h.v.SetQuota(ctx, "nothing", 1), errs.NoBucket)
}

// TestReserveIsKept: what a file has reserved is its own, also over a restart of the
// server, and goes back with the lease, or with the mount.
func TestReserveIsKept(t *testing.T) {
	h := quotaHarness(t, 3*mib)
	m := h.mount()
	a, _, err := m.s.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	l, err := m.s.AcquireWrite(ctx, a.Ino)
	if err != nil || l.Allowed != 0 {
		t.Fatalf("%+v, %v", l, err)
	}
	_, err = m.s.Reserve(ctx, a.Ino, l.Token, 2*mib+1, 0)
	wantKind(t, err, errs.Quota)
	_, err = m.s.Reserve(ctx, a.Ino, l.Token+1, 1, 0)
	wantKind(t, err, errs.Fenced)
	if n, err := m.s.Reserve(ctx, a.Ino, l.Token, mib, 0); err != nil || n != mib {
		t.Fatalf("%d, %v", n, err)
	}
	h.wantQuota(mib, mib)
	h.put("docs", "rest", random(mib))
	_, err = h.v.PutObject(ctx, put("docs", "more", []byte("x")))
	wantKind(t, err, errs.Quota) // and the reserve of who has a lease is not taken back for it
	s, err := m.s.StatFS(ctx, a.Ino)
	if err != nil || s.Total != 3*mib || s.Free != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err := m.s.StatFS(ctx, twofold.RootIno); err != nil || s.Total != 1<<40 {
		t.Fatalf("%+v, %v", s, err)
	}

	old := m.s
	h.open(Options{LeaseTerm: time.Minute})
	held := api.Held{Writes: []api.HeldWrite{{Ino: a.Ino, Token: l.Token}}}
	if m.s, err = h.v.ResumeMount(ctx, old.ID(), old.Token(), held, m); err != nil {
		t.Fatal(err)
	}
	_, err = h.v.PutObject(ctx, put("docs", "more", []byte("x")))
	wantKind(t, err, errs.Quota)
	data := random(mib - 1)
	if _, err := m.s.Write(ctx, a.Ino, api.Write{Token: l.Token, Segments: []api.Segment{{Data: data}}, Size: mib - 1}); err != nil {
		t.Fatalf("a flush of what was reserved: %v", err)
	}
	h.wantQuota(3*mib-1, 1)
	if err := m.s.ReleaseWrite(ctx, a.Ino, l.Token); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reserve goes with the lease", func() bool {
		q, err := h.v.Quota(ctx, "docs")
		return err == nil && q.Reserved == 0
	})
	h.put("docs", "more", []byte("x"))

	// A mount that dies: its reserve is taken back when somebody needs it.
	if err := h.v.DeleteObject(ctx, "docs", "rest", metadata.Conditions{}); err != nil {
		t.Fatal(err)
	}
	l, err = m.s.AcquireWrite(ctx, a.Ino)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.s.Reserve(ctx, a.Ino, l.Token, 2*mib-1, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.s.End(ctx); err != nil {
		t.Fatal(err)
	}
	h.put("docs", "rest", random(mib))
	h.wantQuota(3*mib, 0)
}

// TestQuotaComesLater: what mounts hold unwritten when a quota is set was let in.
func TestQuotaComesLater(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m := h.mount()
	a, _, err := m.s.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	m.write(a.Ino, 0, "twelve bytes")
	if err := h.v.SetQuota(ctx, "docs", 5); err != nil {
		t.Fatal(err)
	}
	if len(m.Held().Writes) != 0 {
		t.Error("a lease of before the quota was not recalled")
	}
	if got := h.get("docs", "f"); string(got) != "twelve bytes" {
		t.Fatalf("%q", got)
	}
	h.wantQuota(12, 0)
	l, err := m.s.AcquireWrite(ctx, a.Ino)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.s.Write(ctx, a.Ino, api.Write{Token: l.Token, Segments: []api.Segment{{Off: 12, Data: []byte("x")}}, Size: 13})
	wantKind(t, err, errs.Quota) // nothing was reserved: a mount that does not ask is refused late
	if _, err := m.s.Write(ctx, a.Ino, api.Write{Token: l.Token, Segments: []api.Segment{{Data: []byte("x")}}, Size: 12}); err != nil {
		t.Fatal(err)
	}
}
