package drives

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
	"twofold/internal/errs"
)

func wantKind(t *testing.T, what string, err error, k errs.Kind) {
	t.Helper()
	if !errs.Is(err, k) {
		t.Errorf("%s: %v, want %v", what, err, k)
	}
}

func blob(i int) twofold.BlobID { return twofold.MakeBlobID(7, uint64(i)) }

// TestCalls: a small shard is written by one call, and read by one; a large one by as many
// calls as buffers, and as blocks.
func TestCalls(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	n := newNode(t, -1, ServerOptions{}, Options{}, l)
	d := n.remote(l.ID())
	for i, tt := range []struct {
		size        int64
		write, lent int64
	}{
		{0, 1, 0}, {1, 1, 0}, {2 * maxSmall, 1, 0}, // 1 byte of 2 data shards: half of it is here
		{2 * largeBuf, 1, 32},
		{20 * largeBuf, 10, 320},
	} {
		h := drivetest.Header(c, blob(i))
		before, opens, reads := n.calls.count(mWrite), n.calls.count(mOpen), n.calls.count(mRead)
		blocks, err := drivetest.Put(ctx, d, h, tt.size, 1, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := n.calls.count(mWrite) - before; got != tt.write {
			t.Errorf("%d bytes of content written by %d calls, want %d", tt.size, got, tt.write)
		}
		r, err := d.Open(ctx, h.Blob)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Concat(blocks...)
		got := make([]byte, len(want))
		if _, err := r.ReadBlocks(ctx, 0, int64(len(blocks)), got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %v", tt.size, err)
		}
		if o, l := n.calls.count(mOpen)-opens, n.calls.count(mRead)-reads; o != 1 || l != tt.lent {
			t.Errorf("%d bytes of content read by %d opens and %d reads, want 1 and %d", tt.size, o, l, tt.lent)
		}
		if small := tt.lent == 0; len(want) > 0 && r.ReadNow(0, 0, make([]byte, 1)) != small {
			t.Errorf("%d bytes of content in memory: %t", tt.size, !small)
		}
		r.Close()
	}
}

// TestKinds: what a drive says is what is said here, step by step; what says nothing of a
// shard is not taken for such.
func TestKinds(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	f := &fake{Drive: l}
	n := newNode(t, -1, ServerOptions{}, Options{}, f)
	d := n.remote(l.ID())
	if _, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(1)), 40*largeBuf, 1, ""); err != nil {
		t.Fatal(err)
	}
	ops := map[string]func() error{
		"create": func() error { _, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(2)), 9, 1, ""); return err },
		"block": func() error {
			_, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(2)), 40*largeBuf, 1, "")
			return err
		},
		"commit": func() error {
			_, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(2)), 40*largeBuf, 1, "")
			return err
		},
		"open":   func() error { _, err := d.Stat(ctx, blob(1)); return err },
		"delete": func() error { return d.Delete(ctx, blob(3)) },
		"walk":   func() error { return d.Walk(ctx, twofold.BlobID{}, func(twofold.BlobID) error { return nil }) },
		"lend": func() error {
			r, err := d.Open(ctx, blob(1))
			if err != nil {
				return err
			}
			defer r.Close()
			_, _, err = r.LendBlock(ctx, 3, 5, 9)
			return err
		},
	}
	for said, want := range map[errs.Kind]errs.Kind{
		errs.NotFound: errs.NotFound, errs.NoSpace: errs.NoSpace, errs.ReadOnly: errs.ReadOnly, errs.Corrupt: errs.Corrupt,
		errs.Unavailable: errs.Unavailable, errs.Invalid: errs.Invalid, errs.Fenced: errs.Unavailable, errs.Canceled: errs.Unavailable,
	} {
		for op, do := range ops {
			f.set(func(_ context.Context, at string) error {
				if at == op {
					return errs.Newf("test", said, "as asked")
				}
				return nil
			})
			wantKind(t, op+" "+said.String(), do(), want)
		}
	}
	f.set(nil)
	n.server.Remove(l.ID())
	for op, do := range ops {
		wantKind(t, op+" of a drive that is not there", do(), errs.Unavailable)
	}
	n.refresh() // else its space is what was told a moment ago
	_, err := d.Usage(ctx)
	wantKind(t, "usage", err, errs.Unavailable)
	eventually(t, "handles are left", func() bool { w, r := n.handles(); return w+r == 0 })
}

// handles counts what the server has open.
func (n *node) handles() (writers, readers int) {
	n.server.mu.Lock()
	defer n.server.mu.Unlock()
	for _, p := range n.server.peers {
		p.mu.Lock()
		writers += len(p.writers)
		readers += len(p.readers)
		p.mu.Unlock()
	}
	return writers, readers
}

// awaitWriter waits until the server has a shard being written, and its first call is done.
func (n *node) awaitWriter() {
	n.t.Helper()
	eventually(n.t, "no shard is being written", func() bool {
		n.server.mu.Lock()
		defer n.server.mu.Unlock()
		idle := 0
		for _, p := range n.server.peers {
			p.mu.Lock()
			for _, h := range p.writers {
				if h.mu.Lock(); !h.busy && h.next > 0 {
					idle++
				}
				h.mu.Unlock()
			}
			p.mu.Unlock()
		}
		return idle == 1
	})
}

// TestStates: what a node tells of its drives is what they are here, and nothing is online
// on a node that is down.
func TestStates(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l1, l2 := local(t, c), local(t, c)
	f := &fake{Drive: l1}
	type change struct {
		d       *Remote
		was, is drive.State
	}
	changes := make(chan change, 100)
	o := Options{Poll: time.Hour, Changed: func(d *Remote, was, is drive.State) { changes <- change{d, was, is} }}
	n := newNode(t, -1, ServerOptions{}, o, f, l2)
	d1, d2 := n.Node.Drive(l1.ID(), "one"), n.Node.Drive(l2.ID(), "two")
	if d1.State() != drive.Offline || d1.FileSystem() != 0 || d1.Healing() {
		t.Error("something is known of a drive before it was told")
	}
	next := func(d *Remote, was, is drive.State) {
		t.Helper()
		n.refresh()
		if got := (<-changes); got != (change{d, was, is}) || d.State() != is {
			t.Errorf("%s went from %s to %s; want %s, from %s to %s", got.d, got.was, got.is, d, was, is)
		}
	}
	n.refresh()
	<-changes
	<-changes
	was := drive.Online
	for _, is := range []drive.State{drive.Suspect, drive.Full, drive.Offline, drive.Healing, drive.Online} {
		f.state.Store(uint32(is))
		next(d1, was, is)
		was = is
	}
	if n.Node.Drive(l1.ID(), "other") != d1 || len(n.Node.Drives()) != 2 {
		t.Error("another drive of the same id")
	}

	if err := d2.SetHealing(ctx, true); err != nil || !l2.Healing() {
		t.Fatal(err)
	}
	next(d2, drive.Online, drive.Healing)
	if !d2.Healing() {
		t.Error("healing is not told")
	}
	if err := d2.SetHealing(ctx, false); err != nil || l2.Healing() {
		t.Fatal(err)
	}
	next(d2, drive.Healing, drive.Online)
	wantKind(t, "no healing mark", d1.SetHealing(ctx, true), errs.Unavailable)
	if got, err := d2.Format(ctx); err != nil || got != l2.Format() {
		t.Errorf("format %+v, %v", got, err)
	}

	n.link.down.Store(true)
	if d1.State() != drive.Offline || d2.State() != drive.Offline {
		t.Error("a drive of a node that is down is not offline")
	}
	_, err := d1.Stat(ctx, blob(1))
	wantKind(t, "stat on a node that is down", err, errs.Unavailable)
	wantKind(t, "refresh", n.Node.Refresh(ctx), errs.Unavailable)
	<-changes
	<-changes
	n.link.down.Store(false)
	if n.refresh(); d1.State() != drive.Online {
		t.Error("not online on a node that is up again")
	}
	n.server.Remove(l1.ID())
	if n.refresh(); d1.State() != drive.Offline || d2.State() != drive.Online {
		t.Errorf("%s is removed and %s, %s is %s", d1, d1.State(), d2, d2.State())
	}
	n.Node.Close()
	if d2.State() != drive.Offline {
		t.Error("a drive of a closed node is not offline")
	}
}

// TestFileSystems: drives of a node that share a file system can be told, and are not taken
// for those of other nodes.
func TestFileSystems(t *testing.T) {
	c := twofold.NewUUID()
	l1, l2 := local(t, c), local(t, c)
	n := newNode(t, -1, ServerOptions{}, Options{}, l1, l2)
	other := newNode(t, -1, ServerOptions{}, Options{}, l1)
	a, b, o := n.remote(l1.ID()).FileSystem(), n.remote(l2.ID()).FileSystem(), other.remote(l1.ID()).FileSystem()
	if a == 0 || a != b || a == o {
		t.Errorf("two of one file system are %x and %x, one of another node %x", a, b, o)
	}
}

// TestUsage: a drive's space is known without asking, and is not that of long ago.
func TestUsage(t *testing.T) {
	l := local(t, twofold.NewUUID())
	n := newNode(t, -1, ServerOptions{}, Options{Poll: time.Hour}, l)
	d := n.remote(l.ID())
	eventually(t, "no space is told", func() bool { n.refresh(); return d.told.Load().Usage != nil })
	was := d.told.Load()
	old := *was
	if u, err := d.Usage(t.Context()); err != nil || u.Total == 0 {
		t.Fatal(u, err)
	}
	old.at = time.Now().Add(-usageAge)
	old.Usage = &usage{Total: 5, Free: 1}
	d.told.Store(&old)
	if u, err := d.Usage(t.Context()); err != nil || u.Total != was.Usage.Total {
		t.Errorf("old space: %+v, %v", u, err)
	}
}

// TestReportBad: a node learns what others find of its drives.
func TestReportBad(t *testing.T) {
	l := local(t, twofold.NewUUID())
	got := make(chan string, 1)
	so := ServerOptions{OnBad: func(d drive.Drive, b twofold.BlobID, why string) { got <- fmt.Sprint(d.ID(), b, why) }}
	d := newNode(t, -1, so, Options{}, l).remote(l.ID())
	if err := d.ReportBad(t.Context(), blob(3), "it was bad"); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != fmt.Sprint(l.ID(), blob(3), "it was bad") {
		t.Error(s)
	}
}

// leftovers counts what a drive has in its tmp/.
func leftovers(t *testing.T, d *drive.Local) int {
	t.Helper()
	e, err := os.ReadDir(d.Path() + "/tmp")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

// TestLostConnection: with the connection a shard half written is lost, and leaves nothing;
// what is read goes on over the next one.
func TestLostConnection(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	n := newNode(t, -1, ServerOptions{}, Options{}, l)
	d := n.remote(l.ID())
	blocks, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(1)), 100*drivetest.Stripe, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Open(ctx, blob(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := drivetest.Header(c, blob(2))
	w, err := d.Create(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range blocks {
		if err := w.WriteBlock(p); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "nothing is written", func() bool { return leftovers(t, l) == 1 })
	n.link.lose()
	wantKind(t, "commit", w.Commit(drive.ShardTrailer{Size: 100 * drivetest.Stripe}), errs.Unavailable)
	eventually(t, "a shard half written is left", func() bool { w, _ := n.handles(); return w == 0 && leftovers(t, l) == 0 })
	_, err = d.Stat(ctx, blob(2))
	wantKind(t, "stat", err, errs.NotFound)
	for i := range blocks {
		p, release, err := r.LendBlock(ctx, int64(i), 0, len(blocks[i]))
		if err != nil || !bytes.Equal(p, blocks[i]) {
			t.Fatalf("block %d: %v", i, err)
		}
		release()
		if i%40 == 10 {
			n.link.lose()
		}
	}
}

// TestIdle: what nobody uses is closed; a writer that says that it is there is kept, and a
// reader notices nothing.
func TestIdle(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	n := newNode(t, -1, ServerOptions{}, Options{}, l)
	d := n.remote(l.ID())
	blocks, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(1)), 100*drivetest.Stripe, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Open(ctx, blob(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := d.Create(ctx, drivetest.Header(c, blob(2)))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range blocks[:40] {
		if err := w.WriteBlock(p); err != nil {
			t.Fatal(err)
		}
	}
	n.awaitWriter()
	sweep := func(before time.Time) {
		n.server.mu.Lock()
		defer n.server.mu.Unlock()
		for _, p := range n.server.peers {
			p.sweep(before)
		}
	}
	mark := time.Now()
	n.Node.keep()
	sweep(mark)
	if w, r := n.handles(); w != 1 || r != 0 {
		t.Fatalf("%d writers and %d readers after a sweep; want the one writer that said it is there", w, r)
	}
	for _, p := range blocks[40:] {
		if err := w.WriteBlock(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(drive.ShardTrailer{Size: 100 * drivetest.Stripe}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []int{1, 2} {
		if err := drivetest.Verify(ctx, d, blob(id), blocks); err != nil {
			t.Fatal(err)
		}
	}
	if p, release, err := r.LendBlock(ctx, 3, 5, 9); err != nil || !bytes.Equal(p, blocks[3][5:9]) {
		t.Fatal(err)
	} else {
		release()
	}
	w, err = d.Create(ctx, drivetest.Header(c, blob(3)))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range blocks[:40] {
		if err := w.WriteBlock(p); err != nil {
			t.Fatal(err)
		}
	}
	n.awaitWriter()
	sweep(time.Now())
	if w, _ := n.handles(); w != 0 {
		t.Error("a writer that nobody uses is kept")
	}
	eventually(t, "a shard half written is left", func() bool { return leftovers(t, l) == 0 })
	for _, p := range blocks[40:] {
		if err = w.WriteBlock(p); err != nil {
			break
		}
	}
	if err == nil {
		err = w.Commit(drive.ShardTrailer{Size: 100 * drivetest.Stripe})
	}
	wantKind(t, "a shard that was given up", err, errs.Unavailable)
}

// TestManyReaders: the server keeps a bounded number of shards open, and readers do not
// notice.
func TestManyReaders(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	n := newNode(t, -1, ServerOptions{}, Options{}, l)
	d := n.remote(l.ID())
	blocks, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(1)), 5*drivetest.Stripe, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	var first drive.ShardReader
	for i := range maxReaders + 5 {
		r, err := d.Open(ctx, blob(1))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if i == 0 {
			first = r
		}
	}
	if _, r := n.handles(); r != maxReaders {
		t.Errorf("%d shards open, want %d", r, maxReaders)
	}
	p, release, err := first.LendBlock(ctx, 2, 0, 100)
	if err != nil || !bytes.Equal(p, blocks[2][:100]) {
		t.Fatal(err)
	}
	release()
}

// TestWalkPages: a walk over many pages looks at the drive once; one whose handle is gone
// begins anew where it was.
func TestWalkPages(t *testing.T) {
	l := local(t, twofold.NewUUID())
	f := &fake{Drive: l}
	for i := range 3*pageIDs + 7 {
		f.ids = append(f.ids, blob(i+1))
	}
	n := newNode(t, -1, ServerOptions{}, Options{}, f)
	d := n.remote(l.ID())
	walk := func(at func(i int)) {
		t.Helper()
		var got []twofold.BlobID
		err := d.Walk(t.Context(), twofold.BlobID{}, func(b twofold.BlobID) error {
			got = append(got, b)
			at(len(got))
			return nil
		})
		if err != nil || !slices.Equal(got, f.ids) {
			t.Fatalf("%d ids of %d, %v", len(got), len(f.ids), err)
		}
	}
	walk(func(int) {})
	if w := f.walks.Load(); w != 1 {
		t.Errorf("%d walks of the drive for one", w)
	}
	walk(func(i int) {
		if i == pageIDs+1 {
			n.link.lose()
		}
	})
}
