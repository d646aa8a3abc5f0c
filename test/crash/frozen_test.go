package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"twofold/test/powerfs"
)

// TestFrozenByDrive: a drive hangs under a mapping of the index. The page fault stops a
// thread, and with it, as soon as Go stops the world, everything in the worker. It is
// replaced by one that goes on without the drive, which comes back when it answers.
func TestFrozenByDrive(t *testing.T) {
	if !*campaign.long {
		t.Skip("part of the campaign")
	}
	r, fs := startPower(t, powerfs.Options{})
	const keys = 400
	key := func(i int) string { return fmt.Sprintf("old/%d", i%keys) }
	for i := range keys {
		if err := r.put(key(i), make([]byte, 8<<10)); err != nil {
			t.Fatal(err)
		}
	}
	// After a clean stop all is in tables, and none of it is in Badger's cache.
	if !r.run.stop(opTimeout) {
		t.Fatal("it does not stop")
	}
	r.run.start()
	r.await()
	frozen := workerOf(r.run.pid)
	const drive = 1
	fs.Fault(powerfs.Fault{Kind: powerfs.Hang, Class: powerfs.Read, Drive: drive, Path: "*.sst"})

	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 4 { // every replica looks up what is replaced
		wg.Go(func() {
			for i := w; ; i += 4 {
				select {
				case <-stop:
					return
				default:
					r.put(key(i), []byte("new"))
				}
			}
		})
	}
	until(t, "a thread waits for a page", func() bool { return waits(frozen) })
	for _, c := range []powerfs.Class{powerfs.Write, powerfs.Fsync, powerfs.Meta} {
		fs.Fault(powerfs.Fault{Kind: powerfs.Hang, Class: c, Drive: drive})
	}
	began := time.Now()
	until(t, "another worker serves", func() bool {
		p := workerOf(r.run.pid)
		return p != 0 && p != frozen && r.serverAnswers()
	})
	fmt.Fprintf(os.Stderr, "a worker that a drive had frozen was replaced in %v\n", time.Since(began).Round(time.Millisecond))
	close(stop)
	wg.Wait()
	if log := r.run.tail(); !strings.Contains(log, "no sign of life") {
		t.Error("the worker was not frozen: the test shows nothing")
	}
	r.mustWrite("without the drive that hangs")
	fs.Clear()
	r.awaitFull()
	r.mustWrite("with all drives")
	for i := range keys {
		if err := r.put(key(i), []byte("newer")); err != nil {
			t.Fatal(err)
		}
	}
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(opTimeout); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", opTimeout, what)
		}
	}
}

// waits reports whether a thread of the process waits for a page, looked at a few
// times: state D, and the kernel function it is in where that can be seen.
func waits(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, s := range stats {
		in := 0
		for range 5 {
			b, _ := os.ReadFile(s)
			at, _ := os.ReadFile(filepath.Join(filepath.Dir(s), "wchan"))
			if strings.Contains(string(b), ") D ") && (len(at) < 2 || strings.Contains(string(at), "folio")) {
				in++
			}
			time.Sleep(10 * time.Millisecond)
		}
		if in == 5 {
			return true
		}
	}
	return false
}
