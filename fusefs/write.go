package fusefs

import (
	"context"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/plant"
)

// streamAt is how many dirty bytes of one inode start a flush. While it is on its
// way as many again, up to api.MaxIO, are taken.
const streamAt = 8 << 20

// change is one WRITE of the kernel.
type change struct {
	off    int64
	data   [][]byte
	append bool // off is the file's end, wherever that is
	cached bool // the kernel writes a mapped page back
	direct bool // unless cached: the kernel has not put the bytes into its pages
	kill   bool // clear set-id bits
}

func (c *change) len() (n int) {
	for _, b := range c.data {
		n += len(b)
	}
	return n
}

// write takes bytes into the dirty layer under the write lease, and returns how
// many (fewer than asked for only for mapped pages beyond the end).
func (n *node) write(ctx context.Context, c change) (int, error) {
	size := c.len()
	if size == 0 {
		return 0, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.paging.files > 0 && !c.cached {
		if err := n.shut(ctx); err != nil {
			return 0, err
		}
		defer n.reopen()
	}
	if err := n.admitWrite(ctx, c, size); err != nil {
		return 0, err
	}
	added := n.take(c, size)
	n.fs.budget.give(int64(size - added))
	if c.cached {
		n.fs.cover()
	}
	return size, nil
}

// admitWrite waits for the lease, for room in the layer, and for the mount's
// budget, of which it takes size bytes: errs.NoSpace where the store does not promise
// to have room for them, errs.Quota where the bucket may not have more. n.mu is held. Nothing is held on to while
// waiting for something else: recalls and flushes go on.
func (n *node) admitWrite(ctx context.Context, c change, size int) error {
	for {
		if err := n.admit(ctx); err != nil {
			return err
		}
		if n.failing != nil && !c.cached {
			return n.failing
		}
		if off := n.place(c); off < 0 || off > twofold.MaxFileLen-int64(size) {
			return errs.Newf("fusefs.write", errs.TooLarge, "a file ends at %d bytes", twofold.MaxFileLen)
		}
		if end := n.place(c) + int64(size); !c.cached && end > max(n.allowed, n.base.Size) {
			if err := n.reserve(ctx, end); err != nil {
				return err
			}
			continue
		}
		if !n.dirty.room(size) {
			n.kick()
			if err := n.wait(ctx); err != nil {
				return err
			}
			continue
		}
		got := n.fs.budget.take(int64(size), c.cached)
		if got == admitted {
			return nil
		}
		n.mu.Unlock()
		var err error
		if got == unpromised {
			err = n.fs.awaitPromise(ctx, int64(size))
		} else {
			n.fs.flushBefore(time.Now())
			err = n.fs.budget.wait(ctx, int64(size))
		}
		n.mu.Lock()
		if err != nil {
			return err
		}
	}
}

func (n *node) place(c change) int64 {
	if c.append && !plant.Is(plant.AppendOffset) {
		return n.size
	}
	return c.off
}

// take copies the bytes; n.mu is held. It returns how many the layer grew.
func (n *node) take(c change, size int) (added int) {
	off := n.place(c)
	switch {
	case c.direct && !c.cached:
		if n.filled {
			n.refresh(off, int64(size))
		}
	case off != c.off:
		n.invalidate() // the kernel has put the bytes into pages where it thought the end was
	}
	if len(n.dirty.segs) == 0 {
		n.dirty.first = time.Now()
		n.fs.setDirty(n, true)
	}
	room := size
	if c.cached { // the kernel may not know yet that the file is shorter now
		room = int(max(0, min(int64(size), n.size-off)))
	}
	at := off
	var from *buffers
	if n.stream {
		from = &n.fs.buffers
	}
	for _, b := range c.data {
		b = b[:min(len(b), room)]
		added += n.dirty.write(at, b, from)
		n.taken.feed(at, b)
		at, room = at+int64(len(b)), room-len(b)
	}
	n.wseq++
	n.dirty.seq = n.wseq
	n.dirty.kill = n.dirty.kill || c.kill
	n.size = max(n.size, at)
	n.touch()
	if c.cached || !c.direct {
		n.filled = true
		n.refilled = n.refilled || !c.cached
	}
	if n.dirty.bytes >= streamAt || len(n.dirty.segs) >= maxSegments/2 {
		n.kick()
	}
	return added
}

// touch moves the times, so that no two states of the content have the same.
func (n *node) touch() {
	now := twofold.Now()
	if now == n.mtime {
		now++
	}
	n.mtime, n.ctime = now, now
}
