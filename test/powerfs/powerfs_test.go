package powerfs_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"twofold/test/powerfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func syncDir(t *testing.T, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	must(t, err)
	must(t, d.Sync())
	must(t, d.Close())
}

// create writes a file, synced or not.
func create(t *testing.T, path string, content []byte, sync bool) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	_, err = f.Write(content)
	must(t, err)
	if sync {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func random(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestSyncedSurvives: what was fsynced, name and content, is there after every cut.
func TestSyncedSurvives(t *testing.T) {
	fs := powerfs.Start(t, powerfs.Options{Drives: 2})
	want := random(3*powerfs.PageSize + 100)
	for seed := range uint64(8) {
		for i := range 2 {
			dir := fs.Dir(i)
			os.Remove(filepath.Join(dir, "a"))
			create(t, filepath.Join(dir, "tmp"), want, true)
			must(t, os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "a")))
			syncDir(t, dir)
			create(t, filepath.Join(dir, "b"), want, false)
		}
		fs.PowerCut(seed)
		if _, err := os.ReadFile(filepath.Join(fs.Dir(0), "a")); !errors.Is(err, unix.ENOTCONN) {
			t.Fatalf("a read after the cut: %v, want ENOTCONN", err)
		}
		fs.Restart()
		for i := range 2 {
			if got := read(t, filepath.Join(fs.Dir(i), "a")); !bytes.Equal(got, want) {
				t.Fatalf("seed %d: drive %d: a synced file changed", seed, i)
			}
			os.Remove(filepath.Join(fs.Dir(i), "b"))
		}
	}
}
