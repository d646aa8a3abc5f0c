package replica

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	walfs "github.com/hashicorp/raft-wal/fs"
)

// TestZerosAhead: what lies behind a small append is written with zeros, once for many
// appends and never beyond the file's end.
func TestZerosAhead(t *testing.T) {
	const size = 3 * aheadOfLog / 2
	dir := t.TempDir()
	name := filepath.Join(dir, "segment")
	old := bytes.Repeat([]byte{0xff}, size)
	if err := os.WriteFile(name, old, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := walFS{walfs.New()}.OpenWriter(dir, "segment")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	write := func(off, n int, b byte) {
		t.Helper()
		p := bytes.Repeat([]byte{b}, n)
		if k, err := f.WriteAt(p, int64(off)); k != n || err != nil {
			t.Fatal(k, err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		copy(old[off:], p)
	}
	same := func(what string) {
		t.Helper()
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != size {
			t.Fatalf("%s: the file has %d bytes instead of %d", what, len(got), size)
		}
		for i := range got {
			if got[i] != old[i] {
				t.Fatalf("%s: at %d is %x instead of %x", what, i, got[i], old[i])
			}
		}
	}
	write(0, smallAppend+1, 1)
	same("a large append")
	write(smallAppend+1, 100, 2)
	end := smallAppend + 101
	clear(old[end : end+aheadOfLog])
	same("a small append")
	write(end, aheadOfLog, 3) // over all of the zeros
	end += aheadOfLog
	same("the appends behind it")
	write(end, 100, 4)
	end += 100
	clear(old[end:])
	same("near the end")
}
