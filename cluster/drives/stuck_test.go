package drives

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/engine"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
	"twofold/internal/errs"
)

// TestStuckNode: a node of which nothing comes back, and that is not known to be down,
// costs an engine one wait; then it is left alone until it answers again.
func TestStuckNode(t *testing.T) {
	t.Parallel() // it waits for deadlines
	e, nodes, _ := overNodes(t, 4, 2, 0, engine.Options{HedgeDelay: 20 * time.Millisecond, Grace: 200 * time.Millisecond})
	stuck := nodes[1]
	p := content(9<<20, 1)
	b, err := write(t, e, 1, p)
	if err != nil {
		t.Fatal(err)
	}
	r, err := e.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	stuck.stall()
	var out bytes.Buffer
	if _, err := r.WriteRange(t.Context(), &out, 0, b.Size); err != nil || !bytes.Equal(out.Bytes(), p) {
		t.Fatalf("read of an open blob: %v", err)
	}
	if got, err := read(t, e, b); err != nil || !bytes.Equal(got, p) {
		t.Fatalf("read: %v", err)
	}
	b2, err := write(t, e, 2, p)
	if err != nil {
		t.Fatalf("write: %v", err)
	}
	calls := func() int64 { return stuck.calls.count(mWrite) }
	before := calls()
	b3, err := write(t, e, 3, p)
	if err != nil {
		t.Fatal(err)
	}
	if n := calls() - before; n != 0 {
		t.Errorf("%d calls to a node that did not answer the last ones", n)
	}
	for _, b := range []twofold.Blob{b2, b3} {
		if got, err := read(t, e, b); err != nil || !bytes.Equal(got, p) {
			t.Fatal(err)
		}
	}

	stuck.goOn()
	id := uint64(10)
	eventually(t, "the node is not used again", func() bool {
		before := calls()
		id++
		if _, err := write(t, e, id, p[:100]); err != nil {
			t.Fatal(err)
		}
		return calls() > before
	})
}

// TestStuckCalls: a call that gets no answer ends with its context, at its deadline, or
// when the node is known to be down, and what hangs on one drive does not hold up others.
func TestStuckCalls(t *testing.T) {
	t.Parallel() // it waits for deadlines
	ctx, c := t.Context(), twofold.NewUUID()
	l1, l2 := local(t, c), local(t, c)
	f := &fake{Drive: l1}
	hang := make(chan struct{})
	defer close(hang)
	var hanging atomic.Int64
	n := newNode(t, 0, ServerOptions{}, Options{Deadline: 300 * time.Millisecond}, f, l2)
	d := n.remote(l1.ID())
	patient, err := NewNode(n.link, Options{Name: "node2"}) // over the same connection
	if err != nil {
		t.Fatal(err)
	}
	defer patient.Close()
	other := patient.Drive(l2.ID(), "http://node2:9000/data2")
	if err := patient.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	blocks, err := drivetest.Put(ctx, l1, drivetest.Header(c, blob(1)), 20*largeBuf, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	f.set(func(context.Context, string) error {
		hanging.Add(1)
		<-hang
		return nil
	})

	_, err = d.Stat(ctx, blob(1))
	wantKind(t, "stat at its deadline", err, errs.Unavailable)
	if d.State() == drive.Online {
		t.Error("the drive is online")
	}
	_, err = drivetest.Put(ctx, d, drivetest.Header(c, blob(2)), 20*largeBuf, 1, "")
	wantKind(t, "a shard at its deadline", err, errs.Unavailable)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	wantKind(t, "delete at its context's end", d.Delete(short, blob(1)), errs.Canceled)

	for i := range 3 * maxCalls { // more than the drive may have under way
		go d.Delete(ctx, blob(i))
	}
	eventually(t, "no call hangs", func() bool { return hanging.Load() > 20 })
	if _, err := drivetest.Put(ctx, other, drivetest.Header(c, blob(1)), 20*largeBuf, 1, ""); err != nil {
		t.Errorf("another drive of the node: %v", err)
	}
	if err := drivetest.Verify(ctx, other, blob(1), blocks); err != nil {
		t.Error(err)
	}

	// Nothing comes from the node, and then it is known to be down: long deadlines end.
	n2 := newNode(t, 0, ServerOptions{}, Options{Deadline: time.Hour, Poll: time.Hour}, l2)
	d2 := n2.remote(l2.ID())
	r, err := d2.Open(ctx, blob(1))
	if err != nil {
		t.Fatal(err)
	}
	n2.stall()
	ended := make(chan error)
	go func() { _, _, err := r.LendBlock(ctx, 0, 0, 100); ended <- err }()
	go func() {
		_, err := drivetest.Put(ctx, d2, drivetest.Header(c, blob(3)), 20*largeBuf, 1, "")
		ended <- err
	}()
	eventually(t, "no calls", func() bool { return n2.calls.count(mRead) == 1 && n2.calls.count(mWrite) > 0 })
	n2.link.down.Store(true)
	wantKind(t, "refresh", n2.Node.Refresh(ctx), errs.Unavailable)
	for range 2 {
		wantKind(t, "a call to a node that is down", <-ended, errs.Unavailable)
	}
}

// TestReadAhead: of a shard that is read in order the next blocks are asked for before
// they are wanted, each once; what was read ahead for nothing is let go of.
func TestReadAhead(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	f := &fake{Drive: l}
	n := newNode(t, -1, ServerOptions{}, Options{}, f)
	d := n.remote(l.ID())
	blocks, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(1)), 40*drivetest.Stripe, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Open(ctx, blob(1))
	if err != nil {
		t.Fatal(err)
	}
	lend := func(i int) {
		t.Helper()
		p, release, err := r.LendBlock(ctx, int64(i), 0, len(blocks[i]))
		if err != nil || !bytes.Equal(p, blocks[i]) {
			t.Fatalf("block %d: %v", i, err)
		}
		release()
	}
	for i := range 10 {
		lend(i)
	}
	eventually(t, "nothing is read ahead", func() bool { return f.lent.Load() == 10+maxAheadBlocks })
	got := make([]byte, 9)
	eventually(t, "what was read ahead is not here", func() bool { return r.ReadNow(10, 5, got) })
	if !bytes.Equal(got, blocks[10][5:14]) || r.ReadNow(25, 5, got) {
		t.Error("other bytes were read now, or such as are not here")
	}
	for i := 10; i < len(blocks); i++ {
		lend(i)
	}
	if got := f.lent.Load(); got != int64(len(blocks)) {
		t.Errorf("%d blocks of %d were asked for", got, len(blocks))
	}
	for _, i := range []int{30, 5, 20, 6} { // in no order
		lend(i)
	}
	if got := f.lent.Load(); got != int64(len(blocks))+4 {
		t.Errorf("%d blocks were asked for, want %d", got, len(blocks)+4)
	}
	for i := range 10 {
		lend(i)
	}
	r.Close()
	eventually(t, "buffers of blocks read ahead are kept", func() bool {
		if !n.Node.ahead.TryAcquire(maxAheadBytes) {
			return false
		}
		n.Node.ahead.Release(maxAheadBytes)
		return true
	})
}

// TestManyWriters: many shards at once have their bounded share of buffers each, and give
// all of it back, also those that fail.
func TestManyWriters(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	n := newNode(t, -1, ServerOptions{}, Options{}, l)
	d := n.remote(l.ID())
	var writers []drive.ShardWriter
	block := make([]byte, drivetest.Stripe/2)
	for i := range 3 * maxLarge {
		w, err := d.Create(ctx, drivetest.Header(c, blob(i)))
		if err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
		for range 70 {
			if err := w.WriteBlock(block); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, w := range writers {
		var err error
		switch i % 3 {
		case 0:
			err = w.Commit(drive.ShardTrailer{Size: 70 * drivetest.Stripe})
		case 1:
			err = w.Abort()
		default:
			if w.Commit(drive.ShardTrailer{Size: 1}) == nil {
				t.Error("a commit with the wrong size")
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	eventually(t, "buffers or handles are kept", func() bool {
		w, _ := n.handles()
		n.Node.mu.Lock()
		defer n.Node.mu.Unlock()
		return d.large.Load() == 0 && len(d.slots) == 0 && w == 0 && len(n.Node.writers) == 0 && leftovers(t, l) == 0
	})
	if !d.bytes.TryAcquire(maxCallBytes) {
		t.Error("bytes on their way are kept")
	}
	got := 0
	if err := d.Walk(ctx, twofold.BlobID{}, func(twofold.BlobID) error { got++; return nil }); err != nil || got != maxLarge {
		t.Errorf("%d shards, %v; want %d", got, err, maxLarge)
	}
}

// TestCrowdedConnection: shards that share a connection with room for few of their calls
// do not keep each other out: no call waits at the server for one that can't get there.
func TestCrowdedConnection(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	rc := config(t)
	rc.Limits = rpc.Limits{Payload: maxWrite, Bytes: maxWrite, Calls: 1 << 10}
	n := newNodeOf(t, rc, 0, ServerOptions{}, Options{Deadline: time.Minute}, l)
	id := l.ID()
	var wg sync.WaitGroup
	for i := range 12 { // each at a drive of its own, as it seems
		node, err := NewNode(n.link, Options{Deadline: time.Minute, Control: n.link})
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		d := node.Drive(id, "")
		if err := node.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(i)), 10*largeBuf, 1, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// late takes its time before a call is on its way, and counts those that are not.
type late struct {
	Caller
	waiting, most atomic.Int64
}

func (l *late) Call(ctx context.Context, c *rpc.Call) (int, error) {
	if c.Method == mWrite {
		l.most.Store(max(l.most.Load(), l.waiting.Add(1)))
		sent := c.Sent
		c.Sent = func() { l.waiting.Add(-1); sent() }
		time.Sleep(5 * time.Millisecond)
	}
	return l.Caller.Call(ctx, c)
}

// TestNoCallOvertakes: a shard's calls enter the connection one after the other, although
// several are under way.
func TestNoCallOvertakes(t *testing.T) {
	c := twofold.NewUUID()
	l := local(t, c)
	way := &late{Caller: newNode(t, -1, ServerOptions{}, Options{}, l).link}
	n, err := NewNode(way, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	d := n.Drive(l.ID(), "")
	if err := n.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := drivetest.Put(t.Context(), d, drivetest.Header(c, blob(1)), 20*largeBuf, 1, ""); err != nil {
		t.Fatal(err)
	}
	if most := way.most.Load(); most != 1 {
		t.Errorf("%d calls of a shard waited for the connection at a time", most)
	}
}

// TestCommitIsAnsweredBehindTheDrives: also where the shard is one call.
func TestCommitIsAnsweredBehindTheDrives(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	f := &fake{Drive: l}
	n := newNode(t, -1, ServerOptions{}, Options{Deadline: time.Minute}, f)
	d := n.remote(l.ID())
	for i, size := range []int64{10, 20 * largeBuf} {
		at, goOn := make(chan struct{}), make(chan struct{})
		f.set(func(_ context.Context, op string) error {
			if op == "commit" {
				close(at)
				<-goOn
			}
			return nil
		})
		var committed atomic.Bool
		ended := make(chan error)
		go func() {
			_, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(i)), size, 1, "")
			committed.Store(true)
			ended <- err
		}()
		<-at
		if _, err := d.Stat(ctx, blob(9)); !errs.Is(err, errs.NotFound) { // time for an answer to overtake
			t.Error(err)
		}
		if committed.Load() {
			t.Errorf("%d bytes are committed before the drive did it", size)
		}
		close(goOn)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
