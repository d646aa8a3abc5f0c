package drive

import (
	"sync"

	"twofold/internal/vfs"
)

// Sizes of the buffers that shards pass through: one write to the file system is at
// most largeBuf long, and a shard of up to smallBuf is written, or read, in one.
// A shard longer than largeBuf is written past the page cache: measured with 32
// writers of 4 MiB on ext4, that takes a third of the processor time or less, and
// as much disk.
const (
	smallBuf = 64 << 10
	largeBuf = 1 << 20
)

// buffers keeps buffers of the two sizes for reuse.
type buffers struct{ small, large sync.Pool }

// get returns an empty buffer with room for n bytes.
func (b *buffers) get(n int) []byte {
	pool, size := &b.small, smallBuf
	if n > smallBuf {
		pool, size = &b.large, largeBuf
	}
	if n > largeBuf {
		return make([]byte, 0, n)
	}
	if p, ok := pool.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return vfs.AlignedBuf(size)
}

// put gives a buffer back that nobody uses any more.
func (b *buffers) put(p []byte) {
	switch cap(p) {
	case smallBuf:
		b.small.Put(&p)
	case largeBuf:
		b.large.Put(&p)
	}
}
