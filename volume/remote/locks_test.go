package remote

import (
	"context"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

const lockedIno twofold.Ino = 9

func lock(t api.LockType, owner, start, end uint64) api.Lock {
	return api.Lock{Type: t, Owner: owner, Start: start, End: end, Process: true}
}

func mustLock(t *testing.T, c *Client, l api.Lock) {
	t.Helper()
	if err := c.SetLock(t.Context(), lockedIno, l, false); err != nil {
		t.Fatalf("%+v: %v", l, err)
	}
}

func wantLocked(t *testing.T, c *Client, l api.Lock, k errs.Kind) {
	t.Helper()
	if err := c.SetLock(t.Context(), lockedIno, l, false); !errs.Is(err, k) {
		t.Fatalf("%+v: %v, want %v", l, err, k)
	}
}

// A server that restarts is told of the locks by the mounts before it grants anything;
// waits go on.
func TestLocksOutliveTheServer(t *testing.T) {
	st := newStore(func(*fakeSession) hook { return nil })
	n := startNode(t, st)
	a, b := dialNode(t, n.addr, &mount{}), dialNode(t, n.addr, &mount{})
	mustLock(t, a, lock(api.LockExclusive, 1, 0, 99))
	mustLock(t, a, lock(api.LockNone, 1, 10, 19))
	mustLock(t, a, lock(api.LockShared, 1, 20, 29))
	wait := make(chan error, 1)
	go func() { wait <- b.SetLock(context.Background(), lockedIno, lock(api.LockExclusive, 2, 5, 14), true) }()
	waitFor(t, "a wait", func() bool { return st.table().Waits(lockedIno) == 1 })

	restart := func() {
		t.Helper()
		st.open.Store(false)
		n.kill()
		st.crash()
		n.start()
		waitFor(t, "the mounts are back", func() bool {
			st.mu.Lock()
			defer st.mu.Unlock()
			return len(st.sessions) == 2
		})
		st.open.Store(true)
	}
	restart()
	waitFor(t, "the wait goes on", func() bool { return st.table().Waits(lockedIno) == 1 })
	wantLocked(t, b, lock(api.LockExclusive, 3, 20, 20), errs.Locked)
	mustLock(t, b, lock(api.LockShared, 3, 20, 20))
	mustLock(t, b, lock(api.LockNone, 3, 20, 20))
	if l, found, err := b.GetLock(t.Context(), lockedIno, lock(api.LockExclusive, 3, 0, api.MaxLockEnd)); err != nil || !found || l.Start != 0 || l.End != 9 {
		t.Fatalf("%+v %v %v", l, found, err)
	}
	mustLock(t, a, lock(api.LockNone, 1, 0, 9))
	if err := <-wait; err != nil {
		t.Fatal(err)
	}
	// What was granted to a wait is remembered as well.
	restart()
	wantLocked(t, a, lock(api.LockShared, 1, 14, 14), errs.Locked)
	mustLock(t, b, lock(api.LockNone, 2, 0, api.MaxLockEnd))
	mustLock(t, a, lock(api.LockShared, 1, 14, 14))
}

// A mount that comes back when others were served is told that it has lost its locks,
// and gets none until it has closed the file.
func TestLateMountHasLostItsLocks(t *testing.T) {
	st := newStore(func(*fakeSession) hook {
		return func(context.Context, string, ...any) ([]any, error) { return []any{api.Attr{}}, nil }
	})
	n := startNode(t, st)
	a := dialNode(t, n.addr, &mount{})
	if _, err := a.Open(t.Context(), lockedIno); err != nil {
		t.Fatal(err)
	}
	mustLock(t, a, lock(api.LockExclusive, 1, 0, 99))
	n.kill()
	st.crash() // the table that follows is ready before a is back
	n.start()
	wantLocked(t, a, lock(api.LockExclusive, 1, 0, 99), errs.Fenced)
	wantLocked(t, a, lock(api.LockShared, 2, 200, 299), errs.Fenced)
	mustLock(t, a, lock(api.LockNone, 1, 0, 99))
	if err := a.Release(t.Context(), lockedIno); err != nil {
		t.Fatal(err)
	}
	st.table().Closed(st.session(a.SessionID()), lockedIno) // as the volume does
	mustLock(t, a, lock(api.LockExclusive, 1, 0, 99))
}

// A wait that its caller leaves holds nothing; and one that was granted before is told
// to be.
func TestCanceledLockWait(t *testing.T) {
	st := newStore(func(*fakeSession) hook { return nil })
	n := startNode(t, st)
	a, b := dialNode(t, n.addr, &mount{}), dialNode(t, n.addr, &mount{})
	for i := range 50 {
		mustLock(t, a, lock(api.LockExclusive, 1, 0, 9))
		ctx, cancel := context.WithCancel(t.Context())
		wait := make(chan error, 1)
		go func() { wait <- b.SetLock(ctx, lockedIno, lock(api.LockExclusive, 2, 0, 99), true) }()
		waitFor(t, "a wait", func() bool { return st.table().Waits(lockedIno) == 1 })
		if i%2 == 0 {
			go cancel()
		} else {
			cancel()
		}
		mustLock(t, a, lock(api.LockNone, 1, 0, 9))
		err := <-wait
		held := st.table().Held(b.SessionID())
		switch {
		case err == nil && held == 1:
			mustLock(t, b, lock(api.LockNone, 2, 0, 99))
		case errs.Is(err, errs.Canceled) && held == 0:
		default:
			t.Fatalf("%v, and %d locks", err, held)
		}
		cancel()
	}
	if n := len(b.locks.held()); n != 0 {
		t.Fatalf("the client remembers locks of %d inodes", n)
	}
}

// The end of a session drops its locks.
func TestLocksEndWithTheSession(t *testing.T) {
	st := newStore(func(*fakeSession) hook { return nil })
	n := startNode(t, st)
	a, b := dialNode(t, n.addr, &mount{}), dialNode(t, n.addr, &mount{})
	mustLock(t, a, lock(api.LockExclusive, 1, 0, 9))
	wait := make(chan error, 1)
	go func() { wait <- b.SetLock(context.Background(), lockedIno, lock(api.LockExclusive, 2, 0, 99), true) }()
	waitFor(t, "a wait", func() bool { return st.table().Waits(lockedIno) == 1 })
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-wait; err != nil {
		t.Fatal(err)
	}
}
