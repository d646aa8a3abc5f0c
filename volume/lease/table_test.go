package lease

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
)

// fakeHolder answers recalls as the test says.
type fakeHolder struct {
	id     twofold.SessionID
	silent atomic.Int64
	recall func(ino twofold.Ino, token uint64) error
	asked  atomic.Int32
}

func (h *fakeHolder) ID() twofold.SessionID { return h.id }
func (h *fakeHolder) Silent() time.Duration { return time.Duration(h.silent.Load()) }
func (h *fakeHolder) Recall(_ context.Context, ino twofold.Ino, token uint64) error {
	h.asked.Add(1)
	return h.recall(ino, token)
}

const ino = twofold.Ino(2000)

func newTable(t *testing.T, term time.Duration) *Table {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	return NewTable(term, slog.New(slog.DiscardHandler), done)
}

func readyTable(t *testing.T) *Table {
	tab := newTable(t, time.Minute)
	tab.Ready()
	return tab
}

func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func gives(tab *Table) *fakeHolder {
	h := &fakeHolder{id: 1}
	h.recall = func(ino twofold.Ino, token uint64) error {
		tab.Release(h, ino, token)
		return nil
	}
	return h
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestNothingIsDecidedBeforeReady(t *testing.T) {
	tab := newTable(t, time.Minute)
	h := gives(tab)
	if _, err := tab.Acquire(short(t), h, ino); !errs.Is(err, errs.Canceled) {
		t.Errorf("Acquire before Ready: %v", err)
	}
	if _, err := tab.Generation(short(t)); !errs.Is(err, errs.Canceled) {
		t.Errorf("Generation before Ready: %v", err)
	}
	if _, err := tab.Exclude(short(t), ino); !errs.Is(err, errs.Canceled) {
		t.Errorf("Exclude before Ready: %v", err)
	}
	if err := tab.Reclaim(h, ino, 7); err != nil {
		t.Fatalf("Reclaim before Ready: %v", err)
	}
	tab.Ready()
	if got := must[uint64](t)(tab.Acquire(context.Background(), h, ino)); got != 7 {
		t.Errorf("the reclaimed token is %d, want 7", got)
	}
	if err := tab.Reclaim(h, ino+1, 8); !errs.Is(err, errs.Fenced) {
		t.Errorf("Reclaim after Ready: %v", err)
	}
}

func TestObserverLooksAgainAfterARelease(t *testing.T) {
	tab := readyTable(t)
	h := gives(tab)
	ctx := context.Background()
	gen := must[uint64](t)(tab.Generation(ctx))
	// Granted, used and released between the snapshot and the check.
	token := must[uint64](t)(tab.Acquire(ctx, h, ino))
	tab.Release(h, ino, token)
	if must[bool](t)(tab.Settled(ctx, gen, 0, ino)) {
		t.Fatal("a lease that came and went since the generation is not settled")
	}
	gen = must[uint64](t)(tab.Generation(ctx))
	if !must[bool](t)(tab.Settled(ctx, gen, 0, ino)) {
		t.Fatal("nothing happened since: settled")
	}
}

func TestObserverRecallsOthersOnly(t *testing.T) {
	tab := readyTable(t)
	h := gives(tab)
	ctx := context.Background()
	token := must[uint64](t)(tab.Acquire(ctx, h, ino))
	gen := must[uint64](t)(tab.Generation(ctx))
	if !must[bool](t)(tab.Settled(ctx, gen, h.id, ino)) || h.asked.Load() != 0 {
		t.Fatal("the holder's own look recalls nothing")
	}
	if must[bool](t)(tab.Settled(ctx, gen, 0, ino)) {
		t.Fatal("an observer of a leased inode must look again")
	}
	if h.asked.Load() != 1 || tab.Leased(ino) {
		t.Fatalf("asked %d times, leased %v", h.asked.Load(), tab.Leased(ino))
	}
	if _, err := tab.Use(ctx, h, ino, token); !errs.Is(err, errs.Fenced) {
		t.Fatalf("a flush under a token that was given back: %v", err)
	}
}

func TestExcludeKeepsGrantsAway(t *testing.T) {
	tab := readyTable(t)
	h := gives(tab)
	ctx := context.Background()
	must[uint64](t)(tab.Acquire(ctx, h, ino))
	end, err := tab.Exclude(ctx, ino)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tab.Acquire(short(t), h, ino); !errs.Is(err, errs.Canceled) {
		t.Fatalf("granted under an excluder: %v", err)
	}
	got := make(chan uint64, 1)
	go func() {
		token, _ := tab.Acquire(ctx, h, ino)
		got <- token
	}()
	end()
	if <-got == 0 {
		t.Fatal("not granted when the excluder was done")
	}
}

func TestSilentHolderIsRevoked(t *testing.T) {
	tab := newTable(t, 80*time.Millisecond)
	tab.Ready()
	ctx := context.Background()
	h := &fakeHolder{id: 1, recall: func(twofold.Ino, uint64) error { select {} }}
	token := must[uint64](t)(tab.Acquire(ctx, h, ino))
	gen := must[uint64](t)(tab.Generation(ctx))
	h.silent.Store(int64(time.Hour))
	if must[bool](t)(tab.Settled(ctx, gen, 0, ino)) {
		t.Fatal("settled without a look after the revocation")
	}
	if _, err := tab.Use(ctx, h, ino, token); !errs.Is(err, errs.Fenced) {
		t.Fatalf("a late holder's flush: %v", err)
	}
	h2 := gives(tab)
	h2.id = 2
	if t2 := must[uint64](t)(tab.Acquire(ctx, h2, ino)); t2 <= token {
		t.Fatalf("fencing tokens must grow: %d after %d", t2, token)
	}
}

func TestSlowHolderIsWaitedFor(t *testing.T) {
	tab := newTable(t, 40*time.Millisecond)
	tab.Ready()
	ctx := context.Background()
	h := gives(tab)
	release := h.recall
	h.recall = func(ino twofold.Ino, token uint64) error {
		time.Sleep(200 * time.Millisecond) // five terms, but it is heard of
		return release(ino, token)
	}
	must[uint64](t)(tab.Acquire(ctx, h, ino))
	gen := must[uint64](t)(tab.Generation(ctx))
	start := time.Now()
	must[bool](t)(tab.Settled(ctx, gen, 0, ino))
	if time.Since(start) < 150*time.Millisecond {
		t.Fatal("taken away from a holder that was alive")
	}
}

func TestFlushUnderWayIsNotCut(t *testing.T) {
	tab := newTable(t, 20*time.Millisecond)
	tab.Ready()
	ctx := context.Background()
	h := &fakeHolder{id: 1, recall: func(twofold.Ino, uint64) error { select {} }}
	token := must[uint64](t)(tab.Acquire(ctx, h, ino))
	end, err := tab.Use(ctx, h, ino, token)
	if err != nil {
		t.Fatal(err)
	}
	h.silent.Store(int64(time.Hour))
	done := make(chan struct{})
	go func() {
		defer close(done)
		tab.Exclude(ctx, ino)
	}()
	select {
	case <-done:
		t.Fatal("revoked while a flush was being committed")
	case <-time.After(100 * time.Millisecond):
	}
	end()
	<-done
}

// TestMutualExclusion runs holders that write a register under their lease, in
// memory until it is recalled, and observers: an observer sees every write that had
// returned before it began.
func TestMutualExclusion(t *testing.T) {
	tab := readyTable(t)
	ctx := context.Background()
	var committed atomic.Int64 // what the store has
	var returned atomic.Int64  // the largest value whose write has returned
	type held struct {
		sync.Mutex
		token uint64
		value int64
	}
	var next atomic.Int64
	var holders []*fakeHolder
	var states []*held
	for i := range 3 {
		s := &held{}
		h := &fakeHolder{id: twofold.SessionID(i + 1)}
		h.recall = func(ino twofold.Ino, token uint64) error {
			s.Lock()
			defer s.Unlock()
			if s.token != token {
				return nil
			}
			end, err := tab.Use(ctx, h, ino, token)
			if err != nil {
				t.Errorf("flush under a valid token: %v", err)
				return nil
			}
			committed.Store(s.value)
			end()
			s.token = 0
			tab.Release(h, ino, token)
			return nil
		}
		holders, states = append(holders, h), append(states, s)
	}
	var wg sync.WaitGroup
	stop := time.Now().Add(300 * time.Millisecond)
	for i := range holders {
		wg.Go(func() {
			for time.Now().Before(stop) {
				token, err := tab.Acquire(ctx, holders[i], ino)
				if err != nil {
					t.Error(err)
					return
				}
				s := states[i]
				s.Lock()
				if s.token == 0 {
					s.token = token
				}
				end, err := tab.Use(ctx, holders[i], ino, s.token)
				if err == nil { // the lease is still ours: write(2)
					s.value = next.Add(1)
					returned.Store(s.value)
					end()
				} else {
					s.token = 0
				}
				s.Unlock()
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			for time.Now().Before(stop) {
				want := returned.Load()
				var got int64
				for {
					gen, _ := tab.Generation(ctx)
					got = committed.Load()
					if ok, err := tab.Settled(ctx, gen, 0, ino); err != nil || ok {
						break
					}
				}
				if got < want {
					t.Errorf("observed %d after the write of %d had returned", got, want)
					return
				}
				time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond)
			}
		})
	}
	wg.Wait()
	if next.Load() < 10 {
		t.Fatalf("only %d writes: nothing was tested", next.Load())
	}
}

// TestHolderRefuses: a holder that can't write what it has keeps its lease; all who
// wait are told, and whoever comes later makes it try again.
func TestHolderRefuses(t *testing.T) {
	tab := readyTable(t)
	var full atomic.Bool
	full.Store(true)
	h := &fakeHolder{id: 1}
	h.recall = func(ino twofold.Ino, token uint64) error {
		if full.Load() {
			return errs.E("test", errs.Unwritten, nil)
		}
		tab.Release(h, ino, token)
		return nil
	}
	ctx := context.Background()
	token := must[uint64](t)(tab.Acquire(ctx, h, ino))
	other := gives(tab)
	other.id = 2
	for range 2 {
		gen := must[uint64](t)(tab.Generation(ctx))
		if _, err := tab.Settled(ctx, gen, 0, ino); !errs.Is(err, errs.Unwritten) {
			t.Fatalf("an observer: %v", err)
		}
		if _, err := tab.Exclude(ctx, ino); !errs.Is(err, errs.Unwritten) {
			t.Fatalf("an excluder: %v", err)
		}
		if _, err := tab.Acquire(ctx, other, ino); !errs.Is(err, errs.Unwritten) {
			t.Fatalf("another holder: %v", err)
		}
		end, err := tab.Use(ctx, h, ino, token)
		if err != nil {
			t.Fatalf("the holder's flush: %v", err)
		}
		end()
		if again := must[uint64](t)(tab.Acquire(ctx, h, ino)); again != token {
			t.Fatalf("the holder has token %d, had %d", again, token)
		}
	}
	full.Store(false)
	if got := must[uint64](t)(tab.Acquire(ctx, other, ino)); got <= token {
		t.Fatalf("token %d after %d", got, token)
	}
}

// TestStuckHolder: a mount that is heard of, and neither flushes nor gives its lease back,
// keeps it; but whoever wants the file is told, and does not wait for ever.
func TestStuckHolder(t *testing.T) {
	tab := newTable(t, 80*time.Millisecond)
	tab.Ready()
	tab.stuck = 300 * time.Millisecond
	end := make(chan struct{})
	defer close(end)
	h := &fakeHolder{id: 1}
	h.recall = func(twofold.Ino, uint64) error { <-end; return nil }
	ctx := context.Background()
	token := must[uint64](t)(tab.Acquire(ctx, h, ino))
	use := must[func()](t)(tab.Use(ctx, h, ino, token))
	told := make(chan error, 1)
	go func() {
		_, err := tab.Exclude(ctx, ino)
		told <- err
	}()
	select {
	case err := <-told:
		t.Fatalf("while it flushes: %v", err)
	case <-time.After(2 * tab.stuck):
	}
	use()
	if err := <-told; !errs.Is(err, errs.Unwritten) {
		t.Fatalf("an excluder: %v", err)
	}
	if _, err := tab.Use(ctx, h, ino, token); err != nil {
		t.Errorf("it has lost its lease: %v", err)
	}
}
