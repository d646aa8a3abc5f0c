package remote

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// counter is a hook that counts how often each Create has had its effect, and keeps
// pins, as a volume would.
type counter struct {
	mu    sync.Mutex
	made  map[string]int
	slow  atomic.Bool // effects take their time, before or after
	block chan struct{}
}

func newCounter() *counter { return &counter{made: map[string]int{}} }

func (c *counter) hook(s *fakeSession) hook {
	return func(ctx context.Context, name string, args ...any) ([]any, error) {
		if c.slow.Load() {
			time.Sleep(rand.N(2 * time.Millisecond))
			defer time.Sleep(rand.N(2 * time.Millisecond))
			if rand.N(50) == 0 {
				return nil, errs.Newf("counter", errs.Unavailable, "an election")
			}
		}
		switch name {
		case "Create":
			out, err := s.numbered(ctx, func() []any {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.made[args[1].(string)]++
				return []any{api.Attr{Ino: twofold.Ino(c.made[args[1].(string)]), ETag: args[1].(string)}, false}
			})
			if err == nil && c.slow.Load() && rand.N(20) == 0 {
				return nil, errs.Newf("counter", errs.UnknownOutcome, "lost the leader")
			}
			return out, err
		case "Batch":
			out, err := s.numbered(ctx, func() []any {
				c.mu.Lock()
				defer c.mu.Unlock()
				r := api.BatchResult{Failed: -1}
				for _, o := range args[0].(api.Batch).Ops {
					c.made[o.Create.Name]++
					r.Attrs = append(r.Attrs, api.Attr{Ino: o.Create.Ino, ETag: o.Create.Name})
				}
				return []any{r}
			})
			if err == nil && c.slow.Load() && rand.N(20) == 0 {
				return nil, errs.Newf("counter", errs.UnknownOutcome, "lost the leader")
			}
			return out, err
		case "Open", "Release":
			ino := args[0].(twofold.Ino)
			s.mu.Lock()
			defer s.mu.Unlock()
			if name == "Open" {
				s.pins[ino]++
			} else if s.pins[ino]--; s.pins[ino] < 0 {
				panic("released more often than opened")
			}
			return nil, nil
		case "AcquireWrite":
			if c.block != nil {
				select {
				case <-c.block:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return []any{api.Lease{Token: 7}}, nil
		}
		return nil, nil
	}
}

func TestWrongCredentialsAtDial(t *testing.T) {
	n := startNode(t, newStore(newCounter().hook))
	o := Options{Endpoints: []string{n.addr}, Holder: &mount{}, Logger: quiet()}
	o.Secret[0] = 1
	if _, err := Dial(t.Context(), o); !errs.Is(err, errs.Access) || !strings.Contains(err.Error(), "credentials") {
		t.Fatalf("got %v", err)
	}
}

// A mount waits for a server that restarts, resumes its session, and every call in
// flight gets its answer.
func TestServerRestart(t *testing.T) {
	cnt := newCounter()
	cnt.slow.Store(true)
	st := newStore(cnt.hook)
	n := startNode(t, st)
	m := &mount{held: api.Held{Writes: []api.HeldWrite{{Ino: 5, Token: 9}}}}
	c := dialNode(t, n.addr, m)
	id := c.SessionID()
	for range 3 {
		if _, err := c.Open(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		var wg sync.WaitGroup
		for w := range 50 {
			wg.Go(func() {
				name := fmt.Sprintf("f-%d-%d", round, w)
				a, _, err := c.Create(t.Context(), 2, name, api.Create{Type: 1})
				if err != nil || a.ETag != name {
					t.Errorf("create %s: %+v, %v", name, a, err)
				}
			})
		}
		time.Sleep(2 * time.Millisecond)
		n.kill()
		st.crash()
		if _, err := c.GetAttr(timeout(t, 20*time.Millisecond), 5); !errs.Is(err, errs.Canceled) {
			t.Errorf("a call while the server is away, whose context ends: %v", err)
		}
		n.start()
		wg.Wait()
	}
	for name, k := range cnt.made {
		if k != 1 {
			t.Errorf("%s was made %d times", name, k)
		}
	}
	if len(cnt.made) != 150 || c.SessionID() != id || m.losses() != 0 {
		t.Fatalf("%d files, session %d then %d, %d losses", len(cnt.made), id, c.SessionID(), m.losses())
	}
	st.mu.Lock()
	s := st.sessions[id]
	st.mu.Unlock()
	if s.pins[5] != 3 || len(s.held.Writes) != 1 || s.held.Writes[0].Token != 9 {
		t.Fatalf("after the restart the server knows pins %v, leases %v", s.pins, s.held.Writes)
	}
}

func timeout(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// The server ends the session: the holder hears of it, opens again what it needs,
// and the client goes on with a new session.
func TestSessionLost(t *testing.T) {
	cnt := newCounter()
	cnt.block = make(chan struct{})
	st := newStore(cnt.hook)
	n := startNode(t, st)
	m := &mount{}
	c := dialNode(t, n.addr, m)
	repinned := make(chan error, 1)
	m.onLost = func() { // as fusefs does it
		go func() { _, err := c.Open(t.Context(), 5); repinned <- err }()
	}
	old := c.SessionID()
	if _, err := c.Open(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	pending := make(chan error, 1)
	go func() {
		_, err := c.AcquireWrite(t.Context(), 6)
		pending <- err
	}()
	st.mu.Lock()
	s := st.sessions[old]
	st.mu.Unlock()
	if err := s.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "Lost", func() bool { return m.losses() == 1 })
	waitFor(t, "a new session", func() bool { return c.SessionID() != 0 && c.SessionID() != old })
	close(cnt.block)
	if err := <-repinned; err != nil {
		t.Fatal(err)
	}
	if err := <-pending; err != nil {
		t.Fatalf("a call that changes nothing: %v", err)
	}
	if _, _, err := c.Create(t.Context(), 2, "x", api.Create{Type: 1}); err != nil {
		t.Fatal(err)
	}
	st.mu.Lock()
	s = st.sessions[c.SessionID()]
	st.mu.Unlock()
	if s.pins[5] != 1 {
		t.Fatalf("pins %v", s.pins)
	}
	if err := c.Release(t.Context(), 5); err != nil || s.pins[5] != 0 {
		t.Fatalf("release: %v, pins %v", err, s.pins)
	}
}

// A changing call that the old session had in flight must not be repeated in the
// new one.
func TestChangeInFlightWhenSessionEnds(t *testing.T) {
	var started, runs atomic.Int32
	st := newStore(func(s *fakeSession) hook {
		return func(ctx context.Context, name string, _ ...any) ([]any, error) {
			if name == "Unlink" {
				runs.Add(1)
				started.Store(1)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return nil, nil
		}
	})
	n := startNode(t, st)
	m := &mount{}
	c := dialNode(t, n.addr, m)
	res := make(chan error, 1)
	go func() { res <- c.Unlink(t.Context(), 2, "x") }()
	waitFor(t, "the call", func() bool { return started.Load() == 1 })
	st.mu.Lock()
	s := st.sessions[c.SessionID()]
	st.mu.Unlock()
	if err := s.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-res; !errs.Is(err, errs.UnknownOutcome) {
		t.Fatalf("got %v", err)
	}
	if m.losses() != 1 || runs.Load() != 1 {
		t.Fatalf("%d losses, %d runs", m.losses(), runs.Load())
	}
}

// A caller that goes away gets errs.UnknownOutcome; the watermark passes its call,
// and an open that nobody waits for is undone.
func TestCallerGoesAway(t *testing.T) {
	gate := make(chan struct{})
	var entered atomic.Int32
	var acked atomic.Uint64
	var opens atomic.Int32
	st := newStore(func(s *fakeSession) hook {
		return func(ctx context.Context, name string, _ ...any) ([]any, error) {
			switch name {
			case "Open":
				entered.Add(1)
				<-gate // takes no notice of its context
				opens.Add(1)
			case "Release":
				opens.Add(-1)
			case "Unlink":
				entered.Add(1)
				<-ctx.Done()
				return nil, ctx.Err()
			case "Rmdir":
				seq, _ := api.SeqOf(ctx)
				acked.Store(seq.Acked)
			}
			return nil, nil
		}
	})
	c := dialNode(t, startNode(t, st).addr, &mount{})
	ctx, cancel := context.WithCancel(t.Context())
	res := make(chan error, 2)
	go func() { _, err := c.Open(ctx, 5); res <- err }()
	go func() { res <- c.Unlink(ctx, 2, "x") }()
	waitFor(t, "both calls", func() bool { return entered.Load() == 2 })
	cancel()
	for range 2 {
		if err := <-res; !errs.Is(err, errs.UnknownOutcome) {
			t.Fatalf("got %v", err)
		}
	}
	close(gate)
	waitFor(t, "the watermark", func() bool {
		if err := c.Rmdir(t.Context(), 2, "y"); err != nil {
			t.Fatal(err)
		}
		return acked.Load() > 3
	})
	waitFor(t, "the release", func() bool { return opens.Load() == 0 })
	if len(c.openFiles()) != 0 {
		t.Fatalf("the client still counts %v", c.openFiles())
	}
}

// Recalls reach the mount while its calls are in flight, and the mount's flush
// reaches the server while the recall waits, also when all slots are taken.
func TestRecallWhileCallsWait(t *testing.T) {
	var c *Client
	var flushed atomic.Int32
	gate := make(chan struct{})
	var waiting atomic.Int32
	st := newStore(func(s *fakeSession) hook {
		return func(ctx context.Context, name string, args ...any) ([]any, error) {
			switch name {
			case "AcquireWrite": // waits until the lease was flushed
				waiting.Add(1)
				<-gate
			case "Write":
				flushed.Add(1)
			}
			return nil, nil
		}
	})
	n := startNode(t, st)
	m := &mount{}
	m.onRecall = func(ctx context.Context, ino twofold.Ino, token uint64) error {
		if _, err := c.Write(ctx, ino, api.Write{Token: token, Segments: []api.Segment{{Data: []byte("dirty")}}}); err != nil {
			return err
		}
		return c.ReleaseWrite(ctx, ino, token)
	}
	c = dialNode(t, n.addr, m)
	var wg sync.WaitGroup
	for i := range 1200 { // more than the server lets in
		wg.Go(func() {
			if _, err := c.AcquireWrite(t.Context(), twofold.Ino(i+1)); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, "the slots to fill", func() bool { return waiting.Load() == 1024 })
	st.mu.Lock()
	holder := st.sessions[c.SessionID()].holder
	st.mu.Unlock()
	for i := range 20 {
		if err := holder.Recall(timeout(t, 5*time.Second), twofold.Ino(i+1), 3); err != nil {
			t.Fatal(err)
		}
	}
	if flushed.Load() != 20 {
		t.Fatalf("%d flushes", flushed.Load())
	}
	close(gate)
	wg.Wait()
}

// A recall that is under way when the connection breaks goes on, and is joined by
// the one that the server sends on the next connection.
func TestRecallAcrossReconnect(t *testing.T) {
	st := newStore(newCounter().hook)
	n := startNode(t, st)
	p := startProxy(t, n.addr)
	var running, atOnce atomic.Int32
	gate := make(chan struct{})
	m := &mount{onRecall: func(ctx context.Context, _ twofold.Ino, _ uint64) error {
		if running.Add(1) > 1 {
			atOnce.Add(1)
		}
		defer running.Add(-1)
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	c := dialNode(t, p.addr, m)
	st.mu.Lock()
	s := st.sessions[c.SessionID()]
	st.mu.Unlock()
	res := make(chan error, 1)
	go func() { res <- s.holder.Recall(t.Context(), 5, 1) }()
	waitFor(t, "the recall", func() bool { return running.Load() == 1 })
	p.cut()
	waitFor(t, "the reconnect", func() bool { _, err := c.GetAttr(t.Context(), 1); return err == nil })
	time.Sleep(20 * time.Millisecond) // for the second one to arrive
	close(gate)
	if err := <-res; err != nil || atOnce.Load() != 0 {
		t.Fatalf("%v, %d at once", err, atOnce.Load())
	}
}

// A mount that can't write what it holds says so, and why.
func TestRecallIsRefused(t *testing.T) {
	st := newStore(newCounter().hook)
	n := startNode(t, st)
	c := dialNode(t, n.addr, &mount{onRecall: func(context.Context, twofold.Ino, uint64) error {
		return errs.E("test", errs.Unwritten, errs.Newf("test", errs.NoSpace, "the drives are full"))
	}})
	st.mu.Lock()
	s := st.sessions[c.SessionID()]
	st.mu.Unlock()
	err := s.holder.Recall(timeout(t, 20*time.Second), 5, 1)
	if !errs.Is(err, errs.Unwritten) || !strings.Contains(err.Error(), "the drives are full") {
		t.Fatalf("got %v", err)
	}
}

// With no connection, a recall waits until its context ends.
func TestRecallWithoutConnection(t *testing.T) {
	st := newStore(newCounter().hook)
	n := startNode(t, st)
	p := startProxy(t, n.addr)
	c := dialNode(t, p.addr, &mount{})
	st.mu.Lock()
	s := st.sessions[c.SessionID()]
	st.mu.Unlock()
	p.stop()
	waitFor(t, "the loss", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.disconnected > 0 })
	if err := s.holder.Recall(timeout(t, 20*time.Millisecond), 5, 1); !errs.Is(err, errs.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestCloseEndsSession(t *testing.T) {
	st := newStore(newCounter().hook)
	n := startNode(t, st)
	m := &mount{}
	c := dialNode(t, n.addr, m)
	id := c.SessionID()
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.records[id].ended || m.losses() != 0 {
		t.Fatalf("ended %v, %d losses", st.records[id].ended, m.losses())
	}
	if _, err := c.GetAttr(t.Context(), 1); err == nil {
		t.Fatal("a closed client answers")
	}
}

// Draining lets running calls finish and leaves the others waiting for the next
// server.
func TestDrain(t *testing.T) {
	gate := make(chan struct{})
	var started, runs atomic.Int32
	st := newStore(func(*fakeSession) hook {
		return func(_ context.Context, name string, _ ...any) ([]any, error) {
			if name == "Unlink" {
				runs.Add(1)
				started.Store(1)
				<-gate
			}
			return nil, nil
		}
	})
	n := startNode(t, st)
	c := dialNode(t, n.addr, &mount{})
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- c.Unlink(t.Context(), 2, "a") }()
	waitFor(t, "the call", func() bool { return started.Load() == 1 })
	closed := make(chan struct{})
	go func() { n.srv.Close(t.Context()); close(closed) }()
	waitFor(t, "draining", func() bool { n.srv.mu.Lock(); defer n.srv.mu.Unlock(); return n.srv.draining })
	go func() { second <- c.Rmdir(t.Context(), 2, "b") }()
	close(gate)
	<-closed
	n.kill()
	st.crash()
	n.start()
	for _, ch := range []chan error{first, second} {
		if err := <-ch; err != nil {
			t.Fatal(err)
		}
	}
	if runs.Load() != 1 {
		t.Fatalf("%d runs", runs.Load())
	}
}
