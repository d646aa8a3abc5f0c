package fusefs

import (
	"context"
	"time"

	"twofold/internal/errs"
	"twofold/volume/api"
)

// leaseState is where an inode's write lease is.
//
//	none -> asking -> held -> draining -> closing -> none
//
// While draining the kernel is made to write mapped pages back, and everything
// still goes on under the lease: requests hold the page locks that this needs.
// While closing the bytes are flushed, without the kernel, and requests wait.
type leaseState uint8

const (
	leaseNone leaseState = iota
	leaseAsking
	leaseHeld
	leaseDraining
	leaseClosing
)

// ask is one AcquireWrite that any number of requests wait for. It goes on when
// they are interrupted: a grant must not get lost.
type ask struct {
	err     error
	waiters int // requests that have not got to use the grant
}

// arrival is how long a recall waits for a grant that it has overtaken.
const arrival = 50 * time.Millisecond

// maxPasses bounds how often a recall clears the kernel's pages while mappings
// keep filling them.
const maxPasses = 8

// admit waits until bytes may be read or changed under the lease, which it asks
// for. n.mu is held, and on return without an error the lease is held or draining
// and no truncate runs.
func (n *node) admit(ctx context.Context) error {
	var mine *ask
	n.waiting++
	defer func() {
		n.waiting--
		n.leave(mine)
	}()
	for {
		if mine != nil && mine.err != nil {
			return mine.err
		}
		if !n.op {
			switch n.lease {
			case leaseHeld, leaseDraining:
				return nil
			case leaseNone:
				n.lease, n.asking = leaseAsking, &ask{waiters: 1}
				n.leave(mine)
				mine = n.asking
				n.fs.again(n) // the lease's reference
				if n.fs.grantsHere(n.ino) {
					n.mu.Unlock()
					n.acquire(mine)
					n.mu.Lock()
					continue
				}
				go n.acquire(mine)
			}
		}
		if n.asking != nil && mine != n.asking {
			n.leave(mine)
			mine = n.asking
			mine.waiters++
		}
		if err := n.wait(ctx); err != nil {
			return err
		}
	}
}

// decides reports whether content, size and times are what this mount says: it
// has the lease and is not giving it back. From the moment that the volume may
// have the lease back others may change the inode, so it is asked, though the
// answer to ReleaseWrite is still to come. n.mu is held.
func (n *node) decides() bool { return n.token != 0 && !n.leaving }

// leave tells that a request does not wait for a any more; n.mu is held.
func (n *node) leave(a *ask) {
	if a == nil {
		return
	}
	if a.waiters--; a.waiters == 0 {
		n.broadcast()
	}
}

// acquire gets the lease and hands it to those who wait.
func (n *node) acquire(a *ask) {
	for {
		l, err := n.fs.files.AcquireWrite(n.fs.ctx, n.ino)
		n.mu.Lock()
		if err == nil && l.Token <= n.revoked {
			// Recalled before it got here: the volume has given it to somebody else.
			n.mu.Unlock()
			n.fs.files.ReleaseWrite(n.fs.ctx, n.ino, l.Token)
			continue
		}
		n.asking = nil
		if err != nil {
			a.err = err
			n.lease = leaseNone
		} else {
			n.granted(a, l)
		}
		n.broadcast()
		n.mu.Unlock()
		if err != nil {
			n.fs.unref(n)
		}
		return
	}
}

// granted takes the lease; n.mu is held.
func (n *node) granted(a *ask, l api.Lease) {
	n.lease, n.token, n.grant = leaseHeld, l.Token, a
	n.rev++
	n.base, n.allowed = l.Attr, l.Allowed
	n.reset()
	n.sum.adopt(n.base)
	n.taken = n.sum.clone()
	n.see(l.Attr.Version)
	if n.waiting == 0 && n.writers == 0 {
		n.startGiveBack() // those who asked have gone
	}
}

// reset makes the volume's content the local view; nothing is dirty.
func (n *node) reset() {
	n.size, n.mtime, n.ctime = n.base.Size, n.base.Mtime, n.base.Ctime
}

// startGiveBack begins to give the lease back; n.mu is held, the lease is held.
func (n *node) startGiveBack() {
	go n.giveBack(n.leaveLease())
}

// leaveLease makes the lease one that is about to be given back, by giveBack with the token
// that it returns; n.mu is held, the lease is held.
func (n *node) leaveLease() (token uint64) {
	n.lease = leaseDraining
	n.broadcast()
	n.fs.again(n)
	return n.token
}

// giveBack commits everything and releases the lease. It waits for the volume and
// for page writes of the kernel, never for a request that waits for it.
func (n *node) giveBack(token uint64) {
	defer n.fs.unref(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.token == token && n.grant.waiters > 0 {
		if n.wait(n.fs.ctx) != nil { // each grant serves those who asked, whoever wants it next
			return
		}
	}
	late := n.drain(token)
	if n.token == token && n.paging.files > 0 {
		if n.shut(n.fs.ctx) != nil { // others may change it then
			return
		}
		defer n.reopen()
	}
	if n.token != token {
		return // lost meanwhile
	}
	n.lease = leaseClosing
	n.broadcast()
	for n.token == token && (n.op || n.done < n.wseq) {
		err := error(nil)
		switch {
		case n.op:
			err = n.wait(n.fs.ctx)
		case n.writers == 0: // nobody is left to be told
			err = n.settle(n.fs.ctx, n.wseq)
		default:
			err = n.press(n.fs.ctx)
		}
		if errs.Is(err, errs.Unwritten) && n.token == token {
			n.refuse(err)
		}
		if err != nil {
			return
		}
	}
	if n.token != token {
		return
	}
	n.leaving = true // before the call: what overtakes its answer must be seen here
	n.rev++
	n.fs.released.note(n.ino)
	n.mu.Unlock()
	if err := n.fs.files.ReleaseWrite(n.fs.ctx, n.ino, token); err != nil {
		n.fs.log.Debug("release of a write lease", "ino", n.ino, "token", token, "err", err)
	}
	n.mu.Lock()
	if n.token == token {
		n.unlease()
	}
	if late {
		n.invalidate() // a store that raced with the recall becomes a write of its own
	}
}

// refuse keeps the lease, and what can't be written now, instead of giving it back
// without the bytes: others would not see what write(2) has returned for. n.mu is
// held.
func (n *node) refuse(err error) {
	n.lease = leaseHeld
	n.refusals++
	n.refusal = err
	n.broadcast()
}

// drain makes the kernel write back and drop the pages of a file that may be
// mapped for writing; until the lease is back the next store needs a READ first,
// and that waits. n.mu is held, but not while the kernel works. late tells that
// pages came back to the very end.
func (n *node) drain(token uint64) (late bool) {
	if n.mappers == 0 {
		return false
	}
	for range maxPasses {
		n.refilled = false
		n.filled = false
		n.mu.Unlock()
		n.fs.kernel.InodeNotify(uint64(n.ino), 0, 0)
		n.mu.Lock()
		if !n.refilled || n.token != token {
			return false
		}
	}
	return true
}

// unlease forgets the lease, nothing being dirty any more; n.mu is held.
func (n *node) unlease() {
	n.lease, n.token, n.grant, n.leaving = leaseNone, 0, nil, false
	n.base, n.failing, n.allowed = api.Attr{}, nil, 0
	n.stream = false
	n.rev++
	n.fs.released.note(n.ino)
	n.broadcast()
	n.fs.unref(n) // the lease's reference
}

// returnIdle gives the lease back if it is held, and waits for that; n.mu is held. For a
// RELEASE, which waits for as long as the mount is there, it does so by itself: another
// goroutine and its wake-up for each file that is written can be saved.
func (n *node) returnIdle(ctx context.Context) {
	for n.token != 0 && n.writers == 0 {
		switch {
		case n.lease == leaseHeld && ctx == n.fs.ctx:
			token := n.leaveLease()
			n.mu.Unlock()
			n.giveBack(token)
			n.mu.Lock()
			continue
		case n.lease == leaseHeld:
			n.startGiveBack()
		}
		if n.wait(ctx) != nil {
			return
		}
	}
}

// recall is the volume asking for the lease. errs.Unwritten: what is held can't be
// written now, and is kept.
func (n *node) recall(ctx context.Context, token uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.awaitGrant(ctx); err != nil {
		return err
	}
	if n.lease == leaseAsking {
		n.revoked = max(n.revoked, token)
		return nil
	}
	for refusals := n.refusals; n.token != 0 && n.token == token; {
		if n.refusals != refusals {
			return n.refusal
		}
		if n.lease == leaseHeld {
			n.startGiveBack()
		}
		if err := n.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// awaitGrant gives a grant that the recall has overtaken a moment to arrive, so
// that those who waited for it get to use it; n.mu is held.
func (n *node) awaitGrant(ctx context.Context) error {
	if n.lease != leaseAsking {
		return nil
	}
	short, stop := context.WithTimeout(ctx, arrival)
	defer stop()
	for n.lease == leaseAsking {
		if n.wait(short) != nil {
			return ctx.Err()
		}
	}
	return nil
}

// exclusive runs fn (with a context that a cut makes uninterruptible), which changes size, times or extents by itself, while no
// bytes are written or read. Where the lease is held, what was written before is
// committed first unless cut is given: then the bytes from there on are forgotten.
// Without needLease it also runs where there is none (token 0).
func (n *node) exclusive(ctx context.Context, needLease bool, cut int64, fn func(ctx context.Context, token uint64) (api.Attr, error)) (api.Attr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if needLease {
		if err := n.admit(ctx); err != nil {
			return api.Attr{}, err
		}
	}
	for n.op || n.lease == leaseAsking || n.lease == leaseClosing {
		if err := n.wait(ctx); err != nil {
			return api.Attr{}, err
		}
	}
	token := n.token
	n.op = true
	n.rev++
	defer func() {
		n.op, n.cutting = false, false
		n.rev++
		n.broadcast()
	}()
	if token != 0 {
		if cut >= 0 && n.dirty.atime == 0 { // else it goes with them
			n.cutting = true
			n.cut(cut)
			ctx = n.fs.ctx // bytes were forgotten: no way back
		}
		if err := n.settle(ctx, n.wseq); err != nil {
			return api.Attr{}, err
		}
	}
	n.mu.Unlock()
	a, err := fn(ctx, token)
	n.mu.Lock()
	if err == nil && token == 0 {
		n.see(a.Version)
	}
	if token == 0 || n.token != token {
		return a, err
	}
	if err == nil {
		n.base = a
		n.sum.adopt(a)
		n.taken = n.sum.clone()
		n.see(a.Version)
	} else if errs.Is(err, errs.Fenced) {
		n.lose(err)
		return a, err
	}
	n.reset()
	return a, err
}

// cut forgets dirty bytes from size on; n.mu is held.
func (n *node) cut(size int64) {
	n.taken = digest{}
	n.fs.budget.give(n.dirty.truncate(size))
	n.size = min(n.size, size)
	if len(n.dirty.segs) == 0 && n.flushing == nil {
		n.done = n.wseq
		n.fs.setDirty(n, false)
	}
}
