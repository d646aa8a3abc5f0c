package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"twofold/metadata"
)

// gate holds up the fsyncs that go on behind StoreLogs of one drive.
type gate struct {
	mu    sync.Mutex
	drive string        // whose; "" for nobody's
	open  chan struct{} // closed when they may go on
	met   atomic.Int64  // fsyncs of all drives that went on behind
}

func (g *gate) pass(d Dir) {
	g.met.Add(1)
	g.mu.Lock()
	hold, open := g.drive == d.Path, g.open
	g.mu.Unlock()
	if hold {
		<-open
	}
}

func (g *gate) shut(d Dir) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drive, g.open = d.Path, make(chan struct{})
}

func (g *gate) lift() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drive = ""
	close(g.open)
}

// TestLag: with four voters followers apply a command while the leader's fsync goes
// on; nobody is answered or shown it before that has returned.
func TestLag(t *testing.T) {
	var held gate
	g := openTest(t, Options{Dirs: testDirs(t, 4), Bootstrap: true, lagging: held.pass})
	ctx := context.Background()
	if _, err := g.Apply(ctx, set("n", "old")); err != nil {
		t.Fatal(err)
	}
	dir, _ := leaderAndOthers(t, g)
	held.shut(dir)
	answer := make(chan error, 1)
	go func() {
		_, err := g.Apply(ctx, set("n", "new"))
		answer <- err
	}()
	local := func(n *node) (s string) {
		if err := n.host.cur.Load().machine.View(func(v metadata.View) error {
			b, err := v.Config("n")
			s = string(b)
			return err
		}); err != nil {
			t.Error(err)
		}
		return s
	}
	wait(t, 10*time.Second, "followers apply the command", func() bool {
		n := 0
		for _, f := range g.running() {
			if f.dir != dir && local(f) == "new" {
				n++
			}
		}
		return n >= 2
	})
	for _, n := range g.running() {
		if n.dir == dir && local(n) != "old" {
			t.Error("the leader shows what is not durable there")
		}
	}
	select {
	case err := <-answer:
		t.Errorf("answered before the leader's copy is durable: %v", err)
	default:
	}
	held.lift()
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if s := get(t, g, "n"); s != "new" {
		t.Fatalf("read %q", s)
	}
}

// TestNoLag: with three voters two copies that are not the leader's need not meet the
// next electorate, so the leader waits.
func TestNoLag(t *testing.T) {
	var held gate
	g := openTest(t, Options{Dirs: testDirs(t, 3), Bootstrap: true, lagging: held.pass})
	for range 20 {
		if _, err := g.Apply(context.Background(), incr("n")); err != nil {
			t.Fatal(err)
		}
	}
	if n := held.met.Load(); n != 0 {
		t.Fatalf("%d fsyncs went on behind", n)
	}
}

// TestLagHangs: a leader whose fsync hangs behind StoreLogs is cut off like one that
// hangs in it; what it was asked meanwhile has its effect once.
func TestLagHangs(t *testing.T) {
	var held gate
	g := openTest(t, Options{Dirs: testDirs(t, 4), Bootstrap: true, lagging: held.pass})
	l := startLoad(t, g, 4)
	l.run(100 * time.Millisecond)
	old, _ := leaderAndOthers(t, g)
	held.shut(old)
	defer held.lift()
	wait(t, 30*time.Second, "another leader", func() bool { n := g.leader(); return n != nil && n.dir != old })
	l.run(200 * time.Millisecond)
	l.check(g)
}

// TestLagOfTheLog: at most one batch goes on behind, none that ends a segment, and
// an error of it is that of the next call.
func TestLagOfTheLog(t *testing.T) {
	dir := t.TempDir()
	log, l := testLogger(t), &lag{}
	d, err := openDisk(dir, &raftLog{Logger: newRaftLog(log), log: log}, l)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	store := func(from, to uint64, data []byte) {
		t.Helper()
		list := entries(1, from, to)
		if data != nil {
			list[0].Data = data
		}
		if err := d.StoreLogs(list); err != nil {
			t.Fatal(err)
		}
	}
	store(1, 1, nil) // the first of a segment is not behind
	open, gone := make(chan struct{}), make(chan struct{})
	behind := func(sync func() error) error { <-open; return sync() }
	l.offer(2, behind)
	store(2, 4, nil)
	if !l.withdraw() {
		t.Fatal("the fsync did not go on behind")
	}
	checkLog(t, d, 4, 1) // readable at once
	if err := l.await(1, gone); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- l.await(2, gone) }()
	select {
	case err := <-waited:
		t.Fatalf("entry 2 is not durable: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(open)
	if err := errors.Join(<-waited, l.wait()); err != nil {
		t.Fatal(err)
	}

	// A batch that fills the segment: the next one begins only when it is durable.
	var order atomic.Int64
	l.offer(5, func(sync func() error) error {
		time.Sleep(10 * time.Millisecond)
		err := sync()
		order.Store(1)
		return err
	})
	store(5, 5, bytes.Repeat([]byte("x"), segmentBytes))
	if !l.withdraw() || order.Load() != 1 {
		t.Fatal("a sealed segment is not durable when the call returns")
	}
	store(6, 6, nil)
	failed := fmt.Errorf("EIO")
	l.offer(7, func(func() error) error { return failed })
	store(7, 7, nil)
	l.withdraw()
	if err := l.wait(); !errors.Is(err, failed) {
		t.Fatalf("the error was lost: %v", err)
	}
	if mayLag(nil, []*raft.Log{{Type: raft.LogCommand}}) {
		t.Fatal("before the library runs nobody leads")
	}
}
