package fsm

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// byteSources says for each byte of a file where it comes from: the blob and the place
// in it, the inline byte, or "" for a hole.
func (r *rig) byteSources(ino twofold.Ino, size int64) []string {
	r.t.Helper()
	all := make([]string, size)
	for _, e := range r.extentsOf(ino, size) {
		for k := range e.Len {
			if e.Blob != nil {
				all[e.Off+k] = fmt.Sprintf("%v+%d", e.Blob.ID, e.BlobOff+k)
			} else {
				all[e.Off+k] = fmt.Sprintf("inline %d", e.Data[k])
			}
		}
	}
	return all
}

func (r *rig) extentsOf(ino twofold.Ino, size int64) (exts []metadata.Extent) {
	r.t.Helper()
	r.view(func(v metadata.View) {
		var err error
		if exts, err = v.Extents(ino, 0, size, 0); err != nil {
			r.t.Fatal(err)
		}
	})
	return exts
}

func sourcesOf(exts []metadata.Extent) (was []metadata.ExtentSource) {
	for _, e := range exts {
		s := metadata.ExtentSource{Off: e.Off, Len: e.Len, BlobOff: e.BlobOff}
		if e.Blob != nil {
			s.Blob = &e.Blob.ID
		} else {
			sum := sha256.Sum256(e.Data)
			s.Sum = sum[:]
		}
		was = append(was, s)
	}
	return was
}

// TestReplaceWhatIsLeft: a file is read for compaction, then written to, punched and
// truncated, and then the new blob is put in place. Of each byte that nobody touched
// the source is the new blob; of each other one it is what it was a moment before.
func TestReplaceWhatIsLeft(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t)
			b := r.bucket("b")
			f := r.ok(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "f"}, Type: metadata.TypeFile}).Inode
			const size = 200
			blobs := uint64(0)
			blob := func(n int64) *twofold.Blob {
				blobs++
				return &twofold.Blob{ID: twofold.MakeBlobID(r.session, blobs), Size: n, Data: 1}
			}
			at := int64(0) // the file's size
			change := func() {
				off, n := rnd.Int64N(size), 1+rnd.Int64N(40)
				n = min(n, size-off)
				switch rnd.IntN(8) {
				case 0:
					r.ok(metadata.OpSetAttr, metadata.SetAttr{Ino: f.Ino, Size: &off})
					at = off
				case 1:
					r.ok(metadata.OpWrite, metadata.Write{Ino: f.Ino, Size: at, Punch: []metadata.Range{{Off: off, Len: n}}})
				case 2, 3:
					p := make([]byte, n)
					for k := range p {
						p[k] = byte(rnd.IntN(256))
					}
					at = max(at, off+n)
					r.ok(metadata.OpWrite, metadata.Write{Ino: f.Ino, Size: at, Extents: []metadata.Extent{{Off: off, Len: n, Data: p}}})
				default:
					at = max(at, off+n)
					r.ok(metadata.OpWrite, metadata.Write{Ino: f.Ino, Size: at, Extents: []metadata.Extent{{Off: off, Len: n, Blob: blob(n + 7), BlobOff: rnd.Int64N(7)}}})
				}
			}
			for range 20 {
				change()
			}
			// Read: all of the extents from one to another, as a window is.
			exts := r.extentsOf(f.Ino, size)
			if len(exts) == 0 {
				return
			}
			i := rnd.IntN(len(exts))
			exts = exts[i : i+1+rnd.IntN(len(exts)-i)]
			off := exts[0].Off
			n := exts[len(exts)-1].Off + exts[len(exts)-1].Len - off
			var version uint64
			r.view(func(v metadata.View) {
				ino, err := v.Inode(f.Ino)
				if err != nil {
					t.Fatal(err)
				}
				version = ino.Version
			})
			read := r.byteSources(f.Ino, size)
			changes := rnd.IntN(6)
			for range changes {
				change()
			}
			before := r.byteSources(f.Ino, size)

			to := blob(n)
			c := metadata.ReplaceExtents{Ino: f.Ino, Version: version, Off: off, Len: n, Was: sourcesOf(exts)}
			for _, e := range exts { // holes stay holes
				c.Extents = append(c.Extents, metadata.Extent{Off: e.Off, Len: e.Len, Blob: to, BlobOff: e.Off - off})
			}
			res := r.do(metadata.OpReplaceExtents, c)
			after := r.byteSources(f.Ino, size)
			moved := 0
			for p := range int64(size) {
				inNew := p >= off && p < off+n && after[p] == fmt.Sprintf("%v+%d", to.ID, p-off)
				switch {
				case inNew && before[p] == read[p] && read[p] != "":
					moved++
				case after[p] != before[p]:
					t.Fatalf("byte %d is %q, was %q, read as %q", p, after[p], before[p], read[p])
				case p >= off && p < off+n && before[p] == read[p] && read[p] != "" && before[p][0] != 'i':
					t.Fatalf("byte %d of %q stayed where it was", p, before[p])
				}
			}
			if res.Failed != (moved == 0) || res.Failed && res.Kind != errs.Conflict {
				t.Fatalf("%d bytes moved: %+v", moved, res)
			}
		})
	}
}
