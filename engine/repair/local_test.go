package repair

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"twofold"
	"twofold/engine"
	"twofold/engine/drive"
	"twofold/internal/vfs"
)

// localEngine is an engine over drives in directories data1 to datan of dir.
func localEngine(t *testing.T, cluster twofold.ClusterID, dir string, n, parity int) (*engine.Engine, *Healer) {
	t.Helper()
	set := engine.SetConfig{Parity: parity}
	for i := range n {
		path := filepath.Join(dir, fmt.Sprint("data", i+1))
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		f := drive.Format{
			Version: drive.FormatVersion, Cluster: cluster, Drive: twofold.NewUUID(), Index: i, Sets: 1, SetSize: n, Created: twofold.Now(),
		}
		if err := drive.WriteFormat(vfs.OS(), path, f); err != nil {
			t.Fatal(err)
		}
		d, err := drive.Open(context.Background(), drive.Options{Path: path, Reserve: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		set.Slots = append(set.Slots, drive.NewSlot(set.ID, i, d))
	}
	e, err := engine.Open(engine.Options{Cluster: cluster, Sets: []engine.SetConfig{set}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	h, err := New(Options{Engine: e, Cycle: -1, Wanted: func(context.Context, twofold.BlobID) (bool, error) { return true, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return e, h
}

// localRig is a localEngine with a blob, and its shards' files by drive.
func localRig(t *testing.T, n, parity, size int) (*engine.Engine, *Healer, twofold.Blob, []string) {
	t.Helper()
	dir := t.TempDir()
	e, h := localEngine(t, twofold.NewUUID(), dir, n, parity)
	b, err := e.Write(context.Background(), engine.WriteOptions{ID: twofold.MakeBlobID(1, 1), Parity: -1, Purpose: []byte("a test")},
		bytes.NewReader(content(size, 1)))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == b.ID.String() {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) != n {
		t.Fatal(files, err)
	}
	return e, h, b, files
}

// TestScrubRepairsFlippedBytesOnDisk: a byte flipped anywhere in a shard's file, in a
// data or a parity shard, is found by a scrub without a read, and the file is again,
// byte for byte, what it was. Until then reads are right.
func TestScrubRepairsFlippedBytesOnDisk(t *testing.T) {
	for _, size := range []int{1000, 1<<20 + 40000} {
		testFlippedBytes(t, size)
	}
}

func testFlippedBytes(t *testing.T, size int) {
	e, h, b, files := localRig(t, 4, 2, size)
	want := content(size, 1)
	for _, file := range files {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := len(good)
		for _, at := range []int{0, 7, 40, 90, 200, 4095, 4096, 4200, 300000, n / 2, n - 20000, n - 4097, n - 200, n - 64, n - 30, n - 1} {
			if at < 0 || at >= n {
				continue
			}
			bad := bytes.Clone(good)
			bad[at] ^= 0x10
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, size)
			e.Forget(b.ID)
			br, err := e.Open(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := br.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, want) {
				t.Fatalf("byte %d flipped: %v", at, err)
			}
			br.Close()
			s, err := h.Scrub(t.Context())
			if err != nil || s.Bad != 1 || s.Repaired != 1 {
				t.Errorf("byte %d of %d: %+v, %v", at, n, s, err)
			}
			if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, good) {
				t.Fatalf("byte %d of %d: the file is not what it was: %v", at, n, err)
			}
		}
		// Cut short, made longer, emptied, gone.
		for _, bad := range [][]byte{good[:n-1], good[:100], append(bytes.Clone(good), 0), {}, nil} {
			if bad == nil {
				err = os.Remove(file)
			} else {
				err = os.WriteFile(file, bad, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if s, err := h.Scrub(t.Context()); err != nil || s.Repaired != 1 {
				t.Errorf("%d of %d bytes: %+v, %v", len(bad), n, s, err)
			}
			if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, good) {
				t.Fatalf("%d of %d bytes: the file is not what it was: %v", len(bad), n, err)
			}
		}
	}
}
