package fsm

import (
	"testing"

	"twofold"
	"twofold/metadata"
)

// seeded is a small state with one of everything, and the commands that made it.
func seeded(t testing.TB) *rig {
	r := newRig(t)
	b := r.bucket("b")
	r.put(b, "a/b", "hello")
	r.put(b, "a", "shadowed")
	r.put(b, "dir/", "x")
	blob := &twofold.Blob{ID: twofold.MakeBlobID(r.session, 1), Data: 2, Parity: 2, Size: 1000}
	f := r.ok(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "f"}, Type: metadata.TypeFile, Mode: 0o644}).Inode
	r.ok(metadata.OpWrite, metadata.Write{Ino: f.Ino, Extents: []metadata.Extent{{Len: 500, Blob: blob}, {Off: 600, Len: 3, Data: []byte("abc")}}, Size: 1000})
	r.ok(metadata.OpLink, metadata.Link{Ino: f.Ino, Parent: b.Root, Name: metadata.Name{Comp: "g"}})
	r.ok(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "s"}, Type: metadata.TypeSymlink, Target: "f"})
	r.ok(metadata.OpRename, metadata.Rename{OldParent: b.Root, OldName: metadata.Name{Comp: "g"}, NewParent: b.Root, NewName: metadata.Name{Comp: "h"}})
	u := twofold.UploadID{7}
	r.ok(metadata.OpCreateUpload, metadata.CreateUpload{Upload: metadata.Upload{ID: u, Bucket: b.ID, Key: "u/v"}})
	r.ok(metadata.OpPutPart, metadata.PutPart{Upload: u, Part: metadata.Part{Number: 1, Size: 10, ETag: "p"}, Src: f.Ino, SrcVersion: 2})
	size := int64(100)
	r.ok(metadata.OpSetAttr, metadata.SetAttr{Ino: f.Ino, Size: &size})
	r.ok(metadata.OpSetXattrs, metadata.SetXattrs{Ino: f.Ino, Name: "user.x", Value: []byte("y")})
	r.ok(metadata.OpCopyObject, metadata.CopyObject{Src: f.Ino, SrcVersion: 3, Bucket: b.ID, Key: "copy"})
	r.ok(metadata.OpReplaceExtents, metadata.ReplaceExtents{Ino: f.Ino, Version: 3, Off: 0, Len: 50, Extents: []metadata.Extent{{Len: 50, Blob: blob}}})
	r.ok(metadata.OpUnlink, metadata.Unlink{Parent: b.Root, Name: metadata.Name{Comp: "f"}})
	r.ok(metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: "copy"})
	ino := twofold.Ino(r.ok(metadata.OpReserveInos, metadata.ReserveInos{Session: r.session, N: 5}).ID)
	r.ok(metadata.OpBatch, metadata.Batch{Session: r.session, Ops: []metadata.BatchOp{
		{Now: 1, Ino: ino, Body: &metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "made"}, Type: metadata.TypeDir}},
		{Now: 2, Ino: ino + 1, Body: &metadata.Create{Parent: ino, Name: metadata.Name{Comp: "in"}, Type: metadata.TypeFile}},
		{Now: 3, Body: &metadata.Write{Ino: ino + 1, Extents: []metadata.Extent{{Len: 5, Blob: blob}, {Off: 5, Len: 2, Data: []byte("xy")}}}},
		{Now: 4, Ino: ino + 1, Body: &metadata.Rename{OldParent: ino, OldName: metadata.Name{Comp: "in"}, NewParent: b.Root, NewName: metadata.Name{Comp: "out"}}},
		{Now: 5, Ino: ino, Body: &metadata.Rmdir{Parent: b.Root, Name: metadata.Name{Comp: "made"}}},
	}})
	r.ok(metadata.OpSetConfig, metadata.SetConfig{Name: "n", Value: []byte("v")})
	return r
}

// FuzzApply: no command that decodes, however mad, stops a replica or leaves the
// state unsound. It would stop all of them, and again at each start.
func FuzzApply(f *testing.F) {
	base := seeded(f)
	for _, e := range base.log {
		f.Add(e.Data)
	}
	for _, body := range []any{metadata.Rmdir{Parent: 1024, Name: metadata.Name{Comp: "dir"}}, metadata.FreeInode{Ino: 1030, Max: 1},
		metadata.CompleteUpload{Upload: twofold.UploadID{7}, Parts: []metadata.PartRef{{Number: 1, ETag: "p"}}}, metadata.AbortUpload{Upload: twofold.UploadID{7}},
		metadata.DeleteBucket{Name: "b"}, metadata.EndSession{ID: 1}, metadata.ForgetSession{ID: 1}, metadata.TrashDone{Blobs: []twofold.BlobID{{}}}} {
		for op := metadata.OpBeginSession; op <= metadata.OpCopyRange; op++ {
			if b, err := metadata.Encode(&metadata.Command{Op: op, Session: 1, Seq: 1000, Acked: 999, Body: body}); err == nil {
				f.Add(b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := metadata.Decode(b)
		if err != nil {
			return
		}
		r := newRig(t)
		r.t = t
		for _, e := range base.log[1:] {
			if _, err := r.m.ApplyBatch([]Entry{e}); err != nil {
				t.Fatal(err)
			}
		}
		r.index = base.index
		r.seq = base.seq
		if c.Session != 0 {
			c.Session = r.session
			c.Seq = max(c.Seq, r.seq+1)
		}
		for range 2 { // and once more, as after a lost answer
			r.raw(c)
			r.check()
			c.Seq++
		}
	})
}
