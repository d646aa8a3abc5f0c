package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDrives loses drives under load and puts empty directories in their place: all
// pairs in the campaign, one of them otherwise. With four replicas of the metadata
// and six pairs, the leader is among the lost more often than not.
func TestDrives(t *testing.T) {
	seed := *campaign.seed
	rng := rand.New(rand.NewPCG(seed, 5))
	pairs := [][4]int{{0, 1, 2, 3}, {2, 3, 0, 1}, {0, 2, 1, 3}, {1, 3, 0, 2}, {0, 3, 1, 2}, {1, 2, 0, 3}}
	if !*campaign.long {
		pairs = pairs[rng.IntN(len(pairs)):][:1]
	}
	t.Logf("seed %d, order of loss %v", seed, pairs)
	for _, p := range pairs {
		t.Run(fmt.Sprint(p), func(t *testing.T) { loseAndRefill(t, p, rng) })
	}
}

func loseAndRefill(t *testing.T, order [4]int, rng *rand.Rand) {
	r := start(t)
	// While drives are being lost unsynced bytes may be.
	l := newLoad(r, 5, rng.Uint64(), mix{fault: true, big: 2})
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%s drives %v: %s\n", time.Now().Format("15:04:05.000"), order, fmt.Sprintf(format, args...))
		if r.failed() {
			t.FailNow()
		}
	}
	drive := func(i int) string { return r.srv.Drives[order[i]] }

	l.during(func() {
		time.Sleep(time.Second)
		r.loseDrive(drive(0))
		time.Sleep(3 * time.Second)
		r.mustWrite("with one drive gone")
	})
	l.verify()
	say("one lost: writes go on")
	l.during(func() {
		time.Sleep(300 * time.Millisecond)
		r.loseDrive(drive(1))
		time.Sleep(time.Second)
	})
	l.verify()
	say("two lost: reads go on")
	r.kill(both, 0)
	l.verify()
	say("two lost, killed and started again: reads go on")

	r.emptyDrive(drive(0))
	r.emptyDrive(drive(1))
	time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
	r.kill(server, 0) // in the middle of the refill, or before
	l.during(func() { r.awaitFull() })
	l.verify()
	r.awaitFull()
	say("both are full again: %s", l.counts())
	r.kill(both, 0)
	r.awaitFull()
	r.loseDrive(drive(2))
	r.loseDrive(drive(3))
	time.Sleep(time.Second)
	l.verify()
	say("the other two lost: reads go on")
	r.emptyDrive(drive(2))
	r.emptyDrive(drive(3))
	r.awaitFull()
	l.finish()
	say("all four were replaced")
}

// loseDrive removes a drive as rm -rf does, under a server that writes to it.
func (r *rig) loseDrive(dir string) {
	r.t.Helper()
	for range 1000 {
		if os.RemoveAll(dir) == nil {
			return
		}
	}
	r.t.Fatalf("%s can't be removed", dir)
}

func (r *rig) emptyDrive(dir string) {
	r.t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
}

// mustWrite checks that both views write, durably.
func (r *rig) mustWrite(when string) {
	r.t.Helper()
	c := content{}.join(run{r.tags.Add(1), 100 << 10})
	if err := r.put("probe", c.bytes()); err != nil {
		r.violation("%s, S3 does not write: %v", when, err)
	}
	if err := writeSynced(r.path("probe2"), c.bytes()); err != nil {
		r.violation("%s, the mount does not write: %v", when, err)
	}
}

// refillTime is how long drives may take to be full again.
const refillTime = 60 * time.Second

// awaitFull waits until every drive has its metadata replica, no drive is healing,
// and, without load, every blob has all of its shards.
func (r *rig) awaitFull() {
	r.t.Helper()
	var why string
	for end := time.Now().Add(refillTime); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if why = r.notFull(); why == "" {
			return
		}
	}
	r.violation("after %v: %s", refillTime, why)
}

func (r *rig) notFull() string {
	for _, d := range r.srv.Drives {
		if _, err := os.Stat(filepath.Join(d, "healing")); err == nil {
			return d + " is still healing"
		}
		if _, err := os.Stat(filepath.Join(d, "format.json")); err != nil {
			return d + " is not in use: " + err.Error()
		}
		if why := notMember(d); why != "" {
			return why
		}
	}
	missing := 0
	for _, n := range r.shards() {
		// A single shard is no blob's: it is garbage of a drive that could not delete.
		if n > 1 && n < len(r.srv.Drives) {
			missing++
		}
	}
	if missing > 8 { // what is being written or deleted
		return fmt.Sprintf("%d blobs lack shards", missing)
	}
	return ""
}

// notMember reports why a drive's metadata replica is no member of the group.
func notMember(drive string) string {
	b, err := os.ReadFile(filepath.Join(drive, "meta", "g0", "replica.json"))
	if err != nil {
		return "no metadata replica on " + drive
	}
	if !strings.Contains(string(b), "member") {
		return "the metadata replica on " + drive + " is no member: " + string(b)
	}
	return ""
}
