package remote

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// everyOp is a batch with one of each operation.
func everyOp() api.Batch {
	mode, when := uint32(0o751), twofold.Time(4)
	return api.Batch{
		Dirs: []api.HeldWrite{{Ino: 5, Token: 6}, {Ino: 7, Token: 8}},
		Ops: []api.BatchOp{
			{Now: 1, Create: &api.BatchCreate{Dir: 5, Name: "file", Ino: 100, Type: 1, Mode: 0o644, UID: 1, GID: 2, Lease: true}},
			{Now: 2, Create: &api.BatchCreate{Dir: 5, Name: "link", Ino: 101, Type: 3, Target: "to \xff there"}},
			{Now: 3, Create: &api.BatchCreate{Dir: 5, Name: "device", Ino: 102, Type: 6, Rdev: 77}},
			{Now: 4, Write: &api.BatchWrite{Ino: 100, Token: 9, Segments: []api.Segment{{Off: 10, Data: []byte("second")}, {Off: 0, Data: []byte("first")}},
				Size: 99, Mtime: 5, Atime: 6, ETag: "e", KillPriv: true}},
			{Now: 5, Write: &api.BatchWrite{Ino: 102, Segments: []api.Segment{{Data: []byte("other")}}}},
			{Now: 6, SetAttr: &api.BatchSetAttr{Ino: 100, Attr: api.SetAttr{Mode: &mode, Mtime: &when, KillPriv: true}}},
			{Now: 7, Rename: &api.BatchRename{OldDir: 5, OldName: "file", NewDir: 7, NewName: "new", Ino: 100, Replaced: 50}},
			{Now: 8, Unlink: &api.BatchName{Dir: 5, Name: "link", Ino: 101}},
			{Now: 9, Rmdir: &api.BatchName{Dir: 5, Name: "dir", Ino: 103}},
		},
	}
}

// TestBatchCrosses: a batch and its result come over as they are; so does which operation was
// refused, and why.
func TestBatchCrosses(t *testing.T) {
	want := everyOp()
	result := api.BatchResult{Attrs: []api.Attr{{Ino: 100, Leased: true, Home: 7}, {Ino: 5}}, Tokens: []api.HeldWrite{{Ino: 100, Token: 77}}, Failed: -1}
	var got api.Batch
	var fails error // set before each call
	st := newStore(func(s *fakeSession) hook {
		return func(_ context.Context, name string, args ...any) ([]any, error) {
			switch name {
			case "Batch":
				got = args[0].(api.Batch)
				for i := range got.Ops {
					if w := got.Ops[i].Write; w != nil {
						for k := range w.Segments { // pooled
							w.Segments[k].Data = append([]byte(nil), w.Segments[k].Data...)
						}
					}
				}
				return []any{result}, fails
			case "Inos":
				return []any{twofold.Ino(4000), args[0].(int) / 2}, nil
			case "AcquireDir":
				return []any{api.DirLease{Token: 3, Attr: api.Attr{Ino: args[0].(twofold.Ino), Leased: true}, Unlimited: true, DefaultACL: true}}, nil
			}
			return nil, nil
		}
	})
	c := dialNode(t, startNode(t, st).addr, &mount{caches: true})
	ignore := cmpopts.IgnoreUnexported(api.HeldWrite{}, api.Attr{}, api.DirLease{})
	r, err := c.Batch(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(result, r, ignore); d != "" {
		t.Errorf("the result: sent and received (+) differ:\n%s", d)
	}
	segs := want.Ops[3].Write.Segments
	segs[0], segs[1] = segs[1], segs[0] // by offset
	if d := cmp.Diff(want, got, ignore, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("the batch: sent and received (+) differ:\n%s", d)
	}
	result.Failed, fails = 4, errs.Newf("test", errs.Conflict, "it is another one")
	if r, err := c.Batch(t.Context(), want); !errs.Is(err, errs.Conflict) || r.Failed != 4 {
		t.Errorf("a refused operation: %+v, %v", r, err)
	}
	result.Failed, fails = -1, errs.Newf("test", errs.Fenced, "the lease has ended")
	if r, err := c.Batch(t.Context(), want); !errs.Is(err, errs.Fenced) || r.Failed != -1 {
		t.Errorf("a refused batch: %+v, %v", r, err)
	}
	if first, n, err := c.Inos(t.Context(), 10); first != 4000 || n != 5 || err != nil {
		t.Errorf("numbers: %d, %d, %v", first, n, err)
	}
	if l, err := c.AcquireDir(t.Context(), 9); err != nil || l.Token != 3 || l.Attr.Ino != 9 || !l.Unlimited || !l.DefaultACL {
		t.Errorf("a directory's lease: %+v, %v", l, err)
	}
	st.mu.Lock()
	s := st.sessions[c.SessionID()]
	st.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.homes {
		t.Error("nobody asked for homes")
	}
}

// TestBatchUsesPromise: what a batch writes goes from what was promised, unless it is refused.
func TestBatchUsesPromise(t *testing.T) {
	var failed int
	st := newStore(func(s *fakeSession) hook {
		return func(_ context.Context, name string, args ...any) ([]any, error) {
			switch {
			case name == "Promise":
				return []any{args[0]}, nil
			case failed >= 0:
				return []any{api.BatchResult{Failed: failed}}, errs.Newf("test", errs.Conflict, "no")
			}
			return []any{api.BatchResult{Failed: -1}}, nil
		}
	})
	c := dialNode(t, startNode(t, st).addr, &mount{})
	if _, err := c.Promise(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	promised := func() int64 { c.mu.Lock(); defer c.mu.Unlock(); return c.promised }
	if _, err := c.Batch(t.Context(), everyOp()); err == nil || promised() != 100 {
		t.Errorf("%v, %d promised", err, promised())
	}
	failed = -1
	if _, err := c.Batch(t.Context(), everyOp()); err != nil || promised() != 100-16 {
		t.Errorf("%v, %d promised", err, promised())
	}
}

// TestBatchChecks: a batch that makes no sense does not reach the volume.
func TestBatchChecks(t *testing.T) {
	good := func() batchReq {
		r := batchReq{Dirs: []api.HeldWrite{{Ino: 5, Token: 6}}}
		for _, o := range everyOp().Ops {
			op := batchOp{Now: o.Now, Create: o.Create, SetAttr: o.SetAttr, Unlink: o.Unlink, Rmdir: o.Rmdir, Rename: o.Rename}
			if o.Write != nil {
				op.Write = &writeReq{Ino: 5, Segments: []segment{{Off: 1, Len: 2}}}
			}
			r.Ops = append(r.Ops, op)
		}
		return r
	}
	if err := good().check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*batchReq){
		"too many operations":  func(r *batchReq) { r.Ops = make([]batchOp, api.MaxBatchOps+1) },
		"too many directories": func(r *batchReq) { r.Dirs = make([]api.HeldWrite, api.MaxBatchDirs+1) },
		"a token of nothing":   func(r *batchReq) { r.Dirs[0].Token = 0 },
		"nothing":              func(r *batchReq) { r.Ops[0].Create = nil },
		"a file without a number": func(r *batchReq) {
			r.Ops[0].Create.Ino = 0
		},
		"a name that is none":     func(r *batchReq) { r.Ops[0].Create.Name = "a/b" },
		"a type that is none":     func(r *batchReq) { r.Ops[0].Create.Type = 0 },
		"a link to nothing":       func(r *batchReq) { r.Ops[1].Create.Target = "" },
		"segments in disorder":    func(r *batchReq) { r.Ops[3].Write.Segments = []segment{{Off: 5, Len: 2}, {Off: 0, Len: 2}} },
		"an unlink of the parent": func(r *batchReq) { r.Ops[7].Unlink.Name = ".." },
		"a rename of nothing":     func(r *batchReq) { r.Ops[6].Rename.Ino = 0 },
		"a mode that can't be":    func(r *batchReq) { *r.Ops[5].SetAttr.Attr.Mode = 0o10000 },
		"no directory":            func(r *batchReq) { r.Ops[8].Rmdir.Dir = 0 },
	} {
		r := good()
		spoil(&r)
		if err := r.check(); err == nil {
			t.Errorf("%s is let through", name)
		}
	}
	r := good()
	for n, ok := range map[int]bool{3: false, 4: true, 5: false} {
		if _, err := r.batch(make([]byte, n)); (err == nil) != ok {
			t.Errorf("%d bytes for segments of 4: %v", n, err)
		}
	}
}

// BenchmarkBatchCodec is what a batch of 128 files costs on its way, both ends together.
func BenchmarkBatchCodec(b *testing.B) {
	codec, err := rpc.NewCodec()
	if err != nil {
		b.Fatal(err)
	}
	var r batchReq
	var a batchAns
	for i := range twofold.Ino(128) {
		r.Ops = append(r.Ops,
			batchOp{Now: 1 << 60, Create: &api.BatchCreate{Dir: 4711, Name: "file-name", Ino: 1<<20 + i, Type: 1, Mode: 0o644, UID: 1000, GID: 1000}},
			batchOp{Now: 1 << 60, Write: &writeReq{Ino: 1<<20 + i, Segments: []segment{{Len: 4096}}, Size: 4096, Mtime: 1 << 60, ETag: "0123456789abcdef0123456789abcdef"}})
		a.Attrs = append(a.Attrs, api.Attr{Ino: 1<<20 + i, Type: 1, Mode: 0o644, Nlink: 1, Size: 4096, Stored: 4096, Mtime: 1 << 60, Ctime: 1 << 60, Version: 2,
			ETag: "0123456789abcdef0123456789abcdef", Leased: true, Home: 4711})
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := codec.Encode(numbered[batchReq]{1, 1, r, false})
		if err != nil {
			b.Fatal(err)
		}
		var q numbered[batchReq]
		if err := codec.Decode(p, &q); err != nil {
			b.Fatal(err)
		}
		if p, err = codec.Encode(a); err != nil {
			b.Fatal(err)
		}
		var got batchAns
		if err := codec.Decode(p, &got); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(r.Ops)), "ns/op-in-batch")
}
