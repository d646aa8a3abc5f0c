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

// limitMemory sets it, unless the environment has another one.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
