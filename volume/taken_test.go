package volume

import (
	"context"
	"slices"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/locks"
)

// fallSilent makes a mount one that was not heard of for long.
func fallSilent(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected, s.heard = false, time.Now().Add(-time.Hour)
}

// deaf is a session that locks are delegated to, whose mount answers no recall of them.
type deaf struct{ *Session }

func (deaf) Delegable() bool { return true }
func (deaf) RecallLocks(ctx context.Context, _ twofold.Ino, _ uint64) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestTakenFromASilentMount: what a leader gave to others because a mount was silent, the next
// one does not let the mount have again; and what it has besides, it keeps.
func TestTakenFromASilentMount(t *testing.T) {
	h := newHarness(t)
	e := h.nodes()
	v, _, m := h.led(e, Options{SessionTTL: 2 * time.Hour})
	silent, err := v.BeginMount(ctx, "elsewhere", &stubborn{asked: make(chan struct{}, 1)})
	if err != nil {
		t.Fatal(err)
	}
	dir := m.lookup("docs").Ino
	var inos []twofold.Ino
	var held api.Held
	whole := func(owner uint64) api.Lock {
		return api.Lock{Kind: api.LockFlock, Type: api.LockExclusive, End: api.MaxLockEnd, Owner: owner}
	}
	for _, name := range []string{"taken", "kept", "waited for", "delegated"} {
		a, _, err := silent.Create(ctx, dir, name, api.Create{Type: metadata.TypeFile})
		if err != nil {
			t.Fatal(err)
		}
		l, err := silent.AcquireWrite(ctx, a.Ino)
		if err != nil {
			t.Fatal(err)
		}
		var k locks.Session = silent
		if name == "delegated" {
			k = deaf{silent}
		}
		g, err := v.locks.Set(ctx, k, a.Ino, whole(1))
		if err != nil || (g.Token != 0) != (name == "delegated") {
			t.Fatal(name, g, err)
		}
		inos = append(inos, a.Ino)
		held.Writes = append(held.Writes, api.HeldWrite{Ino: a.Ino, Token: l.Token})
		held.Opens = append(held.Opens, api.HeldOpen{Ino: a.Ino, Count: 1})
		held.Locks = append(held.Locks, api.HeldLocks{Ino: a.Ino, Token: g.Token, Locks: []api.Lock{whole(1)}})
	}
	fallSilent(silent)
	for i, ino := range inos {
		if i == 1 {
			continue
		}
		if _, err := m.s.AcquireWrite(ctx, ino); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			err = m.s.Locks().Await(ctx, ino, whole(2), 1)
		} else {
			_, err = m.s.Locks().Set(ctx, ino, whole(2))
		}
		if err != nil {
			t.Fatalf("file %d: %v", i, err)
		}
	}

	v.Abandon()
	v, _ = h.leader(e, Options{SessionTTL: 2 * time.Hour})
	back, err := v.ResumeMount(ctx, silent.ID(), silent.Token(), held, &stubborn{asked: make(chan struct{}, 1)})
	if err != nil {
		t.Fatal(err)
	}
	other, err := v.ResumeMount(ctx, m.s.ID(), m.s.Token(), api.Held{}, m)
	if err != nil {
		t.Fatal(err)
	}
	for i, ino := range inos {
		end, err := v.leases.Use(ctx, back, ino, held.Writes[i].Token)
		if i == 1 {
			if err != nil {
				t.Errorf("a lease that nobody asked for: %v", err)
			} else {
				end()
			}
			if _, err := other.Locks().Set(ctx, ino, whole(2)); !errs.Is(err, errs.Locked) {
				t.Errorf("a lock that nobody asked for: %v", err)
			}
			continue
		}
		if !errs.Is(err, errs.Fenced) {
			t.Errorf("file %d: a lease that was given to others: %v", i, err)
		}
		if _, err := other.Locks().Set(ctx, ino, whole(2)); err != nil {
			t.Errorf("file %d: a lock that was given to others is in their way: %v", i, err)
		}
		if _, err := back.Locks().Set(ctx, ino, whole(1)); !errs.Is(err, errs.Fenced) {
			t.Errorf("file %d: the mount does not hear that its lock was lost: %v", i, err)
		}
	}

	// Once it has closed the file its locks are new ones, and the next leader knows.
	if err := back.Release(ctx, inos[0]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the note of a closed file to go", func() bool { return !h.session(back.ID()).LostLocks(inos[0]) })
	if !h.session(back.ID()).LostLocks(inos[2]) {
		t.Error("the note of an open one has gone")
	}
}

// session reads a session's record.
func (h *harness) session(id twofold.SessionID) (rec *metadata.Session) {
	h.t.Helper()
	if err := h.store.View(ctx, func(w metadata.View) error {
		p, err := w.Session(id)
		if err == nil {
			rec = p
		}
		return err
	}); err != nil {
		h.t.Fatal(err)
	}
	return rec
}

// TestNothingIsTakenUnnoted: while it can't be noted, leases and locks stay with a silent mount.
func TestNothingIsTakenUnnoted(t *testing.T) {
	h := newHarness(t)
	e := h.nodes()
	v, _, m := h.led(e, Options{SessionTTL: 2 * time.Hour, LeaseTerm: 80 * time.Millisecond})
	silent, err := v.BeginMount(ctx, "elsewhere", &stubborn{asked: make(chan struct{}, 1)})
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := silent.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := silent.AcquireWrite(ctx, a.Ino); err != nil {
		t.Fatal(err)
	}
	whole := api.Lock{Kind: api.LockFlock, Type: api.LockExclusive, End: api.MaxLockEnd, Owner: 1}
	if _, err := silent.Locks().Set(ctx, a.Ino, whole); err != nil {
		t.Fatal(err)
	}
	fallSilent(silent)
	tried := make(chan struct{}, 1000)
	h.store.failing(func(c *metadata.Command) error {
		if c.Op != metadata.OpRevoke {
			return nil
		}
		select {
		case tried <- struct{}{}:
		default:
		}
		return errs.Newf("test", errs.Unavailable, "no majority")
	})
	done := make(chan error, 2)
	go func() { _, err := m.s.AcquireWrite(ctx, a.Ino); done <- err }()
	go func() { done <- m.s.Locks().Await(ctx, a.Ino, whole, 1) }()
	for range 8 {
		select {
		case <-tried:
		case err := <-done:
			t.Fatalf("granted, and not noted: %v", err)
		}
	}
	if !v.leases.Leased(a.Ino) || v.locks.Held(silent.ID()) != 1 {
		t.Error("something was taken, and not noted")
	}
	h.store.failing(nil)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestSessionThatDoesNotEnd: a session whose end is not committed keeps what it has.
func TestSessionThatDoesNotEnd(t *testing.T) {
	h := newHarness(t)
	e := h.nodes()
	v, _, m := h.led(e, Options{})
	a, _, err := m.s.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.s.AcquireWrite(ctx, a.Ino); err != nil {
		t.Fatal(err)
	}
	h.store.failing(func(c *metadata.Command) error {
		if c.Op == metadata.OpEndSession {
			return errs.Newf("test", errs.Unavailable, "no majority")
		}
		return nil
	})
	if err := m.s.End(ctx); !errs.Is(err, errs.Unavailable) {
		t.Fatal(err)
	}
	if !v.leases.Leased(a.Ino) {
		t.Error("a lease was given back of a session that the next leader lets resume")
	}
	h.store.failing(nil)
	if err := m.s.End(ctx); err != nil || v.leases.Leased(a.Ino) {
		t.Errorf("at last: %v", err)
	}
}

// TestNotesKeepTheirOrder: notes of one inode do not pass each other.
func TestNotesKeepTheirOrder(t *testing.T) {
	got := revokes([]*note{{session: 1, locks: 5}, {session: 2, token: 7}, {session: 1, closed: 5}, {session: 1, token: 8}, {session: 1, locks: 5}})
	if len(got) != 4 || !slices.Equal(got[0].Locks, []twofold.Ino{5}) || got[1].ID != 2 ||
		!slices.Equal(got[2].Closed, []twofold.Ino{5}) || !slices.Equal(got[2].Tokens, []uint64{8}) || !slices.Equal(got[3].Locks, []twofold.Ino{5}) {
		for _, c := range got {
			t.Errorf("%+v", c.Revoke)
		}
	}
}
