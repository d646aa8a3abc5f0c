package volume

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// Files without a name are freed many by one command.
func TestInodesAreFreedTogether(t *testing.T) {
	const files = 20
	h := newHarness(t)
	h.bucket("docs")
	m := h.mount()
	dir := m.lookup("docs").Ino
	var inos []twofold.Ino
	for i := range files {
		name := fmt.Sprint(i)
		a, _, err := m.s.Create(ctx, dir, name, api.Create{Type: metadata.TypeFile, Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		inos = append(inos, a.Ino)
		if _, err := m.s.Open(ctx, a.Ino); err != nil { // nothing is freed yet
			t.Fatal(err)
		}
		if err := m.s.Unlink(ctx, dir, name); err != nil {
			t.Fatal(err)
		}
	}
	// After a restart without the mount all are found in one round.
	h.v.stop()
	h.v.wg.Wait()
	var commands atomic.Int64
	h.store.enter = func(c *metadata.Command) {
		if c.Op == metadata.OpFreeInodes {
			commands.Add(1)
		}
	}
	h.open(Options{LeaseTerm: 50 * time.Millisecond})
	eventually(t, "all are freed", func() bool {
		left := 0
		err := h.store.View(ctx, func(w metadata.View) error {
			for _, ino := range inos {
				if _, err := w.Inode(ino); err == nil {
					left++
				}
			}
			return nil
		})
		return err == nil && left == 0
	})
	if n := commands.Load(); n >= files {
		t.Errorf("%d commands for %d files", n, files)
	}
}
