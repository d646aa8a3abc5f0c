package kv

import (
	"flag"
	"os"
	"testing"
)

// TestMain keeps the model test short: each of its steps may open a store.
func TestMain(m *testing.M) {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "rapid.checks" })
	if !set {
		flag.Set("rapid.checks", "12")
	}
	os.Exit(m.Run())
}
