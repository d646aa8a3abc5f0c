package fusefs

import (
	"context"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// lazyPin stands for an Open that the volume was not asked for: while the inode's read
// lease is held nobody removes it unasked. When somebody is about to (Invalidate, or
// this mount), the volume is asked after all, before it answers. So it is when the
// file stays open for long, for the session may be cut off and lose its leases, but
// keeps its pins.
type lazyPin struct {
	since time.Time
	asked chan struct{} // the Open is under way; closed when it has been answered
	gone  bool          // it was answered: there is no such inode any more
}

// longOpen is how long a file is open before it is pinned in earnest.
const longOpen = 2 * time.Second

// Open answers for a file whose lease is held, with a lazy pin. At most one Open or
// Release of an inode is under way (node.pin).
func (l *leased) Open(ctx context.Context, ino twofold.Ino) (api.Attr, error) {
	if a, ok := l.c.openLazily(ino); ok {
		return a, nil
	}
	if l.c.lazy(ino) != nil { // it is to be pinned again, in another session
		if err := l.pin(ctx, ino); err != nil {
			return api.Attr{}, err
		}
		return l.GetAttr(ctx, ino)
	}
	m := l.c.now()
	a, err := l.to.Open(ctx, ino)
	if err == nil {
		l.c.putAttr(a, m)
	}
	return a, err
}

// Release needs no call where the pin was lazy to the end.
func (l *leased) Release(ctx context.Context, ino twofold.Ino) error {
	for {
		asked, lazy := l.c.closeLazily(ino)
		if asked == nil {
			if lazy {
				return nil
			}
			return l.to.Release(ctx, ino)
		}
		select {
		case <-asked:
		case <-ctx.Done():
			return canceled("release", ctx)
		}
	}
}

// pin makes a lazy pin of an inode, if there is one, a real one: when it returns without an
// error there is none. An inode that is gone is no error: whoever reads it will be told.
// The call goes on without ctx, so that the pin does not get lost.
func (l *leased) pin(ctx context.Context, ino twofold.Ino) error {
	p, mine := l.c.askPin(ino)
	if p == nil {
		return nil
	}
	failed := make(chan error, 1)
	if mine {
		go func() {
			_, err := l.to.Open(l.ctx, ino)
			l.c.pinned(ino, p, err)
			failed <- err
		}()
	}
	select {
	case <-p.asked:
	case <-ctx.Done():
		return canceled("pin", ctx)
	}
	if mine {
		if err := <-failed; err != nil && !errs.Is(err, errs.Stale) {
			return err
		}
		return nil
	}
	return l.pin(ctx, ino) // whose it was may have failed
}

// openLazily gives a lazy pin where the inode's lease is held.
func (c *cache) openLazily(ino twofold.Ino) (api.Attr, bool) {
	now := time.Now()
	if c.alive(now) <= 0 {
		return api.Attr{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.get(ino, now)
	if in == nil || in.lazy != nil || in.attr.Type != metadata.TypeFile || in.attr.Nlink == 0 {
		return api.Attr{}, false
	}
	in.lazy = &lazyPin{since: now}
	c.lazies++
	return in.attr, true
}

// lazy is an inode's lazy pin, nil if it has none.
func (c *cache) lazy(ino twofold.Ino) *lazyPin {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.inodes[ino]; in != nil {
		return in.lazy
	}
	return nil
}

// closeLazily takes an inode's lazy pin. asked, if not nil, is to be waited for first.
func (c *cache) closeLazily(ino twofold.Ino) (asked <-chan struct{}, lazy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[ino]
	switch {
	case in == nil || in.lazy == nil:
		return nil, false
	case in.lazy.asked != nil && !in.lazy.gone:
		return in.lazy.asked, false
	}
	in.lazy = nil
	c.lazies--
	return nil, true
}

// askPin returns the lazy pin of an inode as one that is being asked for; mine tells that
// the caller is to ask.
func (c *cache) askPin(ino twofold.Ino) (p *lazyPin, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[ino]
	if in == nil || in.lazy == nil || in.lazy.gone {
		return nil, false
	}
	if in.lazy.asked != nil {
		return in.lazy, false
	}
	in.lazy.asked = make(chan struct{})
	return in.lazy, true
}

// pinned tells what became of asking.
func (c *cache) pinned(ino twofold.Ino, p *lazyPin, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[ino]
	switch {
	case err == nil:
		in.lazy = nil
		c.lazies--
	case errs.Is(err, errs.Stale):
		p.gone = true // Release needs no call
	default:
		// It is to be asked for again.
		in.lazy = &lazyPin{since: p.since}
	}
	close(p.asked)
}

// longOpened returns inodes that have had a lazy pin since t.
func (c *cache) longOpened(t time.Time) (inos []twofold.Ino) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lazies == 0 {
		return nil
	}
	for _, in := range c.inodes {
		if in.lazy != nil && !in.lazy.gone && in.lazy.since.Before(t) {
			inos = append(inos, in.ino)
		}
	}
	return inos
}
