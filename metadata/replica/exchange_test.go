package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/fsm"
	"twofold/metadata/kv"
)

// solo is a replica's machine without a raft instance.
type solo struct {
	*stateHost
	m     *fsm.Machine
	store kv.Store
}

func newSolo(t testing.TB, x *exchange, store kv.Store) *solo {
	t.Helper()
	m, err := fsm.New(store, fsm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &solo{&stateHost{exchange: x}, m, store}
	x.join(s.stateHost)
	s.share(m)
	return s
}

// feed applies entries, and returns how many were taken.
func (s *solo) feed(t testing.TB, entries ...Entry) int64 {
	t.Helper()
	before := s.taken.Load()
	if _, err := s.apply(s.m, entries, s.waiting.Load() == 0); err != nil {
		t.Fatal(err)
	}
	return s.taken.Load() - before
}

func (s *solo) state(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	err := s.store.View(func(r kv.Reader) error {
		return r.Scan(nil, nil, func(k, v []byte) (bool, error) {
			fmt.Fprintf(&b, "%x=%x\n", k, v)
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// configLog is a log of one session that sets values, in term 1.
func configLog(t testing.TB, n int) []Entry {
	log := []Entry{entryOf(t, 1, 1, &metadata.Command{Op: metadata.OpBeginSession, Body: &metadata.BeginSession{Kind: 1, Nonce: twofold.UUID{1}}})}
	for i := 1; i < n; i++ {
		log = append(log, setEntry(t, uint64(i+1), 1, fmt.Sprint("value", i)))
	}
	return log
}

func setEntry(t testing.TB, index, term uint64, value string) Entry {
	return entryOf(t, index, term, &metadata.Command{Op: metadata.OpSetConfig, Session: 1, Seq: index, Body: &metadata.SetConfig{Name: "name", Value: []byte(value)}})
}

func entryOf(t testing.TB, index, term uint64, c *metadata.Command) Entry {
	t.Helper()
	data, err := metadata.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	return Entry{Index: index, Term: term, Data: data}
}

// TestExchange: batches that are cut differently.
func TestExchange(t *testing.T) {
	log := configLog(t, 20)
	x := newExchange()
	a, b, c := newSolo(t, x, kv.NewMemory()), newSolo(t, x, kv.NewMemory()), newSolo(t, x, kv.NewMemory())
	a.feed(t, log[:4]...)
	a.feed(t, log[4:10]...)
	a.feed(t, log[10:15]...)
	if n := b.feed(t, log[:15]...); n != 15 {
		t.Errorf("%d of three runs in one batch were taken, want 15", n)
	}
	if n := c.feed(t, log[:6]...); n != 4 {
		t.Errorf("%d of a run and the beginning of one were taken, want 4", n)
	}
	if n := c.feed(t, log[4:15]...); n != 5 { // 2 that come again and 4 are computed
		t.Errorf("%d were taken behind the middle of a run, want 5", n)
	}
	if len(x.runs) != 0 || x.bytes != 0 {
		t.Errorf("%d runs of %d bytes are kept that all have", len(x.runs), x.bytes)
	}
	a.feed(t, log[15:]...)
	b.feed(t, log[15:]...)
	c.feed(t, log[15:]...)
	if want := a.state(t); b.state(t) != want || c.state(t) != want {
		t.Error("the states differ")
	}
}

// TestExchangeOtherSuffix: who has other entries at the same places, of another term
// or not, does not take.
func TestExchangeOtherSuffix(t *testing.T) {
	log := configLog(t, 6)
	for name, suffix := range map[string][]Entry{
		"term":    {setEntry(t, 7, 2, "a"), setEntry(t, 8, 2, "b")},
		"content": {setEntry(t, 7, 1, "other"), setEntry(t, 8, 1, "b")},
		"tail":    {setEntry(t, 7, 1, "a"), setEntry(t, 8, 2, "b")},
	} {
		x := newExchange()
		a, b := newSolo(t, x, kv.NewMemory()), newSolo(t, x, kv.NewMemory())
		alone := newSolo(t, newExchange(), kv.NewMemory())
		a.feed(t, log...)
		a.feed(t, setEntry(t, 7, 1, "a"), setEntry(t, 8, 1, "b"))
		if n := b.feed(t, log...); n != 6 {
			t.Errorf("%s: %d of the common entries were taken", name, n)
		}
		if n := b.feed(t, suffix...); n != 0 {
			t.Errorf("%s: %d entries of another log were taken", name, n)
		}
		alone.feed(t, append(log[:6:6], suffix...)...)
		if b.state(t) != alone.state(t) {
			t.Errorf("%s: the state is not the log's", name)
		}
		x.reset()
		if x.bytes != 0 || len(x.order) != 0 || len(x.runs) != 0 {
			t.Errorf("%s: a reset left %d bytes", name, x.bytes)
		}
	}
}

// TestExchangeResults: who may be asked for a result computes.
func TestExchangeResults(t *testing.T) {
	log := configLog(t, 3)
	x := newExchange()
	a, b := newSolo(t, x, kv.NewMemory()), newSolo(t, x, kv.NewMemory())
	a.feed(t, log[:2]...)
	b.waiting.Add(1)
	res, err := b.apply(b.m, log[:2], b.waiting.Load() == 0)
	if err != nil || res[0] == nil || res[0].ID != 1 || res[1] == nil || b.taken.Load() != 0 {
		t.Errorf("results %v, %v; %d taken", res, err, b.taken.Load())
	}
	b.waiting.Add(-1)
	a.feed(t, log[2])
	if res, err = b.apply(b.m, log[2:], b.waiting.Load() == 0); err != nil || res[0] != nil || b.taken.Load() != 1 {
		t.Errorf("results %v, %v; %d taken", res, err, b.taken.Load())
	}
}

// TestExchangeBounds: what is kept is bounded, and nothing is for nobody.
func TestExchangeBounds(t *testing.T) {
	x := newExchange()
	a := newSolo(t, x, kv.NewMemory())
	big := func(index uint64) Entry { return setEntry(t, index, 1, string(make([]byte, 400<<10))) }
	log := configLog(t, 1)
	a.feed(t, log...)
	if len(x.runs) != 0 {
		t.Error("changes are kept for nobody")
	}
	b := newSolo(t, x, kv.NewMemory())
	for i := range uint64(30) {
		a.feed(t, big(i+2))
	}
	if x.bytes > exchangeBytes || x.bytes < exchangeBytes/2 || len(x.order) != len(x.runs) {
		t.Errorf("%d bytes in %d runs, %d listed", x.bytes, len(x.runs), len(x.order))
	}
	for i := range uint64(2 * exchangeRuns) {
		a.feed(t, setEntry(t, i+32, 1, "v"))
	}
	if len(x.runs) != exchangeRuns || len(x.order) != exchangeRuns {
		t.Errorf("%d runs, %d listed, at most %d", len(x.runs), len(x.order), exchangeRuns)
	}
	x.leave(b.stateHost)
	x.leave(b.stateHost)
	if len(x.runs) != 0 || x.bytes != 0 {
		t.Errorf("%d runs, %d bytes are kept for nobody", len(x.runs), x.bytes)
	}
	newSolo(t, x, kv.NewMemory())
	b.feed(t, log...) // it is out: what it does is of no interest
	if len(x.runs) != 0 || len(x.applied) != 2 {
		t.Error("one that left is a member")
	}
}

// TestFollowersTake: followers take what the leader computed, and a follower that
// becomes leader goes on from it: it knows the commands that come again.
func TestFollowersTake(t *testing.T) {
	g := openTest(t, Options{Dirs: testDirs(t, 4), Bootstrap: true, NewMachine: newReal})
	c := newClient(t, g)
	put := func(i int) {
		t.Helper()
		if err := c.put(uint64(i+2), uint64(max(i, 10)-10), fmt.Sprintf("dir%d/key%d", i%3, i), []byte("data")); err != nil {
			t.Fatal(err)
		}
	}
	level := func() {
		t.Helper()
		wait(t, 20*time.Second, "the replicas have applied the same", func() bool {
			goal := g.leader()
			for _, n := range g.running() {
				if goal == nil || n.host.cur.Load().machine.Applied() != goal.host.cur.Load().machine.Applied() {
					return false
				}
			}
			return true
		})
	}
	for i := range 100 {
		put(i)
	}
	level()
	leader := g.leader()
	for _, n := range g.running() {
		taken, computed := n.host.taken.Load(), n.host.computed.Load()
		t.Logf("%s: %d taken, %d computed", n.dir.Path, taken, computed)
		if n != leader && taken < 50 {
			t.Errorf("a follower took %d entries", taken)
		}
		if !bytes.Equal(content(t, n), content(t, leader)) {
			t.Error("replicas differ")
		}
	}
	for round := range 2 {
		g.DriveLost(g.leader().dir.Drive)
		wait(t, 30*time.Second, "the others go on", settled(g, 3-round))
		for i := 95; i < 110; i++ { // some come again
			put(i + 10*round)
		}
		level()
		for _, n := range g.running() {
			if !bytes.Equal(content(t, n), content(t, g.leader())) {
				t.Error("replicas differ")
			}
		}
	}
	err := g.View(context.Background(), func(v metadata.View) error {
		page, err := v.List(c.bucket, metadata.ListQuery{Max: 1000})
		if err == nil && len(page.Items) != 120 {
			t.Errorf("%d objects", len(page.Items))
		}
		return errors.Join(err, fsm.Check(v))
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLeaderTook: a leader that took the changes of a command that somebody waits
// for, which does not happen, would say that the outcome is not known; the command
// comes again, and brings the result of the first time.
func TestLeaderTook(t *testing.T) {
	g := openTest(t, Options{Dirs: testDirs(t, 3), Bootstrap: true, NewMachine: newReal, holdFor: -1})
	c := newClient(t, g)
	for seq := uint64(2); ; seq++ { // until no election comes between
		cmd := &metadata.Command{Op: metadata.OpCreateBucket, Session: c.session, Seq: seq, Now: 7,
			Body: &metadata.CreateBucket{Name: twofold.BucketName(fmt.Sprint("bucket", seq))}}
		l := g.leader()
		if l == nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		ghost := newSolo(t, g.opts.exchange, storeCopy(t, l))
		ghost.feed(t, entryOf(t, l.raft.LastIndex()+1, l.raft.CurrentTerm(), cmd))
		taken := l.host.taken.Load()
		l.host.waiting.Add(-1) // nobody seems to wait
		res, err := g.Apply(context.Background(), cmd)
		l.host.waiting.Add(1)
		g.opts.exchange.leave(ghost.stateHost)
		if err != nil || res.Bucket == nil || res.Bucket.Name != twofold.BucketName(fmt.Sprint("bucket", seq)) {
			t.Fatalf("%+v, %v", res, err)
		}
		if l.host.taken.Load() == taken+1 {
			return
		}
		if seq == 20 {
			t.Fatal("the leader never took")
		}
	}
}

// storeCopy is a replica's index, in memory.
func storeCopy(t *testing.T, n *node) kv.Store {
	t.Helper()
	var ops []kv.Op
	err := n.host.cur.Load().store.View(func(r kv.Reader) error {
		return r.Scan(nil, nil, func(k, v []byte) (bool, error) {
			ops = append(ops, kv.Op{Key: bytes.Clone(k), Value: append([]byte{}, v...)})
			return true, nil
		})
	})
	m := kv.NewMemory()
	if err == nil {
		err = m.Write(ops)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}
