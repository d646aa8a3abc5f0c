package kv

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"twofold/internal/errs"
)

// TestUncleanStop: a live directory that was not closed is not looked at.
func TestUncleanStop(t *testing.T) {
	base := t.TempDir()
	b := openTest(t, filepath.Join(base, "kv"), Options{})
	put(t, b, "a", "1")
	cp := filepath.Join(base, "cp")
	if err := b.Checkpoint(cp); err != nil {
		t.Fatal(err)
	}
	if err := b.Checkpoint(cp); !errs.Is(err, errs.Exists) {
		t.Errorf("over an existing checkpoint: %v", err)
	}
	put(t, b, "b", "2")
	// The image of a process that was killed: the directory as it is now.
	crash := filepath.Join(base, "crash")
	if err := os.CopyFS(crash, os.DirFS(filepath.Join(base, "kv"))); err != nil {
		t.Fatal(err)
	}
	c := openTest(t, crash, Options{Checkpoint: cp})
	if got := dumpAll(t, c); got != "a=1 " {
		t.Errorf("after a crash: %s", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	d := openTest(t, crash, Options{Checkpoint: filepath.Join(base, "none")})
	if got := dumpAll(t, d); got != "a=1 " {
		t.Errorf("after a clean stop: %s", got)
	}
	dirs, _ := filepath.Glob(filepath.Join(crash, livePrefix+"*", cleanList))
	if len(dirs) != 0 {
		t.Errorf("an open store is marked clean: %v", dirs)
	}
}

// TestDamagedClean: a clean mark does not hold when a file is not what it was.
func TestDamagedClean(t *testing.T) {
	base := t.TempDir()
	b := openTest(t, filepath.Join(base, "kv"), Options{})
	put(t, b, "a", "1")
	cp := filepath.Join(base, "cp")
	if err := b.Checkpoint(cp); err != nil {
		t.Fatal(err)
	}
	put(t, b, "b", "2")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(b.dir, manifestName), 20); err != nil {
		t.Fatal(err)
	}
	c := openTest(t, filepath.Join(base, "kv"), Options{Checkpoint: cp})
	if got := dumpAll(t, c); got != "a=1 " {
		t.Errorf("after damage: %s", got)
	}
}

// TestCheckpointUnderLoad takes checkpoints while tables are flushed and compacted,
// and opens each: it must hold exactly the writes that had returned, and compactions
// of the live store must not take its files away.
func TestCheckpointUnderLoad(t *testing.T) {
	t.Run("tree", func(t *testing.T) { testCheckpointUnderLoad(t, Options{}, 6) })
	t.Run("values", func(t *testing.T) {
		testCheckpointUnderLoad(t, Options{Bulky: bulkyFrom(100), valueFileSize: 256 << 10}, 3)
	})
}

func testCheckpointUnderLoad(t *testing.T, o Options, checkpoints int) {
	base := t.TempDir()
	b := openTest(t, filepath.Join(base, "kv"), o)
	const keys = 4000
	var mu sync.Mutex // so that the test knows where the cut is
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	round := 0
	defer wg.Wait()
	defer close(stop)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
			}
			mu.Lock()
			round++
			ops := []Op{{[]byte("round"), fmt.Append(nil, round)}}
			for i := range keys / 10 {
				op := Op{Key: fmt.Appendf(nil, "k%d", (round*7+i*10)%keys)}
				if (round+i)%3 != 0 {
					op.Value = fmt.Appendf(nil, "%d-%01000d", round, i)
				}
				ops = append(ops, op)
			}
			if err := b.Write(ops); err != nil {
				t.Error(err)
			}
			mu.Unlock()
		}
	}()
	for n := range checkpoints {
		var want string
		cp := filepath.Join(base, fmt.Sprint("cp", n))
		mu.Lock()
		cut, err := b.Cut(cp)
		want = dumpAll(t, b)
		mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		for {
			mu.Lock()
			r := round
			mu.Unlock()
			if r > 40*(n+1) {
				break
			}
		}
		if err := cut.Sync(); err != nil {
			t.Fatal(err)
		}
		// A store of its own, not one that shares (and empties) the live one's tables.
		if err := os.CopyFS(cp+"-copy", os.DirFS(cp)); err != nil {
			t.Fatal(err)
		}
		o := o
		o.Checkpoint = cp + "-copy"
		c := openTest(t, filepath.Join(base, fmt.Sprint("copy", n)), o)
		if got := dumpAll(t, c); got != want {
			t.Errorf("checkpoint %d has %d bytes of content, not %d", n, len(got), len(want))
		}
		checkLive(t, c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		cut.Keep()()
	}
}
