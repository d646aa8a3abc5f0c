package main

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"testing"
)

func TestLimitMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(math.MaxInt64)
	percent := debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	t.Setenv("GOMEMLIMIT", "2GiB") // as the runtime has read it at its start
	t.Setenv("GOGC", "100")
	limitMemory()
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
		t.Fatalf("%d, although the environment says another one", n)
	}
	if n := debug.SetGCPercent(100); n != 100 {
		t.Fatalf("GOGC is %d, although the environment says another one", n)
	}
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "")
	limitMemory()
	if n := debug.SetMemoryLimit(-1); n != memoryLimit {
		t.Fatal(n)
	}
	if n := debug.SetGCPercent(100); n != gcPercent {
		t.Fatalf("GOGC is %d", n)
	}
}

// resident is VmRSS of proc(5), in bytes.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := bytes.Cut(b, []byte("VmRSS:"))
	kib, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// TestFloor: a small heap is collected when it has grown by a part of the floor, for which the
// system provides nothing at the start of a process, such as the one that looks at it here.
func TestFloor(t *testing.T) {
	const inside = "TWOFOLD_TEST_FLOOR"
	if os.Getenv(inside) == "" {
		// The runtime writes zeros over what it has used before, now and then; not each time.
		for try := 1; ; try++ {
			c := exec.Command(os.Args[0], "-test.run=^TestFloor$")
			c.Env = append(os.Environ(), inside+"=1")
			out, err := c.CombinedOutput()
			if err == nil {
				return
			}
			if try == 4 {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	goal := func() uint64 {
		runtime.GC()
		s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	t.Setenv("GOGC", "100")
	if floor := raiseFloor(); floor != nil {
		t.Errorf("a floor of %d, although the environment says how often to collect", len(floor))
	}
	t.Setenv("GOGC", "")
	before, rss := goal(), resident(t)
	floor := raiseFloor()
	const more = mountFloor / 100 * (100 + gcPercent)
	if now := goal(); now < more || now < before {
		t.Errorf("the next collection is at %d bytes, it was at %d", now, before)
	}
	if now := resident(t); now > rss+mountFloor/4 {
		t.Errorf("%d bytes resident, it were %d", now, rss)
	}
	runtime.KeepAlive(floor)
}
