package locks

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

type fakeSession struct {
	id     twofold.SessionID
	silent atomic.Int64                              // ns
	recall func(ino twofold.Ino, token uint64) error // nil: it is delegated nothing
}

func (s *fakeSession) ID() twofold.SessionID { return s.id }
func (s *fakeSession) Silent() time.Duration { return time.Duration(s.silent.Load()) }
func (s *fakeSession) Delegable() bool       { return s.recall != nil }
func (s *fakeSession) RecallLocks(_ context.Context, ino twofold.Ino, token uint64) error {
	return s.recall(ino, token)
}

type world struct {
	t      *Table
	ticket uint64 // of the last wait
	ready  chan struct{}
	done   chan struct{}
}

// newWorld is a table that is ready, with a term that no test waits for.
func newWorld() *world {
	w := coldWorld(time.Hour)
	close(w.ready)
	return w
}

func coldWorld(term time.Duration) *world {
	w := &world{ready: make(chan struct{}), done: make(chan struct{})}
	w.t = New(Options{Term: term, Log: slog.New(slog.DiscardHandler), Done: w.done,
		Ready: func(ctx context.Context) error {
			select {
			case <-w.ready:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		IsReady: func() bool {
			select {
			case <-w.ready:
				return true
			default:
				return false
			}
		},
	})
	return w
}

func (w *world) session(id twofold.SessionID) *fakeSession { return &fakeSession{id: id} }

const ino twofold.Ino = 7

func record(t api.LockType, owner, start, end uint64) api.Lock {
	return api.Lock{Type: t, Owner: owner, Start: start, End: end, Pid: uint32(owner), Process: true}
}

func flock(t api.LockType, owner uint64) api.Lock {
	return api.Lock{Kind: api.LockFlock, Type: t, Owner: owner, End: api.MaxLockEnd, Pid: uint32(owner)}
}

const (
	none = api.LockNone
	sh   = api.LockShared
	ex   = api.LockExclusive
)

func (w *world) set(t *testing.T, s *fakeSession, l api.Lock) {
	t.Helper()
	if _, err := w.t.Set(t.Context(), s, ino, l); err != nil {
		t.Fatalf("%+v of session %d: %v", l, s.id, err)
	}
}

func (w *world) refused(t *testing.T, s *fakeSession, l api.Lock, k errs.Kind) {
	t.Helper()
	if _, err := w.t.Set(t.Context(), s, ino, l); !errs.Is(err, k) {
		t.Fatalf("%+v of session %d: %v, want %v", l, s.id, err, k)
	}
}

// await starts a wait, and returns when it is in the queue or over.
func (w *world) await(ctx context.Context, s *fakeSession, l api.Lock) <-chan error {
	over := make(chan error, 1)
	w.ticket++
	ticket := w.ticket
	go func() { over <- w.t.Await(ctx, s, ino, l, ticket) }()
	for !w.waits(ticket) && len(over) == 0 {
		time.Sleep(50 * time.Microsecond)
	}
	return over
}

func (w *world) waits(ticket uint64) bool {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	for _, in := range w.t.inodes {
		for _, x := range in.waiters {
			if x.ticket == ticket {
				return true
			}
		}
	}
	return false
}

func got(t *testing.T, what string, over <-chan error) error {
	t.Helper()
	select {
	case err := <-over:
		return err
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: it waits for ever", what)
		return nil
	}
}

func pending(t *testing.T, what string, over <-chan error) {
	t.Helper()
	select {
	case err := <-over:
		t.Fatalf("%s: it does not wait: %v", what, err)
	default:
	}
}

// Waiters get their turn in the order in which they came, and a writer is not held up
// by readers that come later.
func TestTurn(t *testing.T) {
	w := newWorld()
	a, b := w.session(1), w.session(2)
	w.set(t, a, record(sh, 1, 0, 9))
	writer := w.await(t.Context(), b, record(ex, 2, 0, 9))
	reader := w.await(t.Context(), a, record(sh, 3, 0, 9))
	pending(t, "a writer behind a reader", writer)
	pending(t, "a reader behind a writer that waits", reader)
	w.set(t, b, record(sh, 4, 0, 9)) // a request that does not wait is not refused for those that do
	w.set(t, b, record(none, 4, 0, 9))
	w.set(t, a, record(none, 1, 0, 4))
	pending(t, "the half is free", writer)
	w.set(t, a, record(none, 1, 5, 9))
	if err := got(t, "the writer", writer); err != nil {
		t.Fatal(err)
	}
	pending(t, "the reader", reader)
	w.set(t, b, record(sh, 2, 0, 9)) // a downgrade lets it in
	if err := got(t, "the reader", reader); err != nil {
		t.Fatal(err)
	}
}

// Who has a lock already does not wait for those who wait only: they may wait for it.
func TestTurnOfOneWhoHasLocks(t *testing.T) {
	w := newWorld()
	a, b, c := w.session(1), w.session(2), w.session(3)
	w.set(t, a, record(sh, 1, 0, 9))
	w.set(t, c, record(ex, 3, 100, 100))
	writer := w.await(t.Context(), b, record(ex, 2, 0, 9))
	if err := got(t, "a reader that has another lock", w.await(t.Context(), c, record(sh, 3, 0, 9))); err != nil {
		t.Fatal(err)
	}
	// likewise its process, through another open file
	other := record(sh, 33, 0, 9)
	other.Pid = 3
	if err := got(t, "another owner of the process", w.await(t.Context(), c, other)); err != nil {
		t.Fatal(err)
	}
	pending(t, "the writer", writer)
}

// Nobody is held up by mere waiters for ever.
func TestTurnIsBounded(t *testing.T) {
	w := coldWorld(20 * time.Millisecond)
	close(w.ready)
	a, b, c := w.session(1), w.session(2), w.session(3)
	w.set(t, a, record(sh, 1, 0, 9))
	writer := w.await(t.Context(), b, record(ex, 2, 0, 9))
	if err := got(t, "the reader", w.await(t.Context(), c, record(sh, 3, 0, 9))); err != nil {
		t.Fatal(err)
	}
	pending(t, "the writer", writer)
}

func TestDeadlock(t *testing.T) {
	w := newWorld()
	a, b, c := w.session(1), w.session(2), w.session(3)
	w.set(t, a, record(ex, 1, 0, 0))
	w.set(t, b, record(ex, 2, 1, 1))
	w.set(t, c, record(ex, 3, 2, 2))
	one := w.await(t.Context(), a, record(ex, 1, 1, 1)) // a for b
	two := w.await(t.Context(), b, record(sh, 2, 2, 2)) // b for c
	pending(t, "one", one)
	pending(t, "two", two)
	if err := got(t, "the one that closes the circle", w.await(t.Context(), c, record(ex, 3, 0, 9))); !errs.Is(err, errs.Deadlock) {
		t.Fatalf("a circle of three: %v", err)
	}
	// An open file description that waits proves nothing.
	ofd := record(ex, 3, 0, 0)
	ofd.Process = false
	third := w.await(t.Context(), c, ofd)
	pending(t, "an OFD lock", third)
	w.set(t, c, record(none, 3, 2, 2))
	if err := got(t, "two", two); err != nil {
		t.Fatal(err)
	}
}

func TestCanceledWaitLeavesNothing(t *testing.T) {
	w := newWorld()
	a, b := w.session(1), w.session(2)
	w.set(t, a, record(ex, 1, 0, 9))
	w.set(t, b, record(sh, 2, 20, 29))
	ctx, cancel := context.WithCancel(t.Context())
	l := record(ex, 2, 5, 25)
	over := w.await(ctx, b, l)
	behind := w.await(t.Context(), a, record(sh, 3, 15, 15))
	cancel()
	if err := got(t, "canceled", over); !errs.Is(err, errs.Canceled) {
		t.Fatal(err)
	}
	if held, err := w.t.EndAwait(b, ino, l, w.ticket); held || err != nil {
		t.Fatalf("a wait that was canceled: %v %v", held, err)
	}
	if err := got(t, "who was behind it", behind); err != nil {
		t.Fatal(err)
	}
	w.set(t, a, record(none, 1, 0, 9))
	if n := w.t.Held(b.id); n != 1 {
		t.Fatalf("%d ranges, the one of before is to stay", n)
	}
	// One that was granted first is told to be.
	w.set(t, a, record(none, 3, 0, 99))
	if err := got(t, "granted", w.await(t.Context(), b, l)); err != nil {
		t.Fatal(err)
	}
	if held, err := w.t.EndAwait(b, ino, l, w.ticket); !held || err != nil {
		t.Fatalf("a wait that was granted: %v %v", held, err)
	}
}

// A wait that is granted and canceled at once is held or it is not: EndAwait tells.
func TestGrantRacesWithCancel(t *testing.T) {
	w := newWorld()
	a, b := w.session(1), w.session(2)
	l := record(ex, 2, 0, 9)
	for range 300 {
		w.set(t, a, record(ex, 1, 0, 9))
		ctx, cancel := context.WithCancel(t.Context())
		over := w.await(ctx, b, l)
		go cancel()
		w.set(t, a, record(none, 1, 0, 9))
		err := got(t, "the wait", over)
		held, e := w.t.EndAwait(b, ino, l, w.ticket)
		if e != nil || held != (err == nil) || (w.t.Held(b.id) == 1) != held {
			t.Fatalf("%v, held: %v %v, %d ranges", err, held, e, w.t.Held(b.id))
		}
		w.set(t, b, record(none, 2, 0, 9))
		cancel()
	}
}

// flock(2): a conversion drops the old lock first.
func TestFlockConversion(t *testing.T) {
	w := newWorld()
	a, b := w.session(1), w.session(2)
	w.set(t, a, flock(sh, 1))
	w.set(t, b, flock(sh, 2))
	w.refused(t, a, flock(ex, 1), errs.Locked)
	w.set(t, b, flock(ex, 2)) // a has lost its own
	w.set(t, a, record(ex, 1, 0, api.MaxLockEnd))
	over := w.await(t.Context(), a, flock(sh, 1))
	pending(t, "shared", over)
	w.set(t, b, flock(sh, 2))
	if err := got(t, "shared", over); err != nil {
		t.Fatal(err)
	}
	// Both convert and wait: on Linux that is no deadlock.
	one := w.await(t.Context(), a, flock(ex, 1))
	two := w.await(t.Context(), b, flock(ex, 2))
	if err := got(t, "the first to convert", one); err != nil {
		t.Fatal(err)
	}
	w.set(t, a, flock(none, 1))
	if err := got(t, "the second", two); err != nil {
		t.Fatal(err)
	}
}

func TestSilentSessionLosesItsLocks(t *testing.T) {
	w := coldWorld(20 * time.Millisecond)
	close(w.ready)
	a, b := w.session(1), w.session(2)
	w.set(t, a, record(ex, 1, 0, 9))
	over := w.await(t.Context(), b, record(ex, 2, 0, 0))
	pending(t, "the holder lives", over)
	a.silent.Store(math.MaxInt64)
	if err := got(t, "after the term", over); err != nil {
		t.Fatal(err)
	}
	a.silent.Store(0) // it is back, and must hear of it
	w.refused(t, a, record(sh, 1, 5, 5), errs.Fenced)
	w.set(t, a, record(none, 1, 0, 9))
	if n := w.t.Held(a.id); n != 0 {
		t.Fatalf("it has %d locks", n)
	}
	w.t.Closed(a, ino)
	w.set(t, a, record(sh, 1, 5, 5))
}

func TestRestart(t *testing.T) {
	w := coldWorld(time.Hour)
	a, b, late := w.session(1), w.session(2), w.session(3)
	asked := make(chan error, 1)
	go func() {
		_, err := w.t.Set(context.Background(), b, ino, record(ex, 2, 5, 5))
		asked <- err
	}()
	w.t.Restore(a, []api.HeldLocks{{Ino: ino, Locks: []api.Lock{record(ex, 1, 0, 9), flock(sh, 1)}}}, keptAll)
	pending(t, "before it is ready", asked)
	close(w.ready)
	if err := got(t, "after", asked); !errs.Is(err, errs.Locked) {
		t.Fatal(err)
	}
	w.refused(t, b, flock(ex, 2), errs.Locked)
	w.t.Restore(late, []api.HeldLocks{{Ino: ino, Locks: []api.Lock{record(sh, 1, 50, 59)}}}, keptAll)
	w.refused(t, late, record(sh, 1, 50, 59), errs.Fenced)
	w.set(t, b, record(ex, 2, 50, 59))
}

func TestLimit(t *testing.T) {
	w := newWorld()
	a, b := w.session(1), w.session(2)
	for i := range uint64(api.MaxLocks - 1) {
		if _, err := w.t.Set(t.Context(), a, twofold.Ino(1+i%64), record(ex, 1, 2*(i/64), 2*(i/64))); err != nil {
			t.Fatal(err)
		}
	}
	w.refused(t, a, record(sh, 1, 1<<40, 1<<40), errs.NoLocks)
	w.set(t, b, record(sh, 2, 1<<40, 1<<40))
	w.set(t, a, record(none, 1, 0, api.MaxLockEnd))
	w.set(t, a, record(sh, 1, 1<<40, 1<<40))
}

// Many sessions lock, wait, give up and end: no two have what excludes each other, and
// nothing is left.
func TestStress(t *testing.T) {
	w := newWorld()
	var cells [modelBytes]atomic.Int64 // readers; an exclusive one is 1<<32
	var wg sync.WaitGroup
	s := seed(t)
	for i := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(s, i))
			id := twofold.SessionID(1 + i/2)
			ses := w.session(id)
			for range 300 {
				l := record(api.LockType(1+r.IntN(2)), i, uint64(r.IntN(modelBytes)), 0)
				l.End = min(l.Start+uint64(r.IntN(6)), modelBytes-1)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(2000))*time.Microsecond)
				err := w.t.Await(ctx, ses, ino, l, i)
				cancel()
				if err != nil {
					if !errs.Is(err, errs.Canceled) {
						t.Error(err)
					}
					continue
				}
				add := int64(1)
				if l.Type == ex {
					add = 1 << 32
				}
				for c := l.Start; c <= l.End; c++ {
					if n := cells[c].Add(add); add == 1 && n >= 1<<32 || add > 1 && n != add {
						t.Errorf("byte %d has %x", c, n)
					}
				}
				for c := l.Start; c <= l.End; c++ {
					cells[c].Add(-add)
				}
				l.Type = none
				w.t.Set(t.Context(), ses, ino, l)
			}
		})
	}
	wg.Wait()
	for id := range twofold.SessionID(5) {
		w.t.End(id)
	}
	if len(w.t.inodes)+len(w.t.sessions) != 0 {
		t.Fatalf("%d inodes and %d sessions are left", len(w.t.inodes), len(w.t.sessions))
	}
}

// keptAll: nothing was taken.
func keptAll(twofold.Ino) bool { return false }
