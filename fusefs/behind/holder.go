package behind

import (
	"context"

	"twofold"
	"twofold/volume/api"
)

// holder is the mount's side of leases, with those that are here.
type holder struct {
	b  *Files
	up api.Holder
}

var _ api.Holder = holder{}

// Holder is what the volume calls back, given what the caches above are called back with.
func (b *Files) Holder(up api.Holder) api.Holder {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up = up
	return holder{b, up}
}

// Recall implements api.Holder. It waits for the volume, and for what the caches above wait
// for, and for no request in flight.
func (h holder) Recall(ctx context.Context, ino twofold.Ino, token uint64) error {
	b := h.b
	b.mu.Lock()
	defer b.mu.Unlock()
	// The lease of what a batch makes is known when that is answered.
	if err := b.settle(ctx, b.bornAt(ino)); err != nil {
		return unwritten(err)
	}
	if d := b.dirs[ino]; d != nil {
		if d.state == dirAsking {
			d.revoked = max(d.revoked, token) // it is given back when it comes
			for b.dirs[ino] == d && d.state == dirAsking {
				if err := b.wait(ctx); err != nil {
					return err
				}
			}
		}
		if b.dirs[ino] != d || d.token != token {
			return nil
		}
		return b.recalled(ctx, d)
	}
	l := b.leases[ino]
	if l == nil || l.real != token {
		var err error
		b.call(func() { err = h.up.Recall(ctx, ino, token) })
		if l = b.leases[ino]; err != nil || l == nil || l.real != token {
			return err
		}
		// It has overtaken the answer that brought the lease: something may be queued under it.
	}
	return b.recalledFile(ctx, h.up, ino, l)
}

// bornAt is the operation that makes an inode, if it is queued.
func (b *Files) bornAt(ino twofold.Ino) uint64 {
	if in := b.inodes[ino]; in != nil {
		return min(in.born, b.queue.sent)
	}
	if d := b.dirs[ino]; d != nil {
		return min(d.born, b.queue.sent)
	}
	return 0
}

// recalledFile has the cache above give a file's lease back, and then gives it back to the
// volume, with what was written under it. b.mu is held, but not while it waits.
func (b *Files) recalledFile(ctx context.Context, up api.Holder, ino twofold.Ino, l *lease) error {
	l.recalled = true
	for b.leases[ino] == l {
		if local := l.local; local != 0 {
			var err error
			b.call(func() { err = up.Recall(ctx, ino, local) })
			if err != nil {
				l.recalled = false
				b.broadcast()
				return err
			}
			if l.local == local { // it has overtaken the grant, and will be given back
				if err := b.wait(ctx); err != nil {
					return err
				}
			}
			continue
		}
		b.leave(ino, l)
		if err := b.settle(ctx, b.queue.touched[ino]); err != nil {
			return unwritten(err)
		}
		if b.leases[ino] == l && l.local == 0 {
			if err := b.wait(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Invalidate implements api.Holder.
func (h holder) Invalidate(ctx context.Context, stale []api.Stale) error {
	h.b.mu.Lock()
	for _, s := range stale {
		h.b.unread(s.Ino)
	}
	h.b.mu.Unlock()
	return h.up.Invalidate(ctx, stale)
}

// Held implements api.Holder. The server that hears it may know of no read leases. So all
// directories are given back, once what was done in them is committed. From before the caches
// above drop what they keep nothing is answered here as leased: they would keep it again.
func (h holder) Held() api.Held {
	b := h.b
	b.mu.Lock()
	b.queue.unsure = true
	for _, in := range b.inodes {
		in.reader = false
	}
	for _, d := range b.dirs {
		d.reader = false
		b.close(d)
	}
	b.mu.Unlock()
	held := h.up.Held()
	b.mu.Lock()
	defer b.mu.Unlock()
	var writes []api.HeldWrite
	for _, w := range held.Writes {
		if l := b.leases[w.Ino]; l != nil && l.local == w.Token || b.ownToken(w.Token) {
			continue // below, as the volume knows it, if it does
		}
		writes = append(writes, w)
	}
	held.Writes = append(writes, b.held()...)
	return held
}

// held are the leases that the volume has given for what was made here, and those of
// directories; b.mu is held.
func (b *Files) held() (all []api.HeldWrite) {
	for ino, l := range b.leases {
		if l.real != 0 {
			all = append(all, api.HeldWrite{Ino: ino, Token: l.real})
		}
	}
	for _, d := range b.dirs {
		if d.token != 0 {
			all = append(all, api.HeldWrite{Ino: d.ino, Token: d.token})
		}
	}
	return all
}

// Lost implements api.Holder.
func (h holder) Lost(err error) {
	b := h.b
	b.mu.Lock()
	b.lose(err, true)
	b.numbers.session++
	b.numbers.ranges, b.numbers.left = nil, 0
	b.mu.Unlock()
	h.up.Lost(err)
}
