package peers

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// The methods of the tests' protocol.
const (
	mEcho  rpc.Method = 200 // the payload comes back
	mWho   rpc.Method = 201 // the number of the node that asks
	mBlock rpc.Method = 202 // until its context ends
)

// testNode is a node on loopback, with the handlers of all roles behind one port as a
// server has them.
type testNode struct {
	t    testing.TB
	opts Options
	l    net.Listener
	hs   *http.Server
	srv  *rpc.Server
	*Peers
	log *logBuffer

	mu      sync.Mutex
	blocked int // mBlock calls in service
}

// logBuffer is a log that tests read.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// count says how many lines have all the words.
func (b *logBuffer) count(words ...string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
lines:
	for line := range strings.SplitSeq(b.buf.String(), "\n") {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		n++
	}
	return n
}

func testSecret(t testing.TB, password string) rpc.Secret {
	t.Helper()
	s, err := rpc.NewSecret("root", password)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listen takes free ports for n nodes.
func listen(t testing.TB, n int) ([]net.Listener, []Node) {
	t.Helper()
	ls, nodes := make([]net.Listener, n), make([]Node, n)
	for i := range ls {
		ls[i] = listenAt(t, "127.0.0.1:0")
		a := ls[i].Addr().String()
		nodes[i] = Node{Name: "http://" + a, Address: a}
	}
	return ls, nodes
}

func listenAt(t testing.TB, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	waitFor(t, func() bool {
		var err error
		l, err = net.Listen("tcp", addr)
		return err == nil
	})
	t.Cleanup(func() { l.Close() })
	return l
}

// options are node i's, as a node with the right arguments has them.
func options(t testing.TB, nodes []Node, i int) Options {
	return Options{Self: i, Nodes: nodes, Digests: []string{"one pool"}, Args: []string{"http://node{1...4}/data"},
		Secret: testSecret(t, "password"), Program: "v1"}
}

// serve starts a node; it ends with the test.
func serve(t testing.TB, l net.Listener, o Options) *testNode {
	t.Helper()
	n := &testNode{t: t, l: l, log: &logBuffer{}}
	o.Logger = slog.New(slog.NewTextHandler(n.log, nil))
	n.opts = o
	var err error
	if n.Peers, err = New(o); err != nil {
		t.Fatal(err)
	}
	n.Handle(mEcho, mBlock, HandlerFunc(n.handle))
	n.srv, err = rpc.NewServer(rpc.Config{Secret: o.Secret, Logger: o.Logger,
		PingInterval: time.Minute, PingTimeout: 10 * time.Minute, // so that this package's own means are what is tested
	}, func(c *rpc.Conn) (rpc.Handler, error) {
		if c.PeerRole() == rpc.RoleNode {
			return n.Accept(c)
		}
		return others{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n.hs = &http.Server{Handler: n.srv.Wrap(http.NotFoundHandler())}
	go func() { _ = n.hs.Serve(l) }()
	t.Cleanup(n.stop)
	n.Start()
	return n
}

// others serves mounts and administrators.
type others struct{}

func (others) Serve(_ context.Context, r *rpc.Request) (rpc.Answer, error) {
	return rpc.Answer{}, errs.Newf("test", errs.Unsupported, "unknown method %d", r.Method)
}

// stop ends the node as a process's end does. May be called twice.
func (n *testNode) stop() {
	_ = n.hs.Close()
	n.Peers.Close()
	n.srv.Close()
}

func (n *testNode) handle(ctx context.Context, node int, r *rpc.Request) (rpc.Answer, error) {
	switch r.Method {
	case mEcho:
		return rpc.Answer{Payload: bytes.Clone(r.Payload)}, nil
	case mWho:
		return rpc.Answer{Header: node}, nil
	case mBlock:
		n.block(1)
		defer n.block(-1)
		<-ctx.Done()
		return rpc.Answer{}, ctx.Err()
	}
	return rpc.Answer{}, errs.Newf("test", errs.Unsupported, "unknown method %d", r.Method)
}

func (n *testNode) block(d int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blocked += d
}

func (n *testNode) blocking() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.blocked
}

// who asks node who asks.
func (n *testNode) who(node int, class Class) (int, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	var who int
	_, err := n.Call(ctx, node, class, &rpc.Call{Method: mWho, Reply: &who})
	return who, err
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen in 30 s")
		}
	}
}

// cluster is n nodes that are up for each other.
func cluster(t testing.TB, n int) []*testNode {
	t.Helper()
	ls, names := listen(t, n)
	out := make([]*testNode, n)
	for i := range out {
		out[i] = serve(t, ls[i], options(t, names, i))
	}
	for _, a := range out {
		waitFor(t, func() bool { return len(a.Waiting()) == 0 })
	}
	return out
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
