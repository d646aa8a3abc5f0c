package drive_test

import (
	"testing"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
)

// TestManyWritersGatherInLess: of many shards that are being written only some have
// large buffers, a shard that is written with smaller ones is as good, and the large
// ones are there again for those that come later.
func TestManyWritersGatherInLess(t *testing.T) {
	const writers, size = 30, 3<<20 + 7
	r := newRig(t, -1, 0)
	h := make([]drive.ShardHeader, writers)
	blocks := make([][][]byte, writers)
	w := make([]drive.ShardWriter, writers)
	for i := range w {
		h[i] = drivetest.Header(r.c, twofold.MakeBlobID(1, uint64(i)))
		blocks[i] = drivetest.Blocks(h[i], size, uint64(i))
		var err error
		if w[i], err = r.d.Create(t.Context(), h[i]); err != nil {
			t.Fatal(err)
		}
	}
	held := func() (bytes, large int) {
		for i := range w {
			n := drive.Gather(w[i])
			bytes += n
			if n == 1<<20 {
				large++
			}
		}
		return bytes, large
	}
	if n, _ := held(); n > writers*64<<10 {
		t.Errorf("%d KiB before there is a block", n>>10)
	}
	for b := range blocks[0] {
		for i := range w {
			if err := w[i].WriteBlock(blocks[i][b]); err != nil {
				t.Fatal(err)
			}
		}
		if n, large := held(); n > 4<<20+(writers-4)*256<<10 || large > 4 || r.d.Gathers() > 4 {
			t.Fatalf("after block %d: %d KiB, %d large buffers", b, n>>10, large)
		}
		if _, large := held(); b == 3 && large != 4 {
			t.Errorf("%d large buffers are used", large)
		}
	}
	for i := range w {
		if i%5 == 0 {
			if err := w[i].Abort(); err != nil {
				t.Error(err)
			}
			continue
		}
		if err := w[i].Commit(drive.ShardTrailer{Size: size}); err != nil {
			t.Fatal(err)
		}
		if err := drivetest.Verify(t.Context(), r.d, h[i].Blob, blocks[i]); err != nil {
			t.Errorf("shard %d: %v", i, err)
		}
	}
	if n := r.d.Gathers(); n != 0 {
		t.Errorf("%d large buffers did not come back", n)
	}
}
