package drive_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"twofold"
	"twofold/engine/drive"
	"twofold/internal/vfs"
)

// BenchmarkPut writes the shards of objects to 4 drives at EC:2 from 8 clients, as
// the engine does, without its Reed-Solomon coding: 8 MiB objects, and 64 KiB ones.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int64{64 << 10, 8 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) { benchmarkPut(b, size) })
	}
}

func benchmarkPut(b *testing.B, size int64) {
	c := twofold.NewUUID()
	var drives []*drive.Local
	dir := b.TempDir()
	for i := range 4 {
		drives = append(drives, open(b, vfs.OS(), fmt.Sprintf("%s/%d", dir, i), c))
	}
	var next atomic.Uint64
	block := make([]byte, 512<<10)
	put := func(n uint64) {
		var wg sync.WaitGroup
		for i, d := range drives {
			wg.Go(func() {
				h := drive.ShardHeader{Cluster: c, Blob: twofold.MakeBlobID(1, n), Index: uint8(i), Data: 2, Parity: 2, Stripe: 1 << 20, Piece: drive.PieceLen}
				w, err := d.Create(b.Context(), h)
				if err != nil {
					b.Error(err)
					return
				}
				for s := range drive.Blocks(h, size) {
					if err := w.WriteBlock(block[:drive.BlockLen(h, size, s)]); err != nil {
						b.Error(err)
						return
					}
				}
				if err := w.Commit(drive.ShardTrailer{Size: size}); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	b.SetBytes(size)
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := next.Add(1); n <= uint64(b.N); n = next.Add(1) {
				put(n)
			}
		})
	}
	wg.Wait()
}
