package volume

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// alone is a session with the write lease of a bucket's root, and numbers for inodes.
type alone struct {
	*mount
	dir  twofold.Ino
	held []api.HeldWrite
	next twofold.Ino
}

func (h *harness) alone(bucket string) *alone {
	h.t.Helper()
	a := &alone{mount: h.mount()}
	a.s.Cache()
	a.s.Homes()
	a.dir = a.lookup(bucket).Ino
	a.acquire(a.dir)
	first, n, err := a.s.Inos(ctx, 100)
	if err != nil || n != 100 || first < twofold.FirstIno {
		h.t.Fatal(first, n, err)
	}
	a.next = first
	return a
}

// acquire takes the lease of a directory; others have changed it a moment ago, maybe.
func (a *alone) acquire(dir twofold.Ino) {
	a.t.Helper()
	var l api.DirLease
	var err error
	eventually(a.t, "a directory can be leased", func() bool {
		l, err = a.s.AcquireDir(ctx, dir)
		return !errs.Is(err, errs.Busy)
	})
	if err != nil || !l.Attr.Leased {
		a.t.Fatalf("%+v, %v", l, err)
	}
	a.held = append(a.held, api.HeldWrite{Ino: dir, Token: l.Token})
}

// create makes the next inode in a directory.
func (a *alone) create(dir twofold.Ino, name string, t metadata.Type) (api.BatchOp, twofold.Ino) {
	ino := a.next
	a.next++
	return api.BatchOp{Now: twofold.Time(ino), Create: &api.BatchCreate{Dir: dir, Name: name, Ino: ino, Type: t, Mode: 0o640, UID: 5, GID: 6}}, ino
}

func writeOp(ino twofold.Ino, p []byte) api.BatchOp {
	return api.BatchOp{Now: 7, Write: &api.BatchWrite{Ino: ino, Segments: []api.Segment{{Data: p}}, Size: int64(len(p)), Mtime: 8, ETag: "etag"}}
}

func (a *alone) send(ops ...api.BatchOp) (api.BatchResult, error) {
	return a.s.Batch(ctx, api.Batch{Dirs: a.held, Ops: ops})
}

func attrsByIno(r api.BatchResult) map[twofold.Ino]api.Attr {
	m := map[twofold.Ino]api.Attr{}
	for _, a := range r.Attrs {
		m[a.Ino] = a
	}
	return m
}

// TestBatch: what a batch does is what S3 and the mount see then, in one command and at most
// one blob; the result tells what there is, and what of it is leased.
func TestBatch(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "old", []byte("old"))
	a := h.alone("docs")
	old := a.lookup("docs", "old")
	if old.Home != a.dir {
		t.Fatalf("the home of a file: %+v", old)
	}
	commands := 0
	h.store.failing(func(c *metadata.Command) error {
		if c.Op == metadata.OpBatch {
			commands++
		}
		return nil
	})
	small, big, bigger := random(1000), random(100_000), random(200_000)
	mkdir, sub := a.create(a.dir, "sub", metadata.TypeDir)
	one, inoOne := a.create(sub, "one", metadata.TypeFile)
	two, inoTwo := a.create(sub, "two", metadata.TypeFile)
	three, inoThree := a.create(a.dir, "three", metadata.TypeFile)
	gone, inoGone := a.create(a.dir, "gone", metadata.TypeFile)
	link, inoLink := a.create(a.dir, "link", metadata.TypeSymlink)
	link.Create.Target = "sub/one"
	one.Create.Lease = true
	mode := uint32(0o600)
	res, err := a.send(mkdir, one, two, three, gone, link,
		writeOp(inoOne, small), writeOp(inoTwo, big), writeOp(inoThree, bigger), writeOp(inoGone, bigger),
		api.BatchOp{Now: 9, SetAttr: &api.BatchSetAttr{Ino: inoTwo, Attr: api.SetAttr{Mode: &mode}}},
		api.BatchOp{Now: 10, Unlink: &api.BatchName{Dir: a.dir, Name: "gone", Ino: inoGone}},
		api.BatchOp{Now: 11, Rename: &api.BatchRename{OldDir: a.dir, OldName: "three", NewDir: a.dir, NewName: "old", Ino: inoThree, Replaced: old.Ino}},
	)
	if err != nil {
		t.Fatal(res, err)
	}
	if n := h.shards(); n != 4 || commands != 1 {
		t.Errorf("%d shards, %d commands", n, commands)
	}
	if len(res.Tokens) != 1 || res.Tokens[0].Ino != inoOne || !h.v.leases.Leased(inoOne) {
		t.Errorf("write leases: %+v", res.Tokens)
	}
	for key, want := range map[string][]byte{"sub/one": small, "sub/two": big, "old": bigger} {
		if !bytes.Equal(h.get("docs", key), want) {
			t.Errorf("%s has other bytes", key)
		}
	}
	attrs := attrsByIno(res)
	for ino, want := range map[twofold.Ino]api.Attr{
		a.dir:    {Type: metadata.TypeDir, Nlink: 3, Home: 0},
		sub:      {Type: metadata.TypeDir, Nlink: 2, Home: 0},
		inoOne:   {Type: metadata.TypeFile, Nlink: 1, Home: sub},
		inoThree: {Type: metadata.TypeFile, Nlink: 1, Home: a.dir},
		inoLink:  {Type: metadata.TypeSymlink, Nlink: 1, Home: a.dir},
	} {
		got := attrs[ino]
		if got.Type != want.Type || got.Nlink != want.Nlink || got.Home != want.Home || !got.Leased {
			t.Errorf("inode %d: %+v, want %+v", ino, got, want)
		}
	}
	if got := attrs[inoTwo]; got.Mode != mode || got.Mtime != 8 || got.Ctime != 9 || got.Btime != twofold.Time(inoTwo) || got.UID != 5 || got.Size != int64(len(big)) {
		t.Errorf("%+v", got)
	}
	if got := attrs[a.dir]; got.Mtime != 11 {
		t.Errorf("%+v", got)
	}
	if got, ok := attrs[inoGone]; ok && (got.Leased || got.Nlink != 0) {
		t.Errorf("what has no name: %+v", got)
	}
	eventually(t, "what lost its names is freed", func() bool {
		for _, ino := range []twofold.Ino{inoGone, old.Ino} {
			if _, err := a.s.GetAttr(ctx, ino); !errs.Is(err, errs.Stale) {
				return false
			}
		}
		return true
	})
}

// TestBatchIsAllOrNothing: an operation that fails, a lease that has ended, or an operation
// that is none leave nothing behind, and say which it was.
func TestBatchIsAllOrNothing(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "taken", nil)
	a := h.alone("docs")
	first, ino := a.create(a.dir, "first", metadata.TypeFile) // before those that try is given
	try := func(want errs.Kind, failed int, ops ...api.BatchOp) {
		t.Helper()
		first.Create.Lease = true
		res, err := a.send(append([]api.BatchOp{first, writeOp(ino, random(100_000))}, ops...)...)
		if !errs.Is(err, want) || res.Failed != failed || len(res.Tokens) != 0 || h.v.leases.Leased(ino) {
			t.Errorf("%+v, %v; want %v of %d", res, err, want, failed)
		}
		if n := h.shards(); n != 0 {
			t.Errorf("%d shards are left", n)
		}
		if at, err := a.s.Lookup(ctx, a.dir, "first"); at.Ino != 0 || err != nil && !errs.Is(err, errs.NotFound) {
			t.Errorf("it is there: %+v, %v", at, err)
		}
		first, ino = a.create(a.dir, "first", metadata.TypeFile)
	}
	create := func(dir twofold.Ino, name string) api.BatchOp {
		op, _ := a.create(dir, name, metadata.TypeFile)
		return op
	}
	size := int64(1)
	try(errs.Conflict, 2, create(a.dir, "taken"))
	try(errs.Conflict, 3, create(a.dir, "second"), api.BatchOp{Unlink: &api.BatchName{Dir: a.dir, Name: "taken", Ino: 5}})
	try(errs.Invalid, 2, create(a.dir+1, "elsewhere"))
	try(errs.Invalid, 2, create(a.dir, "%tf-dot"))
	try(errs.Invalid, 2, create(a.dir, "not \xff UTF-8"))
	try(errs.Invalid, 2, api.BatchOp{})
	try(errs.Invalid, 2, api.BatchOp{SetAttr: &api.BatchSetAttr{Ino: a.dir, Attr: api.SetAttr{Size: &size}}})
	try(errs.TooLarge, -1, slices.Repeat([]api.BatchOp{writeOp(5, nil)}, api.MaxBatchOps)...)
	two := create(a.dir, "x")
	two.Unlink = &api.BatchName{Dir: a.dir, Name: "taken", Ino: 5}
	try(errs.Invalid, 2, two)

	h.v.leases.Release(a.s, a.dir, a.held[0].Token)
	try(errs.Fenced, -1)
	a.held = nil
	try(errs.Invalid, 0)
}

// TestBatchRemovesFromReadOnlyStore: names can be removed where nothing can be written.
func TestBatchRemovesFromReadOnlyStore(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", nil)
	a := h.alone("docs")
	f := a.lookup("docs", "f")
	h.placer.err = errs.Newf("test", errs.NoSpace, "full")
	unlink := api.BatchOp{Unlink: &api.BatchName{Dir: a.dir, Name: "f", Ino: f.Ino}}
	create, _ := a.create(a.dir, "g", metadata.TypeFile)
	if _, err := a.send(unlink, create); !errs.Is(err, errs.NoSpace) {
		t.Fatal(err)
	}
	if _, err := a.send(unlink); err != nil {
		t.Fatal(err)
	}
}

// TestBatchOfDirectories: a directory is leased from its birth, if the mount wants it, and is
// moved or removed only under its own lease, and empty.
func TestBatchOfDirectories(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "old/f", nil)
	a := h.alone("docs")
	old := a.lookup("docs", "old").Ino
	mkdir, sub := a.create(a.dir, "sub", metadata.TypeDir)
	mkdir.Create.Lease = true
	in, _ := a.create(sub, "in", metadata.TypeFile)
	move := func(ino twofold.Ino, from, to string, replaced twofold.Ino) api.BatchOp {
		return api.BatchOp{Now: 5, Rename: &api.BatchRename{OldDir: a.dir, OldName: from, NewDir: a.dir, NewName: to, Ino: ino, Replaced: replaced}}
	}
	rmdir := func(ino twofold.Ino, name string) api.BatchOp {
		return api.BatchOp{Now: 5, Rmdir: &api.BatchName{Dir: a.dir, Name: name, Ino: ino}}
	}
	conflict := func(what string, ops ...api.BatchOp) {
		t.Helper()
		if res, err := a.send(ops...); !errs.Is(err, errs.Conflict) || res.Failed != 0 {
			t.Errorf("%s: %+v, %v", what, res, err)
		}
	}
	res, err := a.send(mkdir, in, move(sub, "sub", "moved", 0)) // made by the batch: whatever is in it
	if err != nil || len(res.Tokens) != 1 {
		t.Fatal(res, err)
	}
	if l, err := a.s.AcquireDir(ctx, sub); err != nil || l.Token != res.Tokens[0].Token {
		t.Errorf("the lease of a new directory: %+v, %v; had %+v", l, err, res.Tokens)
	}
	conflict("a move of an unleased one", move(old, "old", "new", 0))
	conflict("a removal of an unleased one", rmdir(old, "old"))
	conflict("a move over an unleased one", move(sub, "moved", "old", old))
	a.held = append(a.held, res.Tokens...)
	conflict("a move of one with files in it", move(sub, "moved", "new", 0))
	conflict("a removal of one with files in it", rmdir(sub, "moved"))
	unlink := api.BatchOp{Now: 6, Unlink: &api.BatchName{Dir: sub, Name: "in", Ino: in.Create.Ino}}
	if _, err := a.send(unlink, move(sub, "moved", "new", 0)); err != nil {
		t.Error(err)
	}
	once := api.WithSeq(ctx, api.Seq{N: 1, Acked: 1})
	last := api.Batch{Dirs: a.held, Ops: []api.BatchOp{rmdir(sub, "new")}}
	for range 2 {
		if _, err := a.s.Batch(once, last); err != nil {
			t.Error(err)
		}
	}
	if err := a.s.ReleaseWrite(ctx, sub, res.Tokens[0].Token); err != nil {
		t.Error(err)
	}
	eventually(t, "what was removed is freed", func() bool {
		_, err := a.s.GetAttr(ctx, sub)
		return errs.Is(err, errs.Stale)
	})
	if h.get("docs", "old/f"); !h.v.leases.Leased(a.dir) {
		t.Error("a GET of what is further below recalls the directory: nothing but its own lease moves one that is not empty")
	}
}

// TestBatchWaitsForNobody: an inode that another mount writes to fails the operation, and the
// other is not asked for it: he may be waiting for the directory.
func TestBatchWaitsForNobody(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", nil)
	other := h.mount()
	f := other.lookup("docs", "f").Ino
	other.write(f, 0, "unflushed")
	a := h.alone("docs")
	when := twofold.Time(5)
	for what, op := range map[string]api.BatchOp{
		"a write": writeOp(f, []byte("mine")),
		"utimes":  {Now: 5, SetAttr: &api.BatchSetAttr{Ino: f, Attr: api.SetAttr{Mtime: &when}}},
	} {
		if res, err := a.send(op); !errs.Is(err, errs.Conflict) || res.Failed != 0 {
			t.Errorf("%s: %+v, %v", what, res, err)
		}
	}
	if p := h.get("docs", "f"); string(p) != "unflushed" {
		t.Errorf("GET: %q", p)
	}
}

// TestBatchInline: inline data beyond what a command takes goes into the batch's blob.
func TestBatchInline(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	a := h.alone("docs")
	var ops []api.BatchOp
	files := api.MaxBatchInline/twofold.MaxInline + 2
	for i := range files {
		op, ino := a.create(a.dir, fmt.Sprint("f", i), metadata.TypeFile)
		ops = append(ops, op, writeOp(ino, random(twofold.MaxInline-i)))
	}
	if _, err := a.send(ops...); err != nil {
		t.Fatal(err)
	}
	if n := h.shards(); n != 4 {
		t.Errorf("%d shards", n)
	}
	for i := range files {
		if !bytes.Equal(h.get("docs", fmt.Sprint("f", i)), random(twofold.MaxInline-i)) {
			t.Errorf("file %d has other bytes", i)
		}
	}
}

// TestBatchWithoutBlobs: while too few drives are online for blobs, what a mount has done is
// committed as a whole in the metadata, so that others can look, and the mount does no more.
func TestBatchWithoutBlobs(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	a := h.alone("docs")
	h.placer.err = errs.Newf("test", errs.WriteQuorum, "two drives are lost")
	h.placer.room = func() uint64 { t.Error("asked for room"); return 0 }
	large := random(200 << 10)
	op, ino := a.create(a.dir, "f", metadata.TypeFile)
	if _, err := a.send(op, writeOp(ino, large)); err != nil {
		t.Fatal(err)
	}
	if n := h.shards(); n != 0 {
		t.Errorf("%d shards", n)
	}
	if !bytes.Equal(h.get("docs", "f"), large) {
		t.Error("other bytes")
	}
	eventually(t, "the lease is recalled", func() bool { return !h.v.leases.Leased(a.dir) })
	if _, err := a.s.AcquireDir(ctx, a.dir); !errs.Is(err, errs.WriteQuorum) {
		t.Errorf("AcquireDir: %v", err)
	}
}

// TestBatchComesAgain: a batch that comes twice has its effect once, also behind a restart;
// what the result says is what there is by then.
func TestBatchComesAgain(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	a := h.alone("docs")
	once := api.WithSeq(ctx, api.Seq{N: 1, Acked: 1})
	op, ino := a.create(a.dir, "f", metadata.TypeFile)
	op.Create.Lease = true
	in := api.Batch{Dirs: a.held, Ops: []api.BatchOp{op, writeOp(ino, []byte("content"))}}
	first, err := a.s.Batch(once, in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := a.s.Batch(once, in)
	if err != nil || !slices.Equal(again.Tokens, first.Tokens) {
		t.Fatalf("%+v, %v; first %+v", again, err, first)
	}
	old := a.s
	h.open(Options{})
	if a.s, err = h.v.ResumeMount(ctx, old.ID(), old.Token(), api.Held{Writes: append(a.held, first.Tokens...)}, a); err != nil {
		t.Fatal(err)
	}
	a.s.Cache()
	if again, err = a.s.Batch(once, in); err != nil || !slices.Equal(again.Tokens, first.Tokens) || attrsByIno(again)[ino].Size != 7 {
		t.Fatalf("behind a restart: %+v, %v; first %+v", again, err, first)
	}
	if _, err = a.s.Batch(api.WithSeq(ctx, api.Seq{N: 2, Acked: 1}), in); !errs.Is(err, errs.Conflict) {
		t.Fatalf("as another call: %v", err)
	}
	if next, _, err := a.s.Inos(ctx, 1); err != nil || next <= ino {
		t.Fatalf("numbers behind a restart: %d, %v", next, err)
	}
}

// TestBatchOfUnknownOutcome: the leases under which it was sent stay in use while it may
// still be committed, and so do those of what it makes.
func TestBatchOfUnknownOutcome(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	a := h.alone("docs")
	h.store.failing(func(c *metadata.Command) error {
		if c.Op == metadata.OpBatch {
			return errs.Newf("test", errs.UnknownOutcome, "no answer")
		}
		return nothingLater(c)
	})
	op, ino := a.create(a.dir, "f", metadata.TypeFile)
	op.Create.Lease = true
	if _, err := a.send(op); !errs.Is(err, errs.UnknownOutcome) {
		t.Fatal(err)
	}
	if !h.v.leases.Busy(a.dir) || !h.v.leases.Leased(ino) {
		t.Error("the leases are not in use any more")
	}
	h.store.failing(nil)
	eventually(t, "it is known that it won't be committed", func() bool { return !h.v.leases.Busy(a.dir) })
}

// TestBatchTellsReaders: should anybody else cache what a batch changes, he is told before.
func TestBatchTellsReaders(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", nil)
	b := h.believer(t)
	dir := b.lookup(twofold.RootIno, "docs")
	f := b.lookup(dir, "f")
	b.mu.Lock()
	_, believed := b.attrs[f]
	b.mu.Unlock()
	a := h.alone("docs")
	op, _ := a.create(a.dir, "new", metadata.TypeFile)
	if _, err := a.send(op, api.BatchOp{Unlink: &api.BatchName{Dir: a.dir, Name: "f", Ino: f}}); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_, still := b.attrs[f]
	if _, names := b.names[bname{dir, "f"}]; !believed || still || names {
		t.Errorf("the file was cached: %v, is: %v, its name: %v", believed, still, names)
	}
}
