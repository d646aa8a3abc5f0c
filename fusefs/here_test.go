package fusefs

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"testing"

	"golang.org/x/sys/unix"
)

// started is how many goroutines were ever started.
func started(t *testing.T) uint64 {
	s := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		t.Skip("this runtime does not count goroutines")
	}
	return s[0].Value.Uint64()
}

// warmBehind makes a directory whose write lease a mount with write-behind has.
func warmBehind(t *testing.T, m *testMount, dir string) {
	t.Helper()
	must(t, os.Mkdir(m.path(dir), 0755))
	warm := 0
	poll(t, "the lease", func() bool {
		warm++
		before := m.count("Create")
		must(t, os.WriteFile(m.path(fmt.Sprintf("%s/warm-%d", dir, warm)), []byte("x"), 0644))
		return m.count("Create") == before
	})
}

// TestNoGoroutinesForSmallFiles: what is answered here is answered by the request's own
// goroutine: the lease of a new file, the flush at its close, and what the kernel is told.
func TestNoGoroutinesForSmallFiles(t *testing.T) {
	// go-fuse keeps so many readers of requests; with fewer it starts new ones all the time.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16))
	m := mountFake(t, tokensAbove(), func(o *Options) { o.WriteBehind = true })
	warmBehind(t, m, "d")
	const files = 300
	before := started(t)
	for i := range files {
		p := m.path(fmt.Sprintf("d/f%d", i))
		must(t, os.WriteFile(p, make([]byte, 4096), 0644))
		must(t, os.Rename(p, p+".new"))
		must(t, unix.Unlink(p+".new"))
	}
	n := started(t) - before
	t.Logf("%d goroutines for %d files", n, files)
	// Those of batches, of reads of the kernel's requests, and of files whose batch was sent
	// between two of their calls.
	if n > files {
		t.Errorf("%d goroutines for %d files", n, files)
	}
}
