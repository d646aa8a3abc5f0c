package main

import (
	"os"
	"runtime"
)

// spareProcessors is how many more threads than processors may run Go code. A thread
// in a system call keeps its place among them until the runtime's monitor notices,
// which it looks for every 20 µs to 10 ms. Here threads wait in system calls for most
// of the time: the server's for fsync (a log of each replica, a shard of each drive),
// the mount's for requests of the kernel. On a machine with two processors two such
// threads kept all others from running.
const spareProcessors = 6

// moreProcessors sets it, unless the environment has another number.
// https://pkg.go.dev/runtime#GOMAXPROCS
func moreProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcessors)
	}
}
