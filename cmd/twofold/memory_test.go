package main

import (
	"math"
	"runtime/debug"
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
