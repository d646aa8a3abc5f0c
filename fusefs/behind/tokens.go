package behind

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// lease is the write lease of a file that was made here. The cache above may be given it
// before the volume has given it to the mount: under a token of ours, which are numbers
// from 1 and so smaller than any of the volume's. The volume's comes with the answer to the batch
// that makes the file, if the cache above had the lease when that was sent.
type lease struct {
	local    uint64 // what the cache above has; 0: it has given it back
	real     uint64 // what the volume has given; 0: nothing yet
	asked    bool   // the batch that makes the inode asks for it
	leaving  bool   // it will be given back to the volume, unless it is wanted above
	sent     bool   // it is being given back
	recalled bool   // somebody else wants it: it is not given above again
}

// maxFree is what a file may grow to without a quota.
const maxFree = twofold.MaxFileLen

// acquireHere gives the lease of a file that was made here.
func (b *Files) acquireHere(ctx context.Context, ino twofold.Ino) (a api.Lease, done bool, err error) {
	for {
		in, d, err := b.changeable(ctx, ino)
		if in == nil || err != nil {
			return a, err != nil, err
		}
		l := b.leases[ino]
		switch {
		case !d.unlimited:
			return a, false, nil
		case l != nil && (l.sent || l.recalled):
			if err := b.wait(ctx); err != nil {
				return a, true, err
			}
			continue
		case l != nil && l.local != 0: // an answer that nobody heard
		case l != nil && (l.real != 0 || l.asked), in.born > b.queue.sent:
			if l == nil {
				l = new(lease)
				b.leases[ino] = l
			}
			b.local++
			l.local = b.local
		case in.born > b.queue.done: // the batch has gone without asking for it
			if err := b.settle(ctx, in.born); err != nil {
				return a, true, err
			}
			continue
		default:
			return a, false, nil
		}
		return api.Lease{Token: l.local, Attr: b.show(in), Allowed: maxFree}, true, nil
	}
}

// Grants reports whether AcquireWrite of an inode would be answered here at once. It is a guess:
// a moment later it may have to wait.
func (b *Files) Grants(ino twofold.Ino) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	in, d := b.ready(ino)
	if in == nil || !d.unlimited {
		return false
	}
	l := b.leases[ino]
	switch {
	case l == nil:
		return in.born > b.queue.sent
	case l.sent || l.recalled:
		return false
	}
	return l.local != 0 || l.real != 0 || l.asked || in.born > b.queue.sent
}

// Takes reports whether a Write of so many bytes to an inode, under the lease that the cache
// above has, would be taken here at once: a guess, as in Grants.
func (b *Files) Takes(ino twofold.Ino, bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	in, _ := b.ready(ino)
	l := b.leases[ino]
	return in != nil && l != nil && l.local != 0 && !l.recalled && bytes <= maxWrite
}

// AcquireWrite implements api.Files.
func (b *Files) AcquireWrite(ctx context.Context, ino twofold.Ino) (api.Lease, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, done, err := b.acquireHere(ctx, ino)
	if done {
		return a, err
	}
	if err := b.settle(ctx, b.queue.touched[ino]); err != nil {
		return a, err
	}
	b.mu.Unlock()
	a, err = b.to.AcquireWrite(ctx, ino)
	b.mu.Lock()
	if in, d := b.ours(ino); err == nil && in != nil && d.unlimited && b.leases[ino] == nil {
		b.leases[ino] = &lease{local: a.Token, real: a.Token}
	}
	return a, err
}

// ReleaseWrite implements api.Files. What was written under it may be in the queue still: the
// volume is told behind that.
func (b *Files) ReleaseWrite(ctx context.Context, ino twofold.Ino, token uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.leases[ino]
	if l == nil || l.local == 0 || l.local != token {
		if b.ownToken(token) {
			return nil // of what was lost
		}
		b.mu.Unlock()
		err := b.to.ReleaseWrite(ctx, ino, token)
		b.mu.Lock()
		return err
	}
	l.local = 0
	switch {
	case l.real != 0:
		b.leave(ino, l)
	case !l.asked:
		delete(b.leases, ino)
	}
	b.broadcast()
	return nil
}

// ownToken reports whether a token was given here, and not by the volume.
func (b *Files) ownToken(token uint64) bool { return token != 0 && token <= b.local }

// leave gives a lease back to the volume behind what was written under it; b.mu is held.
func (b *Files) leave(ino twofold.Ino, l *lease) {
	if l.leaving {
		return
	}
	l.leaving = true
	go func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for b.queue.touched[ino] > 0 && b.leases[ino] == l {
			if b.wait(b.ctx) != nil {
				return
			}
		}
		if l.leaving = b.leases[ino] == l && l.local == 0; !l.leaving {
			return
		}
		l.sent = true
		b.mu.Unlock()
		if err := b.to.ReleaseWrite(b.ctx, ino, l.real); err != nil {
			b.log.Debug("release of a write lease", "ino", ino, "token", l.real, "err", err)
		}
		b.mu.Lock()
		if b.leases[ino] == l {
			delete(b.leases, ino)
		}
		b.broadcast()
	}()
}

// translate returns the volume's token for one that was given here; what was queued of the
// inode is committed. b.mu is held.
func (b *Files) translate(ino twofold.Ino, token uint64) (uint64, error) {
	l := b.leases[ino]
	switch {
	case l != nil && token != 0 && l.local == token && l.real != 0:
		return l.real, nil
	case b.ownToken(token):
		return 0, errs.Newf("behind", errs.Fenced, "the write lease was lost")
	}
	return token, nil
}

// Reserve implements api.Files.
func (b *Files) Reserve(ctx context.Context, ino twofold.Ino, token uint64, size, slack int64) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.settle(ctx, b.queue.touched[ino]); err != nil {
		return 0, err
	}
	real, err := b.translate(ino, token)
	if err != nil {
		return 0, err
	}
	b.mu.Unlock()
	defer b.mu.Lock()
	return b.to.Reserve(ctx, ino, real, size, slack)
}
