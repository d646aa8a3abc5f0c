package placement

import (
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/xxh3"

	"twofold"
)

// ChoosePool returns the pool for a new blob: each in proportion to its free bytes.
// random is uniform over all 64 bits. A pool without free space (or that the caller
// gave none, because it is full or can't write) is never chosen; -1 where none is left.
func ChoosePool(free []uint64, random uint64) int {
	const unit = 1 << 16 // so that a sum of 65,536 pools can't overflow
	var total uint64
	for _, f := range free {
		total += units(f, unit)
	}
	if total == 0 {
		return -1
	}
	x, _ := bits.Mul64(random, total) // uniform in [0, total)
	for i, f := range free {
		u := units(f, unit)
		if x < u {
			return i
		}
		x -= u
	}
	return -1 // not reached: x < total
}

func units(f, unit uint64) uint64 {
	u := f / unit
	if f%unit != 0 {
		u++
	}
	return u
}

// ChooseSet returns the set of a pool for a name: the same for the same name, and
// evenly spread, differently in each cluster. Where a blob went is kept with it, so
// the function may change; where this set can't be written the next ones (modulo
// sets) are as good.
func ChooseSet(cluster twofold.ClusterID, name string, sets int) int {
	if sets <= 1 {
		return 0
	}
	seed := binary.LittleEndian.Uint64(cluster[:8]) ^ bits.RotateLeft64(binary.LittleEndian.Uint64(cluster[8:]), 32)
	i, _ := bits.Mul64(xxh3.HashStringSeed(name, seed), uint64(sets))
	return int(i)
}
