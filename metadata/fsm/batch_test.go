package fsm

import (
	"fmt"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// mountSession begins a session beside the rig's, with n inode numbers.
func (r *rig) mountSession(nonce byte, n uint64) (twofold.SessionID, twofold.Ino) {
	r.t.Helper()
	s := r.begin(nonce)
	return s, twofold.Ino(r.ok(metadata.OpReserveInos, metadata.ReserveInos{Session: s, N: n}).ID)
}

func newFile(dir, ino twofold.Ino, name string) metadata.BatchOp {
	return metadata.BatchOp{Now: 50, Ino: ino, Body: &metadata.Create{Parent: dir, Name: metadata.Name{Comp: name}, Type: metadata.TypeFile, Mode: 0o644}}
}

func (r *rig) batch(s twofold.SessionID, ops ...metadata.BatchOp) metadata.Result {
	r.t.Helper()
	return r.do(metadata.OpBatch, metadata.Batch{Session: s, Ops: ops})
}

// TestInodeNumbers: a number is used once, by the session that has it, in ascending order,
// and no other command ever uses it.
func TestInodeNumbers(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	one, first := r.mountSession(7, 10)
	two, second := r.mountSession(8, 10)
	for i := range twofold.Ino(3) {
		if res := r.batch(one, newFile(b.Root, first+2*i, fmt.Sprint(i))); res.Failed {
			t.Fatalf("%+v", res)
		}
	}
	for name, ino := range map[string]twofold.Ino{"used": first + 4, "passed": first + 3, "of another": second, "behind": first + 10, "of nobody": 1 << 40} {
		if res := r.batch(one, newFile(b.Root, ino, "x")); res.Kind != errs.Conflict || res.ID != 1 {
			t.Errorf("a number %s: %+v", name, res)
		}
	}
	if i := r.put(b, "other", ""); i.Ino < second+10 {
		t.Errorf("a PUT made inode %d, which was given to a session", i.Ino)
	}
	r.reopen()
	r.check()
	if res := r.batch(one, newFile(b.Root, first+9, "last")); res.Failed {
		t.Fatalf("%+v", res)
	}
	r.mustFail(errs.Invalid, r.do(metadata.OpReserveInos, metadata.ReserveInos{Session: one}))
	r.mustFail(errs.Invalid, r.do(metadata.OpReserveInos, metadata.ReserveInos{Session: one, N: maxInos + 1}))
	for i := 0; ; i++ { // ranges that are not neighbours
		if res := r.do(metadata.OpReserveInos, metadata.ReserveInos{Session: two, N: 1}); res.Failed {
			if res.Kind != errs.Busy || i != maxInoRanges-1 {
				t.Fatalf("range %d: %+v", i, res)
			}
			break
		}
		r.put(b, "other", "")
	}
	r.check()
	r.ok(metadata.OpEndSession, metadata.EndSession{ID: two})
	r.mustFail(errs.Fenced, r.batch(two, newFile(b.Root, second, "x")))
	r.mustFail(errs.Fenced, r.do(metadata.OpReserveInos, metadata.ReserveInos{Session: two, N: 1}))
	r.ok(metadata.OpForgetSession, metadata.ForgetSession{ID: two})
	if n := r.countKeys("I"); n != 0 {
		t.Errorf("%d sessions have numbers", n)
	}
	r.check()
}

// TestBatchComesAgain: the kept result of a batch, also of a failed one, is what a retry
// gets; and a batch that failed has used no number.
func TestBatchComesAgain(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	s, first := r.mountSession(7, 10)
	send := func(ops ...metadata.BatchOp) metadata.Result {
		return r.raw(&metadata.Command{Op: metadata.OpBatch, Session: r.session, Seq: r.seq, Writer: r.session, Body: metadata.Batch{Session: s, Ops: ops}})
	}
	unlink := metadata.BatchOp{Now: 51, Ino: first + 5, Body: &metadata.Unlink{Parent: b.Root, Name: metadata.Name{Comp: "a"}}}
	r.seq++
	for range 2 {
		if res := send(newFile(b.Root, first, "a"), unlink, newFile(b.Root, first+1, "b")); !res.Failed || res.Kind != errs.Conflict || res.ID != 2 {
			t.Fatalf("%+v", res)
		}
	}
	r.seq++
	for range 2 {
		if res := send(newFile(b.Root, first, "a"), newFile(b.Root, first+1, "b")); res.Failed {
			t.Fatalf("%+v", res)
		}
	}
	if keys := r.keys(b, metadata.ListQuery{}); len(keys) != 2 {
		t.Fatal(keys)
	}
	r.mustFail(errs.Invalid, r.raw(&metadata.Command{Op: metadata.OpBatch, Session: r.session, Seq: r.seq + 1, Body: metadata.Batch{Session: s}, Guard: []metadata.Target{}}))
	r.check()
}

// TestBatchOfOneFile: what is done to one inode in a batch is done as by single commands, at
// the moments that the operations say.
func TestBatchOfOneFile(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	s, dir := r.mountSession(7, 10)
	file, mode := dir+1, uint32(0o4711)
	blob := &twofold.Blob{ID: twofold.MakeBlobID(r.session, 1), Size: 100, Data: 1}
	inline := metadata.Extent{Len: 30, Data: make([]byte, 30)}
	res := r.batch(s,
		metadata.BatchOp{Now: 10, Ino: dir, Body: &metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "d"}, Type: metadata.TypeDir, Mode: 0o2755, GID: 9}},
		metadata.BatchOp{Now: 11, Ino: file, Body: &metadata.Create{Parent: dir, Name: metadata.Name{Comp: "f"}, Type: metadata.TypeFile, Mode: 0o600}},
		metadata.BatchOp{Now: 12, Body: &metadata.Write{Ino: file, Extents: []metadata.Extent{{Len: 30, Blob: blob}}, ETag: "first"}},
		metadata.BatchOp{Now: 13, Body: &metadata.Write{Ino: file, Extents: []metadata.Extent{inline}, ETag: "second"}}, // nothing of the blob is left
		metadata.BatchOp{Now: 14, Body: &metadata.SetAttr{Ino: file, Mode: &mode}},
		metadata.BatchOp{Now: 15, Ino: dir, Body: &metadata.Rename{OldParent: b.Root, OldName: metadata.Name{Comp: "d"}, NewParent: b.Root, NewName: metadata.Name{Comp: "e"}}},
		metadata.BatchOp{Now: 16, Ino: file, Body: &metadata.Rename{OldParent: dir, OldName: metadata.Name{Comp: "f"}, NewParent: dir, NewName: metadata.Name{Comp: "g"}}},
		newFile(dir, file+1, "gone"),
		metadata.BatchOp{Now: 17, Ino: file + 1, Body: &metadata.Unlink{Parent: dir, Name: metadata.Name{Comp: "gone"}}},
	)
	if res.Failed {
		t.Fatalf("%+v", res)
	}
	r.view(func(v metadata.View) {
		f, err := v.Resolve(b.ID, "e/g")
		if err != nil || f.Ino != file || f.Mode != mode || f.GID != 9 || f.Size != 30 || f.ETag != "second" || f.Btime != 11 || f.Mtime != 13 || f.Ctime != 16 || f.Version != 3 {
			t.Errorf("%+v %v", f, err)
		}
		d, err := v.Inode(dir)
		if err != nil || d.Children != 1 || d.Btime != 10 || d.Mtime != 17 || d.Mode != 0o2755 {
			t.Errorf("%+v %v", d, err)
		}
		root, err := v.Inode(b.Root)
		if err != nil || root.Mtime != 15 || root.Subdirs != 1 {
			t.Errorf("%+v %v", root, err)
		}
		if orphans, err := v.Orphans(0, 10); err != nil || len(orphans) != 1 {
			t.Error(orphans, err)
		}
		if trash, err := v.Trash(twofold.BlobID{}, 10); err != nil || len(trash) != 1 || trash[0].Blob.ID != blob.ID {
			t.Error("the blob that came and went:", trash, err)
		}
	})
	r.check()
}

// TestBatchBounds: a batch is bounded, and within the bounds its write is one that the store
// takes.
func TestBatchBounds(t *testing.T) {
	r := newRig(t)
	w := &biggestWrite{Store: r.store}
	r.store = w
	r.reopen()
	b := r.bucket("b")
	s, first := r.mountSession(7, 2*maxBatchOps)
	fill := func(n int) (ops []metadata.BatchOp) {
		for i := range n {
			ops = append(ops, newFile(b.Root, first+twofold.Ino(i), fmt.Sprint(i)))
		}
		return ops
	}
	r.mustFail(errs.TooLarge, r.batch(s, fill(maxBatchOps+1)...))
	if res := r.batch(s, fill(maxBatchOps)...); res.Failed {
		t.Fatalf("%+v", res)
	}
	bytes := func(n int) metadata.BatchOp {
		return metadata.BatchOp{Body: &metadata.Write{Ino: first, Extents: []metadata.Extent{{Len: int64(n), Data: make([]byte, n)}}}}
	}
	var ops []metadata.BatchOp
	for range maxInlineBytes/maxExtentData + 1 {
		ops = append(ops, bytes(maxExtentData))
	}
	r.mustFail(errs.TooLarge, r.batch(s, ops...))
	if res := r.batch(s, ops[1:]...); res.Failed {
		t.Fatalf("%+v", res)
	}
	// Each operation replaces the extents that the one before has made.
	i := r.scattered(b, 9_000)
	ops = nil
	for k := range 8 {
		body := &metadata.Write{Ino: i.Ino}
		for at := range 1200 {
			body.Extents = append(body.Extents, metadata.Extent{Off: int64(at)*4 + int64(k%2), Len: 1, Data: []byte{1}})
		}
		ops = append(ops, metadata.BatchOp{Body: body}, metadata.BatchOp{Body: &metadata.Write{Ino: i.Ino, Punch: []metadata.Range{{Len: 4 * 9000}}}})
	}
	if res := r.batch(s, ops...); res.Kind != errs.TooLarge || res.ID == 0 {
		t.Fatalf("%+v", res)
	}
	if w.ops > 2*maxBatchSets {
		t.Fatalf("a write of %d changes", w.ops)
	}
	r.check()
}

// BenchmarkBatch is 128 files of 4 KiB made and written in one directory, from the bytes of
// the command to the store.
func BenchmarkBatch(b *testing.B) {
	benchStores(b, func(b *testing.B, s kv.Store) {
		r := benchRig(b, s)
		bucket := r.bucket("b")
		const files = 128
		var next, end twofold.Ino
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			b.StopTimer()
			if end-next < files {
				e := r.encoded(metadata.OpReserveInos, metadata.ReserveInos{Session: r.session, N: maxInos})
				res, err := r.m.ApplyBatch([]Entry{e})
				if err != nil {
					b.Fatal(err)
				}
				next = twofold.Ino(res[0].ID)
				end = next + maxInos
			}
			c := metadata.Batch{Session: r.session}
			for range files {
				c.Ops = append(c.Ops, newFile(bucket.Root, next, fmt.Sprint("file-", next)),
					metadata.BatchOp{Now: 50, Body: &metadata.Write{Ino: next, Extents: []metadata.Extent{{Len: 4096, Data: make([]byte, 4096)}}, Size: 4096, ETag: emptyMD5}})
				next++
			}
			e := r.encoded(metadata.OpBatch, c)
			b.StartTimer()
			if res, err := r.m.ApplyBatch([]Entry{e}); err != nil || res[0].Failed {
				b.Fatal(res, err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*2*files), "ns/op-in-batch")
	})
}
