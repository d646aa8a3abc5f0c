package locks

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// Session is a mount's session as the table sees it.
type Session interface {
	ID() twofold.SessionID
	// Silent is how long nothing was heard of it; a session known to be dead answers
	// a very long time. Called with the table locked: it must not call the table.
	Silent() time.Duration
	// Delegable tells whether RecallLocks is more than a word.
	Delegable() bool
	// RecallLocks is api.LockHolder's. Called without the table locked.
	RecallLocks(ctx context.Context, ino twofold.Ino, token uint64) error
}

// Options of New; all but Note and Unnote are required.
type Options struct {
	// Term is how long a session may be silent before locks of it that are in
	// somebody's way are taken from it.
	Term time.Duration
	// Ready waits until the sessions of before this process are back, or had their
	// time: nothing is granted earlier.
	Ready   func(context.Context) error
	IsReady func() bool // likewise, at once
	Log     *slog.Logger
	Done    <-chan struct{} // closed when the server stops

	// Note has the next server know that an inode's locks were taken from a session, before
	// anybody else is granted them; it may take long. Unnote says that the session has closed
	// the inode since, and returns at once. Both nil: there is no other server to know.
	Note   func(id twofold.SessionID, ino twofold.Ino) error
	Unnote func(id twofold.SessionID, ino twofold.Ino)
}

// Table is all locks of a store. Safe for concurrent use.
type Table struct {
	Options

	mu       sync.Mutex
	inodes   map[twofold.Ino]*inode
	sessions map[twofold.SessionID]*holdings

	lastToken uint64                    // of a delegation; above those of earlier processes
	met       map[twofold.Ino]time.Time // when a session last asked for locks that another one was delegated
}

// inode has the locks of one inode. Table.mu guards it.
type inode struct {
	ino     twofold.Ino
	sets    [2]Set      // by api.LockKind
	waiters []*waiter   // in the order in which they came
	deleg   *delegation // then there are neither
}

// holdings is what the table knows of a session. Table.mu guards it.
type holdings struct {
	session Session
	count   int                   // ranges in all inodes
	waits   int                   // waiters in all inodes
	inodes  map[twofold.Ino]int   // ranges by inode
	lost    map[twofold.Ino]error // inodes of which locks were taken from it, until it closes them

	delegated map[twofold.Ino]*delegation
	taking    map[twofold.Ino]*taking // what is being noted as taken from it
}

// New makes an empty table.
func New(o Options) *Table {
	return &Table{
		Options: o, inodes: map[twofold.Ino]*inode{}, sessions: map[twofold.SessionID]*holdings{},
		met: map[twofold.Ino]time.Time{},
	}
}

// TokensFrom has the next tokens be above last, as those of earlier servers are not. Call it
// before any is given.
func (t *Table) TokensFrom(last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastToken = max(t.lastToken, last)
}

func (t *Table) inodeOf(ino twofold.Ino) *inode {
	in := t.inodes[ino]
	if in == nil {
		in = &inode{ino: ino}
		t.inodes[ino] = in
	}
	return in
}

// settle forgets an inode that nobody has to do with; t.mu is held.
func (t *Table) settle(in *inode) {
	if in.sets[0].Empty() && in.sets[1].Empty() && len(in.waiters) == 0 && in.deleg == nil && t.inodes[in.ino] == in {
		delete(t.inodes, in.ino)
	}
}

func (t *Table) holdingsOf(s Session) *holdings {
	h := t.sessions[s.ID()]
	if h == nil {
		h = &holdings{inodes: map[twofold.Ino]int{}, lost: map[twofold.Ino]error{}, delegated: map[twofold.Ino]*delegation{}, taking: map[twofold.Ino]*taking{}}
		t.sessions[s.ID()] = h
	}
	h.session = s
	return h
}

// grown notes that the session has n ranges more of the inode; t.mu is held.
func (h *holdings) grown(ino twofold.Ino, n int) {
	h.count += n
	if h.inodes[ino] += n; h.inodes[ino] <= 0 {
		delete(h.inodes, ino)
	}
}

func check(l api.Lock) error {
	switch {
	case l.Kind > api.LockFlock || l.Type > api.LockExclusive:
		return errs.Newf("locks.check", errs.Invalid, "a lock of kind %d and type %d", l.Kind, l.Type)
	case l.Start > l.End || l.End > api.MaxLockEnd:
		return errs.Newf("locks.check", errs.Invalid, "a lock of bytes %d to %d", l.Start, l.End)
	case l.Kind == api.LockFlock && (l.Start != 0 || l.End != api.MaxLockEnd):
		return errs.Newf("locks.check", errs.Invalid, "flock(2) of a part of a file")
	}
	return nil
}

// Get implements api.Locks for a session.
func (t *Table) Get(ctx context.Context, s Session, ino twofold.Ino, l api.Lock) (api.Lock, bool, error) {
	if err := check(l); err != nil {
		return api.Lock{}, false, err
	}
	if err := t.Ready(ctx); err != nil {
		return api.Lock{}, false, err
	}
	in, err := t.enterTaken(ctx, s, ino, l)
	if err != nil {
		return api.Lock{}, false, err
	}
	defer t.mu.Unlock()
	defer t.settle(in)
	owner, lock, found := t.conflict(in, Owner{s.ID(), l.Owner}, l)
	if found && owner.Session != s.ID() {
		lock.Pid = 0 // a process of another machine, perhaps: fcntl(2) has no word for it
	}
	return lock, found, nil
}

// drop ends a session's locks of an inode; t.mu is held.
func (t *Table) drop(in *inode, h *holdings, id twofold.SessionID) {
	n := 0
	for k := range in.sets {
		n += in.sets[k].Drop(func(o Owner) bool { return o.Session == id })
	}
	h.grown(in.ino, -n)
	h.inodes[in.ino] = 0
	delete(h.inodes, in.ino)
}

// Set implements api.Locks for a session.
func (t *Table) Set(ctx context.Context, s Session, ino twofold.Ino, l api.Lock) (api.LockGrant, error) {
	if err := check(l); err != nil {
		return api.LockGrant{}, err
	}
	if l.Type != api.LockNone {
		if err := t.Ready(ctx); err != nil {
			return api.LockGrant{}, err
		}
	}
	in, err := t.enterTaken(ctx, s, ino, l)
	if err != nil {
		return api.LockGrant{}, err
	}
	defer t.mu.Unlock()
	defer t.settle(in)
	t.undelegate(in, in.deleg) // its own: it asks, so it has dropped it
	h := t.holdingsOf(s)
	if err := h.lost[ino]; err != nil {
		if l.Type == api.LockNone {
			return api.LockGrant{}, nil
		}
		return api.LockGrant{}, err
	}
	if err := t.try(in, h, Owner{s.ID(), l.Owner}, l); err != nil || l.Type == api.LockNone {
		return api.LockGrant{}, err
	}
	return t.delegate(in, h, s), nil
}

// try grants l or says why not. t.mu is held.
func (t *Table) try(in *inode, h *holdings, o Owner, l api.Lock) error {
	// A range can become two more: what is cut out of another one's middle.
	if l.Type != api.LockNone && h.count+2 > api.MaxLocks {
		return errs.Newf("locks.Set", errs.NoLocks, "session %d has %d ranges locked", o.Session, h.count)
	}
	set := &in.sets[l.Kind]
	dropped := set.Convert(o, l)
	_, _, found := t.conflict(in, o, l)
	grown := -dropped
	if !found {
		grown += set.Apply(o, l)
	}
	h.grown(in.ino, grown)
	if dropped > 0 || !found && l.Type != api.LockExclusive {
		t.advance(in) // others may get on
	}
	if found {
		return errs.Newf("locks.Set", errs.Locked, "another owner has locked inode %d", in.ino)
	}
	return nil
}

// Restore gives a session the locks that it held before this process started. It must
// be called before the table is ready; what comes later is lost, as others may have had
// the locks meanwhile. So is what was taken, which is asked of each inode: an earlier
// server has noted it (Options.Note).
func (t *Table) Restore(s Session, all []api.HeldLocks, taken func(twofold.Ino) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.holdingsOf(s)
	for _, held := range all {
		in := t.inodeOf(held.Ino)
		lost := t.IsReady() || in.deleg != nil || taken(held.Ino) // under the lock: nobody was granted anything before
		if held.Token != 0 && !lost && len(in.waiters) == 0 && in.sets[0].Empty() && in.sets[1].Empty() {
			in.deleg = &delegation{session: s, token: held.Token, over: make(chan struct{})}
			h.delegated[held.Ino] = in.deleg
			t.lastToken = max(t.lastToken, held.Token)
			continue
		}
		lost = lost || held.Token != 0
		for _, l := range held.Locks {
			o := Owner{s.ID(), l.Owner}
			if lost || check(l) != nil || h.count+2 > api.MaxLocks {
				lost = true
				break
			}
			if _, _, lost = in.sets[l.Kind].Conflict(o, l); lost {
				break
			}
			h.grown(held.Ino, in.sets[l.Kind].Apply(o, l))
		}
		if lost {
			t.drop(in, h, s.ID())
			h.lost[held.Ino] = errs.Newf("locks", errs.Fenced, "the locks of inode %d could not be kept over the server's restart", held.Ino)
			t.Log.Warn("locks could not be kept over the server's restart", "inode", held.Ino, "session", s.ID())
		}
		t.settle(in)
	}
}

// Closed tells that the session has the inode open no more: its locks are gone.
func (t *Table) Closed(s Session, ino twofold.Ino) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.sessions[s.ID()]
	if h == nil {
		return
	}
	if h.lost[ino] != nil {
		delete(h.lost, ino)
		t.unnote(s.ID(), ino)
	}
	if k := h.taking[ino]; k != nil {
		k.closed = true
	}
	if d := h.delegated[ino]; d != nil {
		in := t.inodes[ino]
		t.undelegate(in, d)
		t.settle(in)
	}
	if in := t.inodes[ino]; in != nil && h.inodes[ino] > 0 {
		t.drop(in, h, s.ID())
		t.advance(in)
		t.settle(in)
	}
}

// End drops all locks of a session that has ended.
func (t *Table) End(id twofold.SessionID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.sessions[id]
	if h == nil {
		return
	}
	delete(t.sessions, id)
	for ino, d := range h.delegated {
		in := t.inodes[ino]
		t.undelegate(in, d)
		t.settle(in)
	}
	for ino := range h.inodes {
		if in := t.inodes[ino]; in != nil {
			t.drop(in, h, id)
			t.advance(in)
			t.settle(in)
		}
	}
}

// Waits counts the requests that wait for locks of an inode, for tests and logs.
func (t *Table) Waits(ino twofold.Ino) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in := t.inodes[ino]; in != nil {
		return len(in.waiters)
	}
	return 0
}

// Held counts a session's ranges, for tests and logs.
func (t *Table) Held(id twofold.SessionID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.sessions[id]; h != nil {
		return h.count
	}
	return 0
}
