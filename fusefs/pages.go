package fusefs

import (
	"context"

	"twofold/volume/api"
)

// invalidation is one pass over an inode's pages in the kernel's cache.
type invalidation struct{ done chan struct{} }

// see notes that the volume has version v: pages of an older one have to go. n.mu
// is held.
func (n *node) see(v uint64) {
	if v <= n.kver {
		return
	}
	if n.kver != 0 && n.filled {
		n.invalidate()
	}
	n.kver = v
}

// invalidate makes the kernel forget n's pages, in the background: the request
// that found out may hold page locks. Requests that tell attributes and hold none
// wait with awaitPages. n.mu is held.
func (n *node) invalidate() {
	n.filled = false
	n.drop(0, 0)
}

// drop makes the kernel forget pages from off on, all if length is 0, in the
// background. n.mu is held.
func (n *node) drop(off, length int64) {
	inv := &invalidation{done: make(chan struct{})}
	before := n.stale
	n.stale = inv
	n.fs.again(n)
	go func() {
		defer n.fs.unref(n)
		if before != nil {
			<-before.done
		}
		n.fs.kernel.InodeNotify(uint64(n.ino), off, length)
		n.mu.Lock()
		if n.stale == inv {
			n.stale = nil
		}
		n.mu.Unlock()
		close(inv.done)
	}()
}

// refresh makes the kernel forget the pages of a range that a direct write has
// changed, in the background. The kernel drops them before it sends the write; a
// mapping that loads in between, or a read(2) of pages, has got the old bytes back.
// (Linux 6.13 drops them once more behind the write by itself.) Where nothing is mapped
// for writing all go, once: they are of other times than the file is now. n.mu is held.
func (n *node) refresh(off, length int64) {
	if n.mappers == 0 {
		n.invalidate()
	} else {
		n.drop(off, length)
	}
}

// agree makes what a direct read has just shown and what mappings show the same:
// pages of an older version go. It waits, which a direct read may: it holds no page
// lock.
func (n *node) agree(ctx context.Context) error {
	n.mu.Lock()
	if !n.filled || n.decides() {
		defer n.mu.Unlock()
		return n.awaitPages(ctx)
	}
	n.mu.Unlock()
	_, err := n.fs.attrs(ctx, n.ino, true)
	return err
}

// awaitPages waits until no known stale page is left in the kernel; n.mu is held.
// Only requests for which the kernel holds no page lock may call it: GETATTR,
// LOOKUP, OPEN, a direct READ, not SETATTR, another READ, or WRITE.
func (n *node) awaitPages(ctx context.Context) error {
	for n.stale != nil {
		inv := n.stale
		n.mu.Unlock()
		var err error
		select {
		case <-inv.done:
		case <-ctx.Done():
			err = canceled("invalidate", ctx)
		}
		n.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// overlay puts what this mount has written over attributes from the volume. It
// reports whether they are decided here; n.mu is held.
func (n *node) overlay(a *api.Attr) bool {
	if !n.decides() {
		return false
	}
	if a.Version < n.base.Version {
		*a = n.base // asked for before the last flush, which may have cleared set-id bits
	}
	if n.kills() {
		a.Mode = withoutSetID(a.Mode)
	}
	a.Size, a.Mtime = n.size, n.mtime
	if at := n.heldAtime(); at != 0 {
		a.Atime = at
	}
	a.Ctime = max(a.Ctime, n.ctime)
	a.Version, a.ETag = n.base.Version, n.base.ETag
	a.Stored = n.base.Stored + n.dirty.bytes
	if n.flushing != nil {
		a.Stored += n.flushing.bytes
	}
	return true
}
