package remote

import (
	"context"
	"log/slog"
	"sync"
	"time"

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
	ticket uint64        // of the last wait
	count  int           // ranges in all inodes
	alive  time.Time     // no later than when the server heard of us last
	trust  time.Duration // for how long after that it certainly leaves us our delegations
}

// lockInode has the session's locks of one inode.
type lockInode struct {
	// turn is had, by sending, by whoever changes the locks: one call at a time, so
	// that client and server see changes in one order. Waits for locks don't have it.
	turn chan struct{}

	// Guarded by lockTable.mu.
	refs  int
	sets  [2]locks.Set // by api.LockKind; the owners' session is 0
	token uint64       // of the delegation: who has turn decides about locks here; else 0
	doubt bool         // the server may have ended the delegation without our knowing
	lost  error        // locks were taken away: none are to be had until the file is closed
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
	if in.refs == 0 && in.lost == nil && in.token == 0 && in.sets[0].Empty() && in.sets[1].Empty() && t.inodes[ino] == in {
		delete(t.inodes, ino)
	}
}

// closed notes that the session has no open file of the inode any more: locks end by it.
func (t *lockTable) closed(ino twofold.Ino) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in := t.inodes[ino]; in != nil {
		t.drop(in, nil)
		t.tidy(ino, in)
	}
}

// lose notes that the session's locks of the inode were taken away.
func (t *lockTable) lose(in *lockInode, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(in, err)
}

// drop forgets the locks and the delegation of an inode; mu is held.
func (t *lockTable) drop(in *lockInode, lost error) {
	for k := range in.sets {
		t.count -= in.sets[k].Drop(func(locks.Owner) bool { return true })
	}
	in.token, in.lost = 0, lost
}

// apply is what a granted l makes of the owner's locks; mu is held.
func (t *lockTable) apply(in *lockInode, l api.Lock) {
	set := &in.sets[l.Kind]
	t.count -= set.Convert(lockOwner(l), l)
	t.count += set.Apply(lockOwner(l), l)
}

// trustFor sets trust.
func (t *lockTable) trustFor(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trust = d
}

// heard notes that the server heard of us at that moment or later. If it may have missed
// us for too long before, what it delegated to us is in doubt.
func (t *lockTable) heard(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.alive) > t.trust {
		t.doubtAll()
	}
	if at.After(t.alive) {
		t.alive = at
	}
}

// attached notes that there is a new connection, perhaps to a new server, which was
// asked for at that moment.
func (t *lockTable) attached(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubtAll()
	t.alive = at
}

func (t *lockTable) doubtAll() {
	for _, in := range t.inodes {
		in.doubt = in.token != 0
	}
}

// loseAll is lose for all inodes of which there are any.
func (t *lockTable) loseAll(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, in := range t.inodes {
		if !in.sets[0].Empty() || !in.sets[1].Empty() {
			t.drop(in, err)
		}
		in.token = 0
	}
}

// held is what the session has. Delegations without locks end by it: a new server does
// not know of them, and one that does hears of it when it asks for them.
func (t *lockTable) held() (all []api.HeldLocks) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ino, in := range t.inodes {
		if l := in.list(); len(l) > 0 {
			all = append(all, api.HeldLocks{Ino: ino, Token: in.token, Locks: l})
		} else {
			in.token = 0
			t.tidy(ino, in)
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
	in := c.locks.use(ino)
	defer c.locks.done(ino, in)
	if err := c.takeTurn(ctx, in); err != nil {
		return api.Lock{}, false, err
	}
	here, err := c.decides(ino, in)
	if here {
		c.locks.mu.Lock()
		_, b, found := in.sets[l.Kind].Conflict(lockOwner(l), l)
		c.locks.mu.Unlock()
		<-in.turn
		return b, found, nil
	}
	<-in.turn
	if err != nil {
		return api.Lock{}, false, err
	}
	var a getLockAns
	_, err = c.ask(ctx, mGetLock, lockReq{Ino: ino, Lock: l}, &a, nil)
	return a.Lock, a.Found, err
}

// takeTurn gets the inode's turn; receiving from it gives it back.
func (c *Client) takeTurn(ctx context.Context, in *lockInode) error {
	select {
	case in.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errs.E("remote.SetLock", errs.Canceled, ctx.Err())
	case <-c.ctx.Done():
		return errs.Newf("remote.SetLock", errs.Unavailable, "the mount is shutting down")
	}
}

// decides reports whether the inode's locks are delegated to us. The turn is had.
//
// A server that does not hear of us for the lease term gives them to others. So we must
// not go on for as long: where it is not certain that we were heard of within two
// keep-alives, which are well within the term, the delegation is given back, and the
// answer tells whether it was still ours.
func (c *Client) decides(ino twofold.Ino, in *lockInode) (bool, error) {
	c.locks.mu.Lock()
	delegated := in.token != 0
	sure := !in.doubt && time.Since(c.locks.alive) < c.locks.trust
	c.locks.mu.Unlock()
	if !delegated || sure {
		return delegated, nil
	}
	return false, c.giveBack(ino, in)
}

// SetLock implements api.Files. Only a wait for a lock ends with ctx: all else is
// answered at once by a server that is there, and has an outcome that must be known.
func (c *Client) SetLock(ctx context.Context, ino twofold.Ino, l api.Lock, wait bool) error {
	in := c.locks.use(ino)
	defer c.locks.done(ino, in)
	err := c.setLock(ino, in, l)
	for wait && (errs.Is(err, errs.Locked) || errs.Is(err, errs.Busy)) {
		if err = c.returnLocks(c.ctx, ino, in, 0); err == nil { // queues are at the server
			err = c.awaitLock(ctx, ino, in, l)
		}
	}
	return err
}

func (c *Client) setLock(ino twofold.Ino, in *lockInode, l api.Lock) error {
	if err := c.takeTurn(c.ctx, in); err != nil {
		return err
	}
	defer func() { <-in.turn }()
	here, err := c.decides(ino, in)
	if err != nil && !(l.Type == api.LockNone && errs.Is(err, errs.Fenced)) {
		return err
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
	if here {
		if done, err := c.setHere(in, l); done {
			return err
		}
	}
	var grant api.LockGrant
	err = do(c.ctx, c, change{
		method: mSetLock,
		urgent: l.Type == api.LockNone, // others may wait for it
		reply:  &grant,
		locks:  func(err error) { c.locks.answered(in, l, grant, err) },
	}, lockReq{Ino: ino, Lock: l})
	return c.fenced(ino, in, err)
}

// setHere is what the server would do, for an inode whose locks are delegated; done is
// false when that has just ended.
func (c *Client) setHere(in *lockInode, l api.Lock) (done bool, err error) {
	t := &c.locks
	t.mu.Lock()
	defer t.mu.Unlock()
	if in.token == 0 {
		return false, nil
	}
	if l.Type != api.LockNone && t.count+2 > api.MaxLocks {
		return true, errs.Newf("remote.SetLock", errs.NoLocks, "%d ranges are locked", t.count)
	}
	set := &in.sets[l.Kind]
	t.count -= set.Convert(lockOwner(l), l)
	if _, _, found := set.Conflict(lockOwner(l), l); found {
		return true, errs.Newf("remote.SetLock", errs.Locked, "another owner has locked it")
	}
	t.count += set.Apply(lockOwner(l), l)
	return true, nil
}

// answered notes the server's answer.
func (t *lockTable) answered(in *lockInode, l api.Lock, grant api.LockGrant, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil && grant.Token != 0:
		t.drop(in, nil)
		for _, l := range grant.Held {
			t.apply(in, l)
		}
		in.token, in.doubt = grant.Token, false
	case err == nil:
		t.apply(in, l)
	case errs.Is(err, errs.Locked):
		t.count -= in.sets[l.Kind].Convert(lockOwner(l), l)
	}
}

// returnLocks gives a delegation back, if there is one; token 0 is any.
func (c *Client) returnLocks(ctx context.Context, ino twofold.Ino, in *lockInode, token uint64) error {
	if err := c.takeTurn(ctx, in); err != nil {
		return err
	}
	defer func() { <-in.turn }()
	c.locks.mu.Lock()
	other := in.token == 0 || token != 0 && token != in.token
	c.locks.mu.Unlock()
	if other {
		return nil
	}
	return c.giveBack(ino, in)
}

// giveBack is returnLocks for who has the turn.
func (c *Client) giveBack(ino twofold.Ino, in *lockInode) error {
	c.locks.mu.Lock()
	held := api.HeldLocks{Ino: ino, Token: in.token, Locks: in.list()}
	c.locks.mu.Unlock()
	err := do(c.ctx, c, change{method: mReturnLocks, urgent: true, locks: func(err error) {
		c.locks.mu.Lock()
		defer c.locks.mu.Unlock()
		if err == nil {
			in.token, in.doubt = 0, false
		}
	}}, returnLocksReq{held})
	return c.fenced(ino, in, err)
}

// recallLocks is the server asking for a delegation.
func (c *Client) recallLocks(ctx context.Context, q leaseReq) error {
	in := c.locks.use(q.Ino)
	defer c.locks.done(q.Ino, in)
	err := c.returnLocks(ctx, q.Ino, in, q.Token)
	if errs.Is(err, errs.Fenced) {
		return nil // it was over
	}
	return err
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
		if in.token == 0 { // else what was delegated after it has it
			c.locks.apply(in, l)
		}
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
