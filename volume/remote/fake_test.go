package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
	"twofold/volume/locks"
)

// hook serves every method of a hooked: it gets the method's name and arguments and
// returns its results without the error.
type hook func(ctx context.Context, name string, args ...any) ([]any, error)

// hooked is an api.Files of which every method calls the hook.
type hooked struct{ hook hook }

var _ api.Files = hooked{}

func res[T any](out []any, i int) (t T) {
	if i < len(out) && out[i] != nil {
		t = out[i].(T)
	}
	return t
}

func one[T any](out []any, err error) (T, error) { return res[T](out, 0), err }
func no(_ []any, err error) error                { return err }

func (h hooked) Lookup(ctx context.Context, dir twofold.Ino, name string) (api.Attr, error) {
	return one[api.Attr](h.hook(ctx, "Lookup", dir, name))
}
func (h hooked) GetAttr(ctx context.Context, ino twofold.Ino) (api.Attr, error) {
	return one[api.Attr](h.hook(ctx, "GetAttr", ino))
}
func (h hooked) SetAttr(ctx context.Context, ino twofold.Ino, a api.SetAttr) (api.Attr, error) {
	return one[api.Attr](h.hook(ctx, "SetAttr", ino, a))
}
func (h hooked) Create(ctx context.Context, dir twofold.Ino, name string, c api.Create) (api.Attr, bool, error) {
	out, err := h.hook(ctx, "Create", dir, name, c)
	return res[api.Attr](out, 0), res[bool](out, 1), err
}
func (h hooked) Tmpfile(ctx context.Context, dir twofold.Ino, c api.Create) (api.Attr, error) {
	return one[api.Attr](h.hook(ctx, "Tmpfile", dir, c))
}
func (h hooked) Seek(ctx context.Context, ino twofold.Ino, off int64, hole bool) (int64, error) {
	return one[int64](h.hook(ctx, "Seek", ino, off, hole))
}
func (h hooked) CopyRange(ctx context.Context, c api.CopyRange) (api.Attr, int64, error) {
	out, err := h.hook(ctx, "CopyRange", c)
	return res[api.Attr](out, 0), res[int64](out, 1), err
}
func (h hooked) Link(ctx context.Context, ino, dir twofold.Ino, name string) (api.Attr, error) {
	return one[api.Attr](h.hook(ctx, "Link", ino, dir, name))
}
func (h hooked) Unlink(ctx context.Context, dir twofold.Ino, name string) error {
	return no(h.hook(ctx, "Unlink", dir, name))
}
func (h hooked) Rmdir(ctx context.Context, dir twofold.Ino, name string) error {
	return no(h.hook(ctx, "Rmdir", dir, name))
}
func (h hooked) Rename(ctx context.Context, od twofold.Ino, on string, nd twofold.Ino, nn string, flags uint32) error {
	return no(h.hook(ctx, "Rename", od, on, nd, nn, flags))
}
func (h hooked) Readlink(ctx context.Context, ino twofold.Ino) (string, error) {
	return one[string](h.hook(ctx, "Readlink", ino))
}
func (h hooked) ReadDir(ctx context.Context, dir twofold.Ino, cursor string, max int, attrs bool) ([]api.DirEntry, bool, error) {
	out, err := h.hook(ctx, "ReadDir", dir, cursor, max, attrs)
	return res[[]api.DirEntry](out, 0), res[bool](out, 1), err
}
func (h hooked) Open(ctx context.Context, ino twofold.Ino) (api.Attr, error) {
	return one[api.Attr](h.hook(ctx, "Open", ino))
}
func (h hooked) Release(ctx context.Context, ino twofold.Ino) error {
	return no(h.hook(ctx, "Release", ino))
}
func (h hooked) Read(ctx context.Context, ino twofold.Ino, off int64, p []byte) (int, error) {
	return one[int](h.hook(ctx, "Read", ino, off, p))
}
func (h hooked) Write(ctx context.Context, ino twofold.Ino, w api.Write) (api.Attr, error) {
	return one[api.Attr](h.hook(ctx, "Write", ino, w))
}
func (h hooked) AcquireWrite(ctx context.Context, ino twofold.Ino) (api.Lease, error) {
	return one[api.Lease](h.hook(ctx, "AcquireWrite", ino))
}
func (h hooked) ReleaseWrite(ctx context.Context, ino twofold.Ino, token uint64) error {
	return no(h.hook(ctx, "ReleaseWrite", ino, token))
}
func (h hooked) GetXattr(ctx context.Context, ino twofold.Ino, name string) ([]byte, error) {
	return one[[]byte](h.hook(ctx, "GetXattr", ino, name))
}
func (h hooked) SetXattr(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) error {
	return no(h.hook(ctx, "SetXattr", ino, name, value, flags))
}
func (h hooked) ListXattr(ctx context.Context, ino twofold.Ino) ([]string, error) {
	return one[[]string](h.hook(ctx, "ListXattr", ino))
}
func (h hooked) RemoveXattr(ctx context.Context, ino twofold.Ino, name string) error {
	return no(h.hook(ctx, "RemoveXattr", ino, name))
}
func (h hooked) Promise(ctx context.Context, n int64) (int64, error) {
	return one[int64](h.hook(ctx, "Promise", n))
}
func (h hooked) GetLock(ctx context.Context, ino twofold.Ino, l api.Lock) (api.Lock, bool, error) {
	out, err := h.hook(ctx, "GetLock", ino, l)
	return res[api.Lock](out, 0), res[bool](out, 1), err
}
func (h hooked) SetLock(ctx context.Context, ino twofold.Ino, l api.Lock, wait bool) error {
	return no(h.hook(ctx, "SetLock", ino, l, wait))
}
func (h hooked) Forget(ctx context.Context, inos []twofold.Ino) error {
	return no(h.hook(ctx, "Forget", inos))
}
func (h hooked) Reserve(ctx context.Context, ino twofold.Ino, token uint64, size, slack int64) (int64, error) {
	return one[int64](h.hook(ctx, "Reserve", ino, token, size, slack))
}
func (h hooked) AcquireDir(ctx context.Context, dir twofold.Ino) (api.DirLease, error) {
	return one[api.DirLease](h.hook(ctx, "AcquireDir", dir))
}
func (h hooked) Inos(ctx context.Context, n int) (twofold.Ino, int, error) {
	out, err := h.hook(ctx, "Inos", n)
	return res[twofold.Ino](out, 0), res[int](out, 1), err
}
func (h hooked) Batch(ctx context.Context, b api.Batch) (api.BatchResult, error) {
	return one[api.BatchResult](h.hook(ctx, "Batch", b))
}
func (h hooked) StatFS(ctx context.Context, ino twofold.Ino) (api.StatFS, error) {
	return one[api.StatFS](h.hook(ctx, "StatFS", ino))
}

// store is the volume of the tests: what it knows outlives its servers.
type store struct {
	hook func(s *fakeSession) hook // serves a session's files

	mu        sync.Mutex
	lastID    twofold.SessionID
	records   map[twofold.SessionID]*record // "on disk"
	sessions  map[twofold.SessionID]*fakeSession
	locks     *locks.Table
	open      atomic.Bool // as volume/lease.Table.Ready
	delegate  atomic.Bool // locks, to sessions that are alone with an inode
	lockCalls atomic.Int64
	deposed   atomic.Bool
}

// record is what the store keeps of a session for good.
type record struct {
	token []byte
	ended bool
	acked uint64
	kept  map[uint64][]any // results of numbered calls
}

func newStore(h func(s *fakeSession) hook) *store {
	st := &store{hook: h, records: map[twofold.SessionID]*record{}, sessions: map[twofold.SessionID]*fakeSession{}}
	st.open.Store(true)
	st.locks = st.newLocks()
	return st
}

// table is the present server's.
func (st *store) table() *locks.Table {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.locks
}

func (st *store) session(id twofold.SessionID) *fakeSession {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sessions[id]
}

func (st *store) newLocks() *locks.Table {
	return locks.New(locks.Options{Term: time.Minute, Log: quiet(), IsReady: st.open.Load, Ready: func(context.Context) error {
		if !st.open.Load() {
			return errs.Newf("store", errs.Unavailable, "not ready")
		}
		return nil
	}})
}

// crash forgets what only a process would know.
func (st *store) crash() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sessions = map[twofold.SessionID]*fakeSession{}
	st.locks = st.newLocks()
}

func (st *store) Leads() bool { return !st.deposed.Load() }

func (st *store) Begin(_ context.Context, node string, holder api.Holder) (Session, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.lastID++
	st.records[st.lastID] = &record{token: []byte(rand.Text()), kept: map[uint64][]any{}}
	return st.openLocked(st.lastID, holder, api.Held{}), nil
}

func (st *store) Resume(_ context.Context, id twofold.SessionID, token []byte, held api.Held, holder api.Holder) (Session, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	r := st.records[id]
	if r == nil || r.ended || !bytes.Equal(token, r.token) {
		return nil, errs.Newf("store.Resume", errs.Fenced, "no session %d", id)
	}
	if st.sessions[id] != nil {
		panic(fmt.Sprintf("session %d resumed while it lives", id))
	}
	return st.openLocked(id, holder, held), nil
}

func (st *store) openLocked(id twofold.SessionID, holder api.Holder, held api.Held) *fakeSession {
	s := &fakeSession{st: st, id: id, holder: holder, done: make(chan struct{}), held: held, pins: map[twofold.Ino]int{}}
	for _, o := range held.Opens {
		s.pins[o.Ino] = o.Count
	}
	st.sessions[id] = s
	st.locks.Restore(s, held.Locks, func(twofold.Ino) bool { return false })
	return s
}

type fakeSession struct {
	st     *store
	id     twofold.SessionID
	holder api.Holder
	done   chan struct{}
	held   api.Held
	silent atomic.Int64 // ns

	mu           sync.Mutex
	pins         map[twofold.Ino]int
	disconnected int
	alive        int
	caches       bool // Cache was called
	homes        bool // Homes was
}

var _ Session = (*fakeSession)(nil)

func (s *fakeSession) ID() twofold.SessionID { return s.id }
func (s *fakeSession) Token() []byte {
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	return s.st.records[s.id].token
}
func (s *fakeSession) Cache() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.caches = true
	return time.Minute
}
func (s *fakeSession) LeaseTerm() time.Duration { return time.Minute }
func (s *fakeSession) Homes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.homes = true
}
func (s *fakeSession) Files() api.Files      { return hooked{s.st.hook(s)} }
func (s *fakeSession) Locks() api.Locks      { return fakeLocks{s, s.st.table()} } // of the server that has the session
func (s *fakeSession) Silent() time.Duration { return time.Duration(s.silent.Load()) }
func (s *fakeSession) Delegable() bool       { return s.st.delegate.Load() }
func (s *fakeSession) RecallLocks(ctx context.Context, ino twofold.Ino, token uint64) error {
	return s.holder.(api.LockHolder).RecallLocks(ctx, ino, token)
}
func (s *fakeSession) Done() <-chan struct{} { return s.done }
func (s *fakeSession) Disconnected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disconnected++
}

func (s *fakeSession) Alive() error {
	s.mu.Lock()
	s.alive++
	s.mu.Unlock()
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	if s.st.records[s.id].ended {
		return errs.Newf("store.Alive", errs.Fenced, "ended")
	}
	return nil
}

func (s *fakeSession) End(context.Context) error {
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	s.st.locks.End(s.id)
	r := s.st.records[s.id]
	if !r.ended {
		r.ended = true
		delete(s.st.sessions, s.id)
		close(s.done)
	}
	return nil
}

// numbered keeps results by number, as the metadata does.
func (s *fakeSession) numbered(ctx context.Context, effect func() []any) ([]any, error) {
	seq, ok := api.SeqOf(ctx)
	if !ok {
		panic("a changing call without a number")
	}
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	r := s.st.records[s.id]
	if r.ended {
		return nil, errs.Newf("store", errs.Fenced, "ended")
	}
	for ; r.acked < seq.Acked; r.acked++ {
		delete(r.kept, r.acked)
	}
	if seq.N < r.acked {
		panic(fmt.Sprintf("call %d came after its answer was acknowledged", seq.N))
	}
	if out, ok := r.kept[seq.N]; ok {
		return out, nil
	}
	out := effect()
	r.kept[seq.N] = out
	return out, nil
}

// node is a server process: its port stays the same across restarts.
type node struct {
	t    testing.TB
	st   Sessions
	addr string
	cfg  rpc.Config

	mu  sync.Mutex
	hs  *http.Server
	rpc *rpc.Server
	srv *Server
	wg  sync.WaitGroup
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func secret(t testing.TB) rpc.Secret {
	s, err := rpc.NewSecret("root", "password")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func startNode(t testing.TB, st Sessions) *node {
	t.Helper()
	n := &node{t: t, st: st, addr: "127.0.0.1:0", cfg: rpc.Config{Secret: secret(t), Role: rpc.RoleNode, Logger: quiet()}}
	n.start()
	t.Cleanup(n.kill)
	return n
}

func (n *node) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, err := net.Listen("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.addr = l.Addr().String()
	n.srv = NewServer(n.st, quiet())
	if n.rpc, err = rpc.NewServer(n.cfg, n.srv.Accept); err != nil {
		n.t.Fatal(err)
	}
	n.hs = &http.Server{Handler: n.rpc.Wrap(http.NotFoundHandler())}
	n.wg.Go(func() { _ = n.hs.Serve(l) })
}

// kill ends the process: nothing that runs may finish before the connections break.
func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hs == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = n.hs.Close()
	n.srv.Close(ctx)
	n.rpc.Close()
	n.wg.Wait()
	n.hs = nil
}

// mount is the holder of the tests.
type mount struct {
	onRecall func(ctx context.Context, ino twofold.Ino, token uint64) error

	onInvalidate func(ctx context.Context, stale []api.Stale) error

	onLost func()

	caches bool

	mu   sync.Mutex
	held api.Held
	asks int // calls of Held
	lost []error
}

var _ api.Holder = (*mount)(nil)

func (m *mount) Recall(ctx context.Context, ino twofold.Ino, token uint64) error {
	if m.onRecall == nil {
		return nil
	}
	return m.onRecall(ctx, ino, token)
}

func (m *mount) Invalidate(ctx context.Context, stale []api.Stale) error {
	if m.onInvalidate == nil {
		return nil
	}
	return m.onInvalidate(ctx, stale)
}

func (m *mount) Held() api.Held {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asks++
	return m.held
}

func (m *mount) Lost(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = append(m.lost, err)
	if m.onLost != nil {
		m.onLost()
	}
}

func (m *mount) losses() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.lost)
}

func dialNode(t testing.TB, addr string, m *mount) *Client {
	t.Helper()
	c, err := Dial(t.Context(), Options{Endpoints: []string{addr}, Secret: secret(t), Holder: m, Logger: quiet(), Caches: m.caches, KeepAlive: 20 * time.Millisecond, MaxBackoff: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Close(ctx) // the server may be gone
	})
	return c
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it did not happen in 10 s", what)
		}
	}
}

// fakeLocks is the lock table of the session's server.
type fakeLocks struct {
	s *fakeSession
	t *locks.Table
}

func (k fakeLocks) Get(ctx context.Context, ino twofold.Ino, l api.Lock) (api.Lock, bool, error) {
	return k.t.Get(ctx, k.s, ino, l)
}
func (k fakeLocks) Set(ctx context.Context, ino twofold.Ino, l api.Lock) (api.LockGrant, error) {
	k.s.st.lockCalls.Add(1)
	return k.t.Set(ctx, k.s, ino, l)
}
func (k fakeLocks) Await(ctx context.Context, ino twofold.Ino, l api.Lock, ticket uint64) error {
	return k.t.Await(ctx, k.s, ino, l, ticket)
}
func (k fakeLocks) EndAwait(_ context.Context, ino twofold.Ino, l api.Lock, ticket uint64) (bool, error) {
	return k.t.EndAwait(k.s, ino, l, ticket)
}
func (k fakeLocks) Return(_ context.Context, h api.HeldLocks) error { return k.t.Return(k.s, h) }
