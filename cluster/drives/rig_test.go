package drives

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// local formats and opens a drive of this machine.
func local(t testing.TB, c twofold.ClusterID) *drive.Local {
	t.Helper()
	dir := t.TempDir()
	f := drive.Format{Cluster: c, Drive: twofold.NewUUID(), Sets: 1, SetSize: 1, Created: twofold.Now()}
	if err := drive.WriteFormat(vfs.OS(), dir, f); err != nil {
		t.Fatal(err)
	}
	d, err := drive.Open(t.Context(), drive.Options{Path: dir, Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// toNode serves drives to whoever connects.
type toNode struct{ s *Server }

func (h toNode) Serve(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	return h.s.Serve(ctx, 0, r)
}

func config(t testing.TB) rpc.Config {
	t.Helper()
	s, err := rpc.NewSecret("root", "password")
	if err != nil {
		t.Fatal(err)
	}
	return rpc.Config{Secret: s, Role: rpc.RoleNode, Logger: slog.New(slog.DiscardHandler)}
}

// node is another node, with the way to it.
type node struct {
	t      testing.TB
	server *Server
	addr   string
	*proxy // nil: a way without one
	link   *link
	calls  *counting
	Node   *Node
}

// newNode starts a server of drives, and the client of it; delayed says how long bytes
// take each way, negative for no proxy.
func newNode(t testing.TB, delay time.Duration, so ServerOptions, o Options, ds ...drive.Drive) *node {
	t.Helper()
	return newNodeOf(t, config(t), delay, so, o, ds...)
}

// newNodeOf is newNode with a server of a configuration.
func newNodeOf(t testing.TB, rc rpc.Config, delay time.Duration, so ServerOptions, o Options, ds ...drive.Drive) *node {
	t.Helper()
	n := &node{t: t, server: NewServer(so)}
	for _, d := range ds {
		n.server.Add(d)
	}
	rs, err := rpc.NewServer(rc, func(*rpc.Conn) (rpc.Handler, error) { return toNode{n.server}, nil })
	if err != nil {
		t.Fatal(err)
	}
	hs := httptest.NewServer(rs.Wrap(http.NotFoundHandler()))
	t.Cleanup(func() { hs.Close(); rs.Close(); n.server.Close() })
	n.addr = strings.TrimPrefix(hs.URL, "http://")
	if delay >= 0 {
		n.proxy = newProxy(t, n.addr, delay)
		n.addr = n.proxy.addr()
	}
	n.link = &link{cfg: config(t), addr: n.addr}
	t.Cleanup(n.link.close)
	o.Name = "node2"
	n.calls = &counting{Caller: n.link}
	if n.Node, err = NewNode(n.calls, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Node.Close)
	n.refresh()
	return n
}

func (n *node) refresh() {
	n.t.Helper()
	if err := n.Node.Refresh(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
}

// remote is a drive of the node's as it is seen from here.
func (n *node) remote(id twofold.DriveID) *Remote {
	d := n.Node.Drive(id, "http://node2:9000/data1")
	n.refresh()
	return d
}

// link calls the node over a connection, a new one when it is lost.
type link struct {
	cfg  rpc.Config
	addr string
	down atomic.Bool                   // as if the node was known to be down
	tamp atomic.Pointer[func(t *torn)] // may change what is on its way

	mu   sync.Mutex
	conn *rpc.Conn
}

// torn is a request on its way, or its answer.
type torn struct {
	call    *rpc.Call
	payload []byte // of the request, or the answer
	answer  bool
}

func (l *link) Up() bool { return !l.down.Load() }

func (l *link) connect(ctx context.Context) (*rpc.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil && l.conn.Err() == nil {
		return l.conn, nil
	}
	c, err := rpc.Dial(ctx, l.addr, l.cfg, nil)
	if err == nil {
		l.conn = c
	}
	return c, err
}

func (l *link) Call(ctx context.Context, c *rpc.Call) (int, error) {
	if !l.Up() {
		return 0, errs.Newf("test", errs.Unavailable, "the node is down")
	}
	conn, err := l.connect(ctx)
	if err != nil {
		return 0, err
	}
	tamper := l.tamp.Load()
	if tamper != nil && len(c.Payload) > 0 {
		sent := *c
		p := append([]byte(nil), c.Payload[0]...)
		(*tamper)(&torn{call: c, payload: p})
		sent.Payload = [][]byte{p}
		return conn.Call(ctx, &sent)
	}
	n, err := conn.Call(ctx, c)
	if tamper != nil && err == nil {
		(*tamper)(&torn{call: c, payload: c.Into[:n], answer: true})
	}
	return n, err
}

// lose ends the connection.
func (l *link) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close()
	}
}

func (l *link) close() {
	l.down.Store(true)
	l.lose()
}

// proxy is a way to a server on which bytes take time, or are stuck.
type proxy struct {
	l      net.Listener
	target string
	delay  time.Duration
	bytes  atomic.Int64 // that came back from the server

	mu    sync.Mutex
	stuck chan struct{} // guarded by mu; not nil: closed when bytes go on
	conns []net.Conn    // guarded by mu
	wg    sync.WaitGroup
}

func newProxy(t testing.TB, target string, delay time.Duration) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, target: target, delay: delay}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.goOn()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

// stall makes all bytes wait; goOn lets them through again.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stuck == nil {
		p.stuck = make(chan struct{})
	}
}

func (p *proxy) goOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stuck != nil {
		close(p.stuck)
		p.stuck = nil
	}
}

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.target)
		if err != nil {
			c.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, c, s)
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(s, c, nil) })
		p.wg.Go(func() { p.pump(c, s, &p.bytes) })
	}
}

// pump copies from one end to the other, later.
func (p *proxy) pump(dst, src net.Conn, count *atomic.Int64) {
	type chunk struct {
		b  []byte
		at time.Time
	}
	chunks := make(chan chunk, 64)
	p.wg.Go(func() {
		defer dst.Close()
		for c := range chunks {
			time.Sleep(time.Until(c.at))
			p.mu.Lock()
			stuck := p.stuck
			p.mu.Unlock()
			if stuck != nil {
				<-stuck
			}
			if count != nil {
				count.Add(int64(len(c.b)))
			}
			if _, err := dst.Write(c.b); err != nil {
				src.Close()
			}
		}
	})
	defer close(chunks)
	for {
		b := make([]byte, 64<<10)
		n, err := src.Read(b)
		if n > 0 {
			chunks <- chunk{b[:n], time.Now().Add(p.delay)}
		}
		if err != nil {
			if err != io.EOF {
				src.Close()
			}
			return
		}
	}
}

// eventually waits for a condition, for as long as a loaded machine may need.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
		time.Sleep(time.Millisecond)
	}
}
