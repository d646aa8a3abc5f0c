// Package erasure turns stripes of content into blocks and back: Reed-Solomon over
// klauspost/reedsolomon, pure, in memory, knowing nothing of drives.
//
// A stripe is up to StripeSize bytes of content. It is cut into data blocks of
// equal length, the content's length divided by the number of data shards, rounded
// up; the last blocks are padded with zeros. Parity blocks of the same length
// follow:
//
//	|------------ content ------------|0|
//	|  block 0  |  block 1  |  block 2  |  block 3  |  block 4  |
//	|<------------ data --------------->|<------ parity ------->|
//
// The content is contiguous in memory, so a healthy read neither decodes nor moves
// a byte. The code is the systematic one of a Vandermonde matrix over GF(2^8) with
// polynomial 0x11d, klauspost/reedsolomon's default: it is part of the on-disk
// format and frozen by a test.
package erasure

import (
	"fmt"
	"math/bits"

	"github.com/klauspost/reedsolomon"

	"twofold/internal/errs"
)

const (
	// StripeSize is the content of a full stripe, in bytes.
	StripeSize = 1 << 20
	// MaxShards is the most shards of a blob, data and parity together.
	MaxShards = 16
	// MaxParity is the most parity shards of a blob.
	MaxParity = 8
)

// Set is a set of shard indexes.
type Set uint32

// Has reports whether i is in s.
func (s Set) Has(i int) bool { return s&(1<<i) != 0 }

// With is s and i.
func (s Set) With(i int) Set { return s | 1<<i }

// Without is s less i.
func (s Set) Without(i int) Set { return s &^ (1 << i) }

// Len is the number of indexes in s.
func (s Set) Len() int { return bits.OnesCount32(uint32(s)) }

// Contains reports whether all of t is in s.
func (s Set) Contains(t Set) bool { return s&t == t }

// Span is the set of the indexes from lo up to and without hi.
func Span(lo, hi int) Set { return Set(1<<hi - 1<<lo) }

// Valid reports whether the numbers of shards are ones this package codes.
func Valid(data, parity int) bool {
	return data >= 1 && parity >= 0 && parity <= MaxParity && data+parity <= MaxShards
}

// Coder codes with one pair of numbers. Safe for concurrent use.
type Coder struct {
	data, parity int
	rs           reedsolomon.Encoder
}

// New returns a coder of data and parity shards. errs.Invalid.
func New(data, parity int) (*Coder, error) {
	if !Valid(data, parity) {
		return nil, errs.Newf("erasure.New", errs.Invalid, "no code of %d data and %d parity shards", data, parity)
	}
	// One goroutine a call: many blobs are coded at once, which fills the cores
	// without the cost of splitting a stripe of 1 MiB further.
	rs, err := reedsolomon.New(data, parity, reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		return nil, errs.E("erasure.New", errs.Invalid, err)
	}
	return &Coder{data: data, parity: parity, rs: rs}, nil
}

// Data is the number of data shards.
func (c *Coder) Data() int { return c.data }

// Parity is the number of parity shards.
func (c *Coder) Parity() int { return c.parity }

// Shards is the number of all shards.
func (c *Coder) Shards() int { return c.data + c.parity }

// BlockLen is the length of each block of a stripe with n bytes of content.
func (c *Coder) BlockLen(n int) int { return (n + c.data - 1) / c.data }

// Encode zeroes the padding behind the content and computes the parity blocks. The
// stripe must have room for parity.
func (c *Coder) Encode(s *Stripe) error {
	clear(s.buf[s.n : c.data*s.blockLen])
	if c.parity == 0 || s.n == 0 {
		return nil
	}
	var all [MaxShards][]byte
	blocks := s.blocks(all[:0], Span(0, c.Shards()))
	if err := c.rs.Encode(blocks); err != nil {
		return errs.E("erasure.Encode", errs.Other, err)
	}
	return nil
}

// Reconstruct computes the blocks in want from the blocks in have, of which there
// must be as many as data shards, and touches no others. errs.ReadQuorum when there
// are too few.
func (c *Coder) Reconstruct(s *Stripe, have, want Set) error {
	want &^= have
	if want == 0 || s.n == 0 {
		return nil
	}
	if have.Len() < c.data {
		return errs.Newf("erasure.Reconstruct", errs.ReadQuorum, "%d good blocks, %d needed", have.Len(), c.data)
	}
	var all [MaxShards][]byte
	var required [MaxShards]bool
	blocks := s.blocks(all[:0], have)
	for i := range blocks {
		if want.Has(i) {
			blocks[i] = s.Block(i)[:0]
			required[i] = true
		}
	}
	if err := c.rs.ReconstructSome(blocks, required[:len(blocks)]); err != nil {
		return errs.E("erasure.Reconstruct", errs.Other, err)
	}
	return nil
}

// Verify reports whether the parity blocks are those of the data blocks. All blocks
// must be there.
func (c *Coder) Verify(s *Stripe) (bool, error) {
	if c.parity == 0 || s.n == 0 {
		return true, nil
	}
	var all [MaxShards][]byte
	ok, err := c.rs.Verify(s.blocks(all[:0], Span(0, c.Shards())))
	if err != nil {
		return false, errs.E("erasure.Verify", errs.Other, err)
	}
	return ok, nil
}

func (c *Coder) String() string { return fmt.Sprintf("%d+%d", c.data, c.parity) }
