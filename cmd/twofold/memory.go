package main

import (
	"os"
	"runtime/debug"
)

// memoryLimit is a soft limit on what the Go runtime of a server or mount takes from
// the system, in bytes: near it garbage is collected more often, whatever GOGC says.
// Memory that is in use may go beyond it; files that are mapped (the metadata's index)
// do not count. https://pkg.go.dev/runtime/debug#SetMemoryLimit
const memoryLimit = 768 << 20

// gcPercent is GOGC of a server or mount: how much garbage may gather, in percent of what
// is in use. The buffers that data passes through are off the heap (internal/slab), so
// little of the work waits for the collector: with 60 in place of 100 small PUTs and GETs
// were as fast, side by side, and a server that moves 10 GiB stays under 100 MiB more.
const gcPercent = 60

// limitMemory sets both, unless the environment has others.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
