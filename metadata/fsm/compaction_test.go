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

// TestCrowdsAreMarked: a command that makes all of a file's content marks it where it
// brings as many extents in as few bytes as it says, and where it says so.
func TestCrowdsAreMarked(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	pieces := func(n int, apart int64) (exts []metadata.Extent) {
		for i := range n {
			exts = append(exts, metadata.Extent{Off: int64(i) * apart, Len: 10, Data: make([]byte, 10)})
		}
		return exts
	}
	const size = 100_000
	write := func(key string, c *metadata.Crowd, exts []metadata.Extent) *metadata.Inode {
		i := r.ok(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: key}, Type: metadata.TypeFile}).Inode
		return r.ok(metadata.OpWrite, metadata.Write{Ino: i.Ino, Size: size, Extents: exts, Crowd: c}).Inode
	}
	src := write("src", nil, pieces(8, 1000)) // the last ones are as far apart as the others
	copied := func(key string, c *metadata.Crowd) *metadata.Inode {
		return r.ok(metadata.OpCopyObject, metadata.CopyObject{Src: src.Ino, SrcVersion: src.Version, Bucket: b.ID, Key: twofold.Key(key), Crowd: c}).Inode
	}
	ranged := func(key string, c *metadata.Crowd) *metadata.Inode {
		i := r.file(b, key)
		return r.ok(metadata.OpCopyRange, metadata.CopyRange{Src: src.Ino, Dst: i.Ino, Len: size, Crowd: c}).Inode
	}
	joined := func(key string, c *metadata.Crowd) *metadata.Inode {
		up := twofold.UploadID{byte(len(key)), key[0], key[len(key)-1]}
		r.ok(metadata.OpCreateUpload, metadata.CreateUpload{Upload: metadata.Upload{ID: up, Bucket: b.ID, Key: twofold.Key(key)}})
		r.ok(metadata.OpPutPart, metadata.PutPart{Upload: up, Part: metadata.Part{Number: 1, Size: size, ETag: "e"}, Src: src.Ino, SrcVersion: src.Version})
		return r.ok(metadata.OpCompleteUpload, metadata.CompleteUpload{Upload: up, Parts: []metadata.PartRef{{Number: 1, ETag: "e"}}, Crowd: c}).Inode
	}
	for _, c := range []struct {
		name  string
		crowd *metadata.Crowd
		want  bool
	}{
		{"crowded", &metadata.Crowd{Extents: 8, Bytes: 7010}, true},
		{"few", &metadata.Crowd{Extents: 9, Bytes: 1 << 20}, false},
		{"wide", &metadata.Crowd{Extents: 8, Bytes: 7009}, false},
		{"nothing", &metadata.Crowd{}, false},
		{"before", nil, false}, // as commands were
	} {
		for how, i := range map[string]*metadata.Inode{
			"write":  write("w"+c.name, c.crowd, pieces(8, 1000)),
			"copy":   copied("c"+c.name, c.crowd),
			"range":  ranged("r"+c.name, c.crowd),
			"upload": joined("u"+c.name, c.crowd),
		} {
			if _, marked := r.due()[i.Ino]; marked != c.want {
				t.Errorf("%s, %s: marked %v", how, c.name, marked)
			}
		}
	}
	dense := append(pieces(4, 1000), metadata.Extent{Off: 50_000, Len: 10, Data: make([]byte, 10)}, metadata.Extent{Off: 50_020, Len: 10, Data: make([]byte, 10)})
	if i := write("dense", &metadata.Crowd{Extents: 2, Bytes: 30}, dense); r.due()[i.Ino].Ino != i.Ino {
		t.Error("a crowd in one place is not seen")
	}
	r.check()
}
