package replica

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// TestVerify: what is asked for at Open reaches every replica's index.
func TestVerify(t *testing.T) {
	ctx := context.Background()
	dirs := testDirs(t, 4)
	g := openTest(t, Options{Dirs: dirs, Bootstrap: true})
	if _, err := g.Apply(ctx, set("k", "v")); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(ctx); err != nil { // memtables become tables
		t.Fatal(err)
	}
	var size int64
	for _, d := range dirs {
		tables, err := filepath.Glob(filepath.Join(d.g0(), "kv", "*", "*.sst"))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range tables {
			info, err := os.Stat(p)
			if err != nil {
				t.Fatal(err)
			}
			size += info.Size()
		}
	}
	if size == 0 {
		t.Fatal("no replica has a table")
	}
	for _, verify := range []bool{false, true} {
		var read atomic.Int64
		g = openTest(t, Options{Dirs: dirs, Verify: verify, verified: func(n int) { read.Add(int64(n)) }})
		wait(t, 20*time.Second, "four replicas", settled(g, 4))
		if got := read.Load(); got != 0 && !verify || got < size && verify {
			t.Errorf("verify %v: %d bytes of %d were read", verify, got, size)
		}
		if err := g.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGuardMoving: work that goes on may take longer than the limit.
func TestGuardMoving(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	if err := guard(time.Millisecond, func() error { <-block; return nil }); err == nil {
		t.Error("what hangs is waited for")
	}
	var moved atomic.Int64
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				moved.Add(1)
			}
		}
	}()
	defer close(stop)
	ends := make(chan struct{})
	time.AfterFunc(200*time.Millisecond, func() { close(ends) })
	if err := guardMoving(50*time.Millisecond, &moved, func() error { <-ends; return nil }); err != nil {
		t.Error(err)
	}
}
