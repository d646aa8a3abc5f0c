package kv

import (
	"os"
	"path/filepath"
	"testing"

	"twofold/internal/errs"
)

// TestVerify: with Verify every table is read before it is mapped, of a clean
// directory and of a checkpoint, and one that can't be read is an error.
func TestVerify(t *testing.T) {
	base := t.TempDir()
	dir, cp := filepath.Join(base, "kv"), filepath.Join(base, "cp")
	read := 0
	o := Options{Verify: true, Verified: func(n int) { read += n }}
	b := openTest(t, dir, Options{})
	put(t, b, "a", "1")
	if err := b.Close(); err != nil { // the memtable becomes a table
		t.Fatal(err)
	}
	tables := func(pattern string) (list []string, size int) {
		t.Helper()
		list, err := filepath.Glob(pattern)
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: no tables: %v", pattern, err)
		}
		for _, p := range list {
			info, err := os.Stat(p)
			if err != nil {
				t.Fatal(err)
			}
			size += int(info.Size())
		}
		return list, size
	}
	_, size := tables(filepath.Join(dir, livePrefix+"*", "*.sst"))
	b = openTest(t, dir, o)
	if read != size {
		t.Errorf("of a clean directory %d bytes were read, and its tables have %d", read, size)
	}
	if err := b.Checkpoint(cp); err != nil {
		t.Fatal(err)
	}
	list, size := tables(filepath.Join(cp, "*.sst"))
	read, o.Checkpoint, o.Fresh = 0, cp, true
	if got := dumpAll(t, openTest(t, filepath.Join(base, "crash"), o)); got != "a=1 " || read != size {
		t.Errorf("of a checkpoint %d bytes were read, and its tables have %d; it has %s", read, size, got)
	}
	// A directory opens, and read(2) fails.
	if err := os.Remove(list[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(list[0], 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(base, "bad"), o); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a table that can't be read: %v", err)
	}
}
