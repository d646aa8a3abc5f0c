package volume

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// election is the metadata as several nodes have it: one of them leads at a time.
type election struct {
	store *memStore
	term  atomic.Int64
	mu    sync.RWMutex // held for reading by what is under way at the leader
}

// seat is one leadership.
type seat struct {
	e    *election
	term int64

	viewed atomic.Pointer[func()]                  // called behind each snapshot
	stuck  atomic.Pointer[func(*metadata.Command)] // called with commands that then find no majority
}

var _ metadata.Store = (*seat)(nil)

func (s *seat) leads() bool { return s.e.term.Load() == s.term }

func (s *seat) Apply(ctx context.Context, c *metadata.Command) (*metadata.Result, error) {
	if f := s.stuck.Load(); f != nil {
		(*f)(c)
		<-ctx.Done()
		return nil, errs.E("seat", errs.UnknownOutcome, ctx.Err())
	}
	s.e.mu.RLock()
	defer s.e.mu.RUnlock()
	if !s.leads() {
		return nil, errs.Newf("seat", errs.Unavailable, "not the leader")
	}
	return s.e.store.Apply(ctx, c)
}

func (s *seat) View(ctx context.Context, fn func(metadata.View) error) error {
	if !s.leads() {
		return errs.Newf("seat", errs.Unavailable, "not the leader")
	}
	err := s.e.store.View(ctx, fn)
	if f := s.viewed.Load(); f != nil {
		(*f)()
	}
	return err
}

// elect lets another node lead.
func (e *election) elect() *seat {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &seat{e: e, term: e.term.Add(1)}
}

// leader opens the volume of the next leader. Others are left as they are: they don't know yet.
func (h *harness) leader(e *election, o Options) (*Volume, *seat) {
	h.t.Helper()
	s := e.elect()
	o.Meta, o.Leads, o.Blobs, o.Placer, o.Logger = s, s.leads, h.engine, h.placer, slog.New(slog.DiscardHandler)
	if o.Idle == 0 {
		o.Idle = 20 * time.Millisecond
	}
	v, err := Open(ctx, o)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(v.Abandon)
	return v, s
}

// nodes makes the harness's store one of several nodes, none of which leads yet.
func (h *harness) nodes() *election {
	h.v.Abandon()
	return &election{store: h.store}
}

// led is a leader with a bucket "docs" and a mount.
func (h *harness) led(e *election, o Options) (*Volume, *seat, *mount) {
	v, s := h.leader(e, o)
	h.v = v
	h.bucket("docs")
	return v, s, h.mount()
}

func TestLookWhileLeadershipGoes(t *testing.T) {
	h := newHarness(t)
	e := h.nodes()
	v, s, m := h.led(e, Options{})
	h.put("docs", "k", []byte("x"))
	for name, look := range map[string]func() error{
		"HEAD": func() error { _, err := v.HeadObject(ctx, "docs", "k"); return err },
		"HEAD of nothing": func() error {
			_, err := v.HeadObject(ctx, "docs", "none")
			return err
		},
		"GET": func() error {
			_, r, err := v.GetObject(ctx, "docs", "k")
			if err == nil {
				r.Close()
			}
			return err
		},
		"LIST": func() error { _, err := v.List(ctx, "docs", metadata.ListQuery{Max: 10}); return err },
		"stat": func() error { _, err := m.s.Lookup(ctx, twofold.RootIno, "docs"); return err },
	} {
		// Behind the snapshot: a state that was the newest one may have been another node's by then.
		gone := func() { e.term.Add(1) }
		s.viewed.Store(&gone)
		if err := look(); !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
		s.viewed.Store(nil)
		e.term.Store(s.term)
		if err := look(); err != nil && !errs.Is(err, errs.NotFound) {
			t.Errorf("%s, leading again: %v", name, err)
		}
	}
}

// stubborn is a mount that answers no recall.
type stubborn struct{ asked chan struct{} }

func (s *stubborn) Recall(ctx context.Context, _ twofold.Ino, _ uint64) error {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return ctx.Err()
}
func (s *stubborn) Invalidate(ctx context.Context, _ []api.Stale) error { return nil }
func (s *stubborn) Held() api.Held                                      { return api.Held{} }
func (s *stubborn) Lost(error)                                          {}

func TestAbandon(t *testing.T) {
	h := newHarness(t)
	e := h.nodes()
	v, s, m := h.led(e, Options{})
	holder := &stubborn{asked: make(chan struct{}, 1)}
	own, err := v.BeginMount(ctx, "stubborn", holder)
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := m.s.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.AcquireWrite(ctx, a.Ino); err != nil {
		t.Fatal(err)
	}
	whole := api.Lock{Kind: api.LockFlock, Type: api.LockExclusive, End: api.MaxLockEnd, Owner: 1}
	if _, err := own.Locks().Set(ctx, a.Ino, whole); err != nil {
		t.Fatal(err)
	}
	waits := map[string]func() error{
		"GET":   func() error { _, _, err := v.GetObject(ctx, "docs", "f"); return err },
		"lease": func() error { _, err := m.s.AcquireWrite(ctx, a.Ino); return err },
		"lock":  func() error { return m.s.Locks().Await(ctx, a.Ino, whole, 1) },
	}
	done := make(chan string, len(waits))
	for name, wait := range waits {
		go func() {
			if err := wait(); !errs.Is(err, errs.Unavailable) {
				t.Errorf("%s: %v", name, err)
			}
			done <- name
		}()
	}
	<-holder.asked
	eventually(t, "a wait for the lock", func() bool { return v.locks.Waits(a.Ino) == 1 })
	sent := make(chan struct{}, 100)
	stuck := func(*metadata.Command) { sent <- struct{}{} }
	s.stuck.Store(&stuck)
	put := make(chan error, 1)
	go func() { put <- h.tryPut(v, "docs", "k", []byte("x")) }()
	<-sent

	e.elect()
	v.Abandon()
	for range waits {
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Fatal("a request still waits for what is not going to be")
		}
	}
	if err := <-put; !errs.Is(err, errs.UnknownOutcome) && !errs.Is(err, errs.Unavailable) {
		t.Errorf("a PUT under way: %v", err)
	}
	for _, s := range []*Session{m.s, own} {
		select {
		case <-s.Done():
		default:
			t.Error("a session is not told")
		}
	}
	for len(sent) > 0 {
		<-sent
	}
	e.term.Store(s.term) // whatever the metadata thinks
	s.stuck.Store(nil)
	index := h.store.applied()
	if v.Leads() {
		t.Error("an abandoned volume leads")
	}
	if err := h.tryPut(v, "docs", "k", []byte("x")); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a PUT behind it: %v", err)
	}
	if _, _, err := m.s.Create(ctx, a.Ino, "g", api.Create{Type: metadata.TypeFile}); err == nil {
		t.Error("a create behind it")
	}
	if _, err := v.HeadBucket(ctx, "docs"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a HEAD behind it: %v", err)
	}
	if n := h.store.applied(); n != index {
		t.Errorf("%d commands were sent behind it", n-index)
	}
}

// TestClocksOfLeaders: leaders whose clocks are minutes apart grant tokens in one order, and
// stamp changes in one.
func TestClocksOfLeaders(t *testing.T) {
	h := newHarness(t)
	e := h.nodes()
	var token, delegated uint64
	var last twofold.Time
	var id twofold.SessionID
	var dir, ino twofold.Ino
	for i, skew := range []time.Duration{14 * time.Minute, -time.Minute, -14 * time.Minute, 0} {
		o := Options{Clock: func() twofold.Time { return twofold.Now() + twofold.Time(skew) }}
		v, _ := h.leader(e, o)
		h.v = v
		m := h.mount()
		if m.s.ID() <= id {
			t.Fatal("sessions are not numbered in order")
		}
		id = m.s.ID()
		if i == 0 {
			h.bucket("docs")
			dir = m.lookup("docs").Ino
			a, _, err := m.s.Create(ctx, dir, "f", api.Create{Type: metadata.TypeFile})
			if err != nil {
				t.Fatal(err)
			}
			ino = a.Ino
		}
		for range 50 {
			mode := uint32(0o600)
			a, err := m.s.SetAttr(ctx, ino, api.SetAttr{Mode: &mode})
			if err != nil {
				t.Fatal(err)
			}
			if a.Ctime <= last {
				t.Fatalf("leader %d: ctime went from %v to %v", i, last.Time(), a.Ctime.Time())
			}
			last = a.Ctime
		}
		l, err := m.s.AcquireWrite(ctx, ino)
		if err != nil {
			t.Fatal(err)
		}
		if l.Token <= token {
			t.Errorf("leader %d: token %d behind %d", i, l.Token, token)
		}
		token = l.Token
		if l, err = m.s.AcquireWrite(ctx, dir); err == nil {
			t.Error("the lease of a directory as a file's", l)
		}
		g, err := v.locks.Set(ctx, delegable{m.s}, ino, api.Lock{Type: api.LockExclusive, End: 1})
		if err != nil || g.Token <= delegated {
			t.Errorf("leader %d: delegation %d behind %d, %v", i, g.Token, delegated, err)
		}
		delegated = g.Token
		if err := m.s.End(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// delegable is a session whose mount can be asked for locks.
type delegable struct{ *Session }

func (delegable) Delegable() bool { return true }

// TestClockIsBounded: what is stamped is never above what the metadata has as its bound.
func TestClockIsBounded(t *testing.T) {
	h := newHarness(t)
	e := h.nodes()
	wall := atomic.Int64{}
	wall.Store(int64(twofold.Now()))
	v, s, m := h.led(e, Options{Clock: func() twofold.Time { return twofold.Time(wall.Load()) }})
	bound := func() twofold.Time {
		var b handover
		if err := h.store.View(ctx, func(w metadata.View) error {
			p, err := w.Config(handoverKey)
			b = decodeHandover(p)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return b.bound
	}
	old := bound()
	wall.Add(int64(time.Minute)) // much passes at once: it stands still until the bound is raised
	if now := v.now(); now > old {
		t.Fatalf("%v is above %v", now.Time(), old.Time())
	}
	eventually(t, "a higher bound", func() bool { return bound() > old })
	eventually(t, "the time", func() bool { return v.now() >= twofold.Time(wall.Load()) })

	stuck := func(*metadata.Command) {}
	s.stuck.Store(&stuck) // no bound can be raised
	old = bound()
	wall.Add(int64(time.Minute))
	for range 1000 {
		if now := v.now(); now > old {
			t.Fatalf("%v is above %v", now.Time(), old.Time())
		}
	}
	_ = m
	// One that is absurd is not kept to.
	c := newClock(nil)
	if b := c.from(twofold.Now() + twofold.Time(24*time.Hour)); b > twofold.Now()+twofold.Time(time.Minute) {
		t.Errorf("a clock a day ahead is for ever: %v", b.Time())
	}
}

// TestTermOfTheLeaderBefore: its mounts believe in their leases for as long as it told them.
func TestTermOfTheLeaderBefore(t *testing.T) {
	h := newHarness(t)
	e := h.nodes()
	const long = 700 * time.Millisecond
	h.led(e, Options{LeaseTerm: long})
	const short = 20 * time.Millisecond
	h.leader(e, Options{LeaseTerm: short})
	began := time.Now()
	v, _ := h.leader(e, Options{LeaseTerm: short}) // also of the one before that
	if _, err := v.HeadObject(ctx, "docs", "none"); !errs.Is(err, errs.NotFound) {
		t.Fatal(err)
	}
	if d := time.Since(began); d < long {
		t.Fatalf("answered after %v, while a mount may believe for %v", d, long)
	}
	if v.LeaseTerm != short {
		t.Fatal("its own mounts are told the wrong term")
	}
	eventually(t, "the own term is what the next one waits for", func() bool {
		p, err := v.Config(ctx, handoverKey)
		return err == nil && decodeHandover(p).term == short
	})
}

// TestMountsAreWaitedForSinceTheElection: the time that a volume takes to open counts.
func TestMountsAreWaitedForSinceTheElection(t *testing.T) {
	h := newHarness(t)
	e := h.nodes()
	const term = time.Hour
	h.led(e, Options{LeaseTerm: term})
	v, _ := h.leader(e, Options{LeaseTerm: term, LedSince: time.Now().Add(-term)})
	if _, err := v.HeadObject(ctx, "docs", "none"); !errs.Is(err, errs.NotFound) {
		t.Fatal(err)
	}
	v, _ = h.leader(e, Options{LeaseTerm: term, LedSince: time.Now().Add(-term / 2)})
	if v.leases.IsReady() {
		t.Fatal("a mount that may believe in its leases is not waited for")
	}
}

// TestRefusedForTheSessionKeepsBlobs: a command that is refused because its session has ended may
// be the second copy of one that was not.
func TestRefusedForTheSessionKeepsBlobs(t *testing.T) {
	h := newHarness(t)
	d, err := h.v.store(ctx, strings.NewReader(strings.Repeat("x", 100<<10)), 100<<10, "n", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	n := h.shards()
	d.settle(errs.Newf("metadata", errs.Fenced, "unknown session"))
	if h.shards() != n || n == 0 || !h.v.isWriting(d.blobs[0].ID) {
		t.Error("the blob is deleted")
	}
}

// TestMountsOfOtherMachines: one that passes for rebooted here may be alive.
func TestMountsOfOtherMachines(t *testing.T) {
	elsewhere := "1.2@00000000-0000-0000-0000-000000000000/pid:[1]@"
	id, err := os.ReadFile("/etc/machine-id")
	if err == nil {
		elsewhere += strings.TrimSpace(string(id))
	}
	if v := (&Volume{Options: Options{Leads: func() bool { return true }}}); v.dead(elsewhere) {
		t.Error("dead, by the machine-id of this one")
	}
	if v := new(Volume); err == nil && len(id) > 1 && !v.dead(elsewhere) {
		t.Error("with one node its mounts are of this machine, or have another machine-id")
	}
}

// TestOldLeader: the old leader does not know that another one is at work.
func TestOldLeader(t *testing.T) {
	h := newHarness(t)
	e := h.nodes()
	old, _, m := h.led(e, Options{})
	h.put("docs", "k", []byte("old"))
	a, _, err := m.s.Create(ctx, m.lookup("docs").Ino, "f", api.Create{Type: metadata.TypeFile})
	if err != nil {
		t.Fatal(err)
	}
	m.write(a.Ino, 0, "unflushed")

	now, _ := h.leader(e, Options{LeaseTerm: 30 * time.Second})
	if old.Leads() || !now.Leads() {
		t.Fatal("who leads?")
	}
	got := make(chan string, 1)
	go func() {
		h := *h
		h.v = now
		got <- string(h.get("docs", "f"))
	}()
	// What the old one is asked, and what it has under way, comes to nothing.
	if err := h.tryPut(old, "docs", "k", []byte("late")); err == nil {
		t.Error("a PUT at the old leader succeeds")
	}
	if _, err := old.HeadObject(ctx, "docs", "f"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("HEAD at the old leader: %v", err)
	}
	select {
	case p := <-got:
		t.Fatalf("GET of %q before the mount was back", p)
	default:
	}
	held, was := m.Held(), m.s
	m.mu.Lock()
	m.s, err = now.ResumeMount(ctx, was.ID(), was.Token(), held, m)
	m.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if p := <-got; p != "unflushed" {
		t.Errorf("GET: %q", p)
	}
	old.Abandon()
	if info, err := now.HeadObject(ctx, "docs", "k"); err != nil || info.Size != 3 {
		t.Errorf("%+v, %v", info, err)
	}
}

// tryPut is a PUT that may fail.
func (h *harness) tryPut(v *Volume, b twofold.BucketName, k twofold.Key, p []byte) error {
	_, err := v.PutObject(ctx, &api.PutInput{
		Bucket: b, Key: k, Body: strings.NewReader(string(p)), Size: int64(len(p)),
		Finish: func() (api.Sum, error) { return api.Sum{}, nil },
	})
	return err
}

func (s *memStore) applied() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index
}
