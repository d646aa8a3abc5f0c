package kv

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

// filled makes a directory with many tables in level 0, where a compaction is due.
func filled(t *testing.T) string {
	dir := t.TempDir()
	o := badgerOptions(dir).WithLogger(nil).WithNumCompactors(0).WithNumLevelZeroTablesStall(100)
	for round := range 8 {
		db, err := badger.OpenManaged(o)
		if err != nil {
			t.Fatal(err)
		}
		wb := db.NewWriteBatchAt(uint64(round + 1))
		for i := range 2000 {
			if err := wb.Set(fmt.Appendf(nil, "key%d", i), fmt.Appendf(nil, "%0500d", i*round)); err != nil {
				t.Fatal(err)
			}
		}
		if err := wb.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// intact counts the tables of ids that are there and not empty.
func intact(dir string, ids []uint64) (n int) {
	for _, id := range ids {
		if info, err := os.Stat(table.NewFilename(id, dir)); err == nil && info.Size() > 0 {
			n++
		}
	}
	return n
}

// TestGate: a compaction that is due when Badger opens waits before it deletes. It
// fails when Badger no longer says what gateMessage is at that point.
func TestGate(t *testing.T) {
	dir := filled(t)
	ids, err := manifestTables(filepath.Join(dir, manifestName))
	if err != nil || len(ids) < 8 {
		t.Fatal(ids, err)
	}
	g := gate{badgerLog{slog.New(slog.DiscardHandler), new(atomic.Bool)}, make(chan struct{})}
	db, err := badger.OpenManaged(badgerOptions(dir).WithLogger(g))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	time.Sleep(1500 * time.Millisecond) // compactors start within a second
	if n := intact(dir, ids); n != len(ids) {
		t.Errorf("%d of %d tables are left while the gate is closed", n, len(ids))
	}
	close(g.open)
	for end := time.Now().Add(10 * time.Second); intact(dir, ids) == len(ids); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no compaction, so the test shows nothing")
		}
	}
}

// TestPins: tables that a checkpoint shares survive their compaction, and go when the
// next checkpoint takes over.
func TestPins(t *testing.T) {
	dir := filled(t)
	ids, err := manifestTables(filepath.Join(dir, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	b, err := openBadger(filepath.Dir(dir), dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	live := func() int {
		n := 0
		for _, ti := range b.db.Tables() {
			for _, id := range ids {
				if ti.ID == id {
					n++
				}
			}
		}
		return n
	}
	for end := time.Now().Add(10 * time.Second); live() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no compaction, so the test shows nothing")
		}
	}
	if n := intact(dir, ids); n != len(ids) {
		t.Errorf("%d of %d pinned tables are left", n, len(ids))
	}
	if err := b.Checkpoint(filepath.Join(t.TempDir(), "cp")); err != nil {
		t.Fatal(err)
	}
	if n := intact(dir, ids); n != 0 {
		t.Errorf("%d of %d tables are left that nothing needs", n, len(ids))
	}
}
