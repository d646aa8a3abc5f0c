package drive_test

import (
	"bytes"
	"os"
	"sync/atomic"
	"testing"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
	"twofold/internal/vfs"
	"twofold/internal/vfs/memfs"
)

// countingFS counts the bytes that are read through it.
type countingFS struct {
	vfs.FS
	bytes atomic.Int64
}

func (c *countingFS) Open(name string) (vfs.File, error) {
	f, err := c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return countingFile{f, &c.bytes}, nil
}

type countingFile struct {
	vfs.File
	bytes *atomic.Int64
}

func (f countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.bytes.Add(int64(n))
	return n, err
}

// A read of 4 KiB costs the pieces that it is in, whatever the block's length; of a shard
// of version 1 the block.
func TestSmallReadsReadPieces(t *testing.T) {
	m := memfs.New()
	if err := m.Mkdir("/disk"); err != nil {
		t.Fatal(err)
	}
	fsys := &countingFS{FS: m}
	cluster := twofold.NewUUID()
	d := open(t, fsys, "/disk", cluster)
	const blockLen = 512 << 10
	for n, piece := range []uint32{drive.PieceLen, 0} {
		h := drive.ShardHeader{
			Cluster: cluster, Blob: twofold.MakeBlobID(1, uint64(n+1)), Data: 2, Parity: 2, Stripe: 2 * blockLen, Piece: piece,
		}
		w, err := d.Create(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		block := bytes.Repeat([]byte("0123456789abcde"), blockLen/15+1)[:blockLen]
		for range 2 {
			if err := w.WriteBlock(block); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Commit(drive.ShardTrailer{Size: 4 * blockLen}); err != nil {
			t.Fatal(err)
		}
		r, err := d.Open(t.Context(), h.Blob)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for _, tt := range []struct{ from, to, pieces int }{
			{0, 4096, 1}, {drive.PieceLen - 4096, drive.PieceLen, 1}, {drive.PieceLen - 1, drive.PieceLen + 1, 2},
			{blockLen - 1, blockLen, 1}, {0, blockLen, blockLen / drive.PieceLen},
		} {
			want := int64(tt.pieces * (drive.PieceLen + 16))
			if piece == 0 {
				want = blockLen + 16
			}
			before := fsys.bytes.Load()
			p, release, err := r.LendBlock(t.Context(), 1, tt.from, tt.to)
			if err != nil || !bytes.Equal(p, block[tt.from:tt.to]) {
				t.Fatal(err)
			}
			release()
			if got := fsys.bytes.Load() - before; got != want {
				t.Errorf("pieces of %d: [%d, %d) cost %d bytes, not %d", piece, tt.from, tt.to, got, want)
			}
		}
	}
}

// What was just read is read again without waiting, a small shard always; a bad piece
// and a drive that is offline are left to LendBlock.
func TestReadNow(t *testing.T) {
	dir := t.TempDir()
	cluster := twofold.NewUUID()
	d := open(t, vfs.OS(), dir, cluster)
	for n, size := range []int64{3 * drivetest.Stripe, 30_000} {
		h := drivetest.Header(cluster, twofold.MakeBlobID(1, uint64(n+1)))
		blocks, err := drivetest.Put(t.Context(), d, h, size, 1, "")
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Open(t.Context(), h.Blob)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, release, err := r.LendBlock(t.Context(), 0, 0, len(blocks[0]))
		if err != nil {
			t.Fatal(err)
		}
		release()
		p := make([]byte, 6000)
		if !r.ReadNow(0, 4000, p) {
			if n == 0 && !tellsNow(t, blobFile(dir, h.Blob)) {
				continue // the file system of the temporary directory can't tell
			}
			t.Fatalf("%d bytes: what was just read is not there", size)
		}
		if !bytes.Equal(p, blocks[0][4000:10_000]) {
			t.Fatalf("%d bytes: other content", size)
		}
		if n > 0 {
			continue
		}
		f, err := os.OpenFile(blobFile(dir, h.Blob), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{blocks[0][9999] ^ 1}, 96+9999+2*16)
		f.Close()
		if err != nil || r.ReadNow(0, 4000, p) {
			t.Fatalf("a bad piece was read, %v", err)
		}
		if !r.ReadNow(0, 10_000, p) {
			t.Fatal("the piece behind it is not there")
		}
		d.Close()
		if r.ReadNow(0, 10_000, p) {
			t.Fatal("read from a drive that is offline")
		}
		d = open(t, vfs.OS(), t.TempDir(), cluster)
	}
}

// tellsNow reports whether the file system of a file that was read tells what it has in
// memory (RWF_NOWAIT, preadv2(2)).
func tellsNow(t *testing.T, name string) bool {
	f, err := vfs.OS().Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return vfs.ReadVNow(f, [][]byte{make([]byte, 1)}, 0)
}
