package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// scripted is a leading node that a test plays byte by byte.
type scripted struct {
	net.Listener
	t testing.TB
}

func play(t testing.TB) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &scripted{l, t}
}

func (s *scripted) url() string { return "http://" + s.Addr().String() }

// accept takes a connection and reads a request's head from it.
func (s *scripted) accept() (*rawConn, *http.Request) {
	s.t.Helper()
	_ = s.Listener.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	nc, err := s.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	c := newRaw(s.t, nc)
	return c, c.request()
}

// request reads a request's head.
func (c *rawConn) request() *http.Request {
	c.t.Helper()
	r, err := http.ReadRequest(c.br)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// reset closes the connection as a machine does that knows nothing of it.
func (c *rawConn) reset() {
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func to(url string) *leader {
	l := newLeader()
	l.set(url, false)
	return l
}

// TestNoLeader: a request waits, with its body unread, and is refused in S3's words.
func TestNoLeader(t *testing.T) {
	front := entry(t, newLeader(), nil, 50*time.Millisecond)
	for _, lines := range [][]string{
		{"GET /b/k HTTP/1.1", "Host: a"},
		{"PUT /b/k HTTP/1.1", "Host: a", "Content-Length: 5\r\n\r\nhello"},
		{"PUT /b/k HTTP/1.1", "Host: a", "Content-Length: 100000000", "Expect: 100-continue"},
		{"PUT /b/k HTTP/1.1", "Host: a", "Content-Length: 100000000\r\n\r\n" + strings.Repeat("x", 5<<20)},
	} {
		c := dial(t, front)
		go func() { _, _ = io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n") }()
		resp := c.want(503, "<Code>SlowDown</Code>")
		if resp.Header.Get("Retry-After") == "" || resp.Header.Get("X-Amz-Request-Id") == "" {
			t.Error(resp.Header)
		}
		if large := strings.Contains(strings.Join(lines, ""), "00000000"); large != resp.Close {
			t.Errorf("%q: the connection is closed: %v", lines[0], resp.Close)
		}
	}
	c := dial(t, front)
	c.send("HEAD /b/k HTTP/1.1", "Host: a")
	if resp, err := http.ReadResponse(c.br, &http.Request{Method: "HEAD"}); err != nil || resp.StatusCode != 503 {
		t.Fatal(resp, err)
	}
}

// TestLeaderComes: a request that waits is served as soon as somebody leads, elsewhere
// or here, and by whoever leads then.
func TestLeaderComes(t *testing.T) {
	back := newLeader()
	n := node(t, back, http.HandlerFunc(echo))
	l := newLeader()
	front := entry(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "here %s", b)
	}), time.Minute)
	post := func() chan string {
		res := make(chan string, 1)
		go func() {
			resp, err := http.Post(front.URL+"/k", "", strings.NewReader("the body"))
			if err != nil {
				res <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			res <- fmt.Sprint(resp.StatusCode, " ", string(b), err)
		}()
		return res
	}
	res := post()
	l.set(n.URL, false) // it does not lead yet, and says so
	time.Sleep(20 * time.Millisecond)
	back.set("", true)
	if got := <-res; !strings.HasPrefix(got, "200 POST /k") || !strings.Contains(got, "the body") {
		t.Fatal(got)
	}
	back.set("", false)
	res = post()
	time.Sleep(20 * time.Millisecond)
	l.set("", true) // the body may have been read for the other one
	if got := <-res; !strings.HasPrefix(got, "200 here the body") {
		t.Fatal(got)
	}
}

// TestElsewhere: a forwarded request goes one hop.
func TestElsewhere(t *testing.T) {
	a, b := newLeader(), newLeader()
	na, nb := entry(t, a, nil, 200*time.Millisecond), entry(t, b, nil, time.Minute)
	a.set(nb.URL, false)
	b.set(na.URL, false)
	resp, err := http.Get(na.URL + "/k")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 503 || !strings.Contains(string(body), "SlowDown") || resp.Header.Get(elsewhereHeader) != "" {
		t.Fatal(resp.StatusCode, string(body), resp.Header)
	}
}

// TestExpect: a client that waits for "100 Continue" sends nothing before the leading
// node asks for it, and is told an error instead.
func TestExpect(t *testing.T) {
	s := play(t)
	front := entry(t, to(s.url()), nil, 0)
	for _, size := range []int{5, 200_000} {
		body := strings.Repeat("x", size)
		c := dial(t, front)
		c.send("PUT /k HTTP/1.1", "Host: a", "Content-Length: "+strconv.Itoa(size), "Expect: 100-continue")
		up, r := s.accept()
		if r.Header.Get("Expect") == "" {
			t.Fatal("no expectation arrived")
		}
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
		if _, err := c.br.Peek(1); err == nil {
			t.Fatal("the client was asked for its body before the leading node wanted it")
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		up.send("HTTP/1.1 100 Continue")
		c.wantContinue()
		if _, err := io.WriteString(c, body); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r.Body); err != nil || string(b) != body {
			t.Fatal(len(b), err)
		}
		up.send("HTTP/1.1 200 OK", "Content-Length: 0")
		c.want(200, "")

		// The same connections, refused.
		c.send("PUT /k HTTP/1.1", "Host: a", "Content-Length: "+strconv.Itoa(size), "Expect: 100-continue")
		up.request()
		up.send("HTTP/1.1 404 Not Found", "Content-Length: 0", "Connection: close")
		if resp := c.want(404, ""); !resp.Close {
			t.Error("the connection stays open although the body may still come")
		}
		up.Close()
	}
	c := dial(t, front) // boto sends it for empty bodies as well
	c.send("PUT /k HTTP/1.1", "Host: a", "Content-Length: 0", "Expect: 100-continue")
	up, _ := s.accept()
	up.send("HTTP/1.1 100 Continue")
	c.wantContinue()
	up.send("HTTP/1.1 200 OK", "Content-Length: 0")
	c.want(200, "")
}

// TestEarlyAnswer: a client that reads nothing before it has sent all of a large body
// gets the answer that came before.
func TestEarlyAnswer(t *testing.T) {
	front, _ := two(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 1000))
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Connection", "close")
		http.Error(w, "full", http.StatusInsufficientStorage)
	}))
	const size = 48 << 20 // more than the sockets hold
	c := dial(t, front)
	c.send("PUT /k HTTP/1.1", "Host: a", fmt.Sprintf("Content-Length: %d", size))
	piece := make([]byte, 1<<20)
	for range size / len(piece) {
		if _, err := c.Write(piece); err != nil {
			t.Fatal("sending: ", err)
		}
	}
	if resp := c.want(507, "full"); !resp.Close {
		t.Error("the answer does not say that the connection is closed")
	}
	if _, err := c.br.ReadByte(); err != io.EOF {
		t.Fatal(err)
	}
}

// TestClientGone: with its client a request goes, too: while its body is sent, while the
// answer is waited for, and while that comes.
func TestClientGone(t *testing.T) {
	s := play(t)
	front := entry(t, to(s.url()), nil, 0)
	gone := func(up *rawConn) {
		t.Helper()
		_, err := io.Copy(io.Discard, up.br)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("the leading node is not told")
		}
	}
	c := dial(t, front)
	c.send("GET /k HTTP/1.1", "Host: a")
	up, _ := s.accept()
	c.Close()
	gone(up)

	c = dial(t, front)
	c.send("PUT /k HTTP/1.1", "Host: a", "Content-Length: 1000000", "", "the beginning")
	up, r := s.accept()
	up.send("HTTP/1.1 100 Continue")
	if _, err := io.ReadFull(r.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if b, err := io.ReadAll(r.Body); err == nil {
		t.Fatalf("the body ended well behind %d bytes", len(b)+10)
	}

	c = dial(t, front)
	c.send("PUT /k HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "", "5", "hello") // no last chunk
	up, r = s.accept()
	up.send("HTTP/1.1 100 Continue")
	if _, err := io.ReadFull(r.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := io.ReadAll(r.Body); err == nil {
		t.Fatal("a chunked body ended well")
	}

	c = dial(t, front)
	c.send("GET /k HTTP/1.1", "Host: a")
	up, _ = s.accept()
	up.send("HTTP/1.1 200 OK", "Content-Length: 1000000000")
	piece := make([]byte, 1<<20)
	_, _ = up.Write(piece)
	c.want1(200)
	c.reset()
	for {
		if _, err := up.Write(piece); err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Fatal("the leading node goes on sending")
			}
			break
		}
	}
}

// want1 reads an answer's head.
func (c *rawConn) want1(status int) *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil || resp.StatusCode != status {
		c.t.Fatal(resp, err)
	}
	return resp
}

// TestHalfClosedClient: a client that ends its body too early and waits is told so by
// the leading node.
func TestHalfClosedClient(t *testing.T) {
	front, _ := two(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, "incomplete", http.StatusBadRequest)
		}
	}))
	for _, size := range []string{"100", "1000000"} {
		c := dial(t, front)
		c.send("PUT /k HTTP/1.1", "Host: a", "Content-Length: "+size, "", "hello")
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		resp := c.want1(400)
		if b, _ := io.ReadAll(resp.Body); !strings.Contains(strings.ToLower(string(b)), "incomplete") {
			t.Fatalf("%s", b)
		}
	}
}

// TestShortAnswer: an answer that ends early never looks whole.
func TestShortAnswer(t *testing.T) {
	s := play(t)
	front := entry(t, to(s.url()), nil, 0)
	for _, x := range []struct{ framing, body string }{
		{"Content-Length: 10", "12345"},
		{"Content-Length: 10000000", strings.Repeat("x", 3<<20)},
		{"Transfer-Encoding: chunked", "5\r\nhello\r\n"},
		{"X-None: 0", "until the end"},
	} {
		c := dial(t, front)
		c.send("GET /k HTTP/1.1", "Host: a")
		up, _ := s.accept()
		up.send("HTTP/1.1 200 OK", x.framing)
		_, _ = io.WriteString(up, x.body)
		up.Close()
		if resp, err := http.ReadResponse(c.br, nil); err == nil {
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%s: a body of %d bytes looks whole", x.framing, len(b))
			}
		}
	}
}

// TestLostRequests: what can't have happened, and reads, are sent again; a change that
// may have happened is not, and not called failed in the words of one that has not.
func TestLostRequests(t *testing.T) {
	large := "Content-Length: 100000"
	for _, x := range []struct {
		about string
		lines []string
		again bool
	}{
		{"a read", []string{"GET /k HTTP/1.1"}, true},
		{"a read of attributes", []string{"HEAD /k HTTP/1.1"}, true},
		{"a deletion", []string{"DELETE /k HTTP/1.1"}, false},
		{"a small body, sent", []string{"PUT /k HTTP/1.1", "Content-Length: 5\r\n\r\nhello"}, false},
		{"a copy", []string{"PUT /k HTTP/1.1", "X-Amz-Copy-Source: /b/k"}, false},
		{"a large body, not sent", []string{"PUT /k HTTP/1.1", large}, true},
		{"a POST", []string{"POST /k HTTP/1.1", large}, false},
		{"a strange copy", []string{"PUT /k?x-amz-copy-source=b HTTP/1.1", large}, false},
	} {
		t.Run(x.about, func(t *testing.T) {
			s := play(t)
			front := entry(t, to(s.url()), nil, time.Minute)
			c := dial(t, front)
			c.send(append([]string{x.lines[0], "Host: a"}, x.lines[1:]...)...)
			up, r := s.accept()
			_, _ = io.CopyN(io.Discard, up.br, int64(len("hello"))*min(1, max(0, 10-r.ContentLength))*min(1, r.ContentLength))
			up.reset()
			if !x.again {
				c.want(500, "may or may not have taken effect")
				return
			}
			up, r = s.accept()
			if r.ContentLength > 0 {
				up.send("HTTP/1.1 100 Continue")
				if _, err := io.CopyN(c, strings.NewReader(strings.Repeat("x", int(r.ContentLength))), r.ContentLength); err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(r.Body); err != nil || len(b) != 100000 {
					t.Fatal(len(b), err)
				}
			}
			up.send("HTTP/1.1 200 OK", "Content-Length: 0")
			c.want(200, "")
		})
	}
}

// shortConn takes the first bytes that are written, and then is lost.
type shortConn struct {
	net.Conn
	room int
}

func (c *shortConn) Write(p []byte) (int, error) {
	n, _ := c.Conn.Write(p[:min(len(p), c.room)])
	if n < len(p) {
		_ = c.Conn.Close()
		return n, io.ErrClosedPipe
	}
	return n, nil
}

// TestLostWithinItsBody: a deletion of which the head has arrived is not sent again: what is
// asked needs no body.
func TestLostWithinItsBody(t *testing.T) {
	s := play(t)
	l := to(s.url())
	h, err := New(Options{Where: l.where, Here: http.NotFoundHandler(), Secret: testSecret(t), Logger: slog.New(slog.DiscardHandler), Wait: 200 * time.Millisecond,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return &shortConn{c, 40_000}, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	front := serveHTTP(t, h)
	t.Cleanup(h.Close)
	c := dial(t, front)
	c.send("DELETE /k HTTP/1.1", "Host: a", "Content-Length: 60000\r\n\r\n"+strings.Repeat("x", 60_000-4))
	c.want(500, "may or may not have taken effect")
}

// TestStaleConnection: a connection that the leading node closed while it was idle costs
// no request.
func TestStaleConnection(t *testing.T) {
	s := play(t)
	front := entry(t, to(s.url()), nil, time.Minute)
	c := dial(t, front)
	for i := range 3 {
		c.send("DELETE /k HTTP/1.1", "Host: a")
		up, _ := s.accept()
		up.send("HTTP/1.1 204 No Content")
		c.want(204, "")
		if up.Close(); i == 1 {
			up.reset()
		}
	}
}

// TestNotReached: a node that is not there is asked again until it is.
func TestNotReached(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	front := entry(t, to("http://"+addr), nil, time.Minute)
	c := dial(t, front)
	c.send("DELETE /k HTTP/1.1", "Host: a")
	time.Sleep(20 * time.Millisecond)
	waitFor(t, func() bool { l, err = net.Listen("tcp", addr); return err == nil })
	defer l.Close()
	up, _ := (&scripted{l, t}).accept()
	up.send("HTTP/1.1 204 No Content")
	c.want(204, "")
}

// TestStoppedLeader: a node that stopped holds no request when another one leads; what
// it was asked to read is read there.
func TestStoppedLeader(t *testing.T) {
	s := play(t)
	lead := newLeader()
	lead.set("", true)
	other := node(t, lead, http.HandlerFunc(echo))
	l := to(s.url())
	front := entry(t, l, nil, time.Minute)
	get, del := dial(t, front), dial(t, front)
	get.send("GET /k HTTP/1.1", "Host: a")
	s.accept()
	del.send("DELETE /k HTTP/1.1", "Host: a")
	s.accept()
	l.set(other.URL, false)
	get.want(200, "GET /k")
	del.want(500, "InternalError")
}

// TestLeaderKnownLate: as TestStoppedLeader, at a node that at its own start did not know yet
// whom to ask who leads.
func TestLeaderKnownLate(t *testing.T) {
	s := play(t)
	lead := newLeader()
	lead.set("", true)
	other := node(t, lead, http.HandlerFunc(echo))
	l := newLeader()
	changed := l.changed
	l.changed = nil // nobody to tell
	front := entry(t, l, nil, time.Minute)
	get := dial(t, front)
	get.send("GET /k HTTP/1.1", "Host: a")
	l.mu.Lock()
	l.changed = changed
	l.mu.Unlock()
	l.set(s.url(), false)
	s.accept()
	l.set(other.URL, false)
	get.want(200, "GET /k")
}

// TestLeaderCutOff: a connection that can't be made, without anybody saying so, is given up
// as soon as another node leads.
func TestLeaderCutOff(t *testing.T) {
	lead := newLeader()
	lead.set("", true)
	other := node(t, lead, http.HandlerFunc(echo))
	l := to("http://192.0.2.1:9000") // RFC 5737: nobody's
	dialed := make(chan struct{}, 1)
	h, err := New(Options{
		Where: l.where, Here: http.NotFoundHandler(), Secret: testSecret(t), Logger: slog.New(slog.DiscardHandler), Wait: time.Hour,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != "192.0.2.1:9000" {
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			dialed <- struct{}{}
			<-ctx.Done()
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("the attempt ended by itself: %v", ctx.Err())
			}
			return nil, ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	front := serveHTTP(t, h)
	t.Cleanup(h.Close)
	get := dial(t, front)
	get.send("GET /k HTTP/1.1", "Host: a")
	<-dialed
	l.set(other.URL, false)
	get.want(200, "GET /k")
}

// TestRequestsUnderStress: requests of all kinds while leadership moves between nodes:
// each answer is to its own request, and whole.
func TestRequestsUnderStress(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "incomplete", http.StatusBadRequest)
			return
		}
		w.Header().Set("X-Path", r.URL.Path)
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b)
	})
	leaders := []*leader{newLeader(), newLeader(), newLeader()}
	var nodes []*httptest.Server
	for _, l := range leaders {
		nodes = append(nodes, entry(t, l, handler, 0))
	}
	lead := func(k int) {
		for i, l := range leaders {
			if i != k {
				l.set(nodes[k].URL, false)
			}
		}
		leaders[k].set("", true)
	}
	lead(0)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served atomic.Int64
	for g := range 6 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				size := []int{0, 100, 70_000, 200_000}[i%4]
				path := fmt.Sprintf("/%d/%d", g, i)
				resp, err := http.Post(nodes[g%3].URL+path, "", strings.NewReader(strings.Repeat(strconv.Itoa(g), size)))
				if err != nil {
					t.Errorf("%s: %v", path, err)
					continue
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || resp.Header.Get("X-Path") != path || string(b) != strings.Repeat(strconv.Itoa(g), size) {
					t.Errorf("%s: %d, of %s, %d of %d bytes, %v", path, resp.StatusCode, resp.Header.Get("X-Path"), len(b), size, err)
				}
				served.Add(1)
			}
		})
	}
	for k := range 5 {
		n := served.Load()
		lead(k % 3)
		waitFor(t, func() bool { return served.Load() > n+12 })
	}
	cancel()
	wg.Wait()
}
