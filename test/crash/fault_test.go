package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"twofold/test/harness"
	"twofold/test/powerfs"
)

// TestFaultOfOneDrive: a drive that fails in some way under load. Both views go on,
// within seconds, and nothing is lost; when the fault is over the drive comes back.
func TestFaultOfOneDrive(t *testing.T) {
	faults := []powerfs.Fault{{Kind: powerfs.Hang}}
	if *campaign.long {
		faults = append(faults, powerfs.Fault{Kind: powerfs.EIO})
		for _, c := range []powerfs.Class{powerfs.Read, powerfs.Write, powerfs.Fsync, powerfs.Meta} {
			faults = append(faults, powerfs.Fault{Kind: powerfs.EIO, Class: c})
		}
		faults = append(faults, powerfs.Fault{Kind: powerfs.ENOSPC}, powerfs.Fault{Kind: powerfs.EROFS}, powerfs.Fault{Kind: powerfs.Hang, Class: powerfs.Fsync})
	}
	for _, f := range faults {
		t.Run(fmt.Sprintf("%s-%s", f.Kind, f.Class), func(t *testing.T) { oneDriveFails(t, f) })
	}
}

// goOn is how long the store may take no writes when a drive fails.
func goOn(f powerfs.Fault) time.Duration {
	if f.Kind == powerfs.Hang {
		// A page fault on it may freeze the worker: that is noticed after 10 s, its end
		// waited for for 3 s, and the next one asks the drive for 5 s.
		return 35 * time.Second
	}
	return 15 * time.Second
}

func oneDriveFails(t *testing.T, fault powerfs.Fault) {
	seed := *campaign.seed
	rng := rand.New(rand.NewPCG(seed, 6))
	r, fs := startPower(t, powerfs.Options{})
	l := newLoad(r, 5, seed, mix{fault: true, big: 1})
	fault.Drive = rng.IntN(4)
	t.Logf("seed %d, drive %d", seed, fault.Drive+1)
	var longest time.Duration
	l.during(func() {
		time.Sleep(time.Second)
		fs.Fault(fault)
		longest = r.longestOutage(10*time.Second, goOn(fault))
	})
	l.verify()
	fmt.Fprintf(os.Stderr, "%s %s on one drive: S3 writes were away for %v at most; %s\n", fault.Kind, fault.Class, longest.Round(time.Millisecond), l.counts())
	if longest > goOn(fault) {
		r.violation("a drive with %s %s: S3 took no writes for %v", fault.Kind, fault.Class, longest)
	}
	if r.failed() {
		t.FailNow()
	}
	r.mustWrite("with one bad drive")
	if fault.Kind == powerfs.Hang {
		// A thread inside a file system that hangs can't be killed, and keeps the process's
		// port: as on any machine, the hang has to end before the process does.
		fs.Clear()
	}
	r.kill(both, 0) // and it starts with one
	l.verify()
	fs.Clear()
	l.during(func() { time.Sleep(2 * time.Second) })
	r.awaitFull()
	l.verify()
	r.cut(fs, seed) // what was repaired is durable
	l.verify()
}

// longestOutage writes by S3 for a while and returns the longest time without a write
// that succeeded; it waits for the end of an outage for as long as give.
func (r *rig) longestOutage(d, give time.Duration) time.Duration {
	var last atomic.Int64
	began := time.Now()
	stop := make(chan struct{})
	for i := range 4 {
		go func() {
			c := content{}.join(run{r.tags.Add(1), 60 << 10}).bytes()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r.put(fmt.Sprintf("outage/%d", i), c) == nil {
					last.Store(int64(time.Since(began)))
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}
	var longest time.Duration
	for time.Since(began) < d || time.Since(began)-time.Duration(last.Load()) > time.Second && time.Since(began) < d+give {
		time.Sleep(10 * time.Millisecond)
		longest = max(longest, time.Since(began)-time.Duration(last.Load()))
	}
	close(stop)
	return longest
}

// TestLyingDrive: one drive acknowledges fsyncs and forgets them at the power cut.
// The others have it.
func TestLyingDrive(t *testing.T) {
	if !*campaign.long {
		t.Skip("part of the campaign")
	}
	seed := *campaign.seed
	r, fs := startPower(t, powerfs.Options{})
	l := newLoad(r, 5, seed, mix{})
	for n := range *campaign.cuts {
		l.during(func() {
			fs.Fault(powerfs.Fault{Kind: powerfs.ShortLie, Drive: n % 4})
			time.Sleep(2 * time.Second)
			r.cut(fs, seed+uint64(n))
		})
		l.verify()
		if r.failed() {
			t.FailNow()
		}
		r.awaitFull()
	}
}

// TestFullDrives: all drives are full. Writes fail and say why in both views, deletes
// work and give space back, and then writes work again.
func TestFullDrives(t *testing.T) {
	r := start(t, harness.WithDrives(harness.SmallDrives(t, 4, "160m")...))
	c := content{}.join(run{r.tags.Add(1), 4 << 20})
	var keys []string
	var err error
	for n := 0; n < 200; n++ {
		key := fmt.Sprintf("full/%d", n)
		if err = r.put(key, c.bytes()); err != nil {
			break
		}
		keys = append(keys, key)
	}
	fmt.Fprintf(os.Stderr, "%d objects of 4 MiB until full: %v\n", len(keys), err)
	if statusOf(err) != 507 {
		r.violation("PUT to full drives: %v, and not 507 InsufficientStorage", err)
	}
	if err := writeSynced(r.path("full-too"), c.bytes()); !errors.Is(err, syscall.ENOSPC) {
		r.violation("writing a file to full drives: %v, and not ENOSPC", err)
	}
	for _, k := range keys {
		r.mustBe(k, c)
	}
	r.kill(both, 0)
	for i, k := range keys {
		if i%2 == 0 {
			err = r.remove(k)
		} else {
			err = os.Remove(r.path(k))
		}
		if err != nil {
			r.violation("deleting on full drives: %v", err)
		}
	}
	for end := time.Now().Add(collectTime); ; time.Sleep(200 * time.Millisecond) {
		err = r.put("again", c.bytes())
		if err == nil {
			err = writeSynced(r.path("again-too"), c.bytes())
		}
		if err == nil {
			break
		}
		if time.Now().After(end) {
			r.violation("everything is deleted, and the drives are still full: %v", err)
			break
		}
	}
}
