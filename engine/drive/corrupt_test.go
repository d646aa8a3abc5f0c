package drive_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// blobFile is where a shard is on a drive at dir.
func blobFile(dir string, b twofold.BlobID) string {
	return fmt.Sprintf("%s/blobs/%02x/%s", dir, b[15], b)
}

// overwrite puts content in a file's place.
func overwrite(t *testing.T, fsys vfs.FS, name string, content []byte) {
	t.Helper()
	fsys.Remove(name)
	f, err := fsys.Create(name)
	if err == nil {
		_, err = f.WriteAt(content, 0)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// mustNotLie reads a shard that was tampered with: right data or errs.Corrupt.
func mustNotLie(t *testing.T, what string, d drive.Drive, b twofold.BlobID, blocks [][]byte, mayBeGood bool) {
	t.Helper()
	err := drivetest.Verify(t.Context(), d, b, blocks)
	if err == nil && mayBeGood {
		return
	}
	if !errs.Is(err, errs.Corrupt) {
		t.Fatalf("%s: %v, want corrupt", what, err)
	}
}

// Every byte of a small shard flipped, and every truncation of it.
func TestEveryFlippedByteIsFound(t *testing.T) {
	m := memDrive(t)
	cluster := twofold.NewUUID()
	d := open(t, m, "/disk", cluster)
	h := drivetest.Header(cluster, twofold.MakeBlobID(1, 1))
	h.Stripe, h.Piece = 2400, 512
	blocks, err := drivetest.Put(t.Context(), d, h, 2900, 1, "purpose")
	if err != nil {
		t.Fatal(err)
	}
	name := blobFile("/disk", h.Blob)
	good, err := vfs.ReadFile(m, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= bit
			overwrite(t, m, name, bad)
			mustNotLie(t, fmt.Sprintf("byte %d flipped", i), d, h.Blob, blocks, false)
		}
	}
	for i := range good {
		overwrite(t, m, name, good[:i])
		mustNotLie(t, fmt.Sprintf("cut to %d bytes", i), d, h.Blob, blocks, false)
	}
	overwrite(t, m, name, append(bytes.Clone(good), 0))
	mustNotLie(t, "a byte more", d, h.Blob, blocks, false)
	overwrite(t, m, name, make([]byte, len(good)))
	mustNotLie(t, "zeros", d, h.Blob, blocks, false)
	overwrite(t, m, name, good)
	if err := drivetest.Verify(t.Context(), d, h.Blob, blocks); err != nil {
		t.Fatal(err)
	}
}

// Good bytes in the wrong place: blocks exchanged, another blob's file or block,
// another shard of the same blob.
func TestMisplacedBytesAreFound(t *testing.T) {
	m := memDrive(t)
	cluster := twofold.NewUUID()
	d := open(t, m, "/disk", cluster)
	const n = 40 // blocks: over the small buffer, so that reads go to the file
	put := func(session, index uint8) ([]byte, drive.ShardHeader, [][]byte) {
		h := drivetest.Header(cluster, twofold.MakeBlobID(twofold.SessionID(session), 1))
		h.Index = index
		blocks, err := drivetest.Put(t.Context(), d, h, n*drivetest.Stripe, uint64(session)*100+uint64(index), "")
		if err != nil {
			t.Fatal(err)
		}
		file, err := vfs.ReadFile(m, blobFile("/disk", h.Blob), 1<<24)
		if err != nil {
			t.Fatal(err)
		}
		return file, h, blocks
	}
	const (
		pieces = 7 // of a block, the last one shorter
		unit   = drivetest.Stripe/2 + pieces*16
		piece  = 16 + drivetest.Piece
	)
	block := func(file []byte, i int) []byte { return file[96+i*unit : 96+(i+1)*unit] }
	part := func(file []byte, i, j int) []byte { return block(file, i)[j*piece : (j+1)*piece] }
	otherBlob, _, _ := put(2, 1)
	otherShard, _, _ := put(1, 0)
	good, h, blocks := put(1, 1)
	name := blobFile("/disk", h.Blob)
	for what, tamper := range map[string]func(p []byte){
		"two blocks exchanged":  func(p []byte) { copy(block(p, 3), block(good, 4)); copy(block(p, 4), block(good, 3)) },
		"two pieces exchanged":  func(p []byte) { copy(part(p, 3, 1), part(good, 3, 2)); copy(part(p, 3, 2), part(good, 3, 1)) },
		"another block's piece": func(p []byte) { copy(part(p, 3, 1), part(good, 4, 1)) },
		"a block repeated":      func(p []byte) { copy(block(p, 7), block(good, 6)) },
		"another blob's block":  func(p []byte) { copy(block(p, 7), block(otherBlob, 7)) },
		"another shard's":       func(p []byte) { copy(block(p, 7), block(otherShard, 7)) },
		"another blob's file":   func(p []byte) { copy(p, otherBlob) },
		"a block of zeros":      func(p []byte) { clear(block(p, 39)) },
		"another's tail":        func(p []byte) { copy(p[96+n*unit:], otherBlob[96+n*unit:]) },
	} {
		bad := bytes.Clone(good)
		tamper(bad)
		overwrite(t, m, name, bad)
		mustNotLie(t, what, d, h.Blob, blocks, false)
	}
	// The blocks before the bad one are told apart.
	bad := bytes.Clone(good)
	part(bad, 35, 2)[100] ^= 1
	overwrite(t, m, name, bad)
	r, err := d.Open(t.Context(), h.Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, n*drivetest.Stripe/2)
	k, err := r.ReadBlocks(t.Context(), 0, n, got)
	if !errs.Is(err, errs.Corrupt) || k != 35*drivetest.Stripe/2 || !bytes.Equal(got[:k], slices.Concat(blocks[:35]...)) {
		t.Fatalf("%d bytes, %v", k, err)
	}
	// The other pieces of its block are served.
	for j := range pieces {
		from, to := j*drivetest.Piece, min((j+1)*drivetest.Piece, drivetest.Stripe/2)
		p, release, err := r.LendBlock(t.Context(), 35, from+1, to)
		if j == 2 {
			if !errs.Is(err, errs.Corrupt) || release != nil {
				t.Fatalf("the bad piece was lent: %v", err)
			}
			continue
		}
		if err != nil || !bytes.Equal(p, blocks[35][from+1:to]) {
			t.Fatalf("piece %d: %v", j, err)
		}
		release()
	}
	for i := range int64(n) {
		p, release, err := r.LendBlock(t.Context(), i, 0, len(blocks[i]))
		switch {
		case i == 35:
			if !errs.Is(err, errs.Corrupt) || release != nil {
				t.Fatalf("the bad block was lent: %v", err)
			}
		case err != nil || !bytes.Equal(p, blocks[i]):
			t.Fatalf("block %d: %v", i, err)
		default:
			release()
		}
	}
	if k, err := r.ReadBlocks(t.Context(), 36, 4, got); err != nil || k != 4*drivetest.Stripe/2 {
		t.Fatalf("behind the bad block: %d bytes, %v", k, err)
	}
}

// A shard of another store under the right name is not served.
func TestAnotherClustersShard(t *testing.T) {
	m := memDrive(t)
	if err := m.Mkdir("/other"); err != nil {
		t.Fatal(err)
	}
	a, b := twofold.NewUUID(), twofold.NewUUID()
	da, db := open(t, m, "/disk", a), open(t, m, "/other", b)
	h := drivetest.Header(b, twofold.MakeBlobID(1, 1))
	if _, err := drivetest.Put(t.Context(), db, h, 10, 1, ""); err != nil {
		t.Fatal(err)
	}
	own := drivetest.Header(a, twofold.MakeBlobID(2, 1)) // makes the directory
	if _, err := drivetest.Put(t.Context(), da, own, 10, 1, ""); err != nil {
		t.Fatal(err)
	}
	if err := m.Rename(blobFile("/other", h.Blob), blobFile("/disk", h.Blob)); err != nil {
		t.Fatal(err)
	}
	if _, err := da.Stat(t.Context(), h.Blob); !errs.Is(err, errs.Corrupt) {
		t.Fatal(err)
	}
}
