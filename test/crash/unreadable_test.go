package crash

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"twofold/test/powerfs"
)

// TestUnreadableIndex: the tables of one replica can't be read, under the maps of a
// worker (SIGBUS) and by the next one, which looks before it maps them: it goes on
// without that replica. When they can be read the replica comes back by itself.
func TestUnreadableIndex(t *testing.T) {
	if !*campaign.long {
		t.Skip("part of the campaign")
	}
	r, fs := startPower(t, powerfs.Options{})
	const drive = 2
	// Until there is a snapshot with tables: after a kill that is what the index is
	// made from.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := r.put(fmt.Sprintf("old/%d/%d", w, i), make([]byte, 16<<10)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	until(t, "a snapshot with tables", func() bool {
		tables, _ := filepath.Glob(filepath.Join(r.srv.Drives[drive], "meta", "g0", "snapshots", "[^t]*", "*.sst"))
		return len(tables) > 0 || t.Failed()
	})
	close(stop)
	wg.Wait()
	before := workerOf(r.run.pid)
	fs.Fault(powerfs.Fault{Kind: powerfs.EIO, Class: powerfs.Read, Drive: drive, Path: "*.sst"})
	syscall.Kill(before, syscall.SIGKILL)
	until(t, "another worker serves", func() bool {
		p := workerOf(r.run.pid)
		return p != 0 && p != before && r.serverAnswers()
	})
	serving := workerOf(r.run.pid)
	if log := r.run.tail(); !strings.Contains(log, "a metadata replica is missing") || !strings.Contains(log, "kv.Verify") {
		t.Error("no replica is missed: the test shows nothing")
	}
	r.mustWrite("with three replicas")
	fs.Clear()
	joined := strings.Count(r.run.tail(), "a metadata replica joined the group")
	until(t, "the replica is back", func() bool {
		return strings.Count(r.run.tail(), "a metadata replica joined the group") > joined && notMember(r.srv.Drives[drive]) == ""
	})
	r.mustWrite("with all replicas")
	if p := workerOf(r.run.pid); p != serving {
		t.Errorf("worker %d ended, and %d serves", serving, p)
	}
}
