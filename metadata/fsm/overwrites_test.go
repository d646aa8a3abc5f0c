package fsm

import (
	"math/rand/v2"
	"testing"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// graves is a store that keeps what was removed, as Badger does until it compacts it away:
// a walk steps over it. It counts the steps.
type graves struct {
	*kv.Memory
	steps, extents int // of any keys, of those of extents
}

// grave is the value of what was removed. No record is like it.
var grave = []byte{0}

func (s *graves) Write(ops []kv.Op) error {
	kept := make([]kv.Op, len(ops))
	for i, op := range ops {
		if kept[i] = op; op.Value == nil {
			kept[i].Value = grave
		}
	}
	return s.Memory.Write(kept)
}

func (s *graves) View(fn func(kv.Reader) error) error {
	return s.Memory.View(func(r kv.Reader) error { return fn(gravesReader{r, s}) })
}

type gravesReader struct {
	kv.Reader
	s *graves
}

func isGrave(v []byte) bool { return len(v) == 1 && v[0] == grave[0] }

func (r gravesReader) Get(key []byte) ([]byte, error) {
	v, err := r.Reader.Get(key)
	if isGrave(v) {
		v = nil
	}
	return v, err
}

func (r gravesReader) Scan(start, end []byte, fn func(key, value []byte) (bool, error)) error {
	return r.Reader.Scan(start, end, func(k, v []byte) (bool, error) {
		r.s.steps++
		if k[0] == pExtent {
			r.s.extents++
		}
		if isGrave(v) {
			return true, nil
		}
		return fn(k, v)
	})
}

// overwriter does on a file what many programs do: random overwrites and reads, and now and
// then a truncate or a hole.
type overwriter struct {
	*rig
	rnd   *rand.Rand
	ino   twofold.Ino
	blobs uint64
}

const overwritten = 256 << 10 // bytes of an overwriter's file

func newOverwriter(r *rig) *overwriter {
	b := r.bucket("b")
	res := r.ok(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "f"}, Type: metadata.TypeFile, Mode: 0o644})
	return &overwriter{rig: r, rnd: rand.New(rand.NewPCG(1, 2)), ino: res.Inode.Ino}
}

// write overwrites random bytes, and reads others.
func (o *overwriter) write() {
	off := o.rnd.Int64N(overwritten - 1)
	n := min(overwritten-off, 1+o.rnd.Int64N(64<<10))
	switch o.rnd.IntN(20) {
	case 0:
		o.ok(metadata.OpSetAttr, metadata.SetAttr{Ino: o.ino, Size: &off})
	case 1:
		o.ok(metadata.OpWrite, metadata.Write{Ino: o.ino, Punch: []metadata.Range{{Off: off, Len: n}}})
	default:
		e := metadata.Extent{Off: off, Len: n}
		if n < 1<<10 {
			e.Data = make([]byte, n)
		} else {
			o.blobs++
			e.Blob = &twofold.Blob{ID: twofold.MakeBlobID(o.session, o.blobs), Size: n}
		}
		o.ok(metadata.OpWrite, metadata.Write{Ino: o.ino, Size: off + n, Extents: []metadata.Extent{e}})
	}
	o.view(func(v metadata.View) {
		if _, err := v.Extents(o.ino, o.rnd.Int64N(overwritten), 64<<10, 0); err != nil {
			o.t.Fatal(err)
		}
	})
}

func newGraves(t *testing.T) (*graves, *overwriter) {
	s := &graves{Memory: kv.NewMemory()}
	r := &rig{t: t, store: s, now: 1}
	r.reopen()
	res := r.raw(&metadata.Command{Op: metadata.OpBeginSession, Body: &metadata.BeginSession{Kind: metadata.SessionServer, Nonce: twofold.UUID{1}}})
	r.session = twofold.SessionID(res.ID)
	return s, newOverwriter(r)
}

// TestOneOfVeryManyExtents: what a change of a few extents walks through are these, however
// many the file has.
func TestOneOfVeryManyExtents(t *testing.T) {
	s, o := newGraves(t)
	const n, each = 8000, 8
	exts := make([]metadata.Extent, n)
	for i := range exts {
		b := twofold.Blob{ID: twofold.MakeBlobID(o.session, uint64(i+1)), Size: each}
		exts[i] = metadata.Extent{Off: int64(i) * each, Len: each, Blob: &b}
	}
	o.ok(metadata.OpWrite, metadata.Write{Ino: o.ino, Size: n * each, Extents: exts})
	o.reopen() // what was just made is not known any more
	for i := range 100 {
		s.extents = 0
		e := metadata.Extent{Off: o.rnd.Int64N((n - 2) * each), Len: each, Data: make([]byte, each)}
		o.ok(metadata.OpWrite, metadata.Write{Ino: o.ino, Extents: []metadata.Extent{e}})
		if s.extents > 10 {
			t.Fatalf("overwrite %d walked through %d extents", i, s.extents)
		}
	}
	o.check()
}

// TestOverwritesStayCheap: what a file costs to change and to read does not grow with the
// number of times it was changed.
func TestOverwritesStayCheap(t *testing.T) {
	s, o := newGraves(t)
	const tenth = 500
	var steps, extents [10]int
	for i := range steps {
		s.steps, s.extents = 0, 0
		for range tenth {
			o.write()
			o.log = nil
		}
		steps[i], extents[i] = s.steps, s.extents
	}
	t.Logf("steps in the store by tenths %v, of extents %v", steps, extents)
	if steps[9] > steps[0]*11/10 || extents[9] > tenth/100 {
		t.Error("it grew")
	}
	o.check()
}

// BenchmarkOverwrites: random overwrites and reads of a file of 256 KiB, many after
// many.
func BenchmarkOverwrites(b *testing.B) {
	benchStores(b, func(b *testing.B, s kv.Store) {
		o := newOverwriter(benchRig(b, s))
		for b.Loop() {
			o.write()
			o.log = nil
		}
	})
}
