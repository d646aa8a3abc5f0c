// Package lease is the table of leases: which mount may hold unwritten bytes of which
// inode (this file), which mount decides about a directory (dirs.go), and which mounts cache
// what (readers.go, change.go). It lives in the server's memory; what makes it safe across a restart is that holders come back and say what they held before anybody is
// answered (see Table.Ready), and what makes it safe against a holder that never
// comes back is the term. What is taken from one for its silence is noted in the metadata first
// (Table.NoteRevoked), so that no later server believes it.
//
// Three parties meet here:
//
//	a holder    acquires a lease, flushes under its token, releases it
//	an observer (GET, HEAD, LIST, stat of somebody else) recalls it and then looks
//	an excluder (a conditional write, a truncate) keeps it away while it works
//
// An observer must look after the release. It asks for the table's generation,
// takes its snapshot of the metadata, and then calls Settled: that fails when any of
// the inodes is leased now, or was released since the generation, and the observer
// takes another snapshot. Without the second half of that test, a lease that is
// granted, used and released between the snapshot and the check would hide a
// write(2) that had returned.
package lease

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"twofold"
	"twofold/internal/errs"
)

// Holder is a session that can hold leases.
type Holder interface {
	// ID is the session's.
	ID() twofold.SessionID
	// Recall asks for the lease back and returns when it was released, or when it
	// can't be known (connection lost). errs.Unwritten: the holder can't write what it
	// has, and keeps it and the lease. Called without locks held.
	Recall(ctx context.Context, ino twofold.Ino, token uint64) error
	// Silent is how long nothing was heard of the session; a session known to be
	// dead answers a very long time.
	Silent() time.Duration
}

// stuckAfter is for how long a holder that is heard of, and flushes nothing of an inode, may owe
// its lease, before those who wait are told errs.Unwritten. A flush may be long on its way.
const stuckAfter = 2 * time.Minute

// maxReleased bounds the memory of past releases; beyond it everybody looks again once.
const maxReleased = 1 << 16

// Table is safe for concurrent use.
type Table struct {
	term time.Duration
	log  *slog.Logger
	done <-chan struct{} // closed when the server stops

	patience time.Duration // for how long a reader that is heard of may owe an answer
	stuck    time.Duration // and a holder that flushes nothing meanwhile

	// note, where not nil, has the next server know that a lease was taken for silence, before
	// anybody relies on that; it may take long, and is called without the table locked.
	note func(id twofold.SessionID, token uint64) error

	ready chan struct{} // closed when holders of before the start are back, or had their time

	mu        sync.Mutex
	inodes    map[twofold.Ino]*state
	lastToken uint64
	gen       uint64                 // counts releases, and changes that ended
	released  map[twofold.Ino]uint64 // gen at which a lease was released last
	floor     uint64                 // releases up to here are forgotten
	isReady   bool
	readers   readers
	dirs      dirs
}

type state struct {
	holder    Holder
	token     uint64
	busy      int              // flushes under the token that are under way
	exclusive int              // excluders at work or waiting
	recalling *recall          // under way; nil if none is
	dir       bool             // the lease that is held is a directory's
	granting  bool             // and others may still cache what it is about
	bucket    twofold.BucketID // in this bucket
	changed   chan struct{}    // closed and renewed at each change
}

// recall is one attempt to get a lease back, for all who wait for it.
type recall struct {
	err error // errs.Unwritten once the holder has refused; Table.mu
}

// NewTable returns a table that is not ready: see Ready. A holder is given term to
// answer a recall after it was heard of last. Tokens start at 1: see TokensFrom.
func NewTable(term time.Duration, log *slog.Logger, done <-chan struct{}) *Table {
	return &Table{
		term: term, log: log, done: done, ready: make(chan struct{}), patience: max(2*term, minPatience), stuck: stuckAfter,
		inodes:   map[twofold.Ino]*state{},
		released: map[twofold.Ino]uint64{},
		readers:  newReaders(),
	}
}

// NoteRevoked has fn called before a lease is taken from a holder that was silent for the term,
// so that the holder is not believed where it comes to another server first. The lease stays as
// it is until fn returned nil. Call it before any is granted.
func (t *Table) NoteRevoked(fn func(id twofold.SessionID, token uint64) error) { t.note = fn }

// TokensFrom has the next tokens be above last, which is that of all that earlier servers
// gave: what a holder of theirs sends late is of no lease of this table. Call it before any
// is granted.
func (t *Table) TokensFrom(last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastToken = max(t.lastToken, last)
}

// Ready opens the table: from now on an inode that is not in it has no lease.
func (t *Table) Ready() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.isReady {
		t.isReady = true
		close(t.ready)
	}
}

// IsReady reports whether Ready was called.
func (t *Table) IsReady() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

// Await waits until Ready is called. errs.Canceled; errs.Unavailable when the server stops.
func (t *Table) Await(ctx context.Context) error { return t.waitReady(ctx) }

func (t *Table) waitReady(ctx context.Context) error {
	select {
	case <-t.ready:
		return nil
	default:
	}
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		return errs.E("lease.waitReady", errs.Canceled, ctx.Err())
	case <-t.done:
		return errs.Newf("lease.waitReady", errs.Unavailable, "the server is stopping")
	}
}

// stateOf returns the inode's state; t.mu is held.
func (t *Table) stateOf(ino twofold.Ino) *state {
	s := t.inodes[ino]
	if s == nil {
		s = &state{changed: make(chan struct{})}
		t.inodes[ino] = s
	}
	return s
}

// wake tells waiters of a change and drops a state nobody needs; t.mu is held.
func (t *Table) wake(ino twofold.Ino, s *state) {
	close(s.changed)
	s.changed = make(chan struct{})
	if s.holder == nil && s.exclusive == 0 && s.busy == 0 && t.inodes[ino] == s {
		delete(t.inodes, ino)
	}
}

// wait blocks until ch is closed; t.mu is not held.
func (t *Table) wait(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return errs.E("lease.wait", errs.Canceled, ctx.Err())
	case <-t.done:
		return errs.Newf("lease.wait", errs.Unavailable, "the server is stopping")
	}
}

// Acquire grants the write lease of ino to h, recalling another holder's first. A
// holder that has it gets its token again. errs.Unwritten where the other can't give
// it back; errs.IsDir where it has it as a directory's.
func (t *Table) Acquire(ctx context.Context, h Holder, ino twofold.Ino) (token uint64, err error) {
	if err := t.waitReady(ctx); err != nil {
		return 0, err
	}
	for {
		t.mu.Lock()
		s := t.stateOf(ino)
		var rec *recall
		switch {
		case s.exclusive > 0 || s.recalling != nil && s.holder != nil:
			// an excluder is at work, or the lease is on its way back: also from
			// this holder, which must not have the old token renewed under it
			if s.holder != nil && s.holder.ID() != h.ID() {
				rec = s.recalling
			}
		case s.holder == nil:
			t.lastToken++
			token := t.lastToken
			s.holder, s.token = h, token
			t.mu.Unlock()
			return token, nil
		case s.holder.ID() == h.ID() && s.dir:
			t.mu.Unlock()
			return 0, errs.Newf("lease.Acquire", errs.IsDir, "inode %d is a directory", ino)
		case s.holder.ID() == h.ID():
			token := s.token
			t.mu.Unlock()
			return token, nil
		default:
			rec = t.recallLocked(ino, s)
		}
		ch := s.changed
		t.mu.Unlock()
		if err := t.wait(ctx, ch); err != nil {
			return 0, err
		}
		if err := t.refused(rec); err != nil {
			return 0, err
		}
	}
}

// refused is why the holder does not give the lease back, if it said so to rec.
func (t *Table) refused(rec *recall) error {
	if rec == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return rec.err
}

// Reclaim gives h a lease that it held before this process started. It may be
// called before Ready only, else it is errs.Fenced.
func (t *Table) Reclaim(h Holder, ino twofold.Ino, token uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reclaimLocked(h, ino, token)
}

// reclaimLocked is Reclaim; t.mu is held.
func (t *Table) reclaimLocked(h Holder, ino twofold.Ino, token uint64) error {
	s := t.stateOf(ino)
	if s.holder != nil && s.holder.ID() == h.ID() && s.token == token {
		s.holder = h // the same session over a new connection
		return nil
	}
	if t.isReady || s.holder != nil {
		t.wake(ino, s)
		return errs.Newf("lease.Reclaim", errs.Fenced, "the lease of inode %d was given to others", ino)
	}
	s.holder, s.token = h, token
	t.lastToken = max(t.lastToken, token)
	return nil
}

// Release gives a lease back. A token that is not current changes nothing.
func (t *Table) Release(h Holder, ino twofold.Ino, token uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.inodes[ino]
	if s == nil || s.holder == nil || s.holder.ID() != h.ID() || s.token != token {
		return
	}
	t.dropLocked(ino, s)
}

// dropLocked ends the lease of s; t.mu is held.
func (t *Table) dropLocked(ino twofold.Ino, s *state) {
	s.holder, s.token = nil, 0
	t.droppedDir(s)
	t.gen++
	if len(t.released) >= maxReleased {
		clear(t.released)
		t.floor = t.gen
	}
	t.released[ino] = t.gen
	t.wake(ino, s)
}

// Use begins a flush under a token; end must be called after it was committed or
// has failed. The lease isn't taken away in between. errs.Fenced when the token is
// not current. Token 0 is good where h itself holds the lease, or nobody does.
func (t *Table) Use(ctx context.Context, h Holder, ino twofold.Ino, token uint64) (end func(), err error) {
	if token == 0 {
		return t.useWithout(ctx, h, ino)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.inodes[ino]
	if s == nil || s.holder == nil || s.holder.ID() != h.ID() || s.token != token {
		return nil, errs.Newf("lease.Use", errs.Fenced, "the write lease of inode %d has ended", ino)
	}
	s.busy++
	return func() { t.endUse(ino, s) }, nil
}

func (t *Table) useWithout(ctx context.Context, h Holder, ino twofold.Ino) (func(), error) {
	t.mu.Lock()
	if s := t.inodes[ino]; s != nil && s.holder != nil && s.holder.ID() == h.ID() {
		s.busy++
		t.mu.Unlock()
		return func() { t.endUse(ino, s) }, nil
	}
	t.mu.Unlock()
	return t.Exclude(ctx, ino)
}

func (t *Table) endUse(ino twofold.Ino, s *state) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.busy--
	t.wake(ino, s)
}

// Exclude recalls the lease of ino and keeps it from being granted until end is
// called. Excluders do not exclude each other. errs.Unwritten where the holder can't
// give it back.
func (t *Table) Exclude(ctx context.Context, ino twofold.Ino) (end func(), err error) {
	if err := t.waitReady(ctx); err != nil {
		return nil, err
	}
	t.mu.Lock()
	s := t.stateOf(ino)
	s.exclusive++
	for s.holder != nil {
		rec := t.recallLocked(ino, s)
		ch := s.changed
		t.mu.Unlock()
		err := t.wait(ctx, ch)
		t.mu.Lock()
		if err == nil {
			err = rec.err
		}
		if err != nil {
			s.exclusive--
			t.wake(ino, s)
			t.mu.Unlock()
			return nil, err
		}
	}
	t.mu.Unlock()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		s.exclusive--
		t.wake(ino, s)
	}, nil
}

// TryExclude is Exclude where nobody holds the lease; ok is false where somebody does,
// or may (before Ready).
func (t *Table) TryExclude(ino twofold.Ino) (end func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.isReady {
		return nil, false
	}
	s := t.stateOf(ino)
	if s.holder != nil {
		return nil, false
	}
	s.exclusive++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		s.exclusive--
		t.wake(ino, s)
	}, true
}

// TryUse is Use without a token that waits for nobody; ok is false where another holds the
// lease, or may (before Ready).
func (t *Table) TryUse(h Holder, ino twofold.Ino) (end func(), ok bool) {
	t.mu.Lock()
	if s := t.inodes[ino]; s != nil && s.holder != nil && s.holder.ID() == h.ID() {
		s.busy++
		t.mu.Unlock()
		return func() { t.endUse(ino, s) }, true
	}
	t.mu.Unlock()
	return t.TryExclude(ino)
}

// AcquireNew gives h the write lease of an inode that is about to be made, so that nobody can
// know of it; dir says that it is a directory, of bucket b. A holder that has it gets its
// token again. ok is false where somebody else has got it: it was made before.
func (t *Table) AcquireNew(h Holder, b twofold.BucketID, ino twofold.Ino, dir bool) (token uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stateOf(ino)
	switch {
	case s.holder != nil && s.holder.ID() == h.ID():
		return s.token, true
	case s.holder != nil || s.exclusive > 0 || s.busy > 0:
		return 0, false
	}
	t.lastToken++
	s.holder, s.token = h, t.lastToken
	if dir {
		t.heldDir(s, b)
	}
	return s.token, true
}

// Held lists the inodes that somebody holds the lease of.
func (t *Table) Held() (inos []twofold.Ino) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ino, s := range t.inodes {
		if s.holder != nil {
			inos = append(inos, ino)
		}
	}
	return inos
}

// LastToken is the largest one that was given.
func (t *Table) LastToken() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastToken
}

// Generation is where an observer starts: see the package comment.
func (t *Table) Generation(ctx context.Context) (uint64, error) {
	if err := t.waitReady(ctx); err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gen, nil
}

// Settled reports whether a snapshot taken after Generation returned gen shows
// everything that was written to inos under leases of others than self. If not, it
// recalls what is leased, waits for it, and returns false: take another snapshot.
// errs.Unwritten where a holder can't write what it has: no snapshot shows it.
func (t *Table) Settled(ctx context.Context, gen uint64, self twofold.SessionID, inos ...twofold.Ino) (bool, error) {
	t.mu.Lock()
	settled := true
	var held []twofold.Ino
	for _, ino := range inos {
		if gen < t.floor || t.released[ino] > gen {
			settled = false
		}
		if s := t.inodes[ino]; s != nil && s.holder != nil && s.holder.ID() != self {
			settled = false
			held = append(held, ino)
			t.recallLocked(ino, s) // all at once, waited for below
		}
	}
	t.mu.Unlock()
	for _, ino := range held {
		if err := t.waitFree(ctx, ino, self); err != nil {
			return false, err
		}
	}
	return settled, nil
}

// waitFree waits until the lease that ino has now is given back.
func (t *Table) waitFree(ctx context.Context, ino twofold.Ino, self twofold.SessionID) error {
	t.mu.Lock()
	s := t.inodes[ino]
	if s == nil || s.holder == nil || s.holder.ID() == self {
		t.mu.Unlock()
		return nil
	}
	token := s.token
	for s.holder != nil && s.token == token {
		rec := t.recallLocked(ino, s)
		ch := s.changed
		t.mu.Unlock()
		if err := t.wait(ctx, ch); err != nil {
			return err
		}
		t.mu.Lock()
		if rec.err != nil {
			t.mu.Unlock()
			return rec.err
		}
	}
	t.mu.Unlock()
	return nil
}

// recallLocked starts a recall of the lease of s, or joins the one under way. t.mu
// is held, and there is a holder.
func (t *Table) recallLocked(ino twofold.Ino, s *state) *recall {
	if s.recalling == nil {
		s.recalling = &recall{}
		go t.recall(ino, s, s.recalling, s.holder, s.token)
	}
	return s.recalling
}

// recall asks the holder for the lease until it is released, or until the holder
// was silent for the term: then the lease is revoked, and what its holder still
// sends under the token is refused. A slow holder that is alive is waited for. One
// that can't write what it has, or is stuck, keeps the lease: those who wait are told, and
// whoever comes next makes it try again.
func (t *Table) recall(ino twofold.Ino, s *state, rec *recall, h Holder, token uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	asked := make(chan error, 1)
	ask := func() { asked <- h.Recall(ctx, ino, token) }
	go ask()
	tick := time.NewTicker(t.term / 8)
	defer tick.Stop()
	moved := time.Now() // when it was seen to flush last
	noted := false      // that it was silent for the term: there is no way back
	refused := func(err error) {
		t.log.Warn("a mount can't write what it holds", "inode", ino, "session", h.ID(), "err", err)
		t.mu.Lock()
		defer t.mu.Unlock()
		if s.holder != nil && s.token == token {
			rec.err = err
		}
		s.recalling = nil
		t.wake(ino, s)
	}
	for {
		t.mu.Lock()
		gone := s.holder == nil || s.token != token
		idle := s.busy == 0
		changed := s.changed
		if gone {
			s.recalling = nil
			t.wake(ino, s)
			t.mu.Unlock()
			return
		}
		silent := idle && !noted && h.Silent() > t.term
		if silent && t.note != nil {
			t.mu.Unlock()
			if err := t.note(h.ID(), token); err == nil {
				noted = true
				continue
			} else {
				t.log.Debug("a lease can't be revoked now", "inode", ino, "session", h.ID(), "err", err)
			}
			silent = false
			t.mu.Lock()
		}
		if idle && noted || silent {
			t.log.Warn("write lease revoked: its mount was not heard of for the lease term",
				"inode", ino, "session", h.ID(), "term", t.term)
			s.recalling = nil
			t.dropLocked(ino, s)
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		if !idle {
			moved = time.Now()
		}
		if time.Since(moved) > t.stuck {
			refused(errs.Newf("lease.recall", errs.Unwritten, "the mount that has the lease of inode %d does not answer", ino))
			return
		}
		select {
		case err := <-asked:
			if errs.Is(err, errs.Unwritten) && !noted {
				refused(err)
				return
			}
			if err != nil {
				t.log.Debug("recall not answered", "inode", ino, "session", h.ID(), "err", err)
			} else {
				// The holder says that it has nothing under the token (any more).
				t.Release(h, ino, token)
				continue
			}
			time.AfterFunc(t.term/8, ask)
		case <-changed:
		case <-tick.C:
		case <-t.done:
			return
		}
	}
}

// ReleaseAll ends every lease of a session that has ended.
func (t *Table) ReleaseAll(id twofold.SessionID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ino, s := range t.inodes {
		if s.holder != nil && s.holder.ID() == id {
			t.dropLocked(ino, s)
		}
	}
	t.forgetReader(id)
	delete(t.readers.sessions, id)
}

// Leased reports whether somebody holds the inode's write lease.
func (t *Table) Leased(ino twofold.Ino) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.inodes[ino]
	return s != nil && s.holder != nil
}

// Busy reports whether the write lease of an inode is in use.
func (t *Table) Busy(ino twofold.Ino) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.inodes[ino]
	return s != nil && s.busy > 0
}
