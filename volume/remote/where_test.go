package remote

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold/cluster/rpc"
	"twofold/volume/api"
)

// doorNode is a node that may lead, or not. Its network can be frozen: then it is as if the
// process were paused.
type doorNode struct {
	addr   string
	door   *Door
	frozen atomic.Pointer[chan struct{}] // until it is closed; nil: it is not
}

type freezing struct {
	net.Listener
	n *doorNode
}

type freezingConn struct {
	net.Conn
	n *doorNode
}

func (l freezing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return freezingConn{c, l.n}, err
}

func (c freezingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if f := c.n.frozen.Load(); f != nil {
		<-*f
	}
	return n, err
}

func startDoor(t *testing.T, where func() Where) *doorNode {
	t.Helper()
	n := &doorNode{door: NewDoor(where, quiet())}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	srv, err := rpc.NewServer(rpc.Config{Secret: secret(t), Logger: quiet()}, n.door.Accept)
	if err != nil {
		t.Fatal(err)
	}
	hs := &http.Server{Handler: srv.Wrap(http.NotFoundHandler())}
	var wg sync.WaitGroup
	wg.Go(func() { _ = hs.Serve(freezing{l, n}) })
	t.Cleanup(func() {
		_ = hs.Close()
		srv.Close()
		wg.Wait()
	})
	return n
}

func serveStore(t *testing.T, st *store) *Server {
	srv := NewServer(st, quiet())
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		srv.Close(ctx)
	})
	return srv
}

func dialDoors(t *testing.T, endpoints ...string) *Client {
	t.Helper()
	return dialDoorsAlive(t, 100*time.Millisecond, endpoints...)
}

func dialDoorsAlive(t *testing.T, keepAlive time.Duration, endpoints ...string) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := Dial(ctx, Options{
		Endpoints: endpoints, Secret: secret(t), Holder: &mount{}, Logger: quiet(), KeepAlive: keepAlive,
		Transport: rpc.Config{PingInterval: time.Hour, PingTimeout: 2 * time.Hour}, // it has to be found out otherwise
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.Close(ctx)
	})
	return c
}

// TestPausedLeaderIsLeft: a mount that was given one node finds another when that one stops to
// answer, with its connections open and new ones made.
func TestPausedLeaderIsLeft(t *testing.T) {
	st := newStore(newCounter().hook)
	var all []string
	where := func() Where { return Where{Nodes: all} }
	nodes := []*doorNode{startDoor(t, where), startDoor(t, where), startDoor(t, where)}
	for _, n := range nodes {
		all = append(all, "http://"+n.addr)
	}
	nodes[1].door.Serve(serveStore(t, st))
	c := dialDoors(t, nodes[0].addr) // which does not lead, and knows only that there are others
	if _, err := c.Open(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	id := c.SessionID()

	frozen := make(chan struct{})
	defer close(frozen)
	nodes[1].frozen.Store(&frozen)
	st.crash() // the next one knows nothing
	nodes[2].door.Serve(serveStore(t, st))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, _, err := c.Create(ctx, 2, "f", api.Create{Type: 1}); err != nil {
		t.Fatal(err)
	}
	if c.SessionID() != id {
		t.Error("it is another session")
	}
	if pins := st.session(id).held.Opens; len(pins) != 1 || pins[0].Ino != 5 {
		t.Errorf("the next leader was told of %v", pins)
	}
}

// TestLeaderOutOfReach: a mount whose machine does not reach the node that leads is told that,
// and not that nobody leads.
func TestLeaderOutOfReach(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	var n *doorNode
	n = startDoor(t, func() Where {
		return Where{Nodes: []string{"http://" + n.addr, "http://" + gone}, Leading: "http://" + gone}
	})
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = Dial(ctx, Options{Endpoints: []string{n.addr}, Secret: secret(t), Holder: &mount{}, Logger: slog.New(slog.NewTextHandler(lines(said), nil))})
	}()
	defer func() { cancel(); <-done }()
	want := gone + " leads the store, as " + n.addr + " says, but is not reached from here: connection refused"
	select {
	case got := <-said:
		if !strings.Contains(got, want) {
			t.Errorf("%s\nwant: %s", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatal("nothing is said")
	}
}

// lines sends on what is written, as long as somebody reads.
type lines chan<- string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

// TestLateLeaderIsLeftForAnother: a mount does not wait for the end of its patience with a
// server that does not answer, when another one leads.
func TestLateLeaderIsLeftForAnother(t *testing.T) {
	st := newStore(newCounter().hook)
	var all []string
	where := func() Where { return Where{Nodes: all} }
	nodes := []*doorNode{startDoor(t, where), startDoor(t, where)}
	for _, n := range nodes {
		all = append(all, "http://"+n.addr)
	}
	nodes[0].door.Serve(serveStore(t, st))
	c := dialDoorsAlive(t, time.Hour, nodes[0].addr)
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	frozen := make(chan struct{})
	defer close(frozen)
	nodes[0].frozen.Store(&frozen)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	over := c.whenLate(ctx, l, time.Millisecond) // nobody leads
	time.Sleep(10 * time.Millisecond)
	if l.conn.Err() != nil {
		t.Error("it was left for nobody")
	}
	over()
	nodes[1].door.Serve(serveStore(t, st))
	defer c.whenLate(ctx, l, time.Millisecond)()
	select {
	case <-l.conn.Done():
	case <-ctx.Done():
		t.Fatal("it is waited for")
	}
}

// TestNothingIsSaidUnproven: what a server remembers is not told where another may have taken over;
// the connection is closed.
func TestNothingIsSaidUnproven(t *testing.T) {
	cnt := newCounter()
	st := newStore(cnt.hook)
	var all []string
	n := startDoor(t, func() Where { return Where{Nodes: all} })
	all = []string{n.addr}
	n.door.Serve(serveStore(t, st))
	c := dialDoors(t, n.addr)
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	st.deposed.Store(true)
	done := make(chan error, 1)
	go func() {
		_, err := c.AcquireWrite(context.Background(), 5)
		done <- err
	}()
	select {
	case <-l.conn.Done():
	case <-time.After(time.Minute):
		t.Fatal("the connection stays")
	}
	select {
	case err := <-done:
		t.Fatalf("answered: %v", err)
	default:
	}
	st.deposed.Store(false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
