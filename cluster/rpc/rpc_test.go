package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"twofold/internal/errs"
)

// The methods of the tests' protocol.
const (
	mEcho  Method = 1 // header and payload come back
	mFail  Method = 2 // errs.NotFound
	mBlock Method = 3 // until its context ends
	mBack  Method = 4 // calls mEcho on the caller
	mPanic Method = 5
)

type text struct {
	S string `cbor:"1,keyasint"`
}

type testHandler struct {
	mu      sync.Mutex
	blocked int
	causes  []bool // CanceledByPeer of each mBlock
}

func (h *testHandler) Serve(ctx context.Context, r *Request) (Answer, error) {
	var t text
	if err := r.Decode(&t); err != nil {
		return Answer{}, err
	}
	switch r.Method {
	case mEcho:
		b := r.Conn.Pool().Get(len(r.Payload))
		copy(b.B, r.Payload)
		return Answer{Header: t, Payload: b.B, Free: b.Free}, nil
	case mFail:
		return Answer{}, &errs.Error{Op: "test.Fail", Kind: errs.NotFound, Msg: "no " + t.S, Err: io.ErrUnexpectedEOF}
	case mBlock:
		h.mu.Lock()
		h.blocked++
		h.mu.Unlock()
		<-ctx.Done()
		h.mu.Lock()
		h.causes = append(h.causes, CanceledByPeer(ctx))
		h.mu.Unlock()
		return Answer{}, ctx.Err()
	case mBack:
		var out text
		_, err := r.Conn.Call(ctx, &Call{Method: mEcho, Header: t, Reply: &out, Urgent: true})
		return Answer{Header: out}, err
	case mPanic:
		panic("as asked")
	}
	return Answer{}, errs.Newf("test", errs.Unsupported, "method %d", r.Method)
}

func testSecret(t testing.TB, password string) Secret {
	t.Helper()
	s, err := NewSecret("root", password)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testConfig(t testing.TB, role Role) Config {
	return Config{Secret: testSecret(t, "password"), Role: role, Logger: slog.New(slog.DiscardHandler)}
}

// endpoint is a server with a handler, over httptest.
type endpoint struct {
	*Server
	h    *testHandler
	addr string
}

func newEndpoint(t testing.TB, cfg Config) *endpoint {
	t.Helper()
	e := &endpoint{h: &testHandler{}}
	var err error
	e.Server, err = NewServer(cfg, func(*Conn) (Handler, error) { return e.h, nil })
	if err != nil {
		t.Fatal(err)
	}
	hs := httptest.NewServer(e.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "s3")
	})))
	e.addr = strings.TrimPrefix(hs.URL, "http://")
	t.Cleanup(func() { hs.Close(); e.Close() })
	return e
}

func dialTest(t testing.TB, e *endpoint) (*Conn, *testHandler) {
	t.Helper()
	h := &testHandler{}
	c, err := Dial(t.Context(), e.addr, testConfig(t, RoleMount), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, h
}

func TestCalls(t *testing.T) {
	e := newEndpoint(t, testConfig(t, RoleNode))
	c, _ := dialTest(t, e)
	if c.Version() != MaxVersion || c.PeerRole() != RoleNode {
		t.Fatalf("version %d, peer role %d", c.Version(), c.PeerRole())
	}
	for _, n := range []int{0, 1, smallFrame - 1, smallFrame, smallFrame + 1, 1 << 20, 5<<20 + 3, 16 << 20} {
		in := bytes.Repeat([]byte{byte(n), 7, 9}, n/3+1)[:n]
		into := make([]byte, n+5)
		var out text
		got, err := c.Call(t.Context(), &Call{Method: mEcho, Header: text{"hi"}, Payload: [][]byte{in[:n/3], in[n/3:]}, Reply: &out, Into: into})
		if err != nil || got != n || out.S != "hi" || !bytes.Equal(into[:got], in) {
			t.Fatalf("echo of %d bytes: %d, %q, %v", n, got, out.S, err)
		}
	}
	var out text
	if _, err := c.Call(t.Context(), &Call{Method: mBack, Header: text{"there and back"}, Reply: &out}); err != nil || out.S != "there and back" {
		t.Fatalf("call back: %q, %v", out.S, err)
	}
}

func TestErrorsCross(t *testing.T) {
	e := newEndpoint(t, testConfig(t, RoleNode))
	c, _ := dialTest(t, e)
	_, err := c.Call(t.Context(), &Call{Method: mFail, Header: text{"file"}})
	var ee *errs.Error
	if !errors.As(err, &ee) || ee.Kind != errs.NotFound || ee.Op != "test.Fail" || ee.Msg != "no file: unexpected EOF" {
		t.Fatalf("got %#v", err)
	}
	if _, err = c.Call(t.Context(), &Call{Method: mPanic, Header: text{}}); !errs.Is(err, errs.Other) {
		t.Fatalf("after a panic: %v", err)
	}
	if _, err = c.Call(t.Context(), &Call{Method: 999, Header: text{}}); !errs.Is(err, errs.Unsupported) {
		t.Fatalf("unknown method: %v", err)
	}
	if _, err = c.Call(t.Context(), &Call{Method: mEcho, Header: 17}); !errs.Is(err, errs.Invalid) {
		t.Fatalf("wrong header: %v", err)
	}
}

func TestCancel(t *testing.T) {
	e := newEndpoint(t, testConfig(t, RoleNode))
	c, _ := dialTest(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	res := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, &Call{Method: mBlock, Header: text{}})
		res <- err
	}()
	waitFor(t, func() bool { e.h.mu.Lock(); defer e.h.mu.Unlock(); return e.h.blocked == 1 })
	cancel()
	if err := <-res; !errs.Is(err, errs.Canceled) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	waitFor(t, func() bool { e.h.mu.Lock(); defer e.h.mu.Unlock(); return len(e.h.causes) == 1 && e.h.causes[0] })

	// A lost connection is another cause.
	go func() {
		_, err := c.Call(t.Context(), &Call{Method: mBlock, Header: text{}})
		res <- err
	}()
	waitFor(t, func() bool { e.h.mu.Lock(); defer e.h.mu.Unlock(); return e.h.blocked == 2 })
	c.Close()
	if err := <-res; !errors.Is(err, ErrLost) || !errs.Is(err, errs.Unavailable) {
		t.Fatalf("got %v", err)
	}
	waitFor(t, func() bool { e.h.mu.Lock(); defer e.h.mu.Unlock(); return len(e.h.causes) == 2 && !e.h.causes[1] })
	if _, err := c.Call(t.Context(), &Call{Method: mEcho, Header: text{}}); !errors.Is(err, ErrLost) {
		t.Fatalf("call after the end: %v", err)
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen in 5 s")
		}
	}
}

func TestWrongCredentials(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	served := testConfig(t, RoleNode)
	served.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil))
	e := newEndpoint(t, served)
	cfg := testConfig(t, RoleMount)
	cfg.Secret = testSecret(t, "other")
	for range 3 {
		_, err := Dial(t.Context(), e.addr, cfg, nil)
		if !errs.Is(err, errs.Access) || !strings.Contains(err.Error(), "credentials") {
			t.Fatalf("got %v", err)
		}
	}
	e.Close() // waits for the handshakes
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "refused a connection"); n != 1 {
		t.Errorf("the same refusal was logged %d times:\n%s", n, log.String())
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestEverythingElseIsS3(t *testing.T) {
	e := newEndpoint(t, testConfig(t, RoleNode))
	for _, tc := range []struct{ method, path, conn, upgrade string }{
		{"GET", Path, "", ""},
		{"GET", Path, "keep-alive", Protocol},
		{"GET", Path, "Upgrade", "websocket"},
		{"POST", Path, "Upgrade", Protocol},
		{"GET", "/twofold/rpc/2", "Upgrade", Protocol},
	} {
		req, err := http.NewRequest(tc.method, "http://"+e.addr+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Connection", tc.conn)
		req.Header.Set("Upgrade", tc.upgrade)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil || string(b) != "s3" {
			t.Errorf("%+v: %q, %v", tc, b, err)
		}
	}
}

func TestNotOurServer(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	_, err := Dial(t.Context(), s.URL, testConfig(t, RoleMount), nil)
	if !errs.Is(err, errs.Unsupported) {
		t.Fatalf("got %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if _, err = Dial(t.Context(), addr, testConfig(t, RoleMount), nil); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("got %v", err)
	}
}
