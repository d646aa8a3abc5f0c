package locks

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// delegate makes a session that is delegated locks, and one of owner 1 with it.
func (w *world) delegate(t *testing.T, id twofold.SessionID, recall func(twofold.Ino, uint64) error) (*fakeSession, api.LockGrant) {
	t.Helper()
	s := w.session(id)
	s.recall = recall
	g, err := w.t.Set(t.Context(), s, ino, record(ex, 1, 0, 9))
	if err != nil || g.Token == 0 || len(g.Held) != 1 || g.Held[0].End != 9 {
		t.Fatalf("%+v, %v", g, err)
	}
	return s, g
}

func TestDelegation(t *testing.T) {
	w := newWorld()
	var a *fakeSession
	var held []api.Lock
	a, g := w.delegate(t, 1, func(ino twofold.Ino, token uint64) error {
		return w.t.Return(a, api.HeldLocks{Ino: ino, Token: token, Locks: held})
	})
	b := w.session(2)
	b.recall = a.recall
	if w.t.Held(a.id) != 0 {
		t.Fatal("the table has locks of an inode that is delegated")
	}
	if err := w.t.Await(t.Context(), a, ino, record(ex, 1, 0, 9), 1); !errs.Is(err, errs.Busy) {
		t.Fatalf("a wait of who decides itself: %v", err)
	}
	held = []api.Lock{record(sh, 1, 20, 29), record(ex, 3, 5, 5)} // what it has now
	if l, found, err := w.t.Get(t.Context(), b, ino, record(ex, 2, 0, 99)); err != nil || !found || l.Start != 5 || l.Pid != 0 {
		t.Fatalf("%+v %v %v", l, found, err)
	}
	w.refused(t, b, record(ex, 2, 20, 20), errs.Locked)
	w.set(t, b, record(sh, 2, 20, 20))
	if err := w.t.Return(a, api.HeldLocks{Ino: ino, Token: g.Token, Locks: held}); !errs.Is(err, errs.Fenced) {
		t.Fatalf("a second return: %v", err)
	}
	// Where two have met it stays at the server for a while, also for who is alone again.
	w.t.Closed(a, ino)
	if g, err := w.t.Set(t.Context(), b, ino, record(ex, 2, 0, 99)); err != nil || g.Token != 0 {
		t.Fatalf("%+v, %v", g, err)
	}
	w.t.met[ino] = time.Now().Add(-quiet)
	if g, err := w.t.Set(t.Context(), b, ino, record(ex, 2, 0, 0)); err != nil || g.Token == 0 || len(g.Held) != 1 {
		t.Fatalf("%+v, %v", g, err)
	}
	w.t.End(b.id)
	w.t.End(a.id)
	if len(w.t.inodes)+len(w.t.sessions) != 0 {
		t.Fatalf("%d inodes and %d sessions are left", len(w.t.inodes), len(w.t.sessions))
	}
}

// A holder of a delegation that is not heard of loses it, and hears of that.
func TestSilentDelegation(t *testing.T) {
	w := coldWorld(20 * time.Millisecond)
	close(w.ready)
	a, g := w.delegate(t, 1, func(twofold.Ino, uint64) error { return errors.New("no connection") })
	b := w.session(2)
	over := make(chan error, 1)
	go func() { over <- w.t.Await(context.Background(), b, ino, record(ex, 2, 0, 9), 1) }()
	recalled := func() bool {
		w.t.mu.Lock()
		defer w.t.mu.Unlock()
		return w.t.inodes[ino].deleg.recalling
	}
	for !recalled() {
		time.Sleep(time.Millisecond)
	}
	pending(t, "the holder lives", over)
	a.silent.Store(math.MaxInt64)
	if err := got(t, "after the term", over); err != nil {
		t.Fatal(err)
	}
	a.silent.Store(0)
	if err := w.t.Return(a, api.HeldLocks{Ino: ino, Token: g.Token, Locks: g.Held}); !errs.Is(err, errs.Fenced) {
		t.Fatalf("what it has given meanwhile: %v", err)
	}
	w.refused(t, a, record(sh, 1, 50, 50), errs.Fenced)
	w.t.Closed(a, ino)
	w.set(t, a, record(sh, 1, 50, 50))
}

func TestDelegationOverARestart(t *testing.T) {
	w := coldWorld(time.Hour)
	held := []api.Lock{record(ex, 1, 0, 9)}
	var a *fakeSession
	a = w.session(1)
	a.recall = func(ino twofold.Ino, token uint64) error {
		return w.t.Return(a, api.HeldLocks{Ino: ino, Token: token, Locks: held})
	}
	b := w.session(2)
	w.t.Restore(a, []api.HeldLocks{{Ino: ino, Token: 77, Locks: held}}, keptAll)
	close(w.ready)
	w.refused(t, b, record(ex, 2, 9, 9), errs.Locked)
	w.set(t, b, record(ex, 2, 10, 10))
	late := w.session(3)
	w.t.Restore(late, []api.HeldLocks{{Ino: ino + 1, Token: 78, Locks: held}}, keptAll)
	if err := w.t.Return(late, api.HeldLocks{Ino: ino + 1, Token: 78, Locks: held}); !errs.Is(err, errs.Fenced) {
		t.Fatal(err)
	}
	if _, err := w.t.Set(context.Background(), b, ino+1, record(ex, 2, 0, 9)); err != nil {
		t.Fatal(err)
	}
}
