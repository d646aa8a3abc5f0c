package replica

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/hashicorp/raft"

	"twofold/internal/errs"
	"twofold/metadata"
)

// counter reads a counter of a group that may not lead.
func counter(g *Group, name string) (n int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err = g.View(ctx, func(v metadata.View) error {
		b, err := v.Config("+" + name)
		if len(b) > 0 {
			fmt.Sscan(string(b), &n)
		}
		return err
	})
	return n, err
}

// sameEverywhere waits until the replicas of all nodes have applied the same, and
// compares the bytes of their indexes.
func (f *fabric) sameEverywhere(t *testing.T) {
	t.Helper()
	f.apply("flush")
	l := f.leader().group().leader()
	want := content(t, l)
	for _, p := range f.nodes {
		for _, n := range p.group().running() {
			wait(t, 20*time.Second, "the replicas have applied the same", func() bool {
				return n.host.cur.Load().machine.Applied() >= l.host.cur.Load().machine.Applied()
			})
			if got := content(t, n); !bytes.Equal(got, want) {
				t.Errorf("node %d: %s has %d bytes of state, the leader %d", p.i, n.dir.Path, len(got), len(want))
			}
		}
	}
}

// TestShared: a group over three nodes commits, tells where it leads, and refuses at once
// elsewhere; it goes on when the leading node dies, and the dead one follows when it is
// back.
func TestShared(t *testing.T) {
	t.Parallel()
	f := startFabric(t, 1, 1, 1)
	for range 20 {
		f.apply("n")
	}
	l := f.leader()
	id, here, term := l.group().Leadership()
	if !here || id != l.dirs[0].Drive || term == 0 {
		t.Errorf("the leading node says %v, %v, %d", id, here, term)
	}
	other := f.follower()
	wait(t, 10*time.Second, "the follower knows the leader", func() bool {
		got, here, _ := other.group().Leadership()
		return got == id && !here
	})
	start := time.Now()
	if _, err := other.group().Apply(context.Background(), incr("n")); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a command where nobody leads: %v", err)
	}
	if _, err := counter(other.group(), "n"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a read where nobody leads: %v", err)
	}
	t.Logf("refused after %s", time.Since(start))

	start = time.Now()
	l.stop()
	f.apply("n")
	t.Logf("another leader after %s", time.Since(start).Round(time.Millisecond))
	if n := f.value("n"); n != 21 {
		t.Errorf("%d of 21 increments", n)
	}
	l.start(false)
	f.apply("n")
	f.sameEverywhere(t)

	// All at once, and none of them needs the others to open.
	for _, p := range f.nodes {
		p.stop()
	}
	for _, p := range f.nodes {
		p.start(false)
	}
	if n := f.value("n"); n != 22 {
		t.Errorf("%d of 22 increments after a restart", n)
	}
	f.sameEverywhere(t)
}

// TestSharedMinority: without a majority nothing is acknowledged and nothing is read, and
// nobody goes on; with it again, all is there.
func TestSharedMinority(t *testing.T) {
	t.Parallel()
	f := startFabric(t, 1, 1, 1)
	f.apply("n")
	l := f.leader()
	for _, p := range f.nodes {
		if p != l {
			p.stop()
		}
	}
	wait(t, 20*time.Second, "it leads no more", func() bool { return !l.group().Leads() && l.group().leader() == nil })
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := l.group().Apply(ctx, incr("n")); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a command with one of three: %v", err)
	}
	if _, err := counter(l.group(), "n"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a read with one of three: %v", err)
	}
	for _, p := range f.nodes {
		if p != l {
			p.start(false)
		}
	}
	if n := f.value("n"); n != 1 {
		t.Errorf("n is %d", n)
	}
	f.sameEverywhere(t)
}

// TestSharedPartition: the leader is cut off from the others, one way and both. They go
// on, it does not, and what it had not been acknowledged is gone when it follows again.
func TestSharedPartition(t *testing.T) {
	t.Parallel()
	f := startFabric(t, 1, 1, 1)
	for round, cut := range []func(l int){
		f.isolate,
		func(l int) { // it is heard and hears nothing
			for j := range f.nodes {
				f.oneWay(j, l, true)
			}
		},
		func(l int) { // it hears and is not heard
			for j := range f.nodes {
				f.oneWay(l, j, true)
			}
		},
	} {
		old := f.leader()
		f.apply("n")
		cut(old.i)
		wait(t, 20*time.Second, "another node leads", func() bool { p := f.leading(); return p != nil && p != old })
		f.apply("n")
		if _, err := counter(old.group(), "n"); !errs.Is(err, errs.Unavailable) {
			t.Errorf("round %d: a read at the old leader: %v", round, err)
		}
		f.heal()
		if n := f.value("n"); n != 2*round+2 {
			t.Errorf("round %d: n is %d", round, n)
		}
		f.sameEverywhere(t)
	}
}

// strictDisk has no entries that were deleted; raft-wal has them until their segment goes.
type strictDisk struct{ disk }

func (d strictDisk) GetLog(i uint64, l *raft.Log) error {
	if first, err := d.FirstIndex(); err != nil || i < first {
		return cmp.Or(err, raft.ErrLogNotFound)
	}
	return d.disk.GetLog(i, l)
}

// TestSharedFarBehind: a node that needs more than the log has gets a snapshot, in
// pieces, while messages overtake each other; then large commands.
func TestSharedFarBehind(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 1, 1, 1)
	f.opts.wrapDisk = func(_ Dir, k disk) disk { return strictDisk{k} }
	for i, p := range f.nodes {
		p.start(i == 0)
	}
	f.settled(3)
	late := f.follower()
	late.stop()
	ctx := context.Background()
	l := f.leader().group()
	value := strings.Repeat("v", 60<<10)
	for i := range 60 {
		if _, err := l.Apply(ctx, set(fmt.Sprint("k", i%30), value+fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range f.nodes {
		if g := p.group(); g != nil {
			n := g.running()[0]
			wait(t, 20*time.Second, "it has applied all", func() bool {
				return n.raft.AppliedIndex() >= l.leader().raft.CommitIndex()
			})
			c := n.raft.ReloadableConfig()
			c.TrailingLogs = 10
			if err := errors.Join(n.raft.ReloadConfig(c), n.raft.Snapshot().Error()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if first, _ := l.leader().disk.FirstIndex(); first < 20 {
		t.Fatalf("the leader's log begins at %d: the test shows nothing", first)
	}
	f.slow(3 * time.Millisecond)
	late.start(false)
	f.apply("n")
	f.sameEverywhere(t)
	if m, _ := late.group().running()[0].snaps.newest(); m == nil {
		t.Error("the node that was behind has no snapshot")
	}
	f.mu.Lock()
	sent, large := f.sent[KindSnapData], f.large
	f.mu.Unlock()
	if sent < 2 || large > 2<<20 {
		t.Errorf("%d pieces of a snapshot, the largest message %d bytes", sent, large)
	}
	// One request of the library that becomes several messages.
	big := strings.Repeat("b", 800<<10)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if _, err := f.leader().group().Apply(ctx, set(fmt.Sprint("big", i), big)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f.sameEverywhere(t)
}

// TestSharedReplace: a lost node's replica stays in the configuration until it is
// replaced, by one on a drive of another node. The lost one does no harm when it is back:
// it stops by itself, and joins again with nothing of its own.
func TestSharedReplace(t *testing.T) {
	t.Parallel()
	f := startFabric(t, 1, 1, 1)
	f.apply("n")
	lost := f.follower()
	fresh := testDirs(t, 1)[0]
	var to *peer
	for _, p := range f.nodes {
		if p != lost && p != f.leader() {
			to = p
		}
	}
	lost.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to.mu.Lock()
	to.dirs = append(to.dirs, fresh)
	to.mu.Unlock()
	if err := to.group().Replace(ctx, lost.dirs[0].Drive, fresh); err != nil {
		t.Fatal(err)
	}
	f.settled(3)
	f.apply("n")
	if n := f.value("n"); n != 2 {
		t.Errorf("n is %d", n)
	}

	before := f.leader()
	_, _, term := before.group().Leadership()
	lost.start(false)
	time.Sleep(2 * f.opts.HeartbeatTimeout) // it stands for election, in vain
	f.apply("n")
	if _, _, now := f.leader().group().Leadership(); now != term || f.leader() != before {
		t.Errorf("a replica that was removed moved the term from %d to %d", term, now)
	}
	if err := lost.group().AddReplica(ctx, lost.dirs[0]); err != nil {
		t.Fatal(err)
	}
	f.settled(4)
	f.sameEverywhere(t)

	// A node that leads is not removed; one that does not stops when it is.
	l := f.leader()
	if err := lost.group().Remove(ctx, l.group().leader().dir.Drive); !errs.Is(err, errs.Exists) {
		t.Errorf("removing the leader: %v", err)
	}
	if err := l.group().Remove(ctx, lost.dirs[0].Drive); err != nil {
		t.Fatal(err)
	}
	f.settled(3)
}

// TestSharedEmptied: a drive that lost its replica, under the same id, is not listened to
// until it has been filled by the others.
func TestSharedEmptied(t *testing.T) {
	t.Parallel()
	f := startFabric(t, 1, 1, 1)
	for range 5 {
		f.apply("n")
	}
	p := f.follower()
	p.stop()
	destroy(t, Dir{Path: p.dirs[0].g0()})
	p.start(false)
	f.apply("n")
	f.settled(3)
	wait(t, 20*time.Second, "it has its vote again", func() bool {
		n := p.group().node(p.dirs[0].Drive)
		return n != nil && n.identity().Standing == member
	})
	if n := f.value("n"); n != 6 {
		t.Errorf("n is %d", n)
	}
	f.sameEverywhere(t)
}

// TestHandOver: leadership moves to another node at once, without anybody waiting for a
// promise to end.
func TestHandOver(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 1, 1, 1)
	f.opts.promise = 10 * time.Minute // nobody could be elected in the time of the test
	for i, p := range f.nodes {
		p.start(i == 0)
	}
	f.settled(3)
	f.apply("n")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	old := f.leader()
	for _, p := range f.nodes { // as after ten minutes
		l := p.group().node(p.dirs[0].Drive).port.pledge
		l.mu.Lock()
		l.quiet = 0
		l.mu.Unlock()
	}
	if err := old.group().HandOver(ctx); err != nil {
		t.Fatal(err)
	}
	if old.group().Leads() {
		t.Error("it leads still")
	}
	wait(t, 20*time.Second, "another node leads", func() bool { p := f.leading(); return p != nil && p != old })
	f.apply("n")
	if n := f.value("n"); n != 2 {
		t.Errorf("n is %d", n)
	}
}

// TestHandOverNobody: where nobody takes it, the leader leads on, in the same term, under
// promises that were made again.
func TestHandOverNobody(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 1, 1)
	f.opts.HeartbeatTimeout = 10 * time.Second
	f.nodes[0].start(true)
	f.nodes[1].start(false)
	f.settled(2)
	l := f.leader()
	_, _, term := l.group().Leadership()
	other := f.follower().group().running()[0]
	other.port.voteless.Store(true) // it does not stand for election
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := l.group().HandOver(ctx); !errs.Is(err, errs.Unavailable) {
		t.Errorf("it was handed over to nobody: %v", err)
	}
	wait(t, 20*time.Second, "it leads again", l.group().Leads)
	if _, _, now := l.group().Leadership(); now != term {
		t.Errorf("term %d became %d", term, now)
	}
}

// TestSharedTwoEach: nodes with two replicas each. A drive of the leading node is lost,
// its leader's; the group goes on and keeps it as a member.
func TestSharedTwoEach(t *testing.T) {
	t.Parallel()
	f := startFabric(t, 2, 2, 1)
	f.apply("n")
	l := f.leader()
	drive := l.group().leader().dir.Drive
	l.group().DriveLost(drive)
	wait(t, 20*time.Second, "another replica leads", func() bool {
		p := f.leading()
		if p == nil {
			return false
		}
		n := p.group().leader()
		return n != nil && n.dir.Drive != drive
	})
	f.apply("n")
	f.settled(5) // the lost one is one of them still
	for _, d := range l.dirs {
		if d.Drive == drive {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := l.group().DriveBack(ctx, d); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.settled(5)
	if n := f.value("n"); n != 2 {
		t.Errorf("n is %d", n)
	}
	f.sameEverywhere(t)
}

// TestSharedStatus: the leading node knows every member and when it answered.
func TestSharedStatus(t *testing.T) {
	t.Parallel()
	f := startFabric(t, 1, 1, 1)
	f.apply("n")
	gone := f.follower()
	gone.stop()
	wait(t, 20*time.Second, "the lost member is known to be silent", func() bool {
		l := f.leading()
		if l == nil {
			return false
		}
		s := l.group().Status()
		if len(s.Members) != 3 || s.Voters != 3 || s.Live != 2 || s.Bearable != 0 || !s.Quorum {
			return false
		}
		for _, m := range s.Members {
			lost := m.Drive == gone.dirs[0].Drive
			silent := m.Contact < 0 || m.Contact > 2*testPromise
			if !m.Voter || lost != silent || m.Leader != (m.Drive == s.Leader) || !lost && m.Last == 0 {
				return false
			}
		}
		return true
	})
}

// TestSharedLinearizable cuts nodes off, one way or both, delays messages and hands
// over, and checks the history of increments and reads through all nodes.
func TestSharedLinearizable(t *testing.T) {
	t.Parallel()
	f := startFabric(t, 1, 1, 1)
	h := &opHistory{start: time.Now()}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for client := range 9 {
		p := f.nodes[client%3]
		wg.Go(func() { h.client(p, client, stop) })
	}
	rounds := 0
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); rounds++ {
		i, j := rand.IntN(3), rand.IntN(3)
		switch rand.IntN(4) {
		case 0:
			f.isolate(i)
		case 1:
			f.oneWay(i, j, true)
		case 2:
			f.slow(30 * time.Millisecond)
		case 3:
			if p := f.leading(); p != nil {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				if err := p.group().HandOver(ctx); err != nil {
					t.Log(err)
				}
				cancel()
			}
		}
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
		f.heal()
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
	}
	wait(t, 20*time.Second, "something is done", func() bool { return h.size() > 100 })
	close(stop)
	wg.Wait()
	t.Logf("%d operations, %d rounds", h.size(), rounds)
	if res := porcupine.CheckOperationsTimeout(counterModel, h.ops, 30*time.Second); res != porcupine.Ok {
		t.Errorf("the history is %s", res)
	}
	f.sameEverywhere(t)
}

// opHistory is what clients did to a counter, for porcupine.
type opHistory struct {
	start time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation // guarded by mu
}

func (h *opHistory) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// client reads and increments at one node, whether it leads or not, until stop.
func (h *opHistory) client(p *peer, client int, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(1+rand.IntN(4)) * time.Millisecond):
		}
		op := porcupine.Operation{ClientId: client, Input: "read", Call: int64(time.Since(h.start))}
		var err error
		if client%2 == 0 {
			op.Input = "incr"
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(20+rand.IntN(2000))*time.Millisecond)
			var res *metadata.Result
			if res, err = p.group().Apply(ctx, incr("n")); err == nil {
				op.Output = int(res.ID)
			}
			cancel()
		} else {
			op.Output, err = counter(p.group(), "n")
		}
		op.Return = int64(time.Since(h.start))
		switch {
		case errs.Is(err, errs.UnknownOutcome) && op.Input == "incr":
			op.Output, op.Return = -1, int64(time.Hour)
			client += 1000 // a client waits for its answers; this one never gets one
		case err != nil:
			continue // certainly not done
		}
		h.mu.Lock()
		h.ops = append(h.ops, op)
		h.mu.Unlock()
	}
}
