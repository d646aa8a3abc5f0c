package drive

import (
	"sync"
	"sync/atomic"

	"twofold/internal/slab"
	"twofold/internal/vfs"
)

// Sizes of the buffers that shards pass through: one write to the file system is at
// most largeBuf long, and a shard of up to smallBuf is written, or read, in one.
// A shard longer than its first write (mediumBuf or largeBuf) goes past the page cache:
// measured with 32 writers of 4 MiB on ext4, that takes a third of the processor time
// or less, and as much disk.
const (
	smallBuf  = 64 << 10
	mediumBuf = 256 << 10
	largeBuf  = 1 << 20
)

// largeGathers is how many large buffers of a drive's have blocks of shards being
// written: two for each of two shards, one that fills and one that is written. The
// blocks of more shards gather in medium ones; with 16, eight shards were as fast.
const largeGathers = 4

// buffers keeps buffers of the three sizes for reuse. Safe for concurrent use.
type buffers struct {
	small   sync.Pool
	gathers atomic.Int32 // large ones that gather returned
}

// The larger ones are those of all drives of the process. A page of the system's is at
// least vfs.Align long.
var (
	mediumBufs = slab.New(mediumBuf)
	largeBufs  = slab.New(largeBuf)
)

// get returns an empty buffer with room for n bytes.
func (b *buffers) get(n int) []byte {
	switch {
	case n <= smallBuf:
		if p, ok := b.small.Get().(*[]byte); ok {
			return (*p)[:0]
		}
		return vfs.AlignedBuf(smallBuf)
	case n <= largeBuf:
		return largeBufs.Get()[:0]
	}
	return make([]byte, 0, n)
}

// gather returns an empty buffer, large or medium, for blocks to gather in.
func (b *buffers) gather() []byte {
	if b.gathers.Add(1) <= largeGathers {
		return largeBufs.Get()[:0]
	}
	b.gathers.Add(-1)
	return mediumBufs.Get()[:0]
}

// put gives a buffer of get's back that nobody uses any more.
func (b *buffers) put(p []byte) {
	switch cap(p) {
	case smallBuf:
		b.small.Put(&p)
	case mediumBuf:
		mediumBufs.Put(p)
	case largeBuf:
		largeBufs.Put(p)
	}
}

// putGather gives a buffer back that is gather's, or a small one of get's.
func (b *buffers) putGather(p []byte) {
	b.put(p)
	if cap(p) == largeBuf {
		b.gathers.Add(-1)
	}
}
