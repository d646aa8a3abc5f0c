package remote

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// A mount that is alone with a file's locks asks nobody for them; another one's request
// brings what it has to the server.
func TestDelegatedLocks(t *testing.T) {
	st := newStore(func(*fakeSession) hook { return nil })
	st.delegate.Store(true)
	n := startNode(t, st)
	a, b := dialNode(t, n.addr, &mount{}), dialNode(t, n.addr, &mount{})
	a.locks.mu.Lock()
	a.locks.trust = time.Hour // on a slow machine, too
	a.locks.mu.Unlock()
	mustLock(t, a, lock(api.LockExclusive, 1, 0, 9))
	asked := st.lockCalls.Load()
	for range 10 {
		mustLock(t, a, lock(api.LockShared, 2, 20, 29))
		wantLocked(t, a, lock(api.LockExclusive, 1, 25, 25), errs.Locked)
		if l, found, err := a.GetLock(t.Context(), lockedIno, lock(api.LockExclusive, 1, 0, 99)); err != nil || !found || l.Start != 20 {
			t.Fatalf("%+v %v %v", l, found, err)
		}
		mustLock(t, a, lock(api.LockNone, 2, 25, 25))
	}
	if n := st.lockCalls.Load() - asked; n != 0 {
		t.Fatalf("the server was asked %d times", n)
	}
	wantLocked(t, b, lock(api.LockShared, 1, 5, 5), errs.Locked)
	mustLock(t, b, lock(api.LockExclusive, 1, 25, 25))
	wantLocked(t, a, lock(api.LockShared, 3, 25, 25), errs.Locked)

	// A wait goes to the server's queue, also one for a lock of the same mount.
	c := lockedIno + 1
	for _, l := range []api.Lock{lock(api.LockExclusive, 1, 0, 9), lock(api.LockExclusive, 2, 50, 59)} {
		if err := a.SetLock(t.Context(), c, l, false); err != nil {
			t.Fatal(err)
		}
	}
	wait := make(chan error, 1)
	go func() { wait <- a.SetLock(context.Background(), c, lock(api.LockExclusive, 2, 0, 9), true) }()
	waitFor(t, "a wait", func() bool { return st.table().Waits(c) == 1 })
	if err := a.SetLock(t.Context(), c, lock(api.LockExclusive, 1, 50, 50), true); !errs.Is(err, errs.Deadlock) {
		t.Fatal(err)
	}
	if err := a.SetLock(t.Context(), c, lock(api.LockNone, 1, 0, 9), false); err != nil {
		t.Fatal(err)
	}
	if err := <-wait; err != nil {
		t.Fatal(err)
	}
}

// What was granted under a delegation is known after a restart; where the server may
// have taken it away, the mount does not go on with it.
func TestDelegatedLocksOverARestart(t *testing.T) {
	st := newStore(func(*fakeSession) hook { return nil })
	st.delegate.Store(true)
	n := startNode(t, st)
	a, b := dialNode(t, n.addr, &mount{}), dialNode(t, n.addr, &mount{})
	mustLock(t, a, lock(api.LockExclusive, 1, 0, 9))
	mustLock(t, a, lock(api.LockShared, 1, 20, 29))
	mustLock(t, a, lock(api.LockNone, 1, 0, 5))
	restart := func(ready bool) {
		t.Helper()
		st.open.Store(ready)
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
	restart(false)
	mustLock(t, b, lock(api.LockExclusive, 1, 0, 5))
	wantLocked(t, b, lock(api.LockShared, 1, 6, 6), errs.Locked)
	wantLocked(t, b, lock(api.LockExclusive, 1, 29, 29), errs.Locked)
	mustLock(t, a, lock(api.LockNone, 1, 6, 9))
	mustLock(t, b, lock(api.LockExclusive, 1, 6, 6))

	mustLock(t, a, lock(api.LockExclusive, 1, 20, 29))
	restart(true) // nobody waited for us
	wantLocked(t, a, lock(api.LockShared, 1, 100, 100), errs.Fenced)
	mustLock(t, a, lock(api.LockNone, 1, 0, 99))
}

// Two mounts with two owners each: what excludes each other is never held at once,
// while delegations come, go, and are broken off with connections.
func TestDelegationStress(t *testing.T) {
	st := newStore(func(*fakeSession) hook { return nil })
	st.delegate.Store(true)
	n := startNode(t, st)
	clients := []*Client{dialNode(t, n.addr, &mount{}), dialNode(t, n.addr, &mount{})}
	var holders [2]atomic.Int64 // by inode; an exclusive one is 1<<32
	var wg sync.WaitGroup
	for i := range uint64(4) {
		wg.Go(func() {
			c := clients[i%2]
			for step := range uint64(150) {
				at := step % 2
				l := lock(api.LockExclusive, i, 0, 9)
				add := int64(1 << 32)
				if (step+i)%3 == 0 {
					l.Type, add = api.LockShared, 1
				}
				if err := c.SetLock(t.Context(), 100+twofold.Ino(at), l, true); err != nil {
					t.Errorf("owner %d: %v", i, err)
					return
				}
				if n := holders[at].Add(add); add == 1 && n >= 1<<32 || add > 1 && n != add {
					t.Errorf("%x have it", n)
				}
				holders[at].Add(-add)
				l.Type = api.LockNone
				if err := c.SetLock(t.Context(), 100+twofold.Ino(at), l, false); err != nil {
					t.Errorf("owner %d unlocks: %v", i, err)
				}
				if i == 0 && step%50 == 25 { // the session stays
					st.table().ForgetMeeting(100 + twofold.Ino(at))
					clients[0].breakOff()
				}
			}
		})
	}
	wg.Wait()
}

// breakOff loses the connection.
func (c *Client) breakOff() {
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	if l != nil {
		l.conn.Close()
	}
}
