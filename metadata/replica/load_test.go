package replica

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold/internal/errs"
	"twofold/metadata"
)

// load increments counters, one a worker, and knows what was acknowledged.
type load struct {
	t       testing.TB
	g       *Group
	stop    chan struct{}
	wg      sync.WaitGroup
	acked   []atomic.Int64
	sent    []atomic.Int64
	refused atomic.Int64 // certainly not done
	longest atomic.Int64 // ns that the slowest increment took
}

func startLoad(t testing.TB, g *Group, workers int) *load {
	l := &load{t: t, g: g, stop: make(chan struct{}), acked: make([]atomic.Int64, workers), sent: make([]atomic.Int64, workers)}
	for i := range workers {
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.one(i)
			}
		})
	}
	return l
}

func (l *load) one(i int) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := incr(fmt.Sprint("w", i))
	l.sent[i].Add(1)
	start := time.Now()
	res, err := l.g.Apply(ctx, cmd)
	took := int64(time.Since(start))
	for old := l.longest.Load(); took > old && !l.longest.CompareAndSwap(old, took); old = l.longest.Load() {
	}
	switch {
	case err == nil:
		if n := l.acked[i].Add(1); int64(res.ID) < n-1 {
			l.t.Errorf("worker %d: increment %d returned %d", i, n, res.ID)
		}
		// What was acknowledged is read back at once.
		if s := read(l.t, l.g, fmt.Sprint("+w", i)); s < int(l.acked[i].Load()) {
			l.t.Errorf("worker %d reads %d after %d acknowledged", i, s, l.acked[i].Load())
		}
	case errs.Is(err, errs.Unavailable):
		l.sent[i].Add(-1)
		l.refused.Add(1)
	case errs.Is(err, errs.UnknownOutcome):
	default:
		l.t.Errorf("worker %d: %v", i, err)
	}
}

// read returns a counter; -1 where reads are refused is not accepted.
func read(t testing.TB, g *Group, name string) (n int) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := g.View(ctx, func(v metadata.View) error {
		b, err := v.Config(name)
		if len(b) > 0 {
			fmt.Sscan(string(b), &n)
		}
		return err
	})
	if err != nil {
		t.Errorf("view: %v", err)
	}
	return n
}

// end stops the load and checks every counter.
func (l *load) end() {
	l.t.Helper()
	close(l.stop)
	l.wg.Wait()
	l.check(l.g)
}

// check compares a group's counters with what was acknowledged.
func (l *load) check(g *Group) {
	l.t.Helper()
	total := int64(0)
	for i := range l.acked {
		n, acked, sent := int64(read(l.t, g, fmt.Sprint("+w", i))), l.acked[i].Load(), l.sent[i].Load()
		if n < acked || n > sent {
			l.t.Errorf("worker %d: counter %d, %d acknowledged, %d sent", i, n, acked, sent)
		}
		total += acked
	}
	l.t.Logf("%d increments, %d refused, the longest took %s", total, l.refused.Load(), time.Duration(l.longest.Load()).Round(time.Millisecond))
}

func (l *load) run(d time.Duration) { time.Sleep(d) }

// fewest is how many increments the slowest worker has been acknowledged.
func (l *load) fewest() int64 {
	n := l.acked[0].Load()
	for i := range l.acked {
		n = min(n, l.acked[i].Load())
	}
	return n
}

// wait polls until cond holds. The limit is that of a machine with little else to do.
func wait(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * limit); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// settled reports whether so many replicas vote and run.
func settled(g *Group, voters int) func() bool {
	return func() bool {
		s := g.Status()
		return s.Voters == voters && s.Live == voters && !s.Leader.IsZero()
	}
}

// dirOf returns the leader's drive, and the others.
func leaderAndOthers(t testing.TB, g *Group) (leader Dir, others []Dir) {
	t.Helper()
	wait(t, 10*time.Second, "a leader", func() bool { return g.leader() != nil })
	l := g.leader()
	for _, n := range g.running() {
		if n != l {
			others = append(others, n.dir)
		}
	}
	return l.dir, others
}

func destroy(t testing.TB, d Dir) {
	t.Helper()
	// Writers may be at work in it: what they add meanwhile goes, too.
	for range 10 {
		if os.RemoveAll(d.Path) == nil {
			return
		}
	}
	t.Fatal("can't remove ", d.Path)
}
