package remote

import (
	"context"
	"log/slog"
	"sync"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
	"twofold/volume/locks"
)

// lockTable is what the client knows of its session's locks. It is what a server that
// comes back without memory is told, so it changes with the answer of the call that
// changed the server's, before a reconnect can look (see attempt's account).
type lockTable struct {
	mu     sync.Mutex
	inodes map[twofold.Ino]*lockInode
	ticket uint64 // of the last wait
}

// lockInode has the session's locks of one inode.
type lockInode struct {
	// turn is had, by sending, by whoever changes the locks: one call at a time, so
	// that client and server see changes in one order. Waits for locks don't have it.
	turn chan struct{}

	// Guarded by lockTable.mu.
	refs int
	sets [2]locks.Set // by api.LockKind; the owners' session is 0
	lost error        // locks were taken away: none are to be had until the file is closed
}

func (t *lockTable) init() { t.inodes = make(map[twofold.Ino]*lockInode) }

// use returns the inode's locks; done must be called.
func (t *lockTable) use(ino twofold.Ino) *lockInode {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := t.inodes[ino]
	if in == nil {
		in = &lockInode{turn: make(chan struct{}, 1)}
		t.inodes[ino] = in
	}
	in.refs++
	return in
}

func (t *lockTable) done(ino twofold.Ino, in *lockInode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in.refs--
	t.tidy(ino, in)
}

// tidy forgets an inode without locks; mu is held.
func (t *lockTable) tidy(ino twofold.Ino, in *lockInode) {
	if in.refs == 0 && in.lost == nil && in.sets[0].Empty() && in.sets[1].Empty() && t.inodes[ino] == in {
		delete(t.inodes, ino)
	}
}

// closed notes that the session has no open file of the inode any more: locks end by it.
func (t *lockTable) closed(ino twofold.Ino) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in := t.inodes[ino]; in != nil {
		in.sets, in.lost = [2]locks.Set{}, nil
		t.tidy(ino, in)
	}
}

// lose notes that the session's locks of the inode were taken away.
func (t *lockTable) lose(in *lockInode, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in.sets, in.lost = [2]locks.Set{}, err
}

// loseAll is lose for all inodes of which there are any.
func (t *lockTable) loseAll(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, in := range t.inodes {
		if !in.sets[0].Empty() || !in.sets[1].Empty() {
			in.sets, in.lost = [2]locks.Set{}, err
		}
	}
}

// held is what the session has.
func (t *lockTable) held() (all []api.HeldLocks) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ino, in := range t.inodes {
		if l := in.list(); len(l) > 0 {
			all = append(all, api.HeldLocks{Ino: ino, Locks: l})
		}
	}
	return all
}

func (in *lockInode) list() []api.Lock {
	return append(in.sets[api.LockRecord].List(api.LockRecord, 0), in.sets[api.LockFlock].List(api.LockFlock, 0)...)
}

func lockOwner(l api.Lock) locks.Owner { return locks.Owner{ID: l.Owner} }

// GetLock implements api.Files.
func (c *Client) GetLock(ctx context.Context, ino twofold.Ino, l api.Lock) (api.Lock, bool, error) {
	var a getLockAns
	_, err := c.ask(ctx, mGetLock, lockReq{Ino: ino, Lock: l}, &a, nil)
	return a.Lock, a.Found, err
}

// SetLock implements api.Files. Only a wait for a lock ends with ctx: all else is
// answered at once by a server that is there, and has an outcome that must be known.
func (c *Client) SetLock(ctx context.Context, ino twofold.Ino, l api.Lock, wait bool) error {
	in := c.locks.use(ino)
	defer c.locks.done(ino, in)
	err := c.setLock(ino, in, l)
	if wait && errs.Is(err, errs.Locked) {
		return c.awaitLock(ctx, ino, in, l)
	}
	return err
}

func (c *Client) setLock(ino twofold.Ino, in *lockInode, l api.Lock) error {
	select {
	case in.turn <- struct{}{}:
		defer func() { <-in.turn }()
	case <-c.ctx.Done():
		return errs.Newf("remote.SetLock", errs.Unavailable, "the mount is shutting down")
	}
	c.locks.mu.Lock()
	nothing := l.Type == api.LockNone && in.sets[l.Kind].Covers(lockOwner(l), l)
	lost := in.lost
	c.locks.mu.Unlock()
	if nothing {
		return nil
	}
	if lost != nil {
		return lost
	}
	var grant api.LockGrant
	err := do(c.ctx, c, change{
		method: mSetLock,
		urgent: l.Type == api.LockNone, // others may wait for it
		reply:  &grant,
		locks: func(err error) {
			c.locks.mu.Lock()
			defer c.locks.mu.Unlock()
			switch set := &in.sets[l.Kind]; {
			case err == nil:
				set.Convert(lockOwner(l), l)
				set.Apply(lockOwner(l), l)
			case errs.Is(err, errs.Locked):
				set.Convert(lockOwner(l), l)
			}
		},
	}, lockReq{Ino: ino, Lock: l})
	return c.fenced(ino, in, err)
}

// fenced passes err on, and notes it where it says that locks were taken away.
func (c *Client) fenced(ino twofold.Ino, in *lockInode, err error) error {
	if errs.Is(err, errs.Fenced) {
		c.log.Error("locks are lost: others may have had them", slog.Uint64("inode", uint64(ino)), slog.Any("err", err))
		c.locks.lose(in, err)
	}
	return err
}

// awaitLock waits for l in the server's queue.
func (c *Client) awaitLock(ctx context.Context, ino twofold.Ino, in *lockInode, l api.Lock) error {
	c.locks.mu.Lock()
	c.locks.ticket++
	q := lockReq{Ino: ino, Lock: l, Ticket: c.locks.ticket}
	c.locks.mu.Unlock()
	granted := func() {
		c.locks.mu.Lock()
		in.sets[l.Kind].Convert(lockOwner(l), l)
		in.sets[l.Kind].Apply(lockOwner(l), l)
		c.locks.mu.Unlock()
	}
	_, what, err := c.attempt(ctx, nil, &rpc.Call{Method: mAwaitLock, Header: q}, new(attempts), func(err error) {
		if err == nil {
			granted()
		}
	})
	if what == answered && !errs.Is(err, errs.Canceled) {
		return c.fenced(ino, in, err)
	}
	// The caller went away. Was it quick enough? If not it has the lock, and is told
	// so: that is as good, and nothing is left behind that nobody knows of.
	var has endAwaitAns
	if _, _, end := c.attempt(c.ctx, nil, &rpc.Call{Method: mEndAwait, Header: q, Reply: &has, Urgent: true}, new(attempts), func(err error) {
		if err == nil && has.Held {
			granted()
		}
	}); end == nil && has.Held {
		return nil
	}
	return errs.E("remote.SetLock", errs.Canceled, err)
}
