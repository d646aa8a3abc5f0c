package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestKillRecall kills while S3 reads what the mount holds unwritten: what GET
// showed once has to stay, also if everything dies at once.
func TestKillRecall(t *testing.T) {
	seed := *campaign.seed
	rounds := max(3, *campaign.rounds/3)
	t.Logf("seed %d, %d rounds", seed, rounds)
	r := start(t)
	rng := rand.New(rand.NewPCG(seed, 2))
	for round := range rounds {
		v := []victim{both, server, mount}[round%3]
		seen := recallUntil(r, round, func() {
			time.Sleep(time.Duration(200+rng.IntN(600)) * time.Millisecond)
			r.kill(v, time.Duration(rng.IntN(300))*time.Millisecond)
		})
		n := 0
		for _, s := range seen {
			n += s.check(r, v)
		}
		fmt.Fprintf(os.Stderr, "recall round %d: killed %s; S3 had seen %d of the mount's writes\n", round+1, v, n)
		if r.failed() {
			t.FailNow()
		}
	}
}

// appended is a file that one writer only appends to, a line at a time, without
// fsync, while S3 reads it.
type appended struct {
	key  string
	tag  uint64
	mu   sync.Mutex
	born int64 // mounts that were killed before it was made
	done int64 // bytes for which write(2) returned
	seen int64 // bytes that S3 showed
	gets int
}

const step = 3000

// recallUntil appends to some files and reads them by S3 until fn returns.
func recallUntil(r *rig, round int, fn func()) []*appended {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var all []*appended
	if err := os.MkdirAll(r.path("recall"), 0o755); err != nil {
		r.t.Fatal(err)
	}
	for i := range 4 {
		a := &appended{key: fmt.Sprintf("recall/r%d-%d", round, i), tag: r.tags.Add(1), born: r.mounts.Load()}
		all = append(all, a)
		wg.Go(func() { a.write(r, stop) })
		wg.Go(func() { a.read(r, stop) })
	}
	fn()
	time.Sleep(200 * time.Millisecond)
	close(stop)
	wg.Wait()
	return all
}

func (a *appended) write(r *rig, stop <-chan struct{}) {
	f, err := os.OpenFile(r.path(a.key), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	for at := int64(0); ; at += step {
		select {
		case <-stop:
			return
		default:
		}
		b := make([]byte, step)
		fill(b, at, a.tag)
		if _, err := f.Write(b); err != nil {
			return
		}
		a.mu.Lock()
		a.done = at + step
		a.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// read checks that a GET sees every write(2) that returned before it.
func (a *appended) read(r *rig, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		a.mu.Lock()
		done := a.done
		a.mu.Unlock()
		b, _, absent, err := r.get(a.key)
		if err != nil || absent {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if !a.content(len(b)).is(b) {
			r.violation("GET %s: %s", a.key, a.content(len(b)).explain(b))
			return
		}
		a.mu.Lock()
		// What was not fsynced may be lost with the mount, and only with it.
		if int64(len(b)) < done && a.born == r.mounts.Load() {
			r.violation("GET %s shows %d bytes, and write(2) had returned for %d before it", a.key, len(b), done)
		}
		if int64(len(b)) < a.seen {
			r.violation("GET %s shows %d bytes, and %d before", a.key, len(b), a.seen)
		}
		a.seen = max(a.seen, int64(len(b)))
		a.gets++
		a.mu.Unlock()
	}
}

func (a *appended) content(n int) content { return content{}.join(run{a.tag, int64(n)}) }

// check verifies what is there after the kill of v, by both views.
func (a *appended) check(r *rig, v victim) int {
	least := a.seen
	if v == server {
		least = a.done
	}
	b, _, absent, err := r.get(a.key)
	if err != nil {
		r.t.Errorf("GET %s: %v", a.key, err)
		return 0
	}
	if absent && least > 0 || int64(len(b)) < least || !a.content(len(b)).is(b) {
		r.violation("after the kill of %s, %s: absent=%v, %s; %d bytes had been seen, and written %d", v, a.key, absent, a.content(len(b)).explain(b), a.seen, a.done)
	}
	m, err := os.ReadFile(filepath.Join(r.srv.Mount, bucket, a.key))
	if !absent && (err != nil || string(m) != string(b)) {
		r.violation("%s: the mount has %d bytes (%v), S3 %d", a.key, len(m), err, len(b))
	}
	return a.gets
}

// TestKillCollection kills while there is much to collect: blobs that are
// overwritten and deleted as fast as it goes.
func TestKillCollection(t *testing.T) {
	seed := *campaign.seed
	rounds := max(2, *campaign.rounds/5)
	t.Logf("seed %d, %d rounds", seed, rounds)
	r := start(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	l := newLoad(r, 6, seed, mix{blobs: true})
	for round := range rounds {
		l.during(func() {
			time.Sleep(time.Duration(500+rng.IntN(1500)) * time.Millisecond)
			r.kill([]victim{server, both}[round%2], 0)
			time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
			r.kill(server, 0) // while the orphans of the first are collected
		})
		l.verify()
		if r.failed() {
			t.FailNow()
		}
	}
	l.finish()
}
