package s3

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold"
)

// rawConn speaks to the server byte by byte.
type rawConn struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func dial(t testing.TB, srv *httptest.Server) *rawConn {
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	noErr(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return &rawConn{c, t, bufio.NewReader(c)}
}

// head writes a signed request's head, with the given header lines.
func (c *rawConn) head(srv *httptest.Server, method, target string, lines ...string) {
	c.t.Helper()
	signed := call{method: method, target: target, sha: "UNSIGNED-PAYLOAD"}
	req := signed.request(c.t, srv.URL)
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, req.URL.Host)
	for _, name := range []string{"Authorization", "X-Amz-Date", "X-Amz-Content-Sha256"} {
		fmt.Fprintf(c, "%s: %s\r\n", name, req.Header.Get(name))
	}
	fmt.Fprintf(c, "%s\r\n", strings.Join(append(lines, ""), "\r\n"))
}

// want reads a response and compares its status and a part of its body.
func (c *rawConn) want(status int, part string) *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.br, nil)
	noErr(c.t, err)
	body, err := io.ReadAll(resp.Body)
	noErr(c.t, err)
	if resp.StatusCode != status || !strings.Contains(string(body), part) {
		c.t.Fatalf("%d %s, want %d %s", resp.StatusCode, body, status, part)
	}
	return resp
}

func TestNoLength(t *testing.T) {
	_, srv := seeded(t)
	c := dial(t, srv)
	c.head(srv, "PUT", "/bucket/k")
	c.want(411, "MissingContentLength")
	c = dial(t, srv)
	c.head(srv, "PUT", "/bucket/k", "Transfer-Encoding: chunked")
	io.WriteString(c, "5\r\nhello\r\n0\r\n\r\n")
	c.want(411, "MissingContentLength")
}

func TestTruncatedBody(t *testing.T) {
	v, srv := seeded(t)
	c := dial(t, srv)
	c.head(srv, "PUT", "/bucket/k", "Content-Length: 100")
	io.WriteString(c, "hello")
	c.Conn.(*net.TCPConn).CloseWrite()
	c.want(400, "IncompleteBody")
	if v.buckets["bucket"].objects["k"] != nil {
		t.Fatal("half a body was stored")
	}
}

// TestContinue: a client that waits for 100 Continue gets the error without
// sending a byte, or sends once it may.
func TestContinue(t *testing.T) {
	v, srv := seeded(t)
	c := dial(t, srv)
	c.head(srv, "PUT", "/nobucket/k", "Content-Length: 1000000000", "Expect: 100-continue")
	if resp := c.want(404, "NoSuchBucket"); !resp.Close {
		t.Error("the connection stays open although the body may still come")
	}
	c = dial(t, srv)
	c.head(srv, "PUT", "/bucket/k", "Content-Length: 5", "Expect: 100-continue")
	line, err := c.br.ReadString('\n')
	noErr(t, err)
	if !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatal(line)
	}
	c.br.ReadString('\n')
	io.WriteString(c, "hello")
	c.want(200, "")
	if string(v.buckets["bucket"].objects["k"].data) != "hello" {
		t.Fatal("not stored")
	}
}

// TestKeepAlive: behind an error the connection either goes on rightly or is closed.
// boto sends the expectation for an empty body as well, and needs its answer.
func TestContinueEmpty(t *testing.T) {
	_, srv := seeded(t)
	c := dial(t, srv)
	for range 2 {
		c.head(srv, "PUT", "/bucket/empty", "Content-Length: 0", "Expect: 100-continue")
		c.want(100, "")
		c.want(200, "")
	}
}

func TestKeepAlive(t *testing.T) {
	_, srv := seeded(t)
	c := dial(t, srv)
	for range 3 {
		c.head(srv, "PUT", "/nobucket/k", "Content-Length: 10000")
		io.WriteString(c, strings.Repeat("GET / HTTP", 1000))
		c.want(404, "NoSuchBucket")
		c.head(srv, "GET", "/bucket/key")
		c.want(200, "0123456789")
	}
	c.head(srv, "PUT", "/nobucket/k", "Content-Length: 1000000")
	go io.WriteString(c, strings.Repeat("GET / HTTP", 100000))
	if resp := c.want(404, "NoSuchBucket"); !resp.Close {
		t.Fatal("the connection stays open with most of a body unread")
	}
}

// serveTest serves h as the real server does.
func serveTest(t *testing.T, h http.Handler) *httptest.Server {
	srv := httptest.NewUnstartedServer(h)
	srv.Config = HTTPServer(h, slog.New(slog.DiscardHandler))
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// TestSlowBody: a client that stalls or trickles is told so and let go.
func TestSlowBody(t *testing.T) {
	v := newFakeVolume()
	noErr(t, v.CreateBucket(context.Background(), "bucket", ""))
	h := New(Config{Volume: v, Credentials: testCreds{testUser: testSecret}, IdleTimeout: 160 * time.Millisecond})
	srv := serveTest(t, h)
	c := dial(t, srv)
	c.head(srv, "PUT", "/bucket/k", "Content-Length: 100")
	c.want(400, "RequestTimeout")
	c = dial(t, srv)
	c.head(srv, "PUT", "/bucket/k", "Content-Length: 100")
	go func() {
		for range 100 {
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	start := time.Now()
	c.want(400, "RequestTimeout")
	if took := time.Since(start); took > 4*time.Second { // all of it would be 5 s
		t.Fatalf("a trickle was served for %v", took)
	}
}

// TestVirtualHost finds the bucket in the host's name.
func TestVirtualHost(t *testing.T) {
	_, srv := seeded(t)
	client := awsClient(srv, func(o *awss3.Options) {
		o.UsePathStyle = false
		o.BaseEndpoint = aws.String("http://s3.local.test:80")
		o.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return net.Dial("tcp", srv.Listener.Addr().String())
		}}}
	})
	ctx := context.Background()
	for _, key := range []string{"bucket/key", "/", "a//b", "bucket"} {
		_, err := client.PutObject(ctx, &awss3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key), Body: strings.NewReader("x")})
		noErr(t, err)
	}
	out, err := client.ListObjectsV2(ctx, &awss3.ListObjectsV2Input{Bucket: aws.String("bucket")})
	noErr(t, err)
	if len(out.Contents) != 5 {
		t.Fatal(out.Contents)
	}
	lb, err := client.ListBuckets(ctx, &awss3.ListBucketsInput{})
	noErr(t, err)
	if len(lb.Buckets) != 1 {
		t.Fatal(lb)
	}
}

func TestTarget(t *testing.T) {
	s := New(Config{Domains: []string{"S3.example.com:9000", ""}})
	for _, x := range []struct{ host, path, bucket, key string }{
		{"s3.example.com", "/b/k", "b", "k"},
		{"s3.example.com:9000", "/b", "b", ""},
		{"bkt.s3.example.com", "/", "bkt", ""},
		{"a.bkt.S3.EXAMPLE.com:9000", "/k/l", "a.bkt", "k/l"},
		{"bkt.s3.example.com", "//k", "bkt", "/k"},
		{"xs3.example.com", "/b/k", "b", "k"},
		{"[::1]:9000", "/b//k", "b", "/k"},
		{"s3.example.com", "/", "", ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host, r.URL.Path = x.host, x.path
		if b, k, _ := s.target(r); b != x.bucket || k != x.key {
			t.Errorf("%s%s: %q %q", x.host, x.path, b, k)
		}
	}
}

// panicVolume panics in its HeadObject.
type panicVolume struct{ *fakeVolume }

func (panicVolume) HeadObject(context.Context, twofold.BucketName, twofold.Key) (ObjectInfo, error) {
	panic("a bug")
}

// TestPanic: a bug costs one request, and is answered.
func TestPanic(t *testing.T) {
	var log strings.Builder
	h := New(Config{Volume: panicVolume{newFakeVolume()}, Credentials: testCreds{testUser: testSecret},
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c := call{method: "HEAD", target: "/bucket/key"}
	resp, err := srv.Client().Do(c.request(t, srv.URL))
	noErr(t, err)
	if resp.StatusCode != 500 || !strings.Contains(log.String(), "a bug") {
		t.Fatal(resp.StatusCode, log.String())
	}
}

// TestLogKeepsSecrets: no secret and no signature is logged, at any level.
func TestLogKeepsSecrets(t *testing.T) {
	var log strings.Builder
	v := newFakeVolume()
	noErr(t, v.CreateBucket(context.Background(), "bucket", ""))
	h := New(Config{Volume: v, Credentials: testCreds{testUser: testSecret},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	for _, target := range []string{"/bucket/none", "/bucket?list-type=2"} {
		c := call{method: "GET", target: target}
		req := c.request(t, srv.URL)
		resp, err := srv.Client().Do(req)
		noErr(t, err)
		resp.Body.Close()
		_, sig, _ := strings.Cut(req.Header.Get("Authorization"), "Signature=")
		if strings.Contains(log.String(), sig) || strings.Contains(log.String(), testSecret) {
			t.Fatal(log.String())
		}
	}
	if !strings.Contains(log.String(), "op=GetObject") || !strings.Contains(log.String(), "status=404") {
		t.Fatal(log.String())
	}
}
