package volume

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"twofold"
	"twofold/engine"
	"twofold/engine/drive"
	"twofold/internal/errs"
	"twofold/internal/vfs"
	"twofold/metadata"
	"twofold/metadata/fsm"
	"twofold/metadata/kv"
	"twofold/volume/api"
)

// memStore is one replica without a log: the state machine over a tree in memory.
// Volumes can be opened on it one after the other, like servers that restart.
type memStore struct {
	mu    sync.Mutex
	m     *fsm.Machine
	index uint64
	fail  func(*metadata.Command) error // before a command is applied; it may change it
	enter func(*metadata.Command)       // likewise, but several at once; set before the volume is opened
	after func(*metadata.Command)       // behind one that was
}

func newMemStore(t testing.TB) *memStore {
	m, err := fsm.New(kv.NewMemory(), fsm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &memStore{m: m}
}

// failing has fn called before each command is applied; also while others apply some.
func (s *memStore) failing(fn func(*metadata.Command) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fn
}

func (s *memStore) Apply(_ context.Context, c *metadata.Command) (*metadata.Result, error) {
	if s.enter != nil {
		s.enter(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(c); err != nil {
			return nil, err
		}
	}
	b, err := metadata.Encode(c)
	if err != nil {
		return nil, err
	}
	s.index++
	res, err := s.m.ApplyBatch([]fsm.Entry{{Index: s.index, Term: 1, Data: b}})
	if err != nil {
		return nil, err
	}
	if s.after != nil {
		s.after(c)
	}
	r := &res[0]
	if r.Failed {
		return r, errs.Newf("metadata", r.Kind, "%s", r.Msg)
	}
	return r, nil
}

func (s *memStore) View(_ context.Context, fn func(metadata.View) error) error { return s.m.View(fn) }

// onePlace puts everything on the one set of the test.
type onePlace struct {
	err  error
	room func() uint64 // nil: plenty
}

func (p *onePlace) Place(string, string) (twofold.SetID, int, error) {
	return twofold.SetID{}, -1, nil
}
func (p *onePlace) Writable() error { return p.err }
func (p *onePlace) Space(context.Context) (uint64, uint64, error) {
	return 1 << 40, 1 << 39, nil
}
func (p *onePlace) Room(context.Context) (uint64, error) {
	if p.room != nil {
		return p.room(), nil
	}
	return 1 << 39, nil
}

// harness is a volume over real drives in temporary directories.
type harness struct {
	t      testing.TB
	store  *memStore
	engine *engine.Engine
	placer *onePlace
	v      *Volume
	dirs   []string
}

func newHarness(t testing.TB) *harness {
	h := &harness{t: t, store: newMemStore(t), placer: &onePlace{}}
	cluster := twofold.NewUUID()
	var slots []*drive.Slot
	for i := range 4 {
		dir := filepath.Join(t.TempDir(), "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		f := drive.Format{Version: drive.FormatVersion, Cluster: cluster, Drive: twofold.NewUUID(), Index: i, Sets: 1, SetSize: 4, Created: twofold.Now()}
		if err := drive.WriteFormat(vfs.OS(), dir, f); err != nil {
			t.Fatal(err)
		}
		d, err := drive.Open(context.Background(), drive.Options{Path: dir, Reserve: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		h.dirs = append(h.dirs, dir)
		slots = append(slots, drive.NewSlot(twofold.SetID{}, i, d))
	}
	e, err := engine.Open(engine.Options{Cluster: cluster, Sets: []engine.SetConfig{{Slots: slots, Parity: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	h.engine = e
	t.Cleanup(func() { e.Close() })
	h.open(Options{})
	t.Cleanup(func() { h.v.Close(context.Background()) })
	return h
}

// open opens a volume on the same store and drives; the one of before is left as a
// kill would leave it, but for its goroutines.
func (h *harness) open(o Options) {
	h.t.Helper()
	if h.v != nil {
		h.v.stop()
		h.v.wg.Wait()
	}
	o.Meta, o.Blobs, o.Placer, o.Logger = h.store, h.engine, h.placer, slog.New(slog.DiscardHandler)
	if o.Idle == 0 {
		o.Idle = 20 * time.Millisecond
	}
	v, err := Open(context.Background(), o)
	if err != nil {
		h.t.Fatal(err)
	}
	h.v = v
}

// shards counts the shard files on all drives.
func (h *harness) shards() int {
	n := 0
	for _, d := range h.dirs {
		m, _ := filepath.Glob(filepath.Join(d, "blobs", "*", "*"))
		n += len(m)
	}
	return n
}

// eventually waits for a background loop.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it did not happen within 30 s: %s", what)
}

// mount is a mount without a kernel: it holds written bytes until it is recalled.
type mount struct {
	t  testing.TB
	s  *Session
	mu sync.Mutex
	// what it holds, by inode
	dirty map[twofold.Ino]*held
	stuck bool // it can't write what it holds
	lost  error
}

type held struct {
	token uint64
	segs  []api.Segment
	size  int64
}

var _ api.Holder = (*mount)(nil)

func (h *harness) mount() *mount {
	m := &mount{t: h.t, dirty: map[twofold.Ino]*held{}}
	s, err := h.v.BeginMount(context.Background(), "test", m)
	if err != nil {
		h.t.Fatal(err)
	}
	m.s = s
	return m
}

func (m *mount) Recall(ctx context.Context, ino twofold.Ino, token uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.dirty[ino]
	if d == nil || d.token != token {
		return nil
	}
	if m.stuck {
		return errs.Newf("test", errs.Unwritten, "no space")
	}
	delete(m.dirty, ino)
	if _, err := m.s.Write(ctx, ino, api.Write{Token: token, Segments: d.segs, Size: d.size}); err != nil {
		m.t.Logf("flush: %v", err)
	}
	return m.s.ReleaseWrite(ctx, ino, token)
}

func (m *mount) Invalidate(context.Context, []api.Stale) error { return nil }

func (m *mount) Held() api.Held {
	m.mu.Lock()
	defer m.mu.Unlock()
	var h api.Held
	for ino, d := range m.dirty {
		h.Writes = append(h.Writes, api.HeldWrite{Ino: ino, Token: d.token})
	}
	return h
}

func (m *mount) Lost(err error) { m.lost = err }

// write is write(2): it returns with the bytes in the mount's memory.
func (m *mount) write(ino twofold.Ino, off int64, p string) {
	m.t.Helper()
	l, err := m.s.AcquireWrite(context.Background(), ino)
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.dirty[ino]
	if d == nil {
		d = &held{token: l.Token}
		m.dirty[ino] = d
	}
	d.segs = append(d.segs, api.Segment{Off: off, Data: []byte(p)})
	d.size = max(d.size, off+int64(len(p)))
}
