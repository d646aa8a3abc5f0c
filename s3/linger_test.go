package s3

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"twofold/internal/errs"
	"twofold/internal/linger"
)

// TestAnswerBeforeTheBody: a client that reads nothing before it has sent all of a
// large body gets the answer that was made before, and not a reset.
func TestAnswerBeforeTheBody(t *testing.T) {
	const size = 48 << 20 // more than the two sockets hold
	for _, x := range []struct {
		about, target, framing, part string
		status                       int
		full                         bool
	}{
		{"a full store", "/bucket/k", "Content-Length: %d", "InsufficientStorage", 507, true},
		{"no such bucket", "/nobucket/k", "Content-Length: %d", "NoSuchBucket", 404, false},
		{"a digest that is none", "/bucket/k", "Content-Md5: x\r\nContent-Length: %d", "InvalidDigest", 400, false},
		{"not signed", "/bucket/k", "X-Amz-Meta-Unsigned: x\r\nContent-Length: %d", "AccessDenied", 403, false},
		{"no length", "/bucket/k", "Transfer-Encoding: chunked\r\nX-Size: %d", "MissingContentLength", 411, false},
	} {
		t.Run(x.about, func(t *testing.T) {
			v, srv := seeded(t)
			if x.full {
				v.failPut = errs.Newf("fake", errs.NoSpace, "full")
			}
			c := dial(t, srv)
			c.SetDeadline(time.Now().Add(time.Minute))
			c.head(srv, "PUT", x.target, fmt.Sprintf(x.framing, size))
			if strings.Contains(x.framing, "chunked") {
				fmt.Fprintf(c, "%x\r\n", size)
			}
			// Only when everything is sent, and a while behind the answer, is it read.
			piece := make([]byte, 1<<20)
			for range size / len(piece) {
				if _, err := c.Write(piece); err != nil {
					t.Fatal("sending: ", err)
				}
			}
			if resp := c.want(x.status, x.part); !resp.Close {
				t.Error("the answer does not say that the connection is closed")
			}
			c.atEnd()
		})
	}
}

// atEnd wants nothing more from the server than the end.
func (c *rawConn) atEnd() {
	c.t.Helper()
	if b, err := c.br.ReadByte(); err != io.EOF {
		c.t.Fatalf("behind the answer: %q, %v", b, err)
	}
}

// TestRefusedContinue: a client that waits for "100 Continue" is not asked for a body
// that nobody wants, and may send it nevertheless.
func TestRefusedContinue(t *testing.T) {
	v, srv := seeded(t)
	v.failPut = errs.Newf("fake", errs.NoSpace, "full")
	c := dial(t, srv)
	c.head(srv, "PUT", "/bucket/k", "Content-Length: 10", "Expect: 100-continue")
	c.want(507, "InsufficientStorage")
	c.atEnd()
	if _, err := io.WriteString(c, "0123456789"); err != nil {
		t.Fatal(err)
	}
}

// TestLingerHasBounds: a client that goes on sending is let go, and so is one that
// keeps the connection and sends nothing.
func TestLingerHasBounds(t *testing.T) {
	_, srv := seeded(t)
	c := dial(t, srv)
	c.SetDeadline(time.Now().Add(time.Minute))
	c.head(srv, "PUT", "/nobucket/k", "Content-Length: 1000000000000")
	piece := make([]byte, 1<<20)
	for sent := 0; ; sent += len(piece) {
		_, err := c.Write(piece)
		var ne net.Error
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() || sent > 2*linger.MaxBytes {
			t.Fatalf("%d bytes were taken (%v)", sent, err)
		}
		if err != nil {
			break
		}
	}
	h := New(Config{Volume: newFakeVolume(), Credentials: testCreds{testUser: testSecret}, IdleTimeout: 50 * time.Millisecond})
	srv = serveTest(t, h)
	c = dial(t, srv)
	c.SetDeadline(time.Now().Add(time.Minute))
	c.head(srv, "PUT", "/nobucket/k", "Content-Length: 1000000")
	c.want(404, "NoSuchBucket")
	c.atEnd()
	for pause := 100 * time.Millisecond; ; pause *= 2 { // the server's side is gone when writing fails
		time.Sleep(pause)
		if _, err := c.Write(piece[:1]); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the connection is kept")
			}
			return
		}
	}
}

// TestSmallRestIsNotWaitedFor: a small rest is read before the answer goes out; a
// client that sends none of it has the answer nevertheless.
func TestSmallRestIsNotWaitedFor(t *testing.T) {
	h := New(Config{Volume: newFakeVolume(), Credentials: testCreds{testUser: testSecret}, IdleTimeout: 50 * time.Millisecond})
	srv := serveTest(t, h)
	c := dial(t, srv)
	c.SetDeadline(time.Now().Add(time.Minute))
	c.head(srv, "PUT", "/nobucket/k", "Content-Length: 1000")
	if resp := c.want(404, "NoSuchBucket"); !resp.Close {
		t.Error("the connection is kept with a body on its way")
	}
}
