package locks

import (
	"context"
	"slices"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// waiter is a request that waits. Table.mu guards it.
type waiter struct {
	ctx    context.Context
	owner  Owner
	lock   api.Lock
	ticket uint64
	over   chan struct{} // closed when err is there
	err    error         // nil: granted

	// bold: it may be granted before others that came earlier.
	bold bool
}

// Await implements api.Locks for a session.
//
// Waiting is fair: a lock that becomes free goes to the one who waits longest, and who
// comes later waits behind him if the two exclude each other, also where what is held
// would let him in. But not when he, or his process, has other locks: the one before
// him may wait for those. As that can't be known of all (a process may wait on another
// one's behalf), nobody is held up by mere waiters for longer than a quarter of the
// lease term.
func (t *Table) Await(ctx context.Context, s Session, ino twofold.Ino, l api.Lock, ticket uint64) error {
	if err := check(l); err != nil {
		return err
	}
	if err := t.Ready(ctx); err != nil {
		return err
	}
	w, err := t.enqueue(ctx, s, ino, l, ticket)
	if err != nil {
		return err
	}
	// Sessions fall silent without a sound.
	tick := time.NewTicker(t.Term / 4)
	defer tick.Stop()
	for {
		select {
		case <-w.over:
			return w.err
		case <-ctx.Done():
			t.cancel(ino, w, errs.E("locks.Await", errs.Canceled, ctx.Err()))
		case <-t.Done:
			t.cancel(ino, w, errs.Newf("locks.Await", errs.Unavailable, "the server is stopping"))
		case <-tick.C:
			t.mu.Lock()
			w.bold = true
			if in := t.inodes[ino]; in != nil {
				t.advance(in)
			}
			t.mu.Unlock()
		}
	}
}

// enqueue puts a request behind the others and lets it through if it need not wait.
func (t *Table) enqueue(ctx context.Context, s Session, ino twofold.Ino, l api.Lock, ticket uint64) (*waiter, error) {
	in, err := t.enter(ctx, s, ino)
	if err != nil {
		return nil, err
	}
	defer t.mu.Unlock()
	defer t.settle(in)
	if in.deleg != nil {
		return nil, errs.Newf("locks.Await", errs.Busy, "session %d has the locks of inode %d itself", s.ID(), ino)
	}
	h := t.holdingsOf(s)
	if err := h.lost[ino]; err != nil {
		return nil, err
	}
	if h.waits >= api.MaxLockWaits {
		return nil, errs.Newf("locks.Await", errs.NoLocks, "%d requests of session %d wait for locks", h.waits, s.ID())
	}
	w := &waiter{ctx: ctx, owner: Owner{s.ID(), l.Owner}, lock: l, ticket: ticket, over: make(chan struct{})}
	if n := in.sets[l.Kind].Convert(w.owner, l); n > 0 {
		h.grown(ino, -n)
		t.advance(in)
	}
	if l.Process && t.deadlock(w.owner, l, in) {
		return nil, errs.Newf("locks.Await", errs.Deadlock, "the lock's holder waits for this process")
	}
	w.bold = t.busy(h, w)
	h.waits++
	in.waiters = append(in.waiters, w)
	t.advance(in)
	return w, nil
}

// advance grants what can be granted, in the order of arrival. t.mu is held.
func (t *Table) advance(in *inode) {
	for again := true; again; { // a grant may turn an exclusive lock into a shared one
		again = false
		for i := 0; i < len(in.waiters); i++ {
			w := in.waiters[i]
			if w.ctx.Err() != nil || !w.bold && behind(in.waiters[:i], w) {
				continue // one that was canceled leaves by itself
			}
			h := t.sessions[w.owner.Session]
			if h == nil {
				t.leave(in, w, errs.Newf("locks.Await", errs.Fenced, "session %d has ended", w.owner.Session))
				i--
				continue
			}
			if _, _, found := t.conflict(in, w.owner, w.lock); found {
				continue
			}
			if h.count+2 > api.MaxLocks {
				t.leave(in, w, errs.Newf("locks.Await", errs.NoLocks, "session %d has %d ranges locked", w.owner.Session, h.count))
				i--
				continue
			}
			h.grown(in.ino, in.sets[w.lock.Kind].Apply(w.owner, w.lock))
			t.leave(in, w, nil)
			i--
			again = true
		}
	}
}

// behind reports whether one of those who came earlier excludes w.
func behind(earlier []*waiter, w *waiter) bool {
	return slices.ContainsFunc(earlier, func(e *waiter) bool {
		return e.lock.Kind == w.lock.Kind && e.owner != w.owner && e.ctx.Err() == nil &&
			excludes(e.lock.Type, w.lock.Type) && overlap(e.lock, w.lock)
	})
}

// busy reports whether w's owner or process has a lock on anything: those before it may
// wait for that. t.mu is held.
func (t *Table) busy(h *holdings, w *waiter) bool {
	for ino := range h.inodes {
		in := t.inodes[ino]
		if in == nil {
			continue
		}
		for k := range in.sets {
			for o, spans := range in.sets[k].owners {
				if o == w.owner || o.Session == w.owner.Session && w.lock.Pid != 0 &&
					slices.ContainsFunc(spans, func(s span) bool { return s.pid == w.lock.Pid }) {
					return true
				}
			}
		}
	}
	return false
}

// leave takes w out of the queue with its outcome, if it is in it. t.mu is held.
func (t *Table) leave(in *inode, w *waiter, err error) {
	i := slices.Index(in.waiters, w)
	if i < 0 {
		return
	}
	in.waiters = slices.Delete(in.waiters, i, i+1)
	if h := t.sessions[w.owner.Session]; h != nil {
		h.waits--
	}
	w.err = err
	close(w.over)
}

// cancel ends a wait, unless it is over.
func (t *Table) cancel(ino twofold.Ino, w *waiter, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := t.inodes[ino]
	if in == nil {
		return
	}
	t.leave(in, w, err)
	t.advance(in) // those who were behind it
	t.settle(in)
}

// EndAwait implements api.Locks for a session.
func (t *Table) EndAwait(s Session, ino twofold.Ino, l api.Lock, ticket uint64) (bool, error) {
	if err := check(l); err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	in := t.inodes[ino]
	if in == nil {
		return false, nil
	}
	for _, w := range slices.Clone(in.waiters) {
		if w.owner.Session == s.ID() && w.ticket == ticket {
			t.leave(in, w, errs.Newf("locks.Await", errs.Canceled, "the caller went away"))
		}
	}
	t.advance(in)
	defer t.settle(in)
	return in.sets[l.Kind].Covers(Owner{s.ID(), l.Owner}, l), nil
}

// deadlock reports whether o, waiting for l, would wait for itself: somebody who has a
// lock in its way waits, through whatever chain of locks of any inodes, for one of o's.
// Only requests of processes are followed, as fcntl(2) has it: an open file description
// that waits does not tell who could unlock others. t.mu is held.
func (t *Table) deadlock(o Owner, l api.Lock, in *inode) bool {
	waits := map[Owner][]blocked{}
	for _, in := range t.inodes {
		for _, w := range in.waiters {
			if w.lock.Process && w.ctx.Err() == nil {
				waits[w.owner] = append(waits[w.owner], blocked{in, w.lock})
			}
		}
	}
	if len(waits) == 0 {
		return false
	}
	seen := map[Owner]bool{}
	var search func(b Owner, x blocked) bool
	search = func(b Owner, x blocked) (cycle bool) {
		x.in.sets[x.lock.Kind].conflicts(b, x.lock, func(holder Owner, _ span) bool {
			if holder == o {
				cycle = true
			} else if !seen[holder] {
				seen[holder] = true
				for _, next := range waits[holder] {
					cycle = cycle || search(holder, next)
				}
			}
			return !cycle
		})
		return cycle
	}
	return search(o, blocked{in, l})
}

// blocked is a request that waits at an inode.
type blocked struct {
	in   *inode
	lock api.Lock
}
