package forward

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// seen is what a handler got.
type seen struct {
	target, host, remote string
	length               int64
	coding               []string
	header, trailer      http.Header
	body                 string
}

// recorder keeps what it is asked.
type recorder struct {
	mu  sync.Mutex
	all []seen
}

func (rec *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.all = append(rec.all, seen{r.RequestURI, r.Host, r.RemoteAddr, r.ContentLength, r.TransferEncoding, r.Header.Clone(), r.Trailer, string(b)})
}

// TestRequestIsTheSame: what a signature may be over arrives as it was sent, and what
// was absent is absent. Each request is sent to the leading node itself and through
// another one, and compared.
func TestRequestIsTheSame(t *testing.T) {
	rec := &recorder{}
	front, _ := two(t, rec)
	lead := newLeader()
	lead.set("", true)
	direct := node(t, lead, rec)
	body := strings.Repeat("0123456789", 10)
	large := strings.Repeat("0123456789", 20_000)
	for _, lines := range []string{
		"GET / HTTP/1.1\nHost: bucket.s3.example.com:9000",
		"GET //bucket//a/../b/./c%2F%2f%20+~!'()*|\"<>`^ü?x=%20+&y&&=z;#f HTTP/1.1\nHost: a",
		"GET http://absolute.example/k%C3%BC?q HTTP/1.1\nHost: ignored",
		"PUT /k HTTP/1.1\nHost: a",
		"PUT /k HTTP/1.1\nHost: a\nContent-Length: 0",
		"DELETE /k HTTP/1.1\nHost: a\nContent-Length: 0",
		"POST /k?uploads HTTP/1.1\nHost: a\nX-Amz-Meta-A:  two  spaces \nx-amz-meta-a: again\nX-Amz-Meta-B: \xfc",
		"PUT /k HTTP/1.1\nHost: a\nUser-Agent:\nAccept-Encoding: gzip, br\nContent-Encoding: aws-chunked\nContent-Length: 100\n\n" + body,
		"PUT /k HTTP/1.1\nHost: a\nContent-Length: 200000\nX-Amz-Content-Sha256: STREAMING\n\n" + large,
		"PUT /k HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTrailer: X-Sum, X-More\n\n64\r\n" + body + "\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
		"PUT /k HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n30d40\r\n" + large + "\r\n0\r\n\r\n",
		"GET /k HTTP/1.1\nHost: a\nConnection: keep-alive, x-hop, x-amz-date, authorization\nX-Hop: 1\nX-Amz-Date: d\nAuthorization: a\nKeep-Alive: 5\nTe: trailers\nProxy-Connection: x",
		"GET /k HTTP/1.1\nHost: a\nX-Twofold-Forwarded: forged 1.2.3.4:5",
	} {
		head, payload, _ := strings.Cut(lines, "\n\n")
		rec.all = nil
		for _, srv := range []string{direct.URL, front.URL} {
			s := direct
			if srv == front.URL {
				s = front
			}
			c := dial(t, s)
			c.send(strings.Split(head, "\n")...)
			if _, err := io.WriteString(c, payload); err != nil {
				t.Fatal(err)
			}
			c.want(200, "")
		}
		if len(rec.all) != 2 {
			t.Fatalf("%s: %d requests arrived", head, len(rec.all))
		}
		a, b := rec.all[0], rec.all[1]
		for _, h := range []string{"Connection", "Keep-Alive", "Te", "Proxy-Connection", "X-Hop"} {
			a.header.Del(h) // of one connection
		}
		if a.length < 0 || a.length > maxSmall {
			b.header.Del("Expect") // it was asked for
		}
		if forged := a.header.Get(markHeader); forged != "" {
			a.header.Del(markHeader)
			if strings.HasPrefix(b.remote, "1.2.3.4") {
				t.Error("a forged mark was believed")
			}
		}
		if !strings.HasPrefix(b.remote, "127.0.0.1:") {
			t.Errorf("the client's address is %q", b.remote)
		}
		a.remote, b.remote = "", ""
		if len(a.trailer) == 0 {
			a.trailer, b.trailer = nil, nil
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s\ndirect:    %+.600v\nforwarded: %+.600v", head, a, b)
		}
	}
}

// TestAnswerIsTheSame: status, header and body, of all framings.
func TestAnswerIsTheSame(t *testing.T) {
	big := randomBytes(3<<20 + 5)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Amz-Meta-A"] = []string{"1", "2"}
		switch r.URL.Path {
		case "/big":
			w.Header().Set("Content-Length", strconv.Itoa(len(big)))
			_, _ = w.Write(big)
		case "/chunked":
			for i := range 5 {
				fmt.Fprintf(w, "piece %d", i)
				_ = http.NewResponseController(w).Flush()
			}
		case "/empty":
			w.Header()["Content-Type"] = nil
			w.Header().Set("Content-Length", "0")
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/range":
			w.Header().Set("Content-Range", "bytes 0-9/100")
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(big[:10])
		case "/redirect":
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "/503":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	front, _ := two(t, h)
	lead := newLeader()
	lead.set("", true)
	direct := node(t, lead, h)
	for _, method := range []string{"GET", "HEAD"} {
		for _, path := range []string{"/big", "/chunked", "/empty", "/204", "/304", "/range", "/redirect", "/503"} {
			var got [2]string
			var bodies [2][]byte
			for i, srv := range []string{direct.URL, front.URL} {
				req, err := http.NewRequest(method, srv+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				bodies[i], err = io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil {
					t.Fatalf("%s %s: %v", method, path, err)
				}
				resp.Header.Del("Date")
				got[i] = fmt.Sprint(resp.StatusCode, resp.ContentLength, resp.TransferEncoding, resp.Header)
			}
			if got[0] != got[1] || !bytes.Equal(bodies[0], bodies[1]) {
				t.Errorf("%s %s: direct %s and %d bytes, forwarded %s and %d bytes", method, path, got[0], len(bodies[0]), got[1], len(bodies[1]))
			}
		}
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// TestBodies: bodies of all sizes and both framings, both ways, on connections that are
// used again.
func TestBodies(t *testing.T) {
	front, _ := two(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b)
	}))
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			for i, n := range []int{0, 1, 4096, maxSmall - 1, maxSmall, maxSmall + 1, copyBuffer - 20, copyBuffer, 1<<20 + 1} {
				data := randomBytes(n + g)
				var body io.Reader = bytes.NewReader(data)
				if (i+g)%2 == 0 {
					body = io.MultiReader(body) // no length: chunked
				}
				resp, err := http.Post(front.URL+"/k", "", body)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes: %d came back, %v", len(data), len(got), err)
				}
			}
		})
	}
	wg.Wait()
}
