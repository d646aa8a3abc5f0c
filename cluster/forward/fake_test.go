package forward

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"twofold/cluster/rpc"
)

// leader says who leads; a test changes it.
type leader struct {
	mu      sync.Mutex
	url     string
	here    bool
	changed chan struct{}
}

func newLeader() *leader { return &leader{changed: make(chan struct{})} }

func (l *leader) where() (string, bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.url, l.here, l.changed
}

func (l *leader) set(url string, here bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.url, l.here = url, here
	close(l.changed)
	l.changed = make(chan struct{})
}

func testSecret(t testing.TB) rpc.Secret {
	t.Helper()
	s, err := rpc.NewSecret("root", "password")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// entry is a node that forwards, on loopback; here serves while it leads itself.
func entry(t testing.TB, l *leader, here http.Handler, wait time.Duration) *httptest.Server {
	t.Helper()
	if here == nil {
		here = http.NotFoundHandler()
	}
	h, err := New(Options{Where: l.where, Here: here, Secret: testSecret(t), Logger: slog.New(slog.DiscardHandler), Wait: wait})
	if err != nil {
		t.Fatal(err)
	}
	srv := serveHTTP(t, h)
	t.Cleanup(h.Close) // before the server's Close, which waits for requests
	return srv
}

// node is a node with a handler behind its port, that leads as l says.
func node(t testing.TB, l *leader, here http.Handler) *httptest.Server { return entry(t, l, here, 0) }

// serveHTTP serves h with the limits of the real server.
func serveHTTP(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ReadHeaderTimeout = 20 * time.Second
	srv.Config.WriteTimeout = 2 * time.Minute
	srv.Config.IdleTimeout = 2 * time.Minute
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// two are a node that forwards and one that leads, with h behind it.
func two(t testing.TB, h http.Handler) (front *httptest.Server, l *leader) {
	t.Helper()
	lead := newLeader()
	lead.set("", true)
	back := node(t, lead, h)
	l = newLeader()
	l.set(back.URL, false)
	return entry(t, l, nil, 0), l
}

// rawConn speaks to a server byte by byte.
type rawConn struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func dial(t testing.TB, srv *httptest.Server) *rawConn {
	t.Helper()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return newRaw(t, c)
}

func newRaw(t testing.TB, c net.Conn) *rawConn { return &rawConn{c, t, bufio.NewReader(c)} }

// send writes lines, and an empty one.
func (c *rawConn) send(lines ...string) {
	c.t.Helper()
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		c.t.Fatal(err)
	}
}

// want reads an answer and compares.
func (c *rawConn) want(status int, part string) *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || !strings.Contains(string(body), part) {
		c.t.Fatalf("%d %.300s (%v), want %d %s", resp.StatusCode, body, err, status, part)
	}
	return resp
}

// wantContinue reads a "100 Continue".
func (c *rawConn) wantContinue() {
	c.t.Helper()
	line, err := c.br.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		c.t.Fatal(line, err)
	}
	if line, err = c.br.ReadString('\n'); err != nil || line != "\r\n" {
		c.t.Fatal(line, err)
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen in 30 s")
		}
	}
}

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s %s %s %d %v %v\n", r.Method, r.RequestURI, r.Host, r.ContentLength, r.TransferEncoding, r.Trailer)
	_ = r.Header.Write(w)
	_, _ = w.Write(b)
}
