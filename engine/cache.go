package engine

import (
	"container/list"
	"context"
	"sync"
	"time"

	"twofold"
)

// ReadAt fills p from off of a blob, like BlobReader.ReadAt. It keeps a bounded
// number of blobs open, so that many small reads do not each open files. Blobs never
// change and ids are never used again: what is open is never wrong, only perhaps deleted.
func (e *Engine) ReadAt(ctx context.Context, blob twofold.Blob, p []byte, off int64) (int, error) {
	b, err := e.cache.get(ctx, e, blob)
	if err != nil {
		return 0, err
	}
	defer b.release()
	return b.ReadAt(ctx, p, off)
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
