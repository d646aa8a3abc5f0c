package volume

import (
	"fmt"
	"testing"

	"twofold/metadata"
	"twofold/volume/api"
)

// TestReadDirSeesWhatWriteReturnedFor: a listing with attributes recalls what another
// mount has written and not flushed, as a stat does; a mount's own it leaves alone.
func TestReadDirSeesWhatWriteReturnedFor(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m, other := h.mount(), h.mount()
	dir := m.lookup("docs").Ino
	var files []api.Attr
	for i := range 3 {
		a, _, err := m.s.Create(ctx, dir, fmt.Sprint("f", i), api.Create{Type: metadata.TypeFile, Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, a)
	}
	sizes := func(by *mount) (s []int64) {
		t.Helper()
		list, eof, err := by.s.ReadDir(ctx, dir, "", 100, true)
		if err != nil || !eof {
			t.Fatalf("readdir: %v, at its end: %v", err, eof)
		}
		for _, e := range list {
			s = append(s, e.Attr.Size)
		}
		return s
	}
	m.write(files[0].Ino, 0, "a")
	m.write(files[2].Ino, 0, "abc")
	if got := sizes(m); fmt.Sprint(got) != "[0 0 0]" {
		t.Errorf("the holder's own listing recalled: %v", got) // the mount puts its own over it
	}
	if got := sizes(other); fmt.Sprint(got) != "[1 0 3]" {
		t.Errorf("another mount's listing has sizes %v", got)
	}
	m.write(files[1].Ino, 0, "ab")
	if got := sizes(other); fmt.Sprint(got) != "[1 2 3]" {
		t.Errorf("another mount's listing has sizes %v", got)
	}
}
