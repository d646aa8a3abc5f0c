package main

import (
	"runtime"
	"testing"
)

func TestMoreProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "3") // as the runtime has read it at its start
	moreProcessors()
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Fatalf("%d, although the environment says another number", n)
	}
	t.Setenv("GOMAXPROCS", "")
	moreProcessors()
	if n := runtime.GOMAXPROCS(0); n != before+spareProcessors {
		t.Fatal(n)
	}
}
