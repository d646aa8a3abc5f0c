package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"twofold/internal/errs"
)

// upgraded returns a raw connection on which the server waits for a hello.
func upgraded(t testing.TB, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = io.WriteString(nc, "GET "+Path+" HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: "+Protocol+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}
	return nc
}

// shaken returns a raw connection after a right handshake.
func shaken(t testing.TB, addr string) net.Conn {
	t.Helper()
	nc := upgraded(t, addr)
	cfg := testConfig(t, RoleMount).withDefaults()
	if _, err := handshakeClient(nc, cfg.Secret, newHello(RoleMount, cfg.Limits)); err != nil {
		t.Fatal(err)
	}
	return nc
}

// closes checks that the server ends the connection, having said at most n bytes.
func closes(t testing.TB, nc net.Conn, n int64) []byte {
	t.Helper()
	b, err := io.ReadAll(io.LimitReader(nc, n+1))
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		t.Fatal("the server keeps the connection")
	}
	if int64(len(b)) > n {
		t.Fatalf("the server says more than %d bytes: %x", n, b)
	}
	return b
}

func rawFrame(h head, content []byte) []byte {
	var b [headLen]byte
	h.put(&b)
	return append(b[:], content...)
}

func TestHostileFrames(t *testing.T) {
	cfg := testConfig(t, RoleNode)
	cfg.Limits = Limits{Calls: 2, Urgent: 1, Payload: 1000, Bytes: 1500}
	e := newEndpoint(t, cfg)
	codec, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	header, err := codec.Encode(text{"x"})
	if err != nil {
		t.Fatal(err)
	}
	block := func(id uint64, urgent bool, payload int) []byte {
		return rawFrame(head{typ: frameRequest, method: mBlock, id: id, urgent: urgent, header: len(header), payload: payload},
			append(bytes.Clone(header), make([]byte, payload)...))
	}
	long := func(length, hdr uint32) []byte {
		b := rawFrame(head{typ: frameRequest, method: mEcho, id: 1}, nil)
		binary.BigEndian.PutUint32(b[0:], length)
		binary.BigEndian.PutUint32(b[16:], hdr)
		return b
	}
	for name, in := range map[string][]byte{
		"huge length":         long(1<<32-1, 4),
		"header over frame":   long(20, 5),
		"length underflow":    long(3, 0),
		"header too large":    long(16+MaxHeader+1, MaxHeader+1),
		"payload too large":   long(16+1001, 0),
		"type 0":              rawFrame(head{}, nil),
		"unknown type":        rawFrame(head{typ: 99}, nil),
		"cancel with content": rawFrame(head{typ: frameCancel, header: 1}, []byte{0}),
		"urgent answer":       rawFrame(head{typ: frameAnswer, urgent: true}, nil),
		"answer unasked":      rawFrame(head{typ: frameAnswer, id: 5}, nil),
		"error unasked":       rawFrame(head{typ: frameError, id: 5, header: 1}, []byte{0xa0}),
		"id in use":           append(block(1, false, 0), block(1, false, 0)...),
		"too many calls":      bytes.Join([][]byte{block(1, false, 0), block(2, false, 0), block(3, false, 0)}, nil),
		"too many urgent":     bytes.Join([][]byte{block(1, true, 0), block(2, true, 0)}, nil),
		"too many bytes":      bytes.Join([][]byte{block(1, false, 900), block(2, false, 900)}, nil),
	} {
		t.Run(name, func(t *testing.T) {
			nc := shaken(t, e.addr)
			if _, err := nc.Write(in); err != nil {
				t.Fatal(err)
			}
			closes(t, nc, 200)
		})
	}
	t.Run("truncated", func(t *testing.T) {
		nc := shaken(t, e.addr)
		if _, err := nc.Write(block(1, false, 500)[:300]); err != nil {
			t.Fatal(err)
		}
		if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		closes(t, nc, 0)
	})
	c, _ := dialTest(t, e) // the server is none the worse for it
	var out text
	if _, err := c.Call(t.Context(), &Call{Method: mEcho, Header: text{"y"}, Reply: &out}); err != nil || out.S != "y" {
		t.Fatal(err)
	}
	if _, err := c.Call(t.Context(), &Call{Method: mEcho, Header: text{"y"}, Payload: [][]byte{make([]byte, 1001)}}); !errs.Is(err, errs.TooLarge) {
		t.Fatalf("over the peer's limit: %v", err)
	}
}

func TestHostileHandshakes(t *testing.T) {
	cfg := testConfig(t, RoleNode)
	cfg.HandshakeTimeout = 300 * time.Millisecond
	e := newEndpoint(t, cfg)
	right := newHello(RoleMount, Limits{}.withDefaults())
	enc := right.encode()
	with := func(off int, b ...byte) []byte {
		h := enc
		copy(h[off:], b)
		return h[:]
	}
	for name, in := range map[string][]byte{
		"silence":         nil,
		"half a hello":    enc[:30],
		"magic":           with(0, 'x'),
		"layout":          with(4, 2),
		"role":            with(5, 9),
		"version 0":       with(6, 0, 0),
		"versions":        with(6, 0, 9, 0, 3),
		"reserved":        with(10, 1),
		"no calls":        with(12, 0, 0, 0, 0),
		"calls":           with(12, 255, 255, 255, 255),
		"payload":         with(20, 255, 255, 255, 255),
		"bytes":           with(24, 255),
		"no proof":        enc[:],
		"proof of zeros":  append(bytes.Clone(enc[:]), make([]byte, proofLen)...),
		"frames at once":  rawFrame(head{typ: frameRequest, method: mEcho, header: 60}, make([]byte, 60)),
		"future versions": with(6, 0, 2, 0, 9),
	} {
		t.Run(name, func(t *testing.T) {
			nc := upgraded(t, e.addr)
			if _, err := nc.Write(in); err != nil {
				t.Fatal(err)
			}
			said := closes(t, nc, helloLen+statusLen)
			if len(said) == helloLen+statusLen && !bytes.Equal(said[helloLen:], append([]byte{statusDenied}, make([]byte, proofLen)...)) {
				t.Fatalf("the server proves something to a stranger: %x", said)
			}
		})
	}
}

// recorder keeps what is written through it.
type recorder struct {
	net.Conn
	sent bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) { r.sent.Write(p); return r.Conn.Write(p) }

func TestReplayedHandshake(t *testing.T) {
	e := newEndpoint(t, testConfig(t, RoleNode))
	cfg := testConfig(t, RoleMount).withDefaults()
	rec := &recorder{Conn: upgraded(t, e.addr)}
	if _, err := handshakeClient(rec, cfg.Secret, newHello(RoleMount, cfg.Limits)); err != nil {
		t.Fatal(err)
	}
	nc := upgraded(t, e.addr)
	if _, err := nc.Write(rec.sent.Bytes()); err != nil {
		t.Fatal(err)
	}
	said := closes(t, nc, helloLen+statusLen)
	if len(said) != helloLen+statusLen || said[helloLen] != statusDenied {
		t.Fatalf("replay: %x", said)
	}
}

// A proof made for one side, or under another hello, is not one for the other.
func TestProofsAreBound(t *testing.T) {
	s := testSecret(t, "p")
	a, b := newHello(RoleMount, Limits{}.withDefaults()), newHello(RoleNode, Limits{}.withDefaults())
	ea, eb := a.encode(), b.encode()
	p := proof(s, labelClient, ea, eb)
	other := a
	other.role = RoleNode
	older := a
	older.max, older.min = 9, 9
	seen := map[string]bool{string(p): true}
	for i, q := range [][]byte{
		proof(s, labelServer, ea, eb), proof(s, labelClient, eb, ea),
		proof(s, labelClient, other.encode(), eb), proof(s, labelClient, older.encode(), eb),
		proof(testSecret(t, "q"), labelClient, ea, eb),
	} {
		if seen[string(q)] {
			t.Errorf("proof %d is not bound to what differs", i)
		}
		seen[string(q)] = true
	}
	x, errX := NewSecret("ab", "c")
	y, errY := NewSecret("a", "bc")
	if errX != nil || errY != nil || x == y {
		t.Error("user and password run into each other")
	}
}

// A server that does not know the secret can't pose as one that does.
func TestFakeServer(t *testing.T) {
	for name, answer := range map[string]func(nc net.Conn, hello []byte){
		"no proof": func(nc net.Conn, _ []byte) {
			h := newHello(RoleNode, Limits{}.withDefaults()).encode()
			_, _ = nc.Write(h[:])
			_, _ = io.ReadFull(nc, make([]byte, proofLen))
			_, _ = nc.Write(make([]byte, statusLen))
		},
		"reflection": func(nc net.Conn, hello []byte) {
			_, _ = nc.Write(hello) // the client's own hello, then its own proof
			p := make([]byte, proofLen)
			_, _ = io.ReadFull(nc, p)
			_, _ = nc.Write(append([]byte{statusOK}, p...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				if _, err := http.ReadRequest(bufio.NewReader(nc)); err != nil {
					return
				}
				_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+Protocol+"\r\n\r\n")
				h := make([]byte, helloLen)
				if _, err := io.ReadFull(nc, h); err == nil {
					answer(nc, h)
				}
			}()
			_, err = Dial(t.Context(), l.Addr().String(), testConfig(t, RoleMount), nil)
			if !errs.Is(err, errs.Access) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestNoCommonVersion(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s := testSecret(t, "p")
	mine, theirs := newHello(RoleMount, Limits{}.withDefaults()), newHello(RoleNode, Limits{}.withDefaults())
	theirs.min, theirs.max = 7, 8
	res := make(chan error, 1)
	go func() { _, err := handshakeServer(b, s, theirs); res <- err }()
	_, err := handshakeClient(a, s, mine)
	if !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "the peer 7 to 8") {
		t.Fatalf("client: %v", err)
	}
	if err := <-res; !errs.Is(err, errs.Unsupported) {
		t.Fatalf("server: %v", err)
	}
}

// pipeConn is a Conn over one end of a pipe, with the other end in the test's hand.
func pipeConn(t testing.TB, h Handler, cfg Config) (*Conn, net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	codec, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.withDefaults()
	c := newConn(a, cfg, agreed{1, newHello(RoleNode, cfg.Limits)}, codec)
	c.start(h)
	t.Cleanup(func() { c.Close(); c.Wait(); b.Close() })
	return c, b
}

// An answer longer than what was asked for must not be written anywhere.
func TestAnswerTooLong(t *testing.T) {
	c, peer := pipeConn(t, nil, testConfig(t, RoleMount))
	go func() {
		_, _ = io.ReadFull(peer, make([]byte, headLen+3)) // the request's head and header
		_, _ = peer.Write(rawFrame(head{typ: frameAnswer, id: 1, payload: 11}, make([]byte, 11)))
	}()
	buf := bytes.Repeat([]byte{7}, 20)
	_, err := c.Call(t.Context(), &Call{Method: mEcho, Header: text{""}, Into: buf[:10]})
	if !errors.Is(err, ErrLost) || !bytes.Equal(buf, bytes.Repeat([]byte{7}, 20)) {
		t.Fatalf("%v, %v", err, buf)
	}
}

// After Call returned because its context ended, its buffer is left alone.
func TestLateAnswerIsDropped(t *testing.T) {
	c, peer := pipeConn(t, nil, testConfig(t, RoleMount))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = io.ReadFull(peer, make([]byte, headLen+3))
		cancel()
		_, _ = io.ReadFull(peer, make([]byte, headLen)) // the cancel frame
		_, _ = peer.Write(rawFrame(head{typ: frameAnswer, id: 1, payload: 5}, []byte("late!")))
		_, _ = io.ReadFull(peer, make([]byte, headLen+3))
		_, _ = peer.Write(rawFrame(head{typ: frameAnswer, id: 2, payload: 5}, []byte("right")))
	}()
	first, second := make([]byte, 5), make([]byte, 5)
	if _, err := c.Call(ctx, &Call{Method: mEcho, Header: text{""}, Into: first}); !errs.Is(err, errs.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := c.Call(t.Context(), &Call{Method: mEcho, Header: text{""}, Into: second}); err != nil || string(second) != "right" {
		t.Fatalf("got %q, %v", second, err)
	}
	if !bytes.Equal(first, make([]byte, 5)) {
		t.Fatalf("the late answer was written: %q", first)
	}
}

func TestSilentPeer(t *testing.T) {
	cfg := testConfig(t, RoleMount)
	cfg.PingInterval, cfg.PingTimeout = 20*time.Millisecond, 100*time.Millisecond
	c, peer := pipeConn(t, nil, cfg)
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	_, err := c.Call(t.Context(), &Call{Method: mEcho, Header: text{""}})
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "silent") {
		t.Fatalf("got %v", err)
	}
}

func TestPeerThatDoesNotRead(t *testing.T) {
	cfg := testConfig(t, RoleMount)
	cfg.PingInterval, cfg.PingTimeout = 20*time.Millisecond, 100*time.Millisecond
	c, peer := pipeConn(t, nil, cfg)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for { // alive, but takes nothing
			if _, err := peer.Write(rawFrame(head{typ: framePong}, nil)); err != nil {
				return
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-stop:
				return
			}
		}
	}()
	_, err := c.Call(t.Context(), &Call{Method: mEcho, Header: text{""}})
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "took no bytes") {
		t.Fatalf("got %v", err)
	}
}

func TestPingsKeepAQuietConnection(t *testing.T) {
	cfg := testConfig(t, RoleNode)
	cfg.PingInterval, cfg.PingTimeout = 10*time.Millisecond, 200*time.Millisecond
	e := newEndpoint(t, cfg)
	c, _ := dialTest(t, e)
	time.Sleep(500 * time.Millisecond)
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
}
