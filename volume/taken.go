package volume

import (
	"slices"
	"sync"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// What is taken from a mount because it was silent (write leases, locks) is noted in its
// session's record before anybody else is given it: a mount that comes to another server
// first, or to this one after a restart, says that it holds it, and must not be believed
// (ResumeMount). One loop commits the notes, in order, those of one moment together.

// taken are notes on their way into the metadata.
type taken struct {
	kick chan struct{}

	mu   sync.Mutex
	next []*note
}

// note is one of them.
type note struct {
	session twofold.SessionID
	token   uint64      // of a write lease, or
	locks   twofold.Ino // an inode of which it had locks, or
	closed  twofold.Ino // one that it has closed since
	err     error       // once over is closed
	over    chan struct{}
}

func newTaken() *taken { return &taken{kick: make(chan struct{}, 1)} }

func (v *Volume) queueNote(n *note) {
	n.over = make(chan struct{})
	v.taken.mu.Lock()
	v.taken.next = append(v.taken.next, n)
	v.taken.mu.Unlock()
	v.kick(v.taken.kick)
}

// awaitNote queues a note and waits until it is committed. A mount whose process is dead says
// nothing to anybody, and needs none.
func (v *Volume) awaitNote(n *note) error {
	v.mu.Lock()
	s := v.sessions[n.session]
	v.mu.Unlock()
	if s != nil && s.dead() {
		return nil
	}
	v.queueNote(n)
	select {
	case <-n.over:
		return n.err
	case <-v.ctx.Done():
		return errs.Newf("volume.note", errs.Unavailable, "the server is stopping")
	}
}

// noteLease notes that a write lease is taken; see lease.Table.NoteRevoked.
func (v *Volume) noteLease(id twofold.SessionID, token uint64) error {
	return v.awaitNote(&note{session: id, token: token})
}

// noteLocks notes that locks are taken; see locks.Options.Note.
func (v *Volume) noteLocks(id twofold.SessionID, ino twofold.Ino) error {
	return v.awaitNote(&note{session: id, locks: ino})
}

// unnoteLocks ends that. Where this server is lost before it is committed, the mount loses locks
// that it need not have lost.
func (v *Volume) unnoteLocks(id twofold.SessionID, ino twofold.Ino) {
	v.queueNote(&note{session: id, closed: ino})
}

// dropNotes drops notes of a mount that is back about inodes that it has open no more.
func (v *Volume) dropNotes(s *Session, rec *metadata.Session, held api.Held) {
	for _, ino := range rec.Unlocked {
		if !slices.ContainsFunc(held.Opens, func(o api.HeldOpen) bool { return o.Ino == ino }) &&
			!slices.ContainsFunc(held.Locks, func(l api.HeldLocks) bool { return l.Ino == ino }) {
			v.unnoteLocks(s.id, ino)
		}
	}
}

// keepTaken commits notes until the volume closes.
func (v *Volume) keepTaken() {
	defer v.wg.Done()
	for {
		select {
		case <-v.taken.kick:
		case <-v.ctx.Done():
			return
		}
		v.taken.mu.Lock()
		all := v.taken.next
		v.taken.next = nil
		v.taken.mu.Unlock()
		for _, c := range revokes(all) {
			_, err := v.commit(v.ctx, metadata.OpRevoke, c.Revoke)
			for _, n := range c.of {
				n.err = err
				close(n.over)
			}
		}
	}
}

// revoke is one command, and the notes that it has.
type revoke struct {
	metadata.Revoke
	of []*note
}

// maxNotes bounds the notes of one command.
const maxNotes = 1000

// revokes makes commands of notes, in order: one for each session, and another one where an
// inode comes again, as a command has Closed before Locks.
func revokes(all []*note) (out []*revoke) {
	last := map[twofold.SessionID]*revoke{}
	for _, n := range all {
		c := last[n.session]
		if c == nil || len(c.of) == maxNotes || n.locks != 0 && slices.Contains(c.Closed, n.locks) || n.closed != 0 && slices.Contains(c.Locks, n.closed) {
			c = &revoke{Revoke: metadata.Revoke{ID: n.session}}
			last[n.session] = c
			out = append(out, c)
		}
		c.of = append(c.of, n)
		switch {
		case n.locks != 0:
			c.Locks = append(c.Locks, n.locks)
		case n.closed != 0:
			c.Closed = append(c.Closed, n.closed)
		default:
			c.Tokens = append(c.Tokens, n.token)
		}
	}
	return out
}
