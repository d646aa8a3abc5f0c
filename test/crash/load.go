package crash

import (
	"fmt"
	"sync"
	"time"
)

// load is a number of workers that work, stop, and verify, over and over.
type load struct {
	r       *rig
	workers []*worker
	shared  *shared
}

// newLoad makes n workers, of which one works by S3 alone.
func newLoad(r *rig, n int, seed uint64, m mix) *load {
	l := &load{r: r, shared: newShared(r, 4)}
	for i := range n {
		m := m
		m.noMount = m.noMount || i == 0
		w := newWorker(r, fmt.Sprintf("w%d", i), seed+uint64(i), m, l.shared)
		l.workers = append(l.workers, w)
		if err := w.setup(); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := r.put(sharedDir+"/", nil); err != nil {
		r.t.Fatal(err)
	}
	return l
}

// during runs the load while fn runs.
func (l *load) during(fn func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, w := range l.workers {
		wg.Go(func() { w.run(stop) })
	}
	fn()
	close(stop)
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(opTimeout + 30*time.Second):
		l.r.t.Fatalf("operations hang:\n%s", l.doing())
	}
}

// doing is the last operation of each worker; they may be running, so it is a guess.
func (l *load) doing() (s string) {
	for _, w := range l.workers {
		if n := len(w.recent); n > 0 {
			s += w.dir + ": after " + w.recent[n-1] + "\n"
		}
	}
	return s
}

// verify holds everything against the oracle, by both views. The load has stopped,
// and everything is up.
func (l *load) verify() {
	var wg sync.WaitGroup
	for _, w := range l.workers {
		wg.Go(w.verify)
	}
	wg.Wait()
	l.shared.verify(l.workers[len(l.workers)-1])
}

// counts says what was done.
func (l *load) counts() string {
	var ops, unknowns, looks, files int64
	for _, w := range l.workers {
		ops += w.ops.Load()
		unknowns += w.unknowns.Load()
		looks += w.looks.Load()
		files += int64(len(w.world().files()))
	}
	return fmt.Sprintf("%d operations, %d of unknown outcome, %d comparisons of a directory; %d files now", ops, unknowns, looks, files)
}
