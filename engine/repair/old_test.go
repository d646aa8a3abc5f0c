package repair

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/zeebo/xxh3"

	"twofold"
	"twofold/engine"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// oldBlobs puts the shards of testdata/shards-v1 on new drives: two blobs of 2 data and
// 2 parity shards that the last program which wrote version 1 has written. It returns
// them with their content and, for each, the shards' files by index.
func oldBlobs(t *testing.T) (e *engine.Engine, h *Healer, blobs []twofold.Blob, want [][]byte, files [][]string) {
	t.Helper()
	dir := t.TempDir()
	e, h = localEngine(t, twofold.ClusterID{0: 1, 15: 2}, dir, 4, 2)
	for n, size := range []int{5000, 3<<19 + 123} {
		b := twofold.Blob{ID: twofold.MakeBlobID(7, uint64(n+1)), Data: 2, Parity: 2, Size: int64(size)}
		var p []byte
		for i := 0; len(p) < size; i++ {
			p = fmt.Appendf(p, "line %9d\n", i%1021)
		}
		blobs, want, files = append(blobs, b), append(want, p[:size]), append(files, nil)
		for index, at := range engine.Placement(b.ID, 4) {
			fan := fmt.Sprintf("%s/data%d/blobs/%02x", dir, at+1, b.ID[15])
			file := filepath.Join(fan, b.ID.String())
			if err := os.MkdirAll(fan, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, gunzip(t, fmt.Sprintf("testdata/shards-v1/%s.%d.gz", b.ID, index)), 0o600); err != nil {
				t.Fatal(err)
			}
			files[n] = append(files[n], file)
		}
	}
	return e, h, blobs, want, files
}

func gunzip(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOldShards: blobs of version 1 are read, whole and in parts, also with two shards
// gone; a scrub finds nothing wrong with them; what is healed is of the new version, and
// is read beside the old.
func TestOldShards(t *testing.T) {
	e, h, blobs, want, files := oldBlobs(t)
	ctx := t.Context()
	reads := func(what string) {
		t.Helper()
		rnd := rand.New(rand.NewPCG(1, 2))
		for n, b := range blobs {
			e.Forget(b.ID)
			for i := range 40 {
				off := rnd.Int64N(b.Size)
				p := make([]byte, min(b.Size-off, 1+rnd.Int64N(20000)))
				if i == 0 {
					off, p = 0, make([]byte, b.Size)
				}
				if _, err := e.ReadAt(ctx, b, p, off); err != nil || !bytes.Equal(p, want[n][off:][:len(p)]) {
					t.Fatalf("%s: %d bytes from %d of blob %d: %v", what, len(p), off, n, err)
				}
				var buf bytes.Buffer
				br, err := e.Open(ctx, b)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				_, err = br.WriteRange(ctx, &buf, off, int64(len(p)))
				br.Close()
				if err != nil || !bytes.Equal(buf.Bytes(), p) {
					t.Fatalf("%s: range of %d bytes from %d of blob %d: %v", what, len(p), off, n, err)
				}
			}
		}
	}
	scrub := func(what string, repaired int64) {
		t.Helper()
		if s, err := h.Scrub(ctx); err != nil || s.Bad != repaired || s.Repaired != repaired || s.Blobs != 2 || s.Mismatched != 0 {
			t.Fatalf("%s: %+v, %v", what, s, err)
		}
	}
	pieces := func() (n int) {
		t.Helper()
		for _, b := range blobs {
			states, err := e.Inspect(ctx, b.ID, b.Set)
			if err != nil {
				t.Fatal(err)
			}
			for _, st := range states {
				if st.Info.Header.Piece == drive.PieceLen {
					n++
				}
			}
		}
		return n
	}
	reads("old")
	scrub("old", 0)
	for _, lost := range [][]int{{0, 1}, {1, 3}} {
		for n := range blobs {
			for _, index := range lost {
				if err := os.Remove(files[n][index]); err != nil {
					t.Fatal(err)
				}
			}
		}
		reads(fmt.Sprint("without ", lost))
		scrub(fmt.Sprint("without ", lost), 4)
		reads(fmt.Sprint("healed ", lost))
	}
	if n := pieces(); n != 6 {
		t.Errorf("%d shards are of the new version, not the 6 that were healed", n)
	}
	scrub("healed", 0)
	// A flipped byte of an old shard is found as ever.
	p, err := os.ReadFile(files[1][2])
	if err != nil {
		t.Fatal(err)
	}
	p[200_000] ^= 1
	if err := os.WriteFile(files[1][2], p, 0o600); err != nil {
		t.Fatal(err)
	}
	scrub("flipped", 1)
	reads("flipped and healed")
}

// TestNewerShards: shards of a version that a later program wrote are not read, are not
// taken for damaged ones, and are not written over: that program finds them again.
func TestNewerShards(t *testing.T) {
	e, h, blobs, want, files := oldBlobs(t)
	ctx := t.Context()
	newer := map[string][]byte{}
	for _, file := range files[1][1:3] {
		p, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p[4] = 9 // the version, and the header's hash with it
		sum := xxh3.Hash128(p[:80]).Bytes()
		copy(p[80:], sum[:])
		if err := os.WriteFile(file, p, 0o600); err != nil {
			t.Fatal(err)
		}
		newer[file] = p
	}
	p := make([]byte, blobs[1].Size)
	if _, err := e.ReadAt(ctx, blobs[1], p, 0); err != nil || !bytes.Equal(p, want[1]) {
		t.Errorf("read of what the others have: %v", err)
	}
	states, err := e.Inspect(ctx, blobs[1].ID, blobs[1].Set)
	if err != nil {
		t.Fatal(err)
	}
	unknown := 0
	for _, st := range states {
		if errs.Is(st.Err, errs.Unsupported) {
			unknown++
		}
	}
	if unknown != len(newer) {
		t.Errorf("%d shards are of an unknown version, want %d", unknown, len(newer))
	}
	if s, err := h.Scrub(ctx); err != nil || s.Bad != 0 || s.Repaired != 0 {
		t.Errorf("scrub: %+v, %v", s, err)
	}
	for file, want := range newer {
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("a newer shard was written over, or is gone: %v", err)
		}
	}
}
