// Package drivetest is the conformance suite of drives: what the engine relies on,
// run on every implementation of drive.Drive.
package drivetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"twofold"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// Stripe is the stripe that the suite's shards have, Piece the length of the pieces that
// their blocks, of half a stripe, are cut into: the last piece is a short one.
const (
	Stripe = 64 << 10
	Piece  = 5000
)

// Header describes a shard of a new blob with 2 data and 2 parity shards.
func Header(cluster twofold.ClusterID, b twofold.BlobID) drive.ShardHeader {
	return drive.ShardHeader{
		Cluster: cluster, Blob: b, Set: twofold.SetID{Pool: 1, Set: 2}, Index: 1,
		Data: 2, Parity: 2, Stripe: Stripe, Piece: Piece, Created: 1234567890,
	}
}

// Blocks makes the blocks that a shard of a blob of size bytes has: random bytes.
func Blocks(h drive.ShardHeader, size int64, seed uint64) [][]byte {
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	out := [][]byte{} // not nil: a blob without content is not an absent one
	for i := range drive.Blocks(h, size) {
		p := make([]byte, drive.BlockLen(h, size, i))
		rnd.Read(p) // never fails
		out = append(out, p)
	}
	return out
}

// Put writes and commits a shard, and returns its blocks.
func Put(ctx context.Context, d drive.Drive, h drive.ShardHeader, size int64, seed uint64, purpose string) ([][]byte, error) {
	w, err := d.Create(ctx, h)
	if err != nil {
		return nil, err
	}
	blocks := Blocks(h, size, seed)
	for _, p := range blocks {
		if err := w.WriteBlock(p); err != nil {
			w.Abort()
			return nil, err
		}
	}
	return blocks, w.Commit(drive.ShardTrailer{Size: size, Purpose: []byte(purpose)})
}

// Verify reads a shard in full and compares it.
func Verify(ctx context.Context, d drive.Drive, b twofold.BlobID, blocks [][]byte) error {
	r, err := d.Open(ctx, b)
	if err != nil {
		return err
	}
	defer r.Close()
	want := slices.Concat(blocks...)
	got := make([]byte, len(want))
	n, err := r.ReadBlocks(ctx, 0, int64(len(blocks)), got)
	if err != nil {
		return err
	}
	if n != len(want) || !bytes.Equal(got, want) {
		return fmt.Errorf("blob %s: read %d bytes that differ from the %d written", b, n, len(want))
	}
	return verifyLent(ctx, r, blocks)
}

// verifyLent borrows every block, gives them back only when it has all, and borrows
// once more; then parts of them, also such as are in memory.
func verifyLent(ctx context.Context, l drive.ShardReader, blocks [][]byte) error {
	for range 2 {
		var lent [][]byte
		for i := range blocks {
			p, release, err := l.LendBlock(ctx, int64(i), 0, len(blocks[i]))
			if err != nil {
				return err
			}
			defer release()
			lent = append(lent, p)
		}
		for i, p := range lent {
			if !bytes.Equal(p, blocks[i]) {
				return fmt.Errorf("block %d was lent with other content", i)
			}
		}
	}
	for i, block := range blocks {
		if err := verifyParts(ctx, l, int64(i), block); err != nil {
			return err
		}
	}
	for _, i := range []int64{-1, int64(len(blocks))} {
		if _, release, err := l.LendBlock(ctx, i, 0, 1); !errs.Is(err, errs.Invalid) || release != nil {
			return fmt.Errorf("block %d of %d lent: %v", i, len(blocks), err)
		}
	}
	return nil
}

// verifyParts reads parts of a block that begin and end at, before and behind the ends of
// pieces.
func verifyParts(ctx context.Context, l drive.ShardReader, i int64, block []byte) error {
	n := len(block)
	for _, part := range [][2]int{
		{0, 1}, {n - 1, n}, {n / 2, n/2 + 1}, {0, Piece}, {1, Piece}, {Piece - 1, Piece + 1}, {Piece, 2 * Piece},
		{Piece, 2*Piece + 1}, {Piece + 1, 4*Piece - 1}, {Piece / 2, n}, {0, n},
	} {
		from, to := part[0], part[1]
		if from < 0 || to > n || from >= to {
			continue
		}
		p, release, err := l.LendBlock(ctx, i, from, to)
		if err != nil {
			return err
		}
		same := bytes.Equal(p, block[from:to])
		release()
		if !same {
			return fmt.Errorf("[%d, %d) of block %d was lent with other content", from, to, i)
		}
		p = make([]byte, to-from)
		if l.ReadNow(i, from, p) && !bytes.Equal(p, block[from:to]) {
			return fmt.Errorf("[%d, %d) of block %d was read now with other content", from, to, i)
		}
	}
	for _, part := range [][2]int{{-1, 1}, {0, 0}, {1, 0}, {0, n + 1}, {n, n + 1}} {
		if _, release, err := l.LendBlock(ctx, i, part[0], part[1]); !errs.Is(err, errs.Invalid) || release != nil {
			return fmt.Errorf("[%d, %d) of block %d of %d bytes lent: %v", part[0], part[1], i, n, err)
		}
	}
	if l.ReadNow(i, n-1, make([]byte, 2)) {
		return fmt.Errorf("more than block %d has was read", i)
	}
	return nil
}

// Run runs the suite. open returns a fresh drive of the cluster for each test.
func Run(t *testing.T, open func(t *testing.T, cluster twofold.ClusterID) drive.Drive) {
	cluster := twofold.NewUUID()
	tests := []struct {
		name string
		fn   func(*testing.T, drive.Drive, twofold.ClusterID)
	}{
		{"Sizes", testSizes}, {"Uncommitted", testUncommitted}, {"Replace", testReplace},
		{"DeleteWhileOpen", testDelete}, {"Walk", testWalk}, {"Partial", testPartial},
		{"Invalid", testInvalid}, {"Canceled", testCanceled}, {"Concurrent", testConcurrent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.fn(t, open(t, cluster), cluster) })
	}
}

func wantKind(t *testing.T, what string, err error, k errs.Kind) {
	t.Helper()
	if !errs.Is(err, k) {
		t.Fatalf("%s: %v, want %v", what, err, k)
	}
}

func testSizes(t *testing.T, d drive.Drive, c twofold.ClusterID) {
	ctx := t.Context()
	sizes := []int64{0, 1, 2, 3, 4095, Stripe - 1, Stripe, Stripe + 1, 3*Stripe + 17, 40*Stripe + 5, 100 * Stripe}
	for i, size := range sizes {
		h := Header(c, twofold.MakeBlobID(7, uint64(i)))
		purpose := fmt.Sprintf("object %d", i)
		blocks, err := Put(ctx, d, h, size, uint64(i), purpose)
		if err != nil {
			t.Fatalf("put %d bytes: %v", size, err)
		}
		info, err := d.Stat(ctx, h.Blob)
		if err != nil {
			t.Fatalf("stat of %d bytes: %v", size, err)
		}
		if info.Header != h || info.Trailer.Size != size || string(info.Trailer.Purpose) != purpose || info.Bytes <= size/2 {
			t.Fatalf("stat of %d bytes: %+v", size, info)
		}
		if err := Verify(ctx, d, h.Blob, blocks); err != nil {
			t.Fatal(err)
		}
	}
	u, err := d.Usage(ctx)
	if err != nil || u.Total == 0 || u.Free > u.Total {
		t.Fatalf("usage: %+v, %v", u, err)
	}
	if d.State() != drive.Online || d.ID().IsZero() || d.String() == "" {
		t.Fatalf("state %v, id %v, name %q", d.State(), d.ID(), d)
	}
}

func testUncommitted(t *testing.T, d drive.Drive, c twofold.ClusterID) {
	ctx := t.Context()
	h := Header(c, twofold.MakeBlobID(7, 1))
	for _, blocks := range []int{0, 1, 100} {
		w, err := d.Create(ctx, h)
		if err != nil {
			t.Fatal(err)
		}
		for range blocks {
			if err := w.WriteBlock(make([]byte, Stripe/2)); err != nil {
				t.Fatal(err)
			}
		}
		_, err = d.Stat(ctx, h.Blob)
		wantKind(t, "stat before commit", err, errs.NotFound)
		if err := w.Abort(); err != nil {
			t.Fatal(err)
		}
		if err := w.Abort(); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(drive.ShardTrailer{Size: int64(blocks) * Stripe}); err == nil {
			t.Fatal("commit after abort")
		}
		_, err = d.Open(ctx, h.Blob)
		wantKind(t, "open after abort", err, errs.NotFound)
	}
	if n := count(t, d); n != 0 {
		t.Fatalf("%d shards", n)
	}
}

func count(t *testing.T, d drive.Drive) (n int) {
	t.Helper()
	if err := d.Walk(t.Context(), twofold.BlobID{}, func(twofold.BlobID) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func testReplace(t *testing.T, d drive.Drive, c twofold.ClusterID) {
	ctx := t.Context()
	h := Header(c, twofold.MakeBlobID(7, 1))
	old, err := Put(ctx, d, h, 5*Stripe, 1, "old")
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Open(ctx, h.Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h.Index = 2
	replaced, err := Put(ctx, d, h, 5*Stripe, 2, "new")
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(ctx, d, h.Blob, replaced); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5*Stripe/2)
	if _, err := r.ReadBlocks(ctx, 0, 5, got); err != nil || !bytes.Equal(got, slices.Concat(old...)) {
		t.Fatalf("an open reader lost the shard it had opened: %v", err)
	}
	if n := count(t, d); n != 1 {
		t.Fatalf("%d shards", n)
	}
}

func testDelete(t *testing.T, d drive.Drive, c twofold.ClusterID) {
	ctx := t.Context()
	for i, size := range []int64{Stripe / 2, 20 * Stripe} {
		h := Header(c, twofold.MakeBlobID(7, uint64(i)))
		blocks, err := Put(ctx, d, h, size, 3, "")
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Open(ctx, h.Blob)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second finds none, and succeeds
			if err := d.Delete(ctx, h.Blob); err != nil {
				t.Fatal(err)
			}
		}
		_, err = d.Stat(ctx, h.Blob)
		wantKind(t, "stat after delete", err, errs.NotFound)
		want := slices.Concat(blocks...)
		got := make([]byte, len(want))
		if _, err := r.ReadBlocks(ctx, 0, int64(len(blocks)), got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("read of a deleted shard that is open: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadBlocks(ctx, 0, 1, got); err == nil {
			t.Fatal("read after close")
		}
	}
}

func testWalk(t *testing.T, d drive.Drive, c twofold.ClusterID) {
	ctx := t.Context()
	rnd := rand.New(rand.NewPCG(5, 5))
	var ids []twofold.BlobID
	for range 40 {
		b := twofold.MakeBlobID(twofold.SessionID(1+rnd.Uint64N(3)), rnd.Uint64())
		if _, err := Put(ctx, d, Header(c, b), 10, 1, ""); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, b)
	}
	slices.SortFunc(ids, func(a, b twofold.BlobID) int { return bytes.Compare(a[:], b[:]) })
	for _, from := range []int{-1, 0, 17, 39} {
		var after twofold.BlobID
		if from >= 0 {
			after = ids[from]
		}
		var got []twofold.BlobID
		err := d.Walk(ctx, after, func(b twofold.BlobID) error { got = append(got, b); return nil })
		if err != nil || !slices.Equal(got, ids[from+1:]) {
			t.Fatalf("walk after %d: %v, %v", from, got, err)
		}
	}
	stop, n := errors.New("stop"), 0
	err := d.Walk(ctx, twofold.BlobID{}, func(twofold.BlobID) error {
		if n++; n == 5 {
			return stop
		}
		return nil
	})
	if err != stop || n != 5 {
		t.Fatalf("walk went on: %d, %v", n, err)
	}
}

func testPartial(t *testing.T, d drive.Drive, c twofold.ClusterID) {
	ctx := t.Context()
	h := Header(c, twofold.MakeBlobID(7, 1))
	const size = 70*Stripe + 1
	blocks, err := Put(ctx, d, h, size, 9, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Open(ctx, h.Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		first := rnd.Int64N(72)
		n := rnd.Int64N(72)
		end := min(first+n, 71)
		want := slices.Concat(blocks[min(first, 71):end]...)
		got := make([]byte, len(want))
		k, err := r.ReadBlocks(ctx, first, n, got)
		if err != nil || k != len(want) || !bytes.Equal(got, want) {
			t.Fatalf("blocks %d+%d: %d bytes, %v", first, n, k, err)
		}
		if len(want) > 0 {
			_, err = r.ReadBlocks(ctx, first, n, got[1:])
			wantKind(t, "too little room", err, errs.Invalid)
		}
	}
	for _, bad := range [][2]int64{{-1, 1}, {0, -1}, {72, 1}} {
		_, err = r.ReadBlocks(ctx, bad[0], bad[1], make([]byte, Stripe))
		wantKind(t, fmt.Sprint("blocks ", bad), err, errs.Invalid)
	}
}

func testInvalid(t *testing.T, d drive.Drive, c twofold.ClusterID) {
	ctx := t.Context()
	good := Header(c, twofold.MakeBlobID(7, 1))
	for name, change := range map[string]func(*drive.ShardHeader){
		"no data shards": func(h *drive.ShardHeader) { h.Data = 0 },
		"index":          func(h *drive.ShardHeader) { h.Index = 4 },
		"no stripe":      func(h *drive.ShardHeader) { h.Stripe = 0 },
		"tiny pieces":    func(h *drive.ShardHeader) { h.Piece = 1 },
		"cluster":        func(h *drive.ShardHeader) { h.Cluster = twofold.NewUUID() },
	} {
		h := good
		change(&h)
		_, err := d.Create(ctx, h)
		wantKind(t, name, err, errs.Invalid)
	}
	full := make([]byte, Stripe/2)
	for name, tt := range map[string]struct {
		blocks [][]byte
		tr     drive.ShardTrailer
	}{
		"empty block":      {[][]byte{{}}, drive.ShardTrailer{}},
		"long block":       {[][]byte{make([]byte, Stripe/2+1)}, drive.ShardTrailer{Size: Stripe + 2}},
		"block after last": {[][]byte{full[1:], full[1:], full}, drive.ShardTrailer{Size: 3 * Stripe}},
		"size too large":   {[][]byte{full}, drive.ShardTrailer{Size: Stripe + 1}},
		"size too small":   {[][]byte{full, full}, drive.ShardTrailer{Size: Stripe}},
		"last block":       {[][]byte{full, full}, drive.ShardTrailer{Size: 2*Stripe - 10}},
		"first blocks":     {[][]byte{full[1:], full[1:]}, drive.ShardTrailer{Size: 2*Stripe - 2}},
		"negative":         {nil, drive.ShardTrailer{Size: -1}},
		"purpose":          {[][]byte{full}, drive.ShardTrailer{Size: Stripe, Purpose: make([]byte, 4097)}},
	} {
		w, err := d.Create(ctx, good)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range tt.blocks {
			if err = w.WriteBlock(b); err != nil {
				break
			}
		}
		if err == nil {
			err = w.Commit(tt.tr)
		}
		wantKind(t, name, err, errs.Invalid)
		_, err = d.Stat(ctx, good.Blob)
		wantKind(t, "stat after "+name, err, errs.NotFound)
	}
}

func testCanceled(t *testing.T, d drive.Drive, c twofold.ClusterID) {
	ctx, cancel := context.WithCancel(t.Context())
	h := Header(c, twofold.MakeBlobID(7, 1))
	w, err := d.Create(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteBlock(make([]byte, Stripe/2)); err != nil {
		t.Fatal(err)
	}
	cancel()
	wantKind(t, "commit", w.Commit(drive.ShardTrailer{Size: Stripe}), errs.Canceled)
	_, err = d.Open(ctx, h.Blob)
	wantKind(t, "open", err, errs.Canceled)
	_, err = d.Stat(t.Context(), h.Blob)
	wantKind(t, "stat", err, errs.NotFound)
}

func testConcurrent(t *testing.T, d drive.Drive, c twofold.ClusterID) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 10 {
				b := twofold.MakeBlobID(twofold.SessionID(g+1), uint64(i))
				blocks, err := Put(ctx, d, Header(c, b), int64(1+i*9000), uint64(i), "")
				if err == nil {
					err = Verify(ctx, d, b, blocks)
				}
				if err == nil && i%2 == 0 {
					err = d.Delete(ctx, b)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := count(t, d); n != 8*5 {
		t.Fatalf("%d shards", n)
	}
}
