package forward

import (
	"io"
	"net/http"
	"time"

	"twofold/internal/linger"
)

// step is how many bytes of an answer the client has clientIdle for.
const step = 1 << 20

// answer passes the leading node's answer on. It panics with http.ErrAbortHandler where
// that ends before it should. reuse: the connection is at the beginning of another
// answer.
func (t *transfer) answer(c *conn, resp *http.Response) (reuse bool) {
	out := t.w.Header()
	for name, values := range resp.Header {
		if !hopByHop(name, resp.Header) {
			out[name] = values
		}
	}
	if _, ok := out["Content-Type"]; !ok {
		out["Content-Type"] = nil // none is to be guessed
	}
	lingers := t.leaveBody()
	t.limitWrite()
	t.w.WriteHeader(resp.StatusCode)
	ok := true
	switch {
	case t.r.Method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified:
	case resp.ContentLength >= 0:
		ok = t.copyBody(c, resp.ContentLength)
	case len(resp.TransferEncoding) > 0:
		ok = t.copyChunks(resp)
	default:
		ok = false // whether such a body is whole can't be seen
	}
	if !ok {
		t.h.pool.drop(c)
		panic(http.ErrAbortHandler)
	}
	if lingers {
		linger.Close(t.w, clientIdle)
	}
	return !resp.Close && c.br.Buffered() == 0
}

// copyBody copies n bytes: what came with the head from its buffer, the rest from socket
// to socket (splice(2), where net/http can).
func (t *transfer) copyBody(c *conn, n int64) bool {
	for n > 0 {
		t.limitWrite()
		var m int64
		var err error
		if k := min(int64(c.br.Buffered()), n); k > 0 {
			var b []byte
			if b, err = c.br.Peek(int(k)); err == nil {
				_, err = t.w.Write(b)
				_, _ = c.br.Discard(int(k)) // they are there
				m = k
			}
		} else if rf, ok := t.w.(io.ReaderFrom); ok && n >= copyBuffer {
			m, err = rf.ReadFrom(&io.LimitedReader{R: c.Conn, N: min(n, step)})
		} else {
			var k int
			b := t.buffer()[:min(n, copyBuffer)]
			if k, err = c.Conn.Read(b); k > 0 {
				m = int64(k)
				if _, werr := t.w.Write(b[:k]); werr != nil {
					return false
				}
				if m == n {
					err = nil
				}
			}
		}
		n -= m
		if err != nil || m == 0 {
			return false
		}
	}
	return true
}

// copyChunks copies a body without a length, as it comes: it may be a sign of life.
func (t *transfer) copyChunks(resp *http.Response) bool {
	for {
		n, err := resp.Body.Read(t.buffer())
		if n > 0 {
			t.limitWrite()
			if _, werr := t.w.Write(t.buffer()[:n]); werr != nil || t.rc.Flush() != nil {
				return false
			}
		}
		if err != nil {
			return err == io.EOF
		}
	}
}

// limitWrite gives the client its time for what is written next.
func (t *transfer) limitWrite() {
	// Not every ResponseWriter has deadlines; those of a real connection do.
	_ = t.rc.SetWriteDeadline(time.Now().Add(clientIdle))
}

// leaveBody prepares an answer before the body's end, as s3 does: the client may read
// nothing before it has sent all. A small rest is read, and the connection goes on. It
// reports whether linger.Close must follow.
func (t *transfer) leaveBody() bool {
	if t.r.ContentLength == 0 || t.whole {
		return false
	}
	if t.readSmall() == nil && t.whole || t.rc.EnableFullDuplex() != nil {
		return false
	}
	t.w.Header()["Connection"] = []string{"close"}
	return true
}
