package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

func (r *rig) file(b *metadata.Bucket, name string) *metadata.Inode {
	r.t.Helper()
	return r.ok(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: name}, Type: metadata.TypeFile, Mode: 0o6755}).Inode
}

// content tells for each byte of a file where it comes from: "" is a hole.
func (r *rig) content(ino twofold.Ino) (out []string) {
	r.t.Helper()
	r.view(func(v metadata.View) {
		i, err := v.Inode(ino)
		if err != nil {
			r.t.Fatal(err)
		}
		out = make([]string, i.Size)
		exts, err := v.Extents(ino, 0, max(i.Size, 1), 0)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, e := range exts {
			for n := range e.Len {
				if e.Blob != nil {
					out[e.Off+n] = fmt.Sprint(e.Blob.ID, e.BlobOff+n)
				} else {
					out[e.Off+n] = fmt.Sprint(e.Data[n])
				}
			}
		}
	})
	return out
}

// TestCopyRange compares random copies between and within two files with slices.
func TestCopyRange(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t)
	b := r.bucket("b")
	files := []*metadata.Inode{r.file(b, "x"), r.file(b, "y")}
	model := [][]string{nil, nil}
	for step := range 400 {
		at := rnd.IntN(2)
		if rnd.IntN(3) == 0 {
			off, n := rnd.Int64N(80), 1+rnd.Int64N(40)
			e := metadata.Extent{Off: off, Len: n}
			if rnd.IntN(2) == 0 {
				e.Blob, e.BlobOff = &twofold.Blob{ID: twofold.MakeBlobID(r.session, uint64(step+1)), Data: 2, Parity: 2, Size: 200}, rnd.Int64N(100)
			} else {
				e.Data = make([]byte, n)
				for i := range e.Data {
					e.Data[i] = byte(1 + rnd.IntN(200))
				}
			}
			r.ok(metadata.OpWrite, metadata.Write{Ino: files[at].Ino, Extents: []metadata.Extent{e}})
			model[at] = r.content(files[at].Ino)
			continue
		}
		from := rnd.IntN(2)
		c := metadata.CopyRange{Src: files[from].Ino, SrcOff: rnd.Int64N(100), Dst: files[at].Ino, DstOff: rnd.Int64N(150), Len: rnd.Int64N(60)}
		res := r.do(metadata.OpCopyRange, c)
		if from == at && c.SrcOff < c.DstOff+c.Len && c.DstOff < c.SrcOff+c.Len {
			r.mustFail(errs.Invalid, res)
			continue
		}
		if res.Failed {
			t.Fatalf("%+v: %v %s", c, res.Kind, res.Msg)
		}
		n := max(0, min(c.Len, int64(len(model[from]))-c.SrcOff))
		if res.ID != uint64(n) {
			t.Fatalf("%+v of %d bytes: copied %d", c, len(model[from]), res.ID)
		}
		if n > 0 {
			part := slices.Clone(model[from][c.SrcOff : c.SrcOff+n])
			for int64(len(model[at])) < c.DstOff+n {
				model[at] = append(model[at], "")
			}
			copy(model[at][c.DstOff:], part)
		}
		for i := range files {
			if got := r.content(files[i].Ino); !slices.Equal(got, model[i]) {
				t.Fatalf("step %d, %+v: file %d has\n%v, want\n%v", step, c, i, got, model[i])
			}
		}
		r.check()
	}
}

// TestCopyRangeAttributes: the copy of a whole file has its ETag, any other an
// opaque one; times move, set-id bits go where asked.
func TestCopyRangeAttributes(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	src, dst := r.file(b, "x"), r.file(b, "y")
	blob := &twofold.Blob{ID: twofold.MakeBlobID(r.session, 1), Data: 2, Parity: 2, Size: 1000}
	src = r.ok(metadata.OpWrite, metadata.Write{Ino: src.Ino, Extents: []metadata.Extent{{Len: 1000, Blob: blob}}, ETag: "0123456789abcdef0123456789abcdef"}).Inode
	res := r.ok(metadata.OpCopyRange, metadata.CopyRange{Src: src.Ino, Dst: dst.Ino, Len: 1 << 40, Mtime: 77, KillPriv: true})
	got := res.Inode
	if res.ID != 1000 || got.ETag != src.ETag || got.Mtime != 77 || got.Ctime != r.now || got.Mode != 0o755 || got.Version != dst.Version+1 || got.Stored != 1000 {
		t.Fatalf("%d bytes: %+v", res.ID, got)
	}
	got = r.ok(metadata.OpCopyRange, metadata.CopyRange{Src: src.Ino, SrcOff: 1, Dst: dst.Ino, Len: 999}).Inode
	if got.ETag == src.ETag {
		t.Fatal("other content has the same ETag")
	}
	// At the source's end nothing happens.
	if res = r.ok(metadata.OpCopyRange, metadata.CopyRange{Src: src.Ino, SrcOff: 1000, Dst: dst.Ino, Len: 5}); res.ID != 0 || res.Inode.Version != got.Version {
		t.Fatalf("%d bytes: %+v", res.ID, res.Inode)
	}
	// The blob stays with the copy alone.
	r.ok(metadata.OpUnlink, metadata.Unlink{Parent: b.Root, Name: metadata.Name{Comp: "x"}})
	r.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: src.Ino})
	r.view(func(v metadata.View) {
		if trash, err := v.Trash(twofold.BlobID{}, 10); err != nil || len(trash) != 0 {
			t.Fatal(trash, err)
		}
	})
	r.check()
	r.mustFail(errs.IsDir, r.do(metadata.OpCopyRange, metadata.CopyRange{Src: dst.Ino, Dst: b.Root, Len: 1}))
	r.mustFail(errs.Stale, r.do(metadata.OpCopyRange, metadata.CopyRange{Src: src.Ino, Dst: dst.Ino, Len: 1}))
	r.mustFail(errs.TooLarge, r.do(metadata.OpCopyRange, metadata.CopyRange{Src: dst.Ino, Dst: dst.Ino, DstOff: maxFileLen, Len: 1}))
}

// TestCopyRangeIsBounded: very many extents are copied in several commands.
func TestCopyRangeIsBounded(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	src, dst := r.file(b, "x"), r.file(b, "y")
	const extents = maxWriteExts + 100
	blob := &twofold.Blob{ID: twofold.MakeBlobID(r.session, 1), Data: 2, Parity: 2, Size: 4 * extents}
	for at := int64(0); at < extents; at += extents / 2 {
		var exts []metadata.Extent
		for n := at; n < at+extents/2; n++ {
			exts = append(exts, metadata.Extent{Off: 4 * n, Len: 2, Blob: blob, BlobOff: 4 * n})
		}
		r.ok(metadata.OpWrite, metadata.Write{Ino: src.Ino, Extents: exts, Size: 4 * extents})
	}
	for range 2 { // onto nothing, and over as many
		off, commands := int64(0), 0
		for ; off < 4*extents; commands++ {
			n := r.ok(metadata.OpCopyRange, metadata.CopyRange{Src: src.Ino, SrcOff: off, Dst: dst.Ino, DstOff: off, Len: 4*extents - off}).ID
			if n == 0 {
				t.Fatal("no progress at", off)
			}
			off += int64(n)
		}
		if commands < 2 {
			t.Fatal("everything in one command")
		}
		if got, want := r.content(dst.Ino), r.content(src.Ino); !slices.Equal(got, want) {
			t.Fatal("the copy differs")
		}
	}
	r.check()
}

// TestTmpfile: a file without a name takes one once, and goes without.
func TestTmpfile(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	mode := uint32(0o2755)
	r.ok(metadata.OpSetAttr, metadata.SetAttr{Ino: b.Root, Mode: &mode, GID: &mode})
	tmp := func() *metadata.Inode {
		return r.ok(metadata.OpTmpfile, metadata.Tmpfile{Parent: b.Root, Mode: 0o640, UID: 5, GID: 6}).Inode
	}
	i := tmp()
	if i.Nlink != 0 || i.Type != metadata.TypeFile || i.Mode != 0o640 || i.UID != 5 || i.GID != mode || i.ETag != emptyMD5 {
		t.Fatalf("%+v", i)
	}
	r.ok(metadata.OpWrite, metadata.Write{Ino: i.Ino, Extents: []metadata.Extent{{Len: 2, Data: []byte("hi")}}})
	r.check()
	if keys := r.keys(b, metadata.ListQuery{}); len(keys) != 0 {
		t.Fatal(keys)
	}
	link := metadata.Link{Ino: i.Ino, Parent: b.Root, Name: metadata.Name{Comp: "named"}}
	if i = r.ok(metadata.OpLink, link).Inode; i.Nlink != 1 || i.Unnamed {
		t.Fatalf("%+v", i)
	}
	r.check()
	r.mustFail(errs.Busy, r.do(metadata.OpFreeInode, metadata.FreeInode{Ino: i.Ino}))
	// Once it had a name it is as any other.
	r.ok(metadata.OpUnlink, metadata.Unlink{Parent: b.Root, Name: link.Name})
	r.mustFail(errs.NotFound, r.do(metadata.OpLink, link))
	r.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: i.Ino})

	i = tmp()
	r.ok(metadata.OpWrite, metadata.Write{Ino: i.Ino, Size: 100, Extents: []metadata.Extent{
		{Len: 2, Data: []byte("hi")}, {Off: 50, Len: 2, Data: []byte("hi")}}})
	if !r.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: i.Ino, Max: 1}).More {
		t.Fatal("freed at once")
	}
	link.Ino = i.Ino
	r.mustFail(errs.NotFound, r.do(metadata.OpLink, link)) // half of its content is gone
	r.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: i.Ino})
	r.check()
}
