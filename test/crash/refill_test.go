package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"
)

// TestKillRefill replaces two drives by empty directories and kills the server again
// and again while it fills them, under load. Then the other two are removed: all that
// is left is what the refill made.
func TestKillRefill(t *testing.T) {
	seed := *campaign.seed
	kills, blobs := 3, 150
	if *campaign.long {
		kills, blobs = 10, 1500
	}
	t.Logf("seed %d, %d kills, %d blobs", seed, kills, blobs)
	rng := rand.New(rand.NewPCG(seed, 7))
	r := start(t)
	l := newLoad(r, 4, seed, mix{fault: true})
	values := r.putMany(blobs)
	order := rng.Perm(4)
	drive := func(i int) string { return r.srv.Drives[order[i]] }

	r.loseDrive(drive(0))
	r.loseDrive(drive(1))
	time.Sleep(700 * time.Millisecond)
	r.emptyDrive(drive(0))
	r.emptyDrive(drive(1))
	l.during(func() {
		for range kills {
			time.Sleep(time.Duration(rng.IntN(1200)) * time.Millisecond)
			r.kill(server, 0)
		}
	})
	l.verify()
	r.awaitFull()
	r.loseDrive(drive(2))
	r.loseDrive(drive(3))
	time.Sleep(700 * time.Millisecond)
	l.verify()
	for key, c := range values {
		r.mustBe(key, c)
		if r.failed() {
			t.FailNow()
		}
	}
	fmt.Fprintf(os.Stderr, "refilled through %d kills: %d blobs and %s\n", kills, blobs, l.counts())
}

// putMany puts n blobs and returns what they are.
func (r *rig) putMany(n int) map[string]content {
	r.t.Helper()
	values := map[string]content{}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range n {
		key, c := fmt.Sprintf("many/%04d", i), content{}.join(run{r.tags.Add(1), 60<<10 + int64(i)})
		values[key] = c
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := r.put(key, c.bytes()); err != nil {
				r.violation("PUT %s: %v", key, err)
			}
		})
	}
	wg.Wait()
	return values
}
