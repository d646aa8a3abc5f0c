package fusefs

import (
	"time"

	"twofold"
	"twofold/volume/api"
)

const (
	idleLease  = time.Minute // what was not used for so long is given back
	sweepEvery = time.Second
	// When the cache is that full, in percent, the least used is given back as well.
	highWater = 90
	lowWater  = 75
)

// sweepOld sweeps until the mount ends.
func (f *fsys) sweepOld() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return
		case now := <-tick.C:
			f.sweep(now)
		}
	}
}

// sweep gives back leases that are not used, and pins what stays open. One runs at a time.
func (f *fsys) sweep(now time.Time) {
	for _, ino := range f.cache.longOpened(now.Add(-longOpen)) {
		if err := f.leased.pin(f.ctx, ino); err != nil {
			f.log.Debug("a file that stays open was not pinned", "ino", ino, "err", err)
		}
	}
	for {
		inos, ch := f.cache.forget(now)
		if len(inos) == 0 {
			return
		}
		// What is asked for before this returns is not kept: see ownChange.
		if err := f.files.Forget(f.ctx, inos); err != nil {
			f.log.Debug("read leases were not given back", "inodes", len(inos), "err", err)
		}
		ch.end(nil)
	}
}

// forget removes the least used inodes from the cache, at most api.MaxForget, as a
// change of everything about them. Those of which the kernel has something, and those
// that are open, stay.
func (c *cache) forget(now time.Time) ([]twofold.Ino, *ownChange) {
	c.mu.Lock()
	var inos []twofold.Ino
	var keys []key
	add := func(ino twofold.Ino) {
		inos = append(inos, ino)
		keys = append(keys, key{ino: ino}, key{ino, allNames})
	}
	for ino := range c.unwanted {
		if len(inos) == api.MaxForget {
			break
		}
		delete(c.unwanted, ino)
		if c.inodes[ino] == nil { // there was room later
			add(ino)
		}
	}
	full := len(c.inodes) > c.max.inodes*highWater/100
	for at := c.order.Back(); at != nil && len(inos) < api.MaxForget; {
		in := at.Value.(*cachedInode)
		at = at.Prev()
		if now.Sub(in.used) < idleLease && (!full || len(c.inodes) < c.max.inodes*lowWater/100) {
			break
		}
		if in.held(now) {
			continue
		}
		c.remove(in)
		if in.leased || in.owed {
			add(in.ino)
		}
	}
	c.mu.Unlock()
	ch, _, _ := c.begin(keys...) // the kernel has nothing of them
	return inos, ch
}
