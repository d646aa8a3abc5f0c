package drives

import (
	"sync"

	"twofold/internal/slab"
)

// Sizes of the buffers that bytes travel in: a read of a few pieces, a block where many
// shards are written at once, and a full call.
const (
	smallBuf  = 64 << 10
	mediumBuf = 256 << 10
	largeBuf  = 1 << 20
)

// bufferPool keeps buffers for reuse. Safe for concurrent use.
type bufferPool struct {
	small         sync.Pool
	medium, large *slab.Pool
}

// buffers are those of all drives of the process.
var buffers = &bufferPool{medium: slab.New(mediumBuf), large: slab.New(largeBuf)}

// get returns a buffer of n bytes of anything.
func (b *bufferPool) get(n int) []byte {
	switch {
	case n <= smallBuf:
		if p, ok := b.small.Get().(*[]byte); ok {
			return (*p)[:n]
		}
		return make([]byte, n, smallBuf)
	case n <= mediumBuf:
		return b.medium.Get()[:n]
	case n <= largeBuf:
		return b.large.Get()[:n]
	}
	return make([]byte, n)
}

// put gives a buffer of get's back that nobody uses any more.
func (b *bufferPool) put(p []byte) {
	switch cap(p) {
	case smallBuf:
		b.small.Put(&p)
	case mediumBuf:
		b.medium.Put(p)
	case largeBuf:
		b.large.Put(p)
	}
}
