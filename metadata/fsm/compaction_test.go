package fsm

import (
	"testing"

	"twofold"
	"twofold/metadata"
)

// due lists the marks of files.
func (r *rig) due() map[twofold.Ino]metadata.CompactionMark {
	r.t.Helper()
	all := map[twofold.Ino]metadata.CompactionMark{}
	r.view(func(v metadata.View) {
		var after twofold.Ino
		for {
			marks, err := v.CompactionDue(after, 1) // by pages of one
			if err != nil {
				r.t.Fatal(err)
			}
			if len(marks) == 0 {
				return
			}
			after = marks[0].Ino
			all[after] = marks[0]
		}
	})
	return all
}

// TestCompactionMarks: a file is marked when a write adds to it, or when a blob that
// it refers to is left with less than half of its bytes by it or by another file;
// and not otherwise. A mark is taken only as it was.
func TestCompactionMarks(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	blob := &twofold.Blob{ID: twofold.MakeBlobID(r.session, 1), Size: 100, Data: 1}
	put := func(key string, off, n int64) *metadata.Inode {
		return r.ok(metadata.OpPutObject, metadata.PutObject{Bucket: b.ID, Key: twofold.Key(key), Content: metadata.Content{Size: n, ETag: "e"},
			Extents: []metadata.Extent{{Len: n, Blob: blob, BlobOff: off}}}).Inode
	}
	whole, part := put("whole", 0, 100), put("part", 0, 30)
	if m := r.due(); len(m) != 0 {
		t.Fatalf("marked without a reason: %v", m)
	}
	size := func(i *metadata.Inode, n int64) {
		t.Helper()
		r.ok(metadata.OpSetAttr, metadata.SetAttr{Ino: i.Ino, Size: &n})
	}
	size(whole, 60) // 60 and 30 of 100
	if m := r.due(); len(m) != 0 {
		t.Fatalf("marked while more than half is alive: %v", m)
	}
	r.ok(metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: "whole"})
	r.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: whole.Ino}) // 30 of 100, of the other file
	m := r.due()
	if _, ok := m[part.Ino]; !ok || len(m) != 1 {
		t.Fatalf("marked: %v, wanted %d", m, part.Ino)
	}
	old := m[part.Ino]
	size(part, 20)
	if now := r.due()[part.Ino]; now == old {
		t.Fatal("a new mark looks like the one before")
	}
	r.ok(metadata.OpCompacted, metadata.Compacted{Marks: []metadata.CompactionMark{old}})
	if len(r.due()) != 1 {
		t.Fatal("a mark made meanwhile was taken")
	}
	r.ok(metadata.OpCompacted, metadata.Compacted{Marks: []metadata.CompactionMark{r.due()[part.Ino], {Ino: 1 << 40}}})
	if m := r.due(); len(m) != 0 {
		t.Fatalf("left: %v", m)
	}

	// The first write to an empty file makes one extent, the next ones more.
	log := r.ok(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "log"}, Type: metadata.TypeFile}).Inode
	for n := range 2 {
		off := int64(n) * 10
		r.ok(metadata.OpWrite, metadata.Write{Ino: log.Ino, Size: off + 10, Extents: []metadata.Extent{{Off: off, Len: 10, Data: make([]byte, 10)}}})
		if m := r.due(); len(m) != n {
			t.Fatalf("after %d writes: %v", n+1, m)
		}
	}
	// So does a copied range.
	tail := r.file(b, "copy")
	for n := range 2 {
		r.ok(metadata.OpCopyRange, metadata.CopyRange{Src: log.Ino, Dst: tail.Ino, DstOff: int64(n) * 10, Len: 10})
		if _, marked := r.due()[tail.Ino]; marked != (n > 0) {
			t.Fatalf("after %d copies: marked %v", n+1, marked)
		}
	}
	r.reopen()
	if m := r.due(); len(m) != 2 {
		t.Fatalf("after a restart: %v", m)
	}
	r.check()
}
