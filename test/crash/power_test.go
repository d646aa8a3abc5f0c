package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"twofold/test/harness"
	"twofold/test/powerfs"
)

// startPower starts a server on four drives that can lose power.
func startPower(t *testing.T, o powerfs.Options, flags ...string) (*rig, *powerfs.FS) {
	t.Helper()
	o.Drives = 4
	drives := powerfs.Start(t, o)
	var dirs []string
	for i := range o.Drives {
		dirs = append(dirs, drives.Dir(i))
	}
	r := start(t, harness.WithDrives(dirs...), harness.WithFlags(flags...))
	return r, drives
}

// cut cuts the power of everything: drives, server and mount.
func (r *rig) cut(fs *powerfs.FS, seed uint64) {
	r.t.Helper()
	r.setUp(false)
	r.mounts.Add(1)
	r.servers.Add(1)
	fs.PowerCut(seed)
	r.srv.KillMount()
	r.run.kill()
	r.srv.KillMount()
	fs.Restart()
	r.run.start()
	r.await()
	r.setUp(true)
}

// TestPowerCut cuts the power of all drives at once under load.
func TestPowerCut(t *testing.T) {
	variants := []powerfs.Options{{}}
	if *campaign.long {
		variants = append(variants, powerfs.Options{EntryWithFsync: true, Ordered: true}, powerfs.Options{WriteThrough: true})
	}
	for _, o := range variants {
		t.Run(fmt.Sprintf("ordered=%v,through=%v", o.Ordered, o.WriteThrough), func(t *testing.T) { powerCuts(t, o) })
	}
}

func powerCuts(t *testing.T, o powerfs.Options) {
	seed := *campaign.seed
	t.Logf("seed %d, %d cuts", seed, *campaign.cuts)
	r, fs := startPower(t, o)
	rng := rand.New(rand.NewPCG(seed, 4))
	l := newLoad(r, 6, seed, mix{big: 1})
	for n := range *campaign.cuts {
		cutSeed := rng.Uint64()
		began := time.Now()
		l.during(func() {
			time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
			r.cut(fs, cutSeed)
			time.Sleep(time.Duration(rng.Int64N(int64(500 * time.Millisecond))))
		})
		l.verify()
		fmt.Fprintf(os.Stderr, "cut %d, seed %d, %v: %s\n", n+1, cutSeed, time.Since(began).Round(time.Millisecond), l.counts())
		if r.failed() {
			t.FailNow()
		}
	}
	l.finish()
}
