package replica

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// faulty is a replica's log that can hang and fail.
type faulty struct {
	disk
	hang   atomic.Pointer[chan struct{}] // writes wait for it
	fail   atomic.Bool
	slow   atomic.Int64 // ns added to every write
	writes atomic.Int64 // of the log that have ended
}

var errInjected = errors.New("injected I/O error")

func (f *faulty) before() error {
	if ch := f.hang.Load(); ch != nil {
		<-*ch
	}
	time.Sleep(time.Duration(f.slow.Load()))
	if f.fail.Load() {
		return errInjected
	}
	return nil
}

func (f *faulty) StoreLogs(l []*raft.Log) error {
	defer f.writes.Add(1)
	if err := f.before(); err != nil {
		return err
	}
	return f.disk.StoreLogs(l)
}

func (f *faulty) SetUint64(k []byte, v uint64) error {
	if err := f.before(); err != nil {
		return err
	}
	return f.disk.SetUint64(k, v)
}

// faultyGroup opens a group whose logs can be made to misbehave.
func faultyGroup(t *testing.T, n int) (*Group, func(Dir) *faulty) {
	faults := map[string]*faulty{}
	g := openTest(t, Options{Dirs: testDirs(t, n), Bootstrap: true, wrapDisk: func(d Dir, k disk) disk {
		f := &faulty{disk: k}
		faults[d.Path] = f
		return f
	}})
	return g, func(d Dir) *faulty { return faults[d.Path] }
}

// TestHungDrive: a leader whose drive hangs loses the lead within seconds, and takes
// part again when the drive answers. The same for a follower, which nobody notices.
func TestHungDrive(t *testing.T) {
	g, fault := faultyGroup(t, 4)
	l := startLoad(t, g, 4)
	l.run(100 * time.Millisecond)
	old, _ := leaderAndOthers(t, g)
	ch := make(chan struct{})
	fault(old).hang.Store(&ch)
	start := time.Now()
	wait(t, 20*time.Second, "another leader", func() bool { n := g.leader(); return n != nil && n.dir != old })
	t.Logf("another leader after %s", time.Since(start).Round(time.Millisecond))
	l.run(200 * time.Millisecond)
	fault(old).hang.Store(nil)
	close(ch)
	wait(t, 10*time.Second, "the drive is back", func() bool {
		for _, r := range g.Status().Replicas {
			if r.State != "leader" && r.State != "follower" {
				return false
			}
		}
		return len(g.Status().Replicas) == 4
	})
	_, others := leaderAndOthers(t, g)
	ch2 := make(chan struct{})
	fault(others[0]).hang.Store(&ch2)
	defer close(ch2)
	before := l.fewest()
	wait(t, 20*time.Second, "commits go on beside a follower that hangs", func() bool { return l.fewest() > before+20 })
	l.end()
}

// TestSlowFollower: commits wait for a majority, not for the slowest.
func TestSlowFollower(t *testing.T) {
	g, fault := faultyGroup(t, 4)
	_, others := leaderAndOthers(t, g)
	slow := fault(others[0])
	slow.slow.Store(int64(time.Second))
	l := startLoad(t, g, 4)
	wait(t, 20*time.Second, "each worker commits five times in the time of a slow write", func() bool {
		return l.fewest() > 5*(slow.writes.Load()+1)
	})
	slow.slow.Store(0)
	l.end()
}

// TestFailingDrive: a drive that errs takes its replica out, not the process.
func TestFailingDrive(t *testing.T) {
	for name, leader := range map[string]bool{"follower": false, "leader": true} {
		t.Run(name, func(t *testing.T) {
			g, fault := faultyGroup(t, 4)
			l := startLoad(t, g, 4)
			l.run(100 * time.Millisecond)
			victim, others := leaderAndOthers(t, g)
			if !leader {
				victim = others[0]
			}
			fault(victim).fail.Store(true)
			wait(t, 10*time.Second, "it is out", settled(g, 3))
			l.run(100 * time.Millisecond)
			wait(t, 40*time.Second, "it is back", func() bool {
				return g.DriveBack(context.Background(), victim) == nil
			})
			wait(t, 10*time.Second, "four replicas", settled(g, 4))
			l.end()
			sameState(t, g)
		})
	}
}

// TestFailingIndex: the same for the index.
func TestFailingIndex(t *testing.T) {
	g, _ := faultyGroup(t, 4)
	l := startLoad(t, g, 4)
	l.run(100 * time.Millisecond)
	victim, _ := leaderAndOthers(t, g)
	g.node(victim.Drive).host.cur.Load().store.Close()
	wait(t, 10*time.Second, "it is out", settled(g, 3))
	wait(t, 40*time.Second, "it is back", func() bool {
		return g.DriveBack(context.Background(), victim) == nil
	})
	l.end()
	sameState(t, g)
}

// TestFarBehind: a replica that needs more than the log has gets a snapshot.
func TestFarBehind(t *testing.T) {
	dirs := testDirs(t, 5)
	g := openTest(t, Options{Dirs: dirs[:4], Bootstrap: true})
	ctx := context.Background()
	value := fmt.Sprintf("%070000d", 1)
	for i := range 600 {
		if _, err := g.Apply(ctx, set(fmt.Sprint("k", i%50), value+fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	lag := g.running()[0]
	if lag == g.leader() {
		lag = g.running()[1]
	}
	lag.port.cut()
	for i := range 600 {
		if _, err := g.Apply(ctx, set(fmt.Sprint("k", i%50), value+fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range g.running() {
		if n != lag {
			if err := n.snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if first, _ := g.leader().disk.FirstIndex(); first < 600 {
		t.Fatalf("the leader's log begins at %d: the test shows nothing", first)
	}
	// Views of the leader and writes go on while it is sent.
	l := startLoad(t, g, 2)
	lag.port.mend()
	if err := g.AddReplica(ctx, dirs[4]); err != nil {
		t.Fatal(err)
	}
	wait(t, 20*time.Second, "the replica that was behind has caught up", func() bool {
		return lag.host.cur.Load().machine.Applied() > 1200
	})
	l.end()
	wait(t, 20*time.Second, "five replicas", settled(g, 5))
	if m, _ := lag.snaps.newest(); m == nil {
		t.Error("the replica that was behind has no snapshot")
	}
	sameState(t, g)
	if err := g.Close(ctx); err != nil {
		t.Fatal(err)
	}
	g = openTest(t, Options{Dirs: dirs})
	l.check(g)
	sameState(t, g)
}
