package drives

import (
	"context"
	"sync"

	"twofold/engine/drive"
)

// aheadBytes bounds what one reader reads ahead: a shard that is read in order then has a
// call under way while a block is on its way, and another one at the drive.
const aheadBytes = 1 << 20

// maxAheadBlocks is the same in blocks, where those are small.
const maxAheadBlocks = 4

// ahead reads the next blocks of a shard that is read in order, whole block by whole
// block.
type ahead struct {
	r      *reader
	ctx    context.Context // ends with the reader
	cancel context.CancelFunc

	mu     sync.Mutex
	last   int64                // guarded by mu; the block that was read last; -1: none
	run    int                  // guarded by mu; how many in order before that
	blocks map[int64]*aheadRead // guarded by mu; nil when closed
}

// aheadRead is a block on its way, or here. Whoever takes it out of ahead.blocks frees it.
type aheadRead struct {
	done chan struct{} // closed when buf is there, or could not be had
	buf  []byte        // nil: it could not be had
}

func (a *ahead) init(r *reader) {
	a.r, a.last, a.blocks = r, -1, make(map[int64]*aheadRead)
	a.ctx, a.cancel = context.WithCancel(r.d.n.ctx)
}

// take returns block i, which was read ahead, once it is here; nil: it was not, or could
// not be had. The caller frees it.
func (a *ahead) take(ctx context.Context, i int64) []byte {
	a.mu.Lock()
	b := a.blocks[i]
	delete(a.blocks, i)
	a.mu.Unlock()
	if b == nil {
		return nil
	}
	a.seen(i)
	select {
	case <-b.done:
		a.r.d.n.ahead.Release(int64(a.r.blockLen(i)))
		return b.buf
	case <-ctx.Done():
		go a.free(i, b)
		return nil
	}
}

// seen notes that block i is read, and begins to read the next ones where it was in order.
func (a *ahead) seen(i int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.blocks == nil {
		return
	}
	if i == a.last+1 {
		a.run++
	} else if i != a.last {
		a.run = 0
	}
	a.last = i
	for at, b := range a.blocks { // passed over: read as somebody else asked for them
		if at <= i || at > i+maxAheadBlocks {
			delete(a.blocks, at)
			go a.free(at, b)
		}
	}
	window := min(a.run-1, maxAheadBlocks, aheadBytes/a.r.blockLen(0))
	end := min(i+int64(window), drive.Blocks(a.r.info.Header, a.r.info.Trailer.Size)-1)
	for at := i + 1; at <= end; at++ {
		if a.blocks[at] == nil && !a.begin(at) {
			return
		}
	}
}

// begin reads block i, if there is room for it. a.mu is held.
func (a *ahead) begin(i int64) bool {
	n := a.r.blockLen(i)
	if !a.r.d.n.ahead.TryAcquire(int64(n)) {
		return false
	}
	b := &aheadRead{done: make(chan struct{})}
	a.blocks[i] = b
	go func() {
		b.buf, _ = a.r.fetch(a.ctx, i, 0, n) // whoever needs it asks again, and has the error
		close(b.done)
	}()
	return true
}

// copy fills p with bytes of block i, if that is here.
func (a *ahead) copy(i int64, from int, p []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.blocks[i]
	if b == nil {
		return false
	}
	select {
	case <-b.done:
	default:
		return false
	}
	if b.buf == nil {
		return false
	}
	copy(p, b.buf[from:from+len(p)])
	return true
}

// free waits for a block that nobody wants, and lets go of it.
func (a *ahead) free(i int64, b *aheadRead) {
	<-b.done
	buffers.put(b.buf)
	a.r.d.n.ahead.Release(int64(a.r.blockLen(i)))
}

// close gives up what is on its way.
func (a *ahead) close() {
	a.cancel()
	a.mu.Lock()
	blocks := a.blocks
	a.blocks = nil
	a.mu.Unlock()
	for i, b := range blocks {
		go a.free(i, b)
	}
}
