package engine

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"twofold"
)

// forgetPages drops the clean pages that the kernel has of a drive's shards
// (posix_fadvise(2)): reads then wait for the disk.
func forgetPages(t *testing.T, e *Engine, b twofold.Blob) {
	t.Helper()
	for _, s := range e.Slots(b.Set) {
		err := filepath.WalkDir(s.Drive().String(), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.Name() != b.ID.String() {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadAtOfDrives: random ranges of a blob on drives in directories, from the disk and
// from the page cache, whole and computed.
func TestReadAtOfDrives(t *testing.T) {
	const size = 3<<20 + 12345
	for _, shards := range [][2]int{{1, 0}, {4, 2}, {5, 2}} {
		e, drives := localEngine(t, shards[0], shards[1])
		want := content(size, 1)
		b, err := e.Write(t.Context(), WriteOptions{ID: twofold.MakeBlobID(1, 1), Parity: -1}, bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(1, uint64(shards[0])))
		read := func(what string) {
			t.Helper()
			for i := range 60 {
				if i%20 == 0 {
					forgetPages(t, e, b)
				}
				off := rnd.Int64N(size)
				p := make([]byte, 1+rnd.Int64N([]int64{5000, 100_000, 2 << 20}[i%3]))
				n := min(len(p), int(size-off))
				if k, err := e.ReadAt(t.Context(), b, p, off); k != n || (err != nil) != (n < len(p)) || !bytes.Equal(p[:n], want[off:][:n]) {
					t.Fatalf("%v, %s: %d bytes from %d: %d, %v", shards, what, len(p), off, k, err)
				}
			}
		}
		read("whole")
		if shards[1] > 0 {
			drives[0].Close()
			read("without a drive")
			drives[2].Close()
			e.Forget(b.ID)
			read("without two")
		}
	}
}

// TestDamagedPieceIsComputed: a read of a damaged piece is right and tells of the damage,
// also from memory, and reads beside it ask nobody else.
func TestDamagedPieceIsComputed(t *testing.T) {
	e, drives := localEngine(t, 4, 2)
	want := content(2<<20, 1)
	b, err := e.Write(t.Context(), WriteOptions{ID: twofold.MakeBlobID(1, 1), Parity: -1}, bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	var told []Damage
	e.OnDamage(func(d Damage) { told = append(told, d) })
	at := Placement(b.ID, 4)[0]
	name := filepath.Join(drives[at].String(), "blobs", "01", b.ID.String())
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const piece, off = 16 << 10, 50_000 // byte 50,000 is in piece 3 of block 0 of shard 0
	if _, err := f.WriteAt([]byte{want[off] ^ 1}, 96+off+(off/piece+1)*16); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4096)
	for _, beside := range []int64{0, 40_000, 4 * piece} {
		if _, err := e.ReadAt(t.Context(), b, p, beside); err != nil || !bytes.Equal(p, want[beside:][:len(p)]) || len(told) > 0 {
			t.Fatalf("beside it, from %d: %v, %v", beside, err, told)
		}
	}
	for range 2 {
		if _, err := e.ReadAt(t.Context(), b, p, off-10); err != nil || !bytes.Equal(p, want[off-10:][:len(p)]) {
			t.Fatal(err)
		}
	}
	if len(told) == 0 || told[0].Blob != b.ID || told[0].Shards != 1 {
		t.Fatalf("damage told: %+v", told)
	}
}
