package engine

import (
	"container/list"
	"context"
	"io"
	"sync"
	"time"

	"twofold"
	"twofold/engine/erasure"
)

// ReadAt fills p from off of a blob, like BlobReader.ReadAt. It keeps a bounded
// number of blobs open, and recently read blocks in memory, so that many small reads
// do not each open files and read whole blocks. Blobs never change and ids are never
// used again: what is kept is never wrong, only perhaps deleted.
func (e *Engine) ReadAt(ctx context.Context, blob twofold.Blob, p []byte, off int64) (int, error) {
	b, err := e.cache.get(ctx, e, blob)
	if err != nil {
		return 0, err
	}
	defer b.release()
	n, err := b.rangeLen(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	done, err := b.readCached(ctx, p[:n], off)
	if err == nil && done < len(p) {
		err = io.EOF
	}
	return done, err
}

// readCached is for reads within a few stripes, through the cache of blocks.
func (b *BlobReader) readCached(ctx context.Context, p []byte, off int64) (int, error) {
	size := int64(b.stripeLen.Load())
	if int64(len(p)) > 2*size {
		return b.ReadAt(ctx, p, off)
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		i := at / size
		lo := int(at - i*size)
		hi := min(lo+len(p)-done, b.stripeContent(i))
		st, err := b.cachedStripe(ctx, i, lo, hi)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], st.Content()[lo:hi])
		st.Release()
	}
	return done, nil
}

// cachedStripe is stripe by way of the cache.
func (b *BlobReader) cachedStripe(ctx context.Context, i int64, lo, hi int) (*erasure.Stripe, error) {
	blockLen := b.coder.BlockLen(b.stripeContent(i))
	want := erasure.Span(lo/blockLen, (hi-1)/blockLen+1)
	key := blockKey{b.blob.ID, i}
	if st := b.e.blocks.get(key, want); st != nil {
		return st, nil
	}
	st, err := b.stripe(ctx, i, lo, hi)
	if err == nil {
		b.e.blocks.put(key, st, want)
	}
	return st, err
}

// readerCache keeps blobs open, the least recently used ones up to a number.
type readerCache struct {
	max int

	mu    sync.Mutex // guards what follows
	byID  map[twofold.BlobID]*list.Element
	lru   *list.List // of *BlobReader, front most recent; each holds a reference
	timer *time.Timer
}

// readerIdle is after how long without a read a blob is closed: a drive that is to be
// unmounted, or the space of a file that was deleted, should not wait for the next
// blobs.
const readerIdle = time.Minute

func newReaderCache(max int) *readerCache {
	return &readerCache{max: max, byID: make(map[twofold.BlobID]*list.Element), lru: list.New()}
}

// get returns an open reader with a reference for the caller.
func (c *readerCache) get(ctx context.Context, e *Engine, blob twofold.Blob) (*BlobReader, error) {
	if b := c.lookup(blob); b != nil {
		return b, nil
	}
	b, err := e.Open(ctx, blob)
	if err != nil {
		return nil, err
	}
	b.refs.Add(1) // the cache's, beside the caller's
	c.mu.Lock()
	var out []*BlobReader
	if el := c.byID[blob.ID]; el != nil {
		out = append(out, c.remove(el))
	}
	b.used = time.Now()
	c.byID[blob.ID] = c.lru.PushFront(b)
	if c.timer == nil {
		c.timer = time.AfterFunc(readerIdle, c.expire)
	}
	for c.lru.Len() > c.max {
		out = append(out, c.remove(c.lru.Back()))
	}
	c.mu.Unlock()
	for _, old := range out {
		old.release()
	}
	return b, nil
}

func (c *readerCache) lookup(blob twofold.Blob) *BlobReader {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byID[blob.ID]
	if el == nil {
		return nil
	}
	b := el.Value.(*BlobReader)
	if b.blob != blob || !b.acquire() {
		return nil
	}
	b.used = time.Now()
	c.lru.MoveToFront(el)
	return b
}

// expire lets go of the blobs that nobody reads any more.
func (c *readerCache) expire() {
	c.mu.Lock()
	var out []*BlobReader
	for el := c.lru.Back(); el != nil && time.Since(el.Value.(*BlobReader).used) >= readerIdle; el = c.lru.Back() {
		out = append(out, c.remove(el))
	}
	if c.timer = nil; c.lru.Len() > 0 {
		c.timer = time.AfterFunc(readerIdle, c.expire)
	}
	c.mu.Unlock()
	for _, b := range out {
		b.release()
	}
}

// remove takes an element out; the caller holds mu and releases what it returns
// afterwards.
func (c *readerCache) remove(el *list.Element) *BlobReader {
	b := c.lru.Remove(el).(*BlobReader)
	delete(c.byID, b.blob.ID)
	return b
}

// drop lets go of a blob.
func (c *readerCache) drop(id twofold.BlobID) {
	c.mu.Lock()
	var b *BlobReader
	if el := c.byID[id]; el != nil {
		b = c.remove(el)
	}
	c.mu.Unlock()
	if b != nil {
		b.release()
	}
}

// purge lets go of all.
func (c *readerCache) purge() {
	c.mu.Lock()
	var all []*BlobReader
	for c.lru.Len() > 0 {
		all = append(all, c.remove(c.lru.Back()))
	}
	c.mu.Unlock()
	for _, b := range all {
		b.release()
	}
}

// Forget lets go of the shards of a blob that ReadAt keeps open, so that the next
// read finds those that were rewritten.
func (e *Engine) Forget(id twofold.BlobID) { e.cache.drop(id) }

// blockKey names a stripe of a blob.
type blockKey struct {
	blob   twofold.BlobID
	stripe int64
}

// blockCache keeps verified content, the least recently used up to a number of bytes.
type blockCache struct {
	max int64

	mu    sync.Mutex // guards what follows
	used  int64
	byKey map[blockKey]*list.Element
	lru   *list.List // of *cachedBlocks, front most recent; each holds a reference
}

type cachedBlocks struct {
	key   blockKey
	st    *erasure.Stripe
	valid erasure.Set // data blocks that are there
}

func newBlockCache(max int64) *blockCache {
	return &blockCache{max: max, byKey: make(map[blockKey]*list.Element), lru: list.New()}
}

// get returns a stripe that has the wanted blocks, with a reference for the caller,
// or nil.
func (c *blockCache) get(k blockKey, want erasure.Set) *erasure.Stripe {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byKey[k]
	if el == nil {
		return nil
	}
	cb := el.Value.(*cachedBlocks)
	if !cb.valid.Contains(want) {
		return nil
	}
	c.lru.MoveToFront(el)
	cb.st.Retain()
	return cb.st
}

func (c *blockCache) put(k blockKey, st *erasure.Stripe, valid erasure.Set) {
	st.Retain()
	var out []*erasure.Stripe
	c.mu.Lock()
	if el := c.byKey[k]; el != nil {
		out = append(out, c.remove(el))
	}
	c.byKey[k] = c.lru.PushFront(&cachedBlocks{key: k, st: st, valid: valid})
	c.used += int64(st.Size())
	for c.used > c.max && c.lru.Len() > 0 {
		out = append(out, c.remove(c.lru.Back()))
	}
	c.mu.Unlock()
	for _, st := range out {
		st.Release()
	}
}

func (c *blockCache) remove(el *list.Element) *erasure.Stripe {
	cb := c.lru.Remove(el).(*cachedBlocks)
	delete(c.byKey, cb.key)
	c.used -= int64(cb.st.Size())
	return cb.st
}
