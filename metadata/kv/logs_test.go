package kv

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mappedLogs lists the maps of this process that are of logs in files under dir.
func mappedLogs(t *testing.T, dir string) (found []string) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, dir) && !strings.Contains(line, ".sst") && !strings.Contains(line, ".vlog") {
			found = append(found, line)
		}
	}
	return found
}

// TestLogsInMemory: no log of a memtable is mapped from the drive, from the first on,
// however many a batch fills; their memory is given back; a clean stop leaves no link.
func TestLogsInMemory(t *testing.T) {
	base := t.TempDir()
	b, err := Open(base, Options{})
	if err != nil {
		t.Fatal(err)
	}
	value := bytes.Repeat([]byte("v"), 64<<10)
	batch := func(n, count int) (ops []Op) {
		for i := range count {
			ops = append(ops, Op{Key: fmt.Appendf(nil, "k%02d-%04d", n, i), Value: value})
		}
		return ops
	}
	for n, count := range []int{0, 1, 200, 900, 1, 300} { // 900: 58 MiB, seven memtables
		if err := b.Write(batch(n, count)); err != nil {
			t.Fatal(err)
		}
		if m := mappedLogs(t, base); m != nil {
			t.Fatalf("after batch %d these are mapped from the drive:\n%s", n, strings.Join(m, ""))
		}
		logs, err := filepath.Glob(filepath.Join(b.dir, "*"+logSuffix))
		if err != nil || len(logs) == 0 {
			t.Fatalf("logs %q: %v", logs, err)
		}
		for _, path := range logs {
			if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
				t.Fatalf("after batch %d %s is a file of the drive", n, path)
			}
		}
	}
	// Batches that fill a memtable each: the ones before are flushed meanwhile.
	deadline := time.Now().Add(time.Minute)
	for n := 10; len(b.logs.used) > 4; n++ {
		if time.Now().After(deadline) {
			t.Fatalf("%d logs are still held", len(b.logs.used))
		}
		if err := b.Write(batch(n, 150)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			t.Errorf("a clean stop left %s", e.Name())
		}
	}
	b, err = Open(base, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if m := mappedLogs(t, base); m != nil {
		t.Fatalf("reopened, these are mapped from the drive:\n%s", strings.Join(m, ""))
	}
	err = b.View(func(r Reader) error {
		for _, key := range []string{"k01-0000", "k02-0199", "k03-0899", "k05-0000"} {
			if v, err := r.Get([]byte(key)); err != nil || !bytes.Equal(v, value) {
				t.Errorf("%s: %d bytes, %v", key, len(v), err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLogsWithoutLinks: on a file system without symbolic links the logs stay files,
// and everything works.
func TestLogsWithoutLinks(t *testing.T) {
	old := symlink
	symlink = func(string, string) error { return os.ErrPermission }
	defer func() { symlink = old }()
	base := t.TempDir()
	b := openTest(t, filepath.Join(base, "kv"), Options{})
	for n := range 3 {
		if err := b.Write([]Op{{Key: []byte{'k', byte(n)}, Value: bytes.Repeat([]byte("v"), 900<<10)}}); err != nil {
			t.Fatal(err)
		}
	}
	cp := filepath.Join(base, "cp")
	if err := b.Checkpoint(cp); err != nil {
		t.Fatal(err)
	}
	want := dumpAll(t, b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{}, {Checkpoint: cp, Fresh: true}} {
		b = openTest(t, filepath.Join(base, "kv"), o)
		if got := dumpAll(t, b); got != want {
			t.Fatalf("opened again with %+v: %d bytes, not %d", o, len(got), len(want))
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
