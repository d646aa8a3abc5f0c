package locks

import (
	"context"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// Locks that are in somebody's way are taken from a session that was silent for the term. Where
// another server may be the next one to hear of it, that is noted first (Options.Note): the
// session would be believed there, beside whoever has the locks by then. So it takes a moment,
// in which the locks stay; what the session does meanwhile does not keep them.

// taking is a session's locks of an inode being noted as taken. Table.mu guards it.
type taking struct {
	over   chan struct{} // closed when they are taken, or could not be
	closed bool          // the session has closed the inode meanwhile: its locks have gone by that
}

// enterTaken is enter, once what others have in the way of a request, and lose by their silence,
// is taken from them.
func (t *Table) enterTaken(ctx context.Context, s Session, ino twofold.Ino, l api.Lock) (*inode, error) {
	for {
		in, err := t.enter(ctx, s, ino)
		if err != nil {
			return nil, err
		}
		b, _, found := t.conflict(in, Owner{s.ID(), l.Owner}, l)
		h := t.sessions[b.Session]
		if !found || b.Session == s.ID() || h == nil || h.taking[ino] == nil {
			return in, nil
		}
		over := h.taking[ino].over
		t.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, errs.E("locks.enter", errs.Canceled, ctx.Err())
		case <-t.Done:
			return nil, errs.Newf("locks.enter", errs.Unavailable, "the server is stopping")
		}
	}
}

// conflict is Set.Conflict with what sessions that are gone had taken from them, or have it
// begun: then it is in the way until that is noted. t.mu is held.
func (t *Table) conflict(in *inode, o Owner, l api.Lock) (Owner, api.Lock, bool) {
	for {
		b, lock, found := in.sets[l.Kind].Conflict(o, l)
		if !found || b.Session == o.Session || !t.revoke(in, b.Session) {
			return b, lock, found
		}
	}
}

// revoke takes a session's locks of the inode away if it was silent for the term; false where
// it still has them. t.mu is held.
func (t *Table) revoke(in *inode, id twofold.SessionID) bool {
	h := t.sessions[id]
	if h == nil || h.taking[in.ino] != nil || h.session.Silent() <= t.Term {
		return false
	}
	if t.Note == nil {
		t.take(in, h, id)
		return true
	}
	k := &taking{over: make(chan struct{})}
	h.taking[in.ino] = k
	go t.noteTaken(in.ino, h, id, k)
	return false
}

// noteTaken notes that a session's locks of an inode are taken, and takes them.
func (t *Table) noteTaken(ino twofold.Ino, h *holdings, id twofold.SessionID, k *taking) {
	err := t.Note(id, ino)
	if err != nil {
		t.Log.Debug("locks can't be taken now", "inode", ino, "session", id, "err", err)
		t.unnote(id, ino) // if it was noted after all
		select {          // those who wait come again at once
		case <-time.After(t.Term / 8):
		case <-t.Done:
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(k.over)
	delete(h.taking, ino)
	if err == nil {
		t.taken(ino, h, id, k)
	}
}

// taken takes what was noted as taken; t.mu is held.
func (t *Table) taken(ino twofold.Ino, h *holdings, id twofold.SessionID, k *taking) {
	in := t.inodes[ino]
	switch {
	case t.sessions[id] != h: // it has ended
	case k.closed || h.inodes[ino] == 0 && h.delegated[ino] == nil: // it had nothing to lose any more
		t.unnote(id, ino)
	default:
		t.take(in, h, id)
		t.undelegate(in, h.delegated[ino])
		t.advance(in)
		t.settle(in)
	}
}

// take ends a session's locks of an inode, which it hears of when it asks for others. t.mu is
// held.
func (t *Table) take(in *inode, h *holdings, id twofold.SessionID) {
	t.Log.Warn("locks taken from a mount that was not heard of for the lease term", "inode", in.ino, "session", id)
	t.drop(in, h, id)
	h.lost[in.ino] = errs.Newf("locks", errs.Fenced, "the locks of inode %d were given to others", in.ino)
}

// unnote has the next server forget what was noted.
func (t *Table) unnote(id twofold.SessionID, ino twofold.Ino) {
	if t.Unnote != nil {
		t.Unnote(id, ino)
	}
}
