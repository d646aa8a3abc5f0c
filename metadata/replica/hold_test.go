package replica

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"twofold/metadata"
	"twofold/metadata/fsm"
	"twofold/metadata/kv"
)

// newHolder is a replica without a group that holds back for so long.
func newHolder(t *testing.T, holdFor time.Duration) *solo {
	s := newSolo(t, newExchange(), kv.NewMemory())
	s.holdFor = holdFor
	s.fail = func(err error) { t.Error(err) }
	s.cur.Store(&index{machine: s.m})
	t.Cleanup(s.rest)
	return s
}

func logsOf(entries []Entry) (logs []*raft.Log) {
	for _, e := range entries {
		logs = append(logs, &raft.Log{Index: e.Index, Term: e.Term, Type: raft.LogCommand, Data: e.Data})
	}
	return logs
}

// TestHold: entries of which nobody waits for the results are applied later, in order:
// when there are many, when somebody waits for a result behind them, and after a moment.
func TestHold(t *testing.T) {
	log := configLog(t, holdEntries+20)
	s := newHolder(t, time.Hour)
	give := func(n int) []any {
		out := s.ApplyBatch(logsOf(log[:n]))
		log = log[n:]
		return out
	}
	for range 3 {
		if out := give(2); len(out) != 2 || out[0] != nil || s.m.Applied() != 0 {
			t.Fatalf("%v, applied %d", out, s.m.Applied())
		}
	}
	s.waiting.Add(1)
	if out := give(1); out[0] == nil || s.m.Applied() != 7 {
		t.Errorf("with somebody who waits: %v, applied %d", out, s.m.Applied())
	}
	s.waiting.Add(-1)
	give(holdEntries - 1)
	if s.m.Applied() != 7 {
		t.Errorf("applied %d", s.m.Applied())
	}
	give(2)
	if s.m.Applied() != holdEntries+8 {
		t.Errorf("applied %d, more are held than may be", s.m.Applied())
	}
	give(1)
	if err := s.settle(); err != nil || s.m.Applied() != holdEntries+9 {
		t.Errorf("settled: %v, applied %d", err, s.m.Applied())
	}
	s.holdFor = time.Millisecond
	give(1)
	wait(t, 10*time.Second, "it is applied", func() bool { return s.m.Applied() == holdEntries+10 })

	whole := newSolo(t, nil, kv.NewMemory())
	whole.feed(t, configLog(t, holdEntries+10)...)
	if s.state(t) != whole.state(t) {
		t.Error("what was held has made another state")
	}
}

// TestHoldFails: nothing is applied behind what could not be.
func TestHoldFails(t *testing.T) {
	log := configLog(t, 4)
	s := newHolder(t, time.Hour)
	s.ApplyBatch(logsOf(log[:2]))
	s.ApplyBatch(logsOf([]Entry{{Index: 3, Term: 1, Data: []byte("no command")}}))
	if s.settle() == nil {
		t.Fatal("what is no command was applied")
	}
	before := s.m.Applied()
	failed := make(chan error, 1)
	s.fail = func(err error) { failed <- err }
	over := make(chan struct{})
	go func() { // which ApplyBatch ends
		defer close(over)
		s.ApplyBatch(logsOf(log[3:]))
		t.Error("it goes on")
	}()
	<-over
	if err := <-failed; err == nil || s.m.Applied() != before {
		t.Errorf("%v, applied %d", err, s.m.Applied())
	}
}

// TestHeldIsRead: a follower that comes to lead has applied what it held before anybody
// reads it, a snapshot has it, and so has an index that was closed.
func TestHeldIsRead(t *testing.T) {
	dirs := testDirs(t, 4)
	g := openTest(t, Options{Dirs: dirs, Bootstrap: true, NewMachine: newReal, holdFor: time.Hour})
	c := newClient(t, g)
	objects := 0
	put := func() {
		t.Helper()
		for range 20 {
			if err := c.put(uint64(objects+2), 0, fmt.Sprintf("key%03d", objects), []byte("data")); err != nil {
				t.Fatal(err)
			}
			objects++
		}
	}
	check := func() {
		t.Helper()
		if err := g.View(context.Background(), func(v metadata.View) error {
			page, err := v.List(c.bucket, metadata.ListQuery{Max: 1000})
			if err == nil && len(page.Items) != objects {
				t.Errorf("%d objects instead of %d", len(page.Items), objects)
			}
			return errors.Join(err, fsm.Check(v))
		}); err != nil {
			t.Error(err)
		}
	}
	// behind is the followers, when they know what is committed and have not applied it.
	behind := func() (list []*node) {
		t.Helper()
		leader := g.leader()
		last := leader.raft.LastIndex()
		for _, n := range g.running() {
			wait(t, 20*time.Second, "the followers know what is committed", func() bool { return n.raft.AppliedIndex() >= last })
			if n != leader {
				list = append(list, n)
				if n.host.cur.Load().machine.Applied() >= leader.host.cur.Load().machine.Applied() {
					t.Error("a follower holds nothing")
				}
			}
		}
		return list
	}
	put()
	behind()
	g.DriveLost(g.leader().dir.Drive)
	check()
	put()
	n := behind()[0]
	if err := n.snapshot(); err != nil {
		t.Error(err)
	}
	applied := g.leader().host.cur.Load().machine.Applied()
	if meta, _ := n.snaps.newest(); meta == nil || meta.Applied < applied {
		t.Errorf("a snapshot of %+v, without what was held up to %d", meta, applied)
	}
	if err := g.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	g = openTest(t, Options{Dirs: dirs, NewMachine: newReal, holdFor: time.Hour})
	check()
}
