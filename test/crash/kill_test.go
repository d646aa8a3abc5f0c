package crash

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"twofold/test/harness"
)

// Flags of the campaign; the defaults are the short form.
func flags() (c struct {
	rounds *int
	cuts   *int
	seed   *uint64
	long   *bool
}) {
	c.rounds = flag.Int("crash.rounds", 5, "rounds of kill -9")
	c.cuts = flag.Int("crash.cuts", 3, "power cuts")
	c.seed = flag.Uint64("crash.seed", uint64(time.Now().UnixNano()), "seed of everything random")
	c.long = flag.Bool("crash.long", false, "all variants of all faults")
	return c
}

var campaign = flags()

func start(t *testing.T, opts ...harness.Option) *rig {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("the mount needs FUSE: %v", err)
	}
	r := newRig(t, harness.New(t, 4, append([]harness.Option{harness.WithMount()}, opts...)...))
	r.begin()
	return r
}

// TestKill kills the server, the mount and both, -9, at random moments under load.
func TestKill(t *testing.T) {
	seed := *campaign.seed
	t.Logf("seed %d, %d rounds", seed, *campaign.rounds)
	r := start(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	l := newLoad(r, 6, seed, mix{big: 2})
	for round := range *campaign.rounds {
		v := []victim{server, both, mount}[round%3]
		r.keepsMount.Store(v == server)
		began := time.Now()
		l.during(func() {
			time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Second))))
			r.kill(v, time.Duration(rng.Int64N(int64(time.Second))))
			time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
		})
		loaded := time.Since(began)
		l.verify()
		fmt.Fprintf(os.Stderr, "round %d: killed %s; %v under load, %v to verify: %s\n", round+1, v, loaded.Round(time.Millisecond), (time.Since(began) - loaded).Round(time.Millisecond), l.counts())
		if r.failed() {
			t.FailNow()
		}
	}
	l.finish()
}
