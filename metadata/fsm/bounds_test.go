package fsm

import (
	"fmt"
	"strings"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// biggestWrite remembers how large writes to a store were.
type biggestWrite struct {
	kv.Store
	ops int
}

func (s *biggestWrite) Write(ops []kv.Op) error {
	s.ops = max(s.ops, len(ops))
	return s.Store.Write(ops)
}

// scattered makes a file of n extents with holes between them: extent i has two
// bytes at 4i, of one blob or inline.
func (r *rig) scattered(b *metadata.Bucket, n int) *metadata.Inode {
	i := r.ok(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "big"}, Type: metadata.TypeFile}).Inode
	blob := &twofold.Blob{ID: twofold.MakeBlobID(r.session, 1), Size: 1 << 20, Data: 1}
	for at := 0; at < n; {
		var w metadata.Write
		for ; at < n && len(w.Extents) < 5000; at++ {
			e := metadata.Extent{Off: int64(at) * 4, Len: 2}
			if at%2 == 0 {
				e.Blob, e.BlobOff = blob, int64(at)
			} else {
				e.Data = []byte("xy")
			}
			w.Extents = append(w.Extents, e)
		}
		w.Ino = i.Ino
		i = r.ok(metadata.OpWrite, w).Inode
	}
	return i
}

func TestBounds(t *testing.T) {
	const n = 25_000
	setup := func() (*rig, *metadata.Bucket, *metadata.Inode, *biggestWrite) {
		r := newRig(t)
		w := &biggestWrite{Store: r.store}
		r.store = w
		r.reopen()
		b := r.bucket("b")
		i := r.scattered(b, n)
		w.ops = 0
		return r, b, i, w
	}
	t.Run("truncate", func(t *testing.T) {
		r, _, i, w := setup()
		to, rounds := int64(5), 0
		for more := true; more; rounds++ {
			before := i.Size
			res := r.ok(metadata.OpSetAttr, metadata.SetAttr{Ino: i.Ino, Size: &to})
			if i, more = res.Inode, res.More; i.Size >= before || i.Size < to {
				t.Fatalf("from %d to %d", before, i.Size)
			}
			r.check()
		}
		if rounds != 3 || i.Size != to || i.Stored != 3 || w.ops > maxDrop+20 {
			t.Fatalf("%d rounds of up to %d changes: %+v", rounds, w.ops, i)
		}
	})
	t.Run("overwrite", func(t *testing.T) {
		r, _, i, w := setup()
		c := metadata.Write{Ino: i.Ino, Extents: []metadata.Extent{{Off: 3, Len: 10, Data: []byte("0123456789")},
			{Off: 13, Len: 4*n - 13, Blob: &twofold.Blob{ID: twofold.MakeBlobID(r.session, 2), Size: 1 << 20, Data: 1}}}}
		rounds := 0
		for more := true; more; rounds++ {
			more = r.ok(metadata.OpWrite, c).More
			r.check()
		}
		r.view(func(v metadata.View) {
			exts, err := v.Extents(i.Ino, 0, maxFileLen, 0)
			if err != nil || len(exts) != 3 || rounds != 3 || w.ops > maxDrop+20 {
				t.Fatalf("%d rounds of up to %d changes: %+v %v", rounds, w.ops, exts, err)
			}
		})
	})
	t.Run("punch", func(t *testing.T) {
		r, _, i, w := setup()
		c := metadata.Write{Ino: i.Ino}
		for off := int64(0); off < 4*n; off += 5 {
			c.Punch = append(c.Punch, metadata.Range{Off: off, Len: 5})
		}
		rounds := 0
		for more := true; more; rounds++ {
			res := r.ok(metadata.OpWrite, c)
			i, more = res.Inode, res.More
			r.check()
		}
		if rounds < 3 || rounds > 10 || i.Stored != 0 || w.ops > 2*maxDrop+20 {
			t.Fatalf("%d rounds of up to %d changes: %+v", rounds, w.ops, i)
		}
	})
	t.Run("free", func(t *testing.T) {
		r, b, i, w := setup()
		r.mustFail(errs.Busy, r.do(metadata.OpFreeInode, metadata.FreeInode{Ino: i.Ino, Max: 10}))
		r.ok(metadata.OpUnlink, metadata.Unlink{Parent: b.Root, Name: metadata.Name{Comp: "big"}})
		rounds := 1
		for r.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: i.Ino, Max: 6000}).More {
			rounds++
		}
		r.check()
		r.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: i.Ino})
		r.view(func(v metadata.View) {
			if _, err := v.Inode(i.Ino); !errs.Is(err, errs.Stale) || rounds != 5 || w.ops > maxDrop {
				t.Fatal(err, rounds, w.ops)
			}
			if trash, err := v.Trash(twofold.BlobID{}, 0); err != nil || len(trash) != 1 || trash[0].Blob.Size != 1<<20 {
				t.Fatal(trash, err)
			}
		})
	})
	t.Run("copy", func(t *testing.T) {
		r, b, i, _ := setup()
		r.mustFail(errs.TooLarge, r.do(metadata.OpCopyObject, metadata.CopyObject{Src: i.Ino, SrcVersion: i.Version, Bucket: b.ID, Key: "c"}))
		r.mustFail(errs.TooLarge, r.do(metadata.OpReplaceExtents, metadata.ReplaceExtents{Ino: i.Ino, Version: i.Version, Len: i.Size}))
		half := i.Size / 2
		u := twofold.UploadID{1}
		r.ok(metadata.OpCreateUpload, metadata.CreateUpload{Upload: metadata.Upload{ID: u, Bucket: b.ID, Key: "u"}})
		r.ok(metadata.OpPutPart, metadata.PutPart{Upload: u, Part: metadata.Part{Number: 1, Size: half, ETag: "1"}, Src: i.Ino, SrcVersion: i.Version})
		r.ok(metadata.OpPutPart, metadata.PutPart{Upload: u, Part: metadata.Part{Number: 2, Size: half, ETag: "2"}, Src: i.Ino, SrcVersion: i.Version, SrcOff: half})
		r.check()
		res := r.ok(metadata.OpCompleteUpload, metadata.CompleteUpload{Upload: u, Parts: []metadata.PartRef{{Number: 2, ETag: "2"}}})
		for res.More {
			r.check()
			res = r.ok(metadata.OpCompleteUpload, metadata.CompleteUpload{Upload: u, Parts: []metadata.PartRef{{Number: 2, ETag: "2"}}})
		}
		if res.Inode.Size != half {
			t.Fatalf("%+v", res.Inode)
		}
		r.check()
	})
}

// TestDeleteBucketAborts: a bucket with many uploads goes by parts.
func TestDeleteBucketAborts(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	for n := range 1200 {
		u := twofold.UploadID{1, byte(n >> 8), byte(n)}
		r.ok(metadata.OpCreateUpload, metadata.CreateUpload{Upload: metadata.Upload{ID: u, Bucket: b.ID, Key: twofold.Key(fmt.Sprint("k", n%7))}})
		r.ok(metadata.OpPutPart, metadata.PutPart{Upload: u, Part: metadata.Part{Number: 1 + n%3, Size: 5, ETag: "1"}})
	}
	rounds := 1
	for r.ok(metadata.OpDeleteBucket, metadata.DeleteBucket{Name: "b"}).More {
		r.check()
		rounds++
	}
	if rounds < 3 || r.countKeys("p")+r.countKeys("u")+r.countKeys("v") != 0 {
		t.Fatal(rounds)
	}
	r.check()
}

// TestAppends: lines appended one by one don't become an extent each.
func TestAppends(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	i := r.ok(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "log"}, Type: metadata.TypeFile}).Inode
	var want strings.Builder
	for n := range 1000 {
		line := fmt.Sprintf("line %d\n", n)
		r.ok(metadata.OpWrite, metadata.Write{Ino: i.Ino, Extents: []metadata.Extent{{Off: int64(want.Len()), Len: int64(len(line)), Data: []byte(line)}}})
		want.WriteString(line)
	}
	r.view(func(v metadata.View) {
		exts, err := v.Extents(i.Ino, 0, maxFileLen, 0)
		if err != nil || len(exts) > 2*want.Len()/mergeInline+1 {
			t.Fatalf("%d extents for %d bytes, %v", len(exts), want.Len(), err)
		}
		var got strings.Builder
		for _, e := range exts {
			got.Write(e.Data)
		}
		if got.String() != want.String() {
			t.Fatal("other bytes")
		}
	})
	r.check()
}

// TestBlobRules: a command may refer to blobs of its writer that were not given up,
// and to those of others that somebody refers to.
func TestBlobRules(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	other := r.begin(5)
	put := func(key string, id twofold.BlobID) metadata.Result {
		return r.do(metadata.OpPutObject, metadata.PutObject{Bucket: b.ID, Key: twofold.Key(key), Content: metadata.Content{Size: 10, ETag: "e"},
			Extents: []metadata.Extent{{Len: 10, Blob: &twofold.Blob{ID: id, Size: 10, Data: 1}}}})
	}
	mine, theirs := twofold.MakeBlobID(r.session, 1), twofold.MakeBlobID(other, 1)
	r.mustFail(errs.Conflict, put("a", theirs))
	first := put("a", mine)
	second := put("b", mine)
	r.view(func(v metadata.View) {
		if c, err := v.Claims(mine); err != nil || c[first.Inode.Ino] != 10 || c[second.Inode.Ino] != 10 || len(c) != 2 {
			t.Fatal(c, err)
		}
	})
	for _, key := range []string{"a", "b"} {
		i := r.ok(metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: twofold.Key(key)}).Inode
		r.view(func(v metadata.View) {
			if used, err := v.Claimed(mine); !used || err != nil {
				t.Fatal(used, err)
			}
			if trash, _ := v.Trash(twofold.BlobID{}, 10); len(trash) != 0 {
				t.Fatal("an inode that may be open lost its blob")
			}
		})
		r.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: i.Ino})
	}
	r.view(func(v metadata.View) {
		if trash, err := v.Trash(twofold.BlobID{}, 10); err != nil || len(trash) != 1 || trash[0].Blob.ID != mine {
			t.Fatal(trash, err)
		}
	})
	r.mustFail(errs.Conflict, put("a", mine)) // its shards may be going
	r.ok(metadata.OpTrashDone, metadata.TrashDone{Blobs: []twofold.BlobID{mine}})
	r.view(func(v metadata.View) {
		if used, err := v.Claimed(mine); used || err != nil {
			t.Fatal(used, err)
		}
	})
	r.check()
}
