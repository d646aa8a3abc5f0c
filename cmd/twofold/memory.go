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

// mountFloor is what the collector of a mount takes as in use at least, in bytes: with the few
// MiB that a mount has in use garbage was collected whenever as much had gathered, several times
// a second under creates of small files, each time with the stacks of all goroutines. So up
// to gcPercent of the floor, 38 MiB, may gather.
const mountFloor = 64 << 20

// raiseFloor makes mountFloor count as in use, unless the environment says how often garbage
// is collected. It is memory that nobody touches, so the system never has to provide it; it
// counts towards memoryLimit. The caller keeps what it returns.
func raiseFloor() []byte {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	return make([]byte, mountFloor)
}
