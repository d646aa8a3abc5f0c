package erasure

import (
	"sync"
	"sync/atomic"

	"twofold/internal/slab"
)

// Stripe is the memory of one stripe: content, padding and perhaps parity. It comes
// from a Pool and goes back when its last reference is released, so that a block a
// hung drive may still read or write is never handed out again. Its content is not
// safe for concurrent writes; Retain and Release are.
type Stripe struct {
	buf      []byte
	n        int // bytes of content
	blockLen int
	shards   int // blocks there is room for: data, or data and parity
	refs     atomic.Int32
	pool     *sync.Pool // of whole stripes, or:
	slab     *slab.Pool // of buf
	freed    func()     // called when the last reference is released; may be nil
}

// Len is the number of bytes of content.
func (s *Stripe) Len() int { return s.n }

// BlockLen is the length of each block.
func (s *Stripe) BlockLen() int { return s.blockLen }

// Content is the stripe's content.
func (s *Stripe) Content() []byte { return s.buf[:s.n:s.n] }

// Block is block i: data blocks first, then parity.
func (s *Stripe) Block(i int) []byte {
	return s.buf[i*s.blockLen : (i+1)*s.blockLen : (i+1)*s.blockLen]
}

// blocks appends a slice for each shard to dst, nil for those not in have.
func (s *Stripe) blocks(dst [][]byte, have Set) [][]byte {
	for i := range s.shards {
		if have.Has(i) {
			dst = append(dst, s.Block(i))
		} else {
			dst = append(dst, nil)
		}
	}
	return dst
}

// Retain adds a reference.
func (s *Stripe) Retain() { s.refs.Add(1) }

// OnFree has fn called once, when the last reference is released, by whoever does. It is
// set before the stripe is shared.
func (s *Stripe) OnFree(fn func()) { s.freed = fn }

// Release drops a reference; the last one gives the memory back to the pool.
func (s *Stripe) Release() {
	switch n := s.refs.Add(-1); {
	case n == 0:
		fn := s.freed
		s.freed = nil
		switch {
		case s.slab != nil:
			s.slab.Put(s.buf)
			s.buf = nil
		case s.pool != nil:
			s.pool.Put(s)
		}
		if fn != nil {
			fn()
		}
	case n < 0:
		panic("erasure: a stripe was released twice")
	}
}

// Pool hands out stripes. It keeps memory in classes by size, so that small blobs
// do not hold buffers of full stripes. The zero value is ready. Safe for concurrent
// use.
type Pool struct {
	classes [slabClass - minClass]sync.Pool
}

// slabs have the buffers of large stripes, of all pools of the process.
var slabs = func() (s [maxClass - slabClass + 1]*slab.Pool) {
	for i := range s {
		s[i] = slab.New(1<<(slabClass+i) + classSlack)
	}
	return s
}()

// Classes are powers of two of bytes, 16 KiB to 16 MiB: the largest stripe is one
// of content with 8 parity blocks to its one data block. What is larger (a foreign
// header's stripe) is not pooled.
const (
	minClass  = 14
	slabClass = 18 // from here on off the heap
	maxClass  = 24
	// classSlack is what a class has over its power of two: room for the rounding up
	// of blocks, so that a full stripe over 3 data shards stays in the class of 1 MiB.
	classSlack = 256
)

// Full returns a stripe for n bytes of content and its parity.
func (p *Pool) Full(c *Coder, n int) *Stripe { return p.get(c, n, c.Shards()) }

// Data returns a stripe for n bytes of content without room for parity.
func (p *Pool) Data(c *Coder, n int) *Stripe { return p.get(c, n, c.data) }

func (p *Pool) get(c *Coder, n, shards int) *Stripe {
	blockLen := c.BlockLen(n)
	size := shards * blockLen
	s := p.take(size)
	s.n, s.blockLen, s.shards = n, blockLen, shards
	s.refs.Store(1)
	return s
}

func (p *Pool) take(size int) *Stripe {
	for class := minClass; class <= maxClass; class++ {
		if size > 1<<class+classSlack {
			continue
		}
		if class >= slabClass {
			slab := slabs[class-slabClass]
			return &Stripe{buf: slab.Get(), slab: slab}
		}
		pool := &p.classes[class-minClass]
		if s, _ := pool.Get().(*Stripe); s != nil {
			return s
		}
		return &Stripe{buf: make([]byte, 1<<class+classSlack), pool: pool}
	}
	return &Stripe{buf: make([]byte, size)}
}

// Truncate makes n, which is not more than what the stripe was made for, the
// length of its content. Block boundaries move: it is for a stripe that has been
// filled with content and not yet coded.
func (s *Stripe) Truncate(c *Coder, n int) {
	s.n, s.blockLen = n, c.BlockLen(n)
}

// Size is how many bytes of memory the stripe holds.
func (s *Stripe) Size() int { return cap(s.buf) }
