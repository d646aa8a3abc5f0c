package volume

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"
)

var ctx = context.Background()

func (h *harness) bucket(name twofold.BucketName) {
	h.t.Helper()
	if err := h.v.CreateBucket(ctx, name, ""); err != nil {
		h.t.Fatal(err)
	}
}

func put(b, k string, data []byte) *api.PutInput {
	return &api.PutInput{
		Bucket: twofold.BucketName(b), Key: twofold.Key(k), Body: bytes.NewReader(data), Size: int64(len(data)),
		Finish: func() (api.Sum, error) {
			s := md5.Sum(data)
			return api.Sum{ETag: hex.EncodeToString(s[:])}, nil
		},
	}
}

func (h *harness) put(b, k string, data []byte) {
	h.t.Helper()
	if _, err := h.v.PutObject(ctx, put(b, k, data)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) get(b, k string) []byte {
	h.t.Helper()
	info, r, err := h.v.GetObject(ctx, twofold.BucketName(b), twofold.Key(k))
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close()
	var out bytes.Buffer
	if err := r.WriteRange(ctx, &out, 0, info.Size); err != nil {
		h.t.Fatal(err)
	}
	return out.Bytes()
}

func random(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	r.Read(p)
	return p
}

// lookup walks a path in a mount.
func (m *mount) lookup(names ...string) api.Attr {
	m.t.Helper()
	a := api.Attr{Ino: twofold.RootIno}
	for _, n := range names {
		var err error
		if a, err = m.s.Lookup(ctx, a.Ino, n); err != nil {
			m.t.Fatalf("lookup %q: %v", n, err)
		}
	}
	return a
}

func TestBothViewsReadWhatOneWrote(t *testing.T) {
	h := newHarness(t)
	h.bucket("photos")
	m := h.mount()
	for _, n := range []int{0, 1, 4096, twofold.MaxInline, twofold.MaxInline + 1, 3<<20 + 17} {
		data := random(n)
		h.put("photos", "a/b/c", data)
		if got := h.get("photos", "a/b/c"); !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: GET returns %d other ones", n, len(got))
		}
		a := m.lookup("photos", "a", "b", "c")
		if a.Size != int64(n) {
			t.Fatalf("size %d in the mount, want %d", a.Size, n)
		}
		p := make([]byte, n+10)
		if got, err := m.s.Read(ctx, a.Ino, 0, p); err != nil || got != n || !bytes.Equal(p[:n], data) {
			t.Fatalf("%d bytes: read(2) gives %d, %v", n, got, err)
		}
	}
}

func TestS3SeesWhatWriteReturnedFor(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m := h.mount()
	dir := m.lookup("docs")
	a, _, err := m.s.Create(ctx, dir.Ino, "f", api.Create{Type: metadata.TypeFile, Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	m.write(a.Ino, 0, "hello ")
	m.write(a.Ino, 6, "world")
	if got := h.get("docs", "f"); string(got) != "hello world" {
		t.Fatalf("GET: %q", got)
	}
	m.write(a.Ino, 11, "!")
	if info, err := h.v.HeadObject(ctx, "docs", "f"); err != nil || info.Size != 12 {
		t.Fatalf("HEAD: %d bytes, %v", info.Size, err)
	}
	m.write(a.Ino, 12, "!")
	page, err := h.v.List(ctx, "docs", metadata.ListQuery{Max: 10})
	if err != nil || len(page.Items) != 1 || page.Items[0].Size != 13 {
		t.Fatalf("LIST: %+v, %v", page, err)
	}
	m2 := h.mount()
	m.write(a.Ino, 13, "!")
	if a := m2.lookup("docs", "f"); a.Size != 14 {
		t.Fatalf("stat in another mount: %d bytes", a.Size)
	}
	m.write(a.Ino, 0, "J")
	if _, err := h.v.CopyObject(ctx, &api.CopyInput{
		SrcBucket: "docs", SrcKey: "f", Bucket: "docs", Key: "g",
		Prepare: func(s api.ObjectInfo) (api.Attrs, api.Sum, error) { return api.Attrs{}, api.Sum{ETag: s.ETag}, nil },
	}); err != nil {
		t.Fatal(err)
	}
	if got := h.get("docs", "g"); string(got) != "Jello world!!!" {
		t.Fatalf("copy: %q", got)
	}
}

// TestUnwrittenIsRefused: what a mount holds and can't write is not hidden: whoever
// would have to be shown it is told to come again.
func TestUnwrittenIsRefused(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m, m2 := h.mount(), h.mount()
	h.put("docs", "f", []byte("hello"))
	a := m.lookup("docs", "f")
	dir := m2.lookup("docs")
	m.write(a.Ino, 0, "J")
	m.mu.Lock()
	m.stuck = true
	m.mu.Unlock()
	for name, look := range map[string]func() error{
		"GET":  func() error { _, _, err := h.v.GetObject(ctx, "docs", "f"); return err },
		"HEAD": func() error { _, err := h.v.HeadObject(ctx, "docs", "f"); return err },
		"LIST": func() error { _, err := h.v.List(ctx, "docs", metadata.ListQuery{Max: 10}); return err },
		"stat": func() error { _, err := m2.s.Lookup(ctx, dir.Ino, "f"); return err },
		"write in another mount": func() error {
			_, err := m2.s.AcquireWrite(ctx, a.Ino)
			return err
		},
	} {
		if err := look(); !errs.Is(err, errs.Unwritten) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.put("docs", "g", []byte("others go on"))
	m.mu.Lock()
	m.stuck = false
	m.mu.Unlock()
	if got := h.get("docs", "f"); string(got) != "Jello" {
		t.Fatalf("GET: %q", got)
	}
}

func TestOpenFileKeepsItsContentUnderAPut(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", []byte("old"))
	m := h.mount()
	a := m.lookup("docs", "f")
	if _, err := m.s.Open(ctx, a.Ino); err != nil {
		t.Fatal(err)
	}
	big := random(1 << 20)
	h.put("docs", "f", big)
	h.put("docs", "f", []byte("new"))
	time.Sleep(100 * time.Millisecond) // several rounds of collection
	p := make([]byte, 10)
	if n, err := m.s.Read(ctx, a.Ino, 0, p); err != nil || string(p[:n]) != "old" {
		t.Fatalf("the open file reads %q, %v", p[:n], err)
	}
	if err := m.s.Release(ctx, a.Ino); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the unlinked inode is freed after close", func() bool {
		_, err := m.s.GetAttr(ctx, a.Ino)
		return errs.Is(err, errs.Stale)
	})
	eventually(t, "the replaced blob is deleted", func() bool { return h.shards() == 0 })
}

func TestReaderKeepsItsBlobs(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	data := random(2 << 20)
	h.put("docs", "f", data)
	info, r, err := h.v.GetObject(ctx, "docs", "f")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.v.DeleteObject(ctx, "docs", "f", metadata.Conditions{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	var out bytes.Buffer
	if err := r.WriteRange(ctx, &out, 0, info.Size); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Fatalf("a GET that had started: %v", err)
	}
	r.Close()
	eventually(t, "the blob goes with its last reader", func() bool { return h.shards() == 0 })
}

func TestNothingIsLeftOfAFailedPut(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	bad := errors.New("bad digest")
	in := put("docs", "f", random(1<<20))
	in.Finish = func() (api.Sum, error) { return api.Sum{}, bad }
	if _, err := h.v.PutObject(ctx, in); !errors.Is(err, bad) {
		t.Fatalf("Finish's error is %v", err)
	}
	in = put("docs", "f", random(1<<20))
	in.Body = io.LimitReader(in.Body, 1000)
	if _, err := h.v.PutObject(ctx, in); !errs.Is(err, errs.IncompleteBody) {
		t.Fatalf("a short body: %v", err)
	}
	in = put("docs", "f", random(1<<20))
	in.Cond.IfMatch = "no-such-etag"
	if _, err := h.v.PutObject(ctx, in); err == nil {
		t.Fatal("a condition that does not hold")
	}
	in = put("nobucket", "f", random(1<<20))
	if _, err := h.v.PutObject(ctx, in); !errs.Is(err, errs.NoBucket) {
		t.Fatalf("no bucket: %v", err)
	}
	if n := h.shards(); n != 0 {
		t.Fatalf("%d shards are left", n)
	}
	if _, err := h.v.HeadObject(ctx, "docs", "f"); !errs.Is(err, errs.NotFound) {
		t.Fatalf("HEAD: %v", err)
	}
}

// nothingLater lets no command of a later time through, which would make a lost one
// impossible: see Volume.whenKnown.
func nothingLater(c *metadata.Command) error {
	if c.Op == metadata.OpNop {
		return errs.Newf("test", errs.Unavailable, "there is no leader")
	}
	return nil
}

func TestUnknownOutcomeKeepsTheBlob(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	var late *metadata.Command
	h.store.failing(func(c *metadata.Command) error {
		if c.Op == metadata.OpPutObject {
			late = c
			return errs.Newf("test", errs.UnknownOutcome, "no answer")
		}
		return nothingLater(c)
	})
	data := random(1 << 20)
	if _, err := h.v.PutObject(ctx, put("docs", "f", data)); !errs.Is(err, errs.UnknownOutcome) {
		t.Fatalf("PUT: %v", err)
	}
	h.store.failing(nothingLater)
	if n, err := h.v.CollectOrphans(ctx); err != nil || n != 0 {
		t.Fatalf("%d blobs collected of which nobody knows whether they are committed, %v", n, err)
	}
	if _, err := h.store.Apply(ctx, late); err != nil { // it was in the log after all
		t.Fatal(err)
	}
	if !bytes.Equal(h.get("docs", "f"), data) {
		t.Fatal("other bytes")
	}
}

func TestOrphansOfAKilledServerAreCollected(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "keep", random(1<<20))
	h.store.failing(func(c *metadata.Command) error {
		if c.Op == metadata.OpPutObject {
			return errs.Newf("test", errs.UnknownOutcome, "killed before the commit")
		}
		return nil
	})
	h.v.PutObject(ctx, put("docs", "lost", random(1<<20)))
	h.store.failing(nil)
	if h.shards() != 8 {
		t.Fatalf("%d shards before the restart", h.shards())
	}
	h.open(Options{})
	if n, err := h.v.CollectOrphans(ctx); err != nil || n != 1 {
		t.Fatalf("%d orphans collected, %v", n, err)
	}
	if h.shards() != 4 || len(h.get("docs", "keep")) != 1<<20 {
		t.Fatal("the committed blob must stay")
	}
}

func TestServerRestartWaitsForMounts(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m := h.mount()
	a, _, err := m.s.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	m.write(a.Ino, 0, "unflushed")
	old := m.s
	h.open(Options{LeaseTerm: 10 * time.Second})
	got := make(chan []byte, 1)
	go func() { got <- h.get("docs", "f") }()
	select {
	case p := <-got:
		t.Fatalf("answered %q before the mount of before was back", p)
	case <-time.After(100 * time.Millisecond):
	}
	held := m.Held()
	m.mu.Lock() // a recall comes as soon as it is back
	m.s, err = h.v.ResumeMount(ctx, old.ID(), old.Token(), held, m)
	m.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if p := <-got; string(p) != "unflushed" {
		t.Fatalf("GET: %q", p)
	}
	if _, err := h.v.ResumeMount(ctx, old.ID(), []byte("wrong"), api.Held{}, m); !errs.Is(err, errs.Fenced) {
		t.Fatalf("resumed with a wrong token: %v", err)
	}
}

func TestLateMountIsFenced(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m := h.mount()
	a, _, err := m.s.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	m.write(a.Ino, 0, "unflushed")
	held, old := m.Held(), m.s
	h.open(Options{LeaseTerm: 50 * time.Millisecond})
	if p := h.get("docs", "f"); len(p) != 0 { // answered after the term
		t.Fatalf("GET: %q", p)
	}
	if m.s, err = h.v.ResumeMount(ctx, old.ID(), old.Token(), held, m); err != nil {
		t.Fatal(err)
	}
	_, err = m.s.Write(ctx, a.Ino, api.Write{Token: held.Writes[0].Token, Segments: []api.Segment{{Data: []byte("late")}}})
	if !errs.Is(err, errs.Fenced) {
		t.Fatalf("what others did not see must not appear later: %v", err)
	}
}

func TestRetriedCallHasItsEffectOnce(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m := h.mount()
	dir := m.lookup("docs").Ino
	once := api.WithSeq(ctx, api.Seq{N: 1, Acked: 1})
	first, _, err := m.s.Create(once, dir, "f", api.Create{Type: metadata.TypeFile, Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := m.s.Create(once, dir, "f", api.Create{Type: metadata.TypeFile, Exclusive: true})
	if err != nil || again.Ino != first.Ino {
		t.Fatalf("the same call again: inode %d, %v", again.Ino, err)
	}
	if _, _, err := m.s.Create(api.WithSeq(ctx, api.Seq{N: 2, Acked: 1}), dir, "f", api.Create{Type: metadata.TypeFile, Exclusive: true}); !errs.Is(err, errs.Exists) {
		t.Fatalf("another call: %v", err)
	}
}

func TestConditionSeesUnflushedWrites(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", []byte("one"))
	before, _ := h.v.HeadObject(ctx, "docs", "f")
	m := h.mount()
	m.write(m.lookup("docs", "f").Ino, 0, "two")
	in := put("docs", "f", []byte("three"))
	in.Cond.IfMatch = before.ETag
	if _, err := h.v.PutObject(ctx, in); !errs.Is(err, errs.Precondition) {
		t.Fatalf("If-Match of what write(2) had replaced: %v", err)
	}
}

func TestReadOnlyStoreRefusesChanges(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", []byte("x"))
	h.placer.err = errs.Newf("test", errs.WriteQuorum, "two drives are lost")
	if _, err := h.v.PutObject(ctx, put("docs", "g", []byte("y"))); !errs.Is(err, errs.WriteQuorum) {
		t.Fatalf("PUT: %v", err)
	}
	if string(h.get("docs", "f")) != "x" {
		t.Fatal("reads go on")
	}
}

func TestDeepPathsAreKeys(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m := h.mount()
	dir := m.lookup("docs").Ino
	name := string(bytes.Repeat([]byte("d"), 250))
	for range 6 {
		a, _, err := m.s.Create(ctx, dir, name, api.Create{Type: metadata.TypeDir, Mode: 0o755})
		if err != nil {
			t.Fatal(err)
		}
		dir = a.Ino
	}
	for _, f := range []string{"x", "y"} {
		a, _, err := m.s.Create(ctx, dir, f, api.Create{Type: metadata.TypeFile, Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		m.write(a.Ino, 0, "deep "+f)
	}
	var files []string
	after := ""
	for more := true; more; {
		page, err := h.v.List(ctx, "docs", metadata.ListQuery{After: after, Max: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range page.Items {
			after = it.Key
			if len(it.Key) > twofold.MaxKeyLen {
				t.Fatalf("a key of %d bytes", len(it.Key))
			}
			if it.Size > 0 {
				files = append(files, it.Key)
			}
		}
		more = page.More
	}
	if len(files) != 2 {
		t.Fatalf("%d files in the listing, want 2: %q", len(files), files)
	}
	if got := h.get("docs", files[1]); string(got) != "deep y" {
		t.Fatalf("GET of a deep key: %q", got)
	}
	if err := h.v.DeleteObject(ctx, "docs", twofold.Key(files[0]), metadata.Conditions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.s.Lookup(ctx, dir, "x"); !errs.Is(err, errs.NotFound) {
		t.Fatalf("deleted by its deep key: %v", err)
	}
	if _, err := h.v.PutObject(ctx, put("docs", "%tf-ino-0123456789abcdef", nil)); !errs.Is(err, errs.Invalid) {
		t.Fatalf("a key of the reserved form: %v", err)
	}
}

// TestMissingLevelIsNotKept: asking for what is not there takes no memory for ever.
func TestMissingLevelIsNotKept(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m := h.mount()
	root, err := m.s.Lookup(ctx, twofold.RootIno, "docs")
	if err != nil {
		t.Fatal(err)
	}
	level := keypath.ToPosix(strings.Repeat("L", 600), true)[0]
	if _, err := m.s.Lookup(ctx, root.Ino, level); !errs.Is(err, errs.NotFound) {
		t.Fatal(err)
	}
	if n := len(h.v.levels.at); n != 0 {
		t.Errorf("%d levels are kept", n)
	}
}

func TestEveryKeyIsReachableInTheMount(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	long := string(bytes.Repeat([]byte("L"), 600))
	keys := []string{
		"a", "a/b", "a//c", "./d", "../e", "/f", "g/", "h\x01i", "%tf-dot", "%tf-x-a", "dir/%tf-file-a",
		long, long + "2", "x/" + long, "long/" + long + "/tail", "ü/é", "sp ace/and\nnewline", "..../...", "a/.",
	}
	want := map[string]bool{}
	for _, k := range keys {
		h.put("docs", k, []byte(k))
		want[k] = true
	}
	m := h.mount()
	var walk func(dir twofold.Ino, depth int)
	walk = func(dir twofold.Ino, depth int) {
		if depth > 12 {
			t.Fatal("too deep")
		}
		cursor, seen := "", map[string]bool{}
		for eof := false; !eof; {
			var es []api.DirEntry
			var err error
			if es, eof, err = m.s.ReadDir(ctx, dir, cursor, 2, true); err != nil {
				t.Fatal(err)
			}
			for _, e := range es {
				cursor = e.Cursor
				if seen[e.Name] {
					t.Errorf("%q is listed twice", e.Name)
				}
				seen[e.Name] = true
				a, err := m.s.Lookup(ctx, dir, e.Name)
				if err != nil || a.Ino != e.Attr.Ino {
					t.Fatalf("lookup of %q: inode %d, listed as %d, %v", e.Name, a.Ino, e.Attr.Ino, err)
				}
				if a.Type == metadata.TypeDir {
					walk(a.Ino, depth+1)
					continue
				}
				p := make([]byte, 2048)
				n, err := m.s.Read(ctx, a.Ino, 0, p)
				if err != nil {
					t.Fatal(err)
				}
				delete(want, string(p[:n]))
			}
		}
	}
	walk(m.lookup("docs").Ino, 0)
	delete(want, "g/") // a directory
	for k := range want {
		t.Errorf("key %q was not found by walking the mount", k)
	}
}
