package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// failing is a store of which writes fail when told to, with nothing written.
type failing struct {
	kv.Store
	fail bool
}

func (s *failing) Write(ops []kv.Op) error {
	if s.fail {
		s.fail = false
		return errors.New("planted")
	}
	return s.Store.Write(ops)
}

// watched is a machine of which views are compared with the walk of their store.
type watched struct {
	m     *Machine
	store *failing

	now, before, stored int // walks by what they read: of the newest state in memory, of the one before, of the store
}

func newWatched(t *testing.T, bytes int) *watched {
	w := &watched{store: &failing{Store: kv.NewMemory()}}
	var err error
	if w.m, err = New(w.store, Options{ExtentBytes: bytes}); err != nil {
		t.Fatal(err)
	}
	return w
}

// compare walks some extents of an inode as views do, and in the view's store.
func (w *watched) compare(t *testing.T, mv metadata.View, rnd *rand.Rand, ino twofold.Ino) {
	t.Helper()
	v := mv.(*view)
	off := rnd.Int64N(20_000)
	end := off + 1 + rnd.Int64N(20_000)
	most := 1 + rnd.IntN(20)
	list := func(s state) (exts []metadata.Extent) {
		err := s.extents(ino, off, end, func(e metadata.Extent) (bool, error) {
			exts = append(exts, e)
			return len(exts) < most, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return exts
	}
	want, got := list(state{snapshot{v.r}}), list(v.state)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("extents of inode %d in [%d, %d):\n%+v, want\n%+v", ino, off, end, got, want)
	}
	for i := range want {
		want[i] = clip(want[i], off, end)
	}
	if got, err := v.Extents(ino, off, end-off, most); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("Extents of inode %d in [%d, %d): %+v, want %+v; %v", ino, off, end, got, want, err)
	}
	s := w.m.known
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch shown := s.shown[ino]; {
	case shown == nil || v.applied < shown.before.index:
		w.stored++
	case v.applied < shown.now.index:
		w.before++
	default:
		w.now++
	}
}

// check fails where the machine counts or keeps more than it should, or what is known is
// not what its store has.
func (w *watched) check(t *testing.T) {
	t.Helper()
	c, young := w.m.known, 0
	for _, k := range c.young {
		young += k.bytes
	}
	if young != c.bytes || young > c.limit/2 {
		t.Fatalf("%d bytes are young, counted as %d, of %d", young, c.bytes, c.limit)
	}
	for ino := range c.shown {
		if c.young[ino] == nil && c.old[ino] == nil {
			t.Fatalf("inode %d is shown, and forgotten", ino)
		}
	}
}

// TestKnownExtentsAreExact: files are written, punched, cut, copied and compacted by
// batches of commands, on a machine that remembers extents, one that takes its changes or
// computes them itself, and one that remembers nothing; stores fail now and then. The
// stores are the same in the end, and every view, also one that was opened some batches
// ago, sees of memory what it sees of its store.
func TestKnownExtentsAreExact(t *testing.T) {
	var sum watched
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 5))
			room := []int{1, 30_000, 300_000, 32 << 20}[rnd.IntN(4)]
			leader, follower, plain := newWatched(t, room), newWatched(t, room), newWatched(t, 1)
			var taken []*Changes
			leader.m.OnChanges(func(c *Changes) { taken = append(taken, c) })
			f := newFiles(t, rnd)
			var behind []Entry

			apply := func(w *watched, entries []Entry) {
				w.store.fail = rnd.IntN(20) == 0
				_, err := w.m.ApplyBatch(entries)
				if err != nil { // they come again
					_, err = w.m.ApplyBatch(entries)
				}
				if err != nil {
					t.Fatal(err)
				}
				w.store.fail = false
				w.check(t)
			}
			step := func() {
				if len(behind) > 0 && rnd.IntN(2) == 0 {
					follower.store.fail = rnd.IntN(20) == 0
					if _, err := follower.m.Take(taken, behind); err != nil {
						t.Log(err)
					}
					apply(follower, behind) // what was not taken
					behind, taken = nil, nil
					follower.compareAll(t, f)
				}
				entries := f.some()
				behind = append(behind, entries...)
				apply(leader, entries)
				apply(plain, entries)
				leader.compareAll(t, f)
			}
			for range 60 {
				err := leader.m.View(func(v metadata.View) error {
					for range rnd.IntN(4) {
						step()
						for _, ino := range f.inos {
							leader.compare(t, v, rnd, ino)
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			apply(follower, behind)
			want := dump(t, plain.store)
			if dump(t, leader.store) != want || dump(t, follower.store) != want {
				t.Fatal("the stores differ")
			}
			if err := leader.m.View(Check); err != nil {
				t.Fatal(err)
			}
			for _, w := range []*watched{leader, follower} {
				sum.now, sum.before, sum.stored = sum.now+w.now, sum.before+w.before, sum.stored+w.stored
			}
		})
	}
	t.Logf("walks of what is known now %d, of the state before %d, of the store %d", sum.now, sum.before, sum.stored)
	if sum.now < 1000 || sum.before < 100 || sum.stored < 100 {
		t.Error("some of it hardly happens")
	}
}

func (w *watched) compareAll(t *testing.T, f *files) {
	t.Helper()
	err := w.m.View(func(v metadata.View) error {
		for _, ino := range f.inos {
			w.compare(t, v, f.rnd, ino)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKnownExtentsWhileTheyChange: views look while batches are applied, for the race
// detector.
func TestKnownExtentsWhileTheyChange(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	w := newWatched(t, 300_000)
	f := newFiles(t, rnd)
	var batches [][]Entry
	for range 150 {
		batches = append(batches, f.some())
	}
	done := make(chan error, 1)
	go func() {
		for _, entries := range batches {
			if _, err := w.m.ApplyBatch(entries); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		w.compareAll(t, f)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			w.compareAll(t, f)
			return
		default:
		}
	}
}

// files makes commands that change the content of files.
type files struct {
	*rig
	rnd   *rand.Rand
	root  twofold.Ino
	inos  []twofold.Ino
	blobs uint64
}

// newFiles makes the files; what made them comes with the first of some.
func newFiles(t *testing.T, rnd *rand.Rand) *files {
	f := &files{rig: &rig{t: t, store: kv.NewMemory(), now: 1}, rnd: rnd}
	f.rig.reopen() // the rig's own machine says which numbers inodes get
	res := f.raw(&metadata.Command{Op: metadata.OpBeginSession, Body: &metadata.BeginSession{Kind: metadata.SessionServer, Nonce: twofold.UUID{1}}})
	f.session = twofold.SessionID(res.ID)
	f.root = f.bucket("files").Root
	for range 4 {
		f.create()
	}
	return f
}

func (f *files) create() {
	name := metadata.Name{Comp: fmt.Sprintf("%d", f.index)}
	res := f.ok(metadata.OpCreate, metadata.Create{Parent: f.root, Name: name, Type: metadata.TypeFile, Mode: 0o644})
	f.inos = append(f.inos, res.Inode.Ino)
}

// some are the entries that no machine but the rig's has applied: those of a few commands.
func (f *files) some() []Entry {
	for range 1 + f.rnd.IntN(12) {
		f.change()
	}
	entries := f.log
	f.log = nil
	return entries
}

func (f *files) change() {
	at := f.rnd.IntN(len(f.inos))
	ino := f.inos[at]
	off, n := f.rnd.Int64N(30_000), 1+f.rnd.Int64N(4000)
	switch f.rnd.IntN(14) {
	case 0:
		size := f.rnd.Int64N(40_000)
		f.do(metadata.OpSetAttr, metadata.SetAttr{Ino: ino, Size: &size})
	case 1:
		f.do(metadata.OpWrite, metadata.Write{Ino: ino, Punch: []metadata.Range{{Off: off, Len: n}}})
	case 2:
		c := metadata.CopyRange{Src: ino, Dst: f.inos[f.rnd.IntN(len(f.inos))], SrcOff: off, DstOff: f.rnd.Int64N(30_000), Len: n}
		f.do(metadata.OpCopyRange, c)
	case 3:
		c := metadata.ReplaceExtents{Ino: ino, Off: off, Len: n, Was: sourcesOf(f.extentsOf(ino, 40_000)), Extents: f.extents(off, n)}
		f.do(metadata.OpReplaceExtents, c)
	case 4:
		if f.rnd.IntN(4) > 0 {
			return
		}
		name := metadata.Name{}
		f.view(func(v metadata.View) {
			i, err := v.Inode(ino)
			if err != nil {
				f.t.Fatal(err)
			}
			name.Comp = i.Name
		})
		f.ok(metadata.OpUnlink, metadata.Unlink{Parent: f.root, Name: name})
		f.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: ino})
		f.inos = append(f.inos[:at], f.inos[at+1:]...)
		f.create()
	default:
		exts := f.extents(off, n)
		end := int64(0)
		for _, e := range exts {
			end = e.Off + e.Len
		}
		f.do(metadata.OpWrite, metadata.Write{Ino: ino, Size: end, Extents: exts})
	}
}

// extents are random ones in [off, off+n), of blobs of their own or inline, short and long.
func (f *files) extents(off, n int64) (exts []metadata.Extent) {
	for end := off + n; off < end; {
		e := metadata.Extent{Off: off, Len: min(end-off, 1+f.rnd.Int64N([]int64{40, 1500}[f.rnd.IntN(2)]))}
		if f.rnd.IntN(2) == 0 {
			e.Data = bytes.Repeat([]byte{byte(f.rnd.IntN(256))}, int(e.Len))
		} else {
			f.blobs++
			e.Blob = &twofold.Blob{ID: twofold.MakeBlobID(f.session, f.blobs), Size: e.Len + 10}
			e.BlobOff = f.rnd.Int64N(10)
		}
		if off += e.Len; f.rnd.IntN(4) > 0 {
			exts = append(exts, e)
		}
	}
	return exts
}
