package volume

import (
	"bytes"
	"context"
	"encoding/binary"
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
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/remote"
)

// site is several nodes in this process, one of which leads: their volumes are on one store, and
// their mounts come by the network.
type site struct {
	*harness
	e      *election
	secret rpc.Secret
	places []*hostNode
	sites  sync.Mutex // guards leads, and the volume of the harness
	leads  string     // URL
}

// hostNode is a node's process.
type hostNode struct {
	addr string
	door *remote.Door
	rpc  atomic.Pointer[rpc.Server]

	v   *Volume // while it leads, or believes so
	srv *remote.Server
}

// volumeSessions is a volume as remote.Server sees it.
type volumeSessions struct{ *Volume }

func (m volumeSessions) Begin(ctx context.Context, node string, h api.Holder) (remote.Session, error) {
	s, err := m.BeginMount(ctx, node, h)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (m volumeSessions) Resume(ctx context.Context, id twofold.SessionID, token []byte, held api.Held, h api.Holder) (remote.Session, error) {
	s, err := m.ResumeMount(ctx, id, token, held, h)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func newSite(t *testing.T, nodes int) *site {
	h := newHarness(t)
	s := &site{harness: h, e: h.nodes()}
	var err error
	if s.secret, err = rpc.NewSecret("root", "password"); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	for range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p := &hostNode{addr: l.Addr().String(), door: remote.NewDoor(s.where, log)}
		s.listen(p)
		hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.rpc.Load().Wrap(http.NotFoundHandler()).ServeHTTP(w, r)
		})}
		var wg sync.WaitGroup
		wg.Go(func() { _ = hs.Serve(l) })
		s.places = append(s.places, p)
		t.Cleanup(func() {
			_ = hs.Close()
			p.lose()
			p.rpc.Load().Close()
			wg.Wait()
		})
	}
	return s
}

// listen lets connections to the node in.
func (s *site) listen(p *hostNode) {
	srv, err := rpc.NewServer(rpc.Config{Secret: s.secret, Logger: slog.New(slog.DiscardHandler)}, p.door.Accept)
	if err != nil {
		s.t.Fatal(err)
	}
	p.rpc.Store(srv)
}

func (s *site) where() remote.Where {
	s.sites.Lock()
	defer s.sites.Unlock()
	w := remote.Where{Leading: s.leads}
	for _, p := range s.places {
		w.Nodes = append(w.Nodes, "http://"+p.addr)
	}
	return w
}

// lead makes a place the leading one. Who led before is not told.
func (s *site) lead(i int) {
	p := s.places[i]
	p.v, _ = s.leader(s.e, Options{LeaseTerm: 20 * time.Second})
	p.srv = remote.NewServer(volumeSessions{p.v}, slog.New(slog.DiscardHandler))
	s.sites.Lock()
	s.leads, s.harness.v = "http://"+p.addr, p.v
	s.sites.Unlock()
	p.door.Serve(p.srv)
}

// lose is what a place does that has found out.
func (p *hostNode) lose() {
	if p.v == nil {
		return
	}
	p.door.Serve(nil)
	p.v.Abandon()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	p.srv.Close(ended)
	p.v, p.srv = nil, nil
}

// now is the leading volume.
func (s *site) now() *Volume {
	s.sites.Lock()
	defer s.sites.Unlock()
	return s.harness.v
}

// retried calls until the answer is one.
func retried(fn func() error) error {
	for {
		err := fn()
		if !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.UnknownOutcome) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// content is a GET at whoever leads.
func (s *site) content(k twofold.Key) (p []byte, err error) {
	err = retried(func() error {
		info, r, err := s.now().GetObject(ctx, "docs", k)
		if err != nil {
			return err
		}
		defer r.Close()
		var out bytes.Buffer
		err = r.WriteRange(ctx, &out, 0, info.Size)
		p = out.Bytes()
		return err
	})
	return p, err
}

// guest is a mount of a site: it holds written bytes until it is recalled.
type guest struct {
	t *testing.T
	c *remote.Client

	ready chan struct{} // closed when c is there
	mu    sync.Mutex
	dirty map[twofold.Ino]*held
}

func (s *site) guest(t *testing.T, endpoints ...string) *guest {
	g := &guest{t: t, dirty: map[twofold.Ino]*held{}, ready: make(chan struct{})}
	c, err := remote.Dial(ctx, remote.Options{
		Endpoints: endpoints, Secret: s.secret, Holder: g, Logger: slog.New(slog.DiscardHandler), Caches: true, KeepAlive: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	g.c = c
	close(g.ready)
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_ = c.Close(ended) // where the test has not
	})
	return g
}

func (g *guest) Recall(ctx context.Context, ino twofold.Ino, token uint64) error {
	<-g.ready
	g.mu.Lock()
	d := g.dirty[ino]
	g.mu.Unlock()
	if d == nil || d.token != token {
		return nil
	}
	if _, err := g.c.Write(ctx, ino, api.Write{Token: token, Segments: d.segs, Size: d.size}); err != nil {
		g.t.Errorf("flush: %v", err)
	}
	g.mu.Lock() // until now the lease is held, also for a server that asks meanwhile
	delete(g.dirty, ino)
	g.mu.Unlock()
	return g.c.ReleaseWrite(ctx, ino, token)
}

func (g *guest) Invalidate(context.Context, []api.Stale) error { return nil }
func (g *guest) Lost(err error)                                { g.t.Errorf("a session is lost: %v", err) }

func (g *guest) Held() (h api.Held) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for ino, d := range g.dirty {
		h.Writes = append(h.Writes, api.HeldWrite{Ino: ino, Token: d.token})
	}
	return h
}

// write is write(2).
func (g *guest) write(ino twofold.Ino, p []byte) error {
	l, err := g.c.AcquireWrite(ctx, ino)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dirty[ino] = &held{token: l.Token, segs: []api.Segment{{Data: p}}, size: int64(len(p))}
	return nil
}

func (g *guest) create(dir twofold.Ino, name string) twofold.Ino {
	g.t.Helper()
	a, existed, err := g.c.Create(ctx, dir, name, api.Create{Type: metadata.TypeFile, Exclusive: true})
	if err != nil || existed {
		g.t.Errorf("create %s: there already: %v, %v", name, existed, err)
	}
	return a.Ino
}

// TestMountsFollowTheLeader: with open files, unwritten bytes and locks mounts go from one leader
// to the next, however it comes to that, and everything they do is done once.
func TestMountsFollowTheLeader(t *testing.T) {
	s := newSite(t, 3)
	s.lead(0)
	s.bucket("docs")
	a := s.guest(t, s.places[0].addr) // one is enough to know the others
	b := s.guest(t, "http://"+s.places[2].addr+"/", s.places[1].addr)
	root, err := a.c.Lookup(ctx, twofold.RootIno, "docs")
	if err != nil {
		t.Fatal(err)
	}
	dir := root.Ino
	dirty, locked, sum, open := a.create(dir, "dirty"), a.create(dir, "locked"), a.create(dir, "sum"), a.create(dir, "open")
	whole := func(owner uint64) api.Lock {
		return api.Lock{Kind: api.LockFlock, Type: api.LockExclusive, End: api.MaxLockEnd, Owner: owner}
	}
	for _, ino := range []twofold.Ino{dirty, locked, sum, open} {
		for _, g := range []*guest{a, b} {
			if _, err := g.c.Open(ctx, ino); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.c.SetLock(ctx, locked, whole(1), false); err != nil {
		t.Fatal(err)
	}
	if _, err := a.c.Write(ctx, open, api.Write{Segments: []api.Segment{{Data: []byte("kept")}}}); err != nil {
		t.Fatal(err)
	}
	if err := b.c.Unlink(ctx, dir, "open"); err != nil {
		t.Fatal(err)
	}

	var work sync.WaitGroup
	stop := make(chan struct{})
	until := func(fn func(n int)) {
		work.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					fn(n)
				}
			}
		})
	}
	var mu sync.Mutex
	made, sums := 0, 0
	for i, g := range []*guest{a, b} {
		until(func(n int) { // creates, each of which is there once
			name := fmt.Sprintf("f-%d-%d", i, n)
			ino := g.create(dir, name)
			if n%2 == 1 {
				if err := g.c.Unlink(ctx, dir, name); err != nil {
					t.Errorf("unlink %s: %v", name, err)
				}
				return
			}
			if _, err := g.c.Write(ctx, ino, api.Write{Segments: []api.Segment{{Data: []byte(name)}}}); err != nil {
				t.Errorf("write %s: %v", name, err)
			}
			mu.Lock()
			made++
			mu.Unlock()
		})
		until(func(int) { // a sum that is right if locks exclude
			free := whole(uint64(10 + i))
			if err := g.c.SetLock(ctx, sum, free, true); err != nil {
				t.Errorf("lock: %v", err)
				return
			}
			p := make([]byte, 8)
			if _, err := g.c.Read(ctx, sum, 0, p); err != nil {
				t.Errorf("read: %v", err)
			}
			p = binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(p)+1)
			if _, err := g.c.Write(ctx, sum, api.Write{Segments: []api.Segment{{Data: p}}}); err != nil {
				t.Errorf("write: %v", err)
			}
			mu.Lock()
			sums++
			mu.Unlock()
			free.Type = api.LockNone
			if err := g.c.SetLock(ctx, sum, free, false); err != nil {
				t.Errorf("unlock: %v", err)
			}
		})
	}
	until(func(int) {
		if err := b.c.SetLock(ctx, locked, whole(2), false); !errs.Is(err, errs.Locked) {
			t.Errorf("what another mount has locked: %v", err)
		}
		time.Sleep(time.Millisecond)
	})
	until(func(n int) { // write(2) returns, and GET shows it, whoever leads by then
		want := fmt.Sprint("dirty ", n)
		if err := a.write(dirty, []byte(want)); err != nil {
			t.Errorf("write(2): %v", err)
			return
		}
		if n%3 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
		if p, err := s.content("dirty"); err != nil || string(p) != want {
			t.Errorf("GET: %q, %v; want %q", p, err, want)
		}
	})

	progress := func() int {
		mu.Lock()
		defer mu.Unlock()
		return min(made, sums)
	}
	for round := range 6 {
		n := progress()
		eventually(t, "something gets done", func() bool { return progress() > n+2 })
		from, to := s.places[round%3], (round+1)%3
		switch round % 3 {
		case 0: // it lets go first
			from.lose()
			s.lead(to)
		case 1: // it does not know for a while, and is asked
			s.lead(to)
			n := progress()
			eventually(t, "something gets done at the next", func() bool { return progress() > n+2 })
			from.lose()
		case 2: // its process ends
			closed := make(chan struct{})
			go func() { from.rpc.Load().Close(); close(closed) }()
			s.lead(to)
			from.lose()
			<-closed
			s.listen(from)
		}
	}
	n := progress()
	eventually(t, "something gets done", func() bool { return progress() > n+2 })
	close(stop)
	work.Wait()

	p := make([]byte, 8)
	if _, err := b.c.Read(ctx, sum, 0, p); err != nil || binary.BigEndian.Uint64(p) != uint64(sums) {
		t.Errorf("the sum is %d after %d increments, %v", binary.BigEndian.Uint64(p), sums, err)
	}
	if k, err := a.c.Read(ctx, open, 0, p); err != nil || string(p[:k]) != "kept" {
		t.Errorf("the open file without a name: %q, %v", p[:k], err)
	}
	there := 0
	for marker := twofold.Key(""); ; {
		page, err := s.now().List(ctx, "docs", metadata.ListQuery{Prefix: "f-", After: string(marker), Max: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range page.Items {
			marker = twofold.Key(it.Key)
			there++
			if q, err := s.content(twofold.Key(it.Key)); err != nil || string(q) != string(it.Key) {
				t.Errorf("%s has %q, %v", it.Key, q, err)
			}
		}
		if !page.More {
			break
		}
	}
	if there != made {
		t.Errorf("%d files of %d", there, made)
	}
	for _, g := range []*guest{a, b} {
		if err := g.c.Close(ctx); err != nil {
			t.Errorf("the end of a session: %v", err)
		}
	}
}
