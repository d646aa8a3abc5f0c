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
	t.Setenv("GOMEMLIMIT", "2GiB") // as the runtime has read it at its start
	limitMemory()
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
		t.Fatalf("%d, although the environment says another one", n)
	}
	t.Setenv("GOMEMLIMIT", "")
	limitMemory()
	if n := debug.SetMemoryLimit(-1); n != memoryLimit {
		t.Fatal(n)
	}
}
