package volume

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// overwritten makes a file of size bytes that pieces of n bytes each were written
// over, at random, by flushes of 1,024. It returns what is in it.
func (h *harness) overwritten(m *mount, key string, size, pieces, n int) (api.Attr, []byte) {
	h.t.Helper()
	want := random(size)
	h.put("base", key, want)
	a := m.lookup("base", key)
	src := rand.NewChaCha8([32]byte{1})
	rnd := rand.New(src)
	for pieces > 0 {
		at := map[int]bool{}
		for ; pieces > 0 && len(at) < 1024; pieces-- {
			at[rnd.IntN(size/n-1)] = true
		}
		skew := rnd.IntN(n) // so that pieces of two flushes overlap in part
		segs := []api.Segment{}
		for _, i := range slices.Sorted(maps.Keys(at)) {
			off := i*n + skew
			src.Read(want[off:][:n])
			segs = append(segs, api.Segment{Off: int64(off), Data: bytes.Clone(want[off : off+n])})
		}
		// Its last byte is written as well, so that the size stays.
		m.flush(a, append(segs, api.Segment{Off: int64(size - 1), Data: want[size-1:]})...)
	}
	return a, want
}

// uncompacted refuses what compaction does.
func (h *harness) uncompacted() {
	h.store.failing(func(c *metadata.Command) error {
		if c.Op == metadata.OpReplaceExtents {
			return errs.Newf("test", errs.Conflict, "not now")
		}
		return nil
	})
}

// BenchmarkGetOverwritten reads a file of 64 MiB that is in many pieces.
func BenchmarkGetOverwritten(b *testing.B) {
	for _, pieces := range []int{0, 1 << 10, 1 << 14, 1 << 16} {
		for _, n := range []int{100, 600} {
			b.Run(fmt.Sprintf("pieces=%d/bytes=%d", pieces, n), func(b *testing.B) {
				h := newHarness(b)
				h.open(Options{Idle: time.Hour}) // no compaction
				h.bucket("base")
				m := h.mount()
				const size = 64 << 20
				a, _ := h.overwritten(m, "f", size, pieces, n)
				b.ReportMetric(float64(h.extents(a)), "extents")
				b.SetBytes(size)
				b.ReportAllocs()
				for b.Loop() {
					_, r, err := h.v.GetObject(ctx, "base", "f")
					if err != nil {
						b.Fatal(err)
					}
					if err := r.WriteRange(ctx, io.Discard, 0, size); err != nil {
						b.Fatal(err)
					}
					r.Close()
				}
			})
		}
	}
}
