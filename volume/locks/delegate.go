package locks

import (
	"context"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// A session that is alone with an inode's locks is delegated them: it grants and drops
// locks by itself, so that a program that locks and unlocks all the time (SQLite takes
// some eight locks for a transaction) asks nobody. The table then has no locks of the
// inode at all; another session's request first has the holder return what it has.
//
// Nothing waits at a holder: a request that has to wait returns the delegation, so that
// all queues, and all deadlocks, are in one place.

// delegation is a session's right to an inode's locks. Table.mu guards it.
type delegation struct {
	session   Session
	token     uint64
	recalling bool
	over      chan struct{} // closed when it has ended
}

const (
	// maxDelegated bounds the inodes of one session, and what it says after a restart.
	maxDelegated = 4096
	// quiet is for how long one session must have been alone with an inode that others
	// locked as well, so that a delegation does not go to and fro between them.
	quiet = 2 * time.Second
	// maxMet bounds the memory of where sessions met; beyond it they start anew.
	maxMet = 4096
)

// enter returns the inode with t.mu held, and not delegated to others: their locks are
// recalled first.
func (t *Table) enter(ctx context.Context, s Session, ino twofold.Ino) (*inode, error) {
	for {
		t.mu.Lock()
		in := t.inodeOf(ino)
		d := in.deleg
		if d == nil || d.session.ID() == s.ID() {
			return in, nil
		}
		if len(t.met) >= maxMet {
			clear(t.met)
		}
		t.met[ino] = time.Now()
		if !d.recalling {
			d.recalling = true
			go t.recall(in, d)
		}
		t.mu.Unlock()
		select {
		case <-d.over:
		case <-ctx.Done():
			return nil, errs.E("locks.enter", errs.Canceled, ctx.Err())
		case <-t.Done:
			return nil, errs.Newf("locks.enter", errs.Unavailable, "the server is stopping")
		}
	}
}

// recall asks for the locks of an inode until they are returned, or their holder was
// silent for the term.
func (t *Table) recall(in *inode, d *delegation) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answer := make(chan error, 1)
	ask := func() { answer <- d.session.RecallLocks(ctx, in.ino, d.token) }
	go ask()
	tick := time.NewTicker(t.Term / 8)
	defer tick.Stop()
	for {
		select {
		case <-d.over:
			return
		case err := <-answer:
			if err == nil { // it has none (any more)
				t.mu.Lock()
				t.undelegate(in, d)
				t.settle(in)
				t.mu.Unlock()
				return
			}
			t.Log.Debug("recall of locks not answered", "inode", in.ino, "session", d.session.ID(), "err", err)
			time.AfterFunc(t.Term/8, func() {
				select {
				case <-ctx.Done():
				default:
					ask()
				}
			})
		case <-tick.C:
			if d.session.Silent() > t.Term && t.takeDelegated(in, d) {
				return
			}
		case <-t.Done:
			return
		}
	}
}

// takeDelegated takes the locks of an inode from a session that they are delegated to; false
// where that can't be noted now.
func (t *Table) takeDelegated(in *inode, d *delegation) bool {
	id := d.session.ID()
	t.mu.Lock()
	h := t.sessions[id]
	if in.deleg != d || h == nil {
		t.mu.Unlock()
		return true
	}
	k := h.taking[in.ino]
	if k == nil && t.Note == nil {
		t.take(in, h, id)
		t.undelegate(in, d)
		t.settle(in)
		t.mu.Unlock()
		return true
	}
	if k == nil {
		k = &taking{over: make(chan struct{})}
		h.taking[in.ino] = k
		go t.noteTaken(in.ino, h, id, k)
	}
	t.mu.Unlock()
	<-k.over // by Done at the latest, if Note ends by then
	t.mu.Lock()
	defer t.mu.Unlock()
	return in.deleg != d
}

// undelegate ends a delegation; t.mu is held.
func (t *Table) undelegate(in *inode, d *delegation) {
	if d == nil || in.deleg != d {
		return
	}
	in.deleg = nil
	close(d.over)
	if h := t.sessions[d.session.ID()]; h != nil {
		delete(h.delegated, in.ino)
	}
	t.advance(in)
}

// delegate gives the inode's locks to the session that was just granted one, if it is
// alone. t.mu is held.
func (t *Table) delegate(in *inode, h *holdings, s Session) (g api.LockGrant) {
	if !s.Delegable() || len(in.waiters) > 0 || len(h.delegated) >= maxDelegated || time.Since(t.met[in.ino]) < quiet {
		return g
	}
	for k := range in.sets {
		for o := range in.sets[k].owners {
			if o.Session != s.ID() {
				return g
			}
		}
	}
	delete(t.met, in.ino)
	for k := range in.sets {
		g.Held = append(g.Held, in.sets[k].List(api.LockKind(k), s.ID())...)
	}
	t.drop(in, h, s.ID())
	t.lastToken++
	g.Token = t.lastToken
	in.deleg = &delegation{session: s, token: g.Token, over: make(chan struct{})}
	h.delegated[in.ino] = in.deleg
	return g
}

// ForgetMeeting lets an inode be delegated at once again, for tests.
func (t *Table) ForgetMeeting(ino twofold.Ino) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.met, ino)
}

// Return implements api.Locks for a session.
func (t *Table) Return(s Session, held api.HeldLocks) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.holdingsOf(s)
	d := h.delegated[held.Ino]
	in := t.inodes[held.Ino]
	if d == nil || in == nil || d.token != held.Token {
		if len(held.Locks) == 0 {
			return nil // nothing of it is lost
		}
		if h.lost[held.Ino] == nil {
			h.lost[held.Ino] = errs.Newf("locks.Return", errs.Fenced, "the locks of inode %d were not this session's any more", held.Ino)
		}
		return h.lost[held.Ino]
	}
	for _, l := range held.Locks {
		if err := check(l); err != nil {
			return err
		}
	}
	for _, l := range held.Locks {
		h.grown(held.Ino, in.sets[l.Kind].Apply(Owner{s.ID(), l.Owner}, l))
	}
	t.undelegate(in, d)
	t.settle(in)
	return nil
}
