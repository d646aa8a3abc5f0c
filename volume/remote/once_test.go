package remote

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// TestExactlyOnce cuts the connection at random bytes, in both directions, and
// restarts the server, while callers create files, open and release them, and some
// go away. What succeeded was done once, what is unknown at most once, and in the end
// no open is left over.
func TestExactlyOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var rngMu sync.Mutex
	draw := func(n int64) int64 { rngMu.Lock(); defer rngMu.Unlock(); return rng.Int64N(n) }

	cnt := newCounter()
	cnt.slow.Store(true)
	st := newStore(cnt.hook)
	n := startNode(t, st)
	p := startProxy(t, n.addr)
	m := &mount{}
	c := dialNode(t, p.addr, m)
	id := c.SessionID()
	p.mu.Lock()
	// Many connections break in their handshake or Resume, the rest some calls later.
	p.limit = func() int64 { return 100 + draw(4000) }
	p.mu.Unlock()
	p.cut()

	stop := make(chan struct{})
	var chaos sync.WaitGroup
	chaos.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(20+draw(60)) * time.Millisecond):
				n.kill()
				st.crash()
				n.start()
			}
		}
	})
	var mu sync.Mutex
	outcome := map[string]error{}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 40 {
				name := fmt.Sprintf("%d-%d", w, i)
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if draw(5) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(draw(int64(10*time.Millisecond))))
				}
				a, _, err := c.Create(ctx, 2, name, api.Create{Type: 1})
				if err == nil && a.ETag != name {
					t.Errorf("%s got the answer of %s", name, a.ETag)
				}
				mu.Lock()
				outcome[name] = err
				mu.Unlock()
				if i%3 == 0 {
					name += "-batch"
					r, err := c.Batch(ctx, api.Batch{Ops: []api.BatchOp{{Create: &api.BatchCreate{Dir: 2, Name: name, Ino: 7, Type: 1}}}})
					if err == nil && (len(r.Attrs) != 1 || r.Attrs[0].ETag != name) {
						t.Errorf("%s got the answer %+v", name, r)
					}
					mu.Lock()
					outcome[name] = err
					mu.Unlock()
				}
				if _, err := c.Open(ctx, twofold.Ino(w+10)); err == nil {
					if err := c.Release(t.Context(), twofold.Ino(w+10)); err != nil {
						t.Errorf("release: %v", err)
					}
				}
				cancel()
			}
		})
	}
	wg.Wait()
	close(stop)
	chaos.Wait()
	p.mu.Lock()
	p.limit = nil
	p.mu.Unlock()
	p.cut()

	// What callers left is settled: the watermark reaches the last number.
	waitFor(t, "everything to be settled", func() bool {
		nums := c.numbers
		nums.mu.Lock()
		defer nums.mu.Unlock()
		return nums.low == nums.last+1
	})
	if c.SessionID() != id || m.losses() != 0 {
		t.Fatalf("session %d became %d, %d losses", id, c.SessionID(), m.losses())
	}
	unknown := 0
	for name, err := range outcome {
		made := cnt.made[name]
		switch {
		case err == nil && made == 1, errs.Is(err, errs.Canceled) && made == 0:
		case errs.Is(err, errs.UnknownOutcome) && made <= 1:
			unknown++
		default:
			t.Errorf("%s: %v, made %d times", name, err, made)
		}
	}
	var s *fakeSession
	waitFor(t, "the mount to resume after the last restart", func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		s = st.sessions[id]
		return s != nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for ino, k := range s.pins {
		if k != 0 {
			t.Errorf("inode %d is left with %d opens", ino, k)
		}
	}
	t.Logf("%d calls, %d of unknown outcome", len(outcome), unknown)
}
