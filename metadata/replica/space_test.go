package replica

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// TestReserve: below the reserve on too many replicas a command that takes space is
// refused and one that gives it back commits; when there is space all is as it was.
func TestReserve(t *testing.T) {
	dirs := testDirs(t, 4)
	var full atomic.Int64 // how many drives are
	g := openTest(t, Options{Dirs: dirs, Bootstrap: true, NewMachine: newReal, space: func(path string) (free, total uint64, err error) {
		for i, d := range dirs {
			if d.Path == path && i < int(full.Load()) {
				return reserve - 1, 100 * reserve, nil
			}
		}
		return 50 * reserve, 100 * reserve, nil
	}})
	fill := func(n int) {
		t.Helper()
		full.Store(int64(n))
		wait(t, 20*time.Second, "the replicas have looked", func() bool {
			have := 0
			for _, r := range g.running() {
				if r.full.Load() {
					have++
				}
			}
			return have == n
		})
	}
	c := newClient(t, g)
	put := func(seq uint64) error { return c.put(seq, seq-1, "key", make([]byte, 4096)) }
	if err := put(2); err != nil {
		t.Fatal(err)
	}
	fill(1)
	if err := put(3); err != nil {
		t.Errorf("one full drive of four: %v", err)
	}
	fill(4)
	if err := put(4); !errs.Is(err, errs.NoSpace) {
		t.Errorf("a put to full drives: %v", err)
	}
	_, err := g.Apply(context.Background(), &metadata.Command{
		Op: metadata.OpDeleteObject, Session: c.session, Seq: 5, Acked: 3, Now: twofold.Now(),
		Body: &metadata.DeleteObject{Bucket: c.bucket, Key: "key"},
	})
	if err != nil {
		t.Errorf("a delete on full drives: %v", err)
	}
	err = g.View(context.Background(), func(v metadata.View) error {
		page, err := v.List(c.bucket, metadata.ListQuery{Max: 10})
		if err == nil && len(page.Items) != 0 {
			t.Error("what was deleted is there")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	fill(0)
	if err := put(6); err != nil {
		t.Errorf("a put when there is space again: %v", err)
	}
}
