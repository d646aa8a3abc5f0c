package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	// maxSmall is up to how many bytes a body is read before it is sent.
	maxSmall = 64 << 10
	// clientIdle is how long a client may take to accept, or for a small body to send:
	// what s3 has. Of a large body the leading node sees the pace.
	clientIdle = time.Minute
)

// transfer is one request on its way, with all its attempts.
type transfer struct {
	h  *Handler
	w  http.ResponseWriter
	r  *http.Request
	rc *http.ResponseController

	buf   *[]byte     // pooled; of small and of copying
	small []byte      // the whole body, once it was read
	begun bool        // something of the body was asked for
	whole bool        // all of the body was read
	stop  func() bool // of watch; the sender's while that runs
}

func (t *transfer) buffer() []byte {
	if t.buf == nil {
		t.buf = t.h.bufs.Get().(*[]byte)
	}
	return *t.buf
}

func (t *transfer) free() {
	if t.buf != nil {
		t.h.bufs.Put(t.buf)
	}
}

// rewind lets a body that was read be read again, by a handler here.
func (t *transfer) rewind() {
	if t.small != nil {
		t.r.Body = io.NopCloser(bytes.NewReader(t.small))
	}
}

// readSmall reads a body that is small and that nobody waits to be asked for.
func (t *transfer) readSmall() error {
	if t.begun || t.r.ContentLength <= 0 || t.r.ContentLength > maxSmall || expectsContinue(t.r) {
		return nil
	}
	t.begun = true
	b := t.buffer()[:t.r.ContentLength]
	// Not every ResponseWriter has deadlines; those of a real connection do.
	_ = t.rc.SetReadDeadline(time.Now().Add(clientIdle))
	_, err := io.ReadFull(t.r.Body, b)
	_ = t.rc.SetReadDeadline(time.Time{})
	if err != nil {
		return err
	}
	t.small, t.whole = b, true
	return nil
}

// try is one attempt. nil: it was answered, be it by an error.
func (t *transfer) try(addr string) error {
	if err := t.readSmall(); err != nil {
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.fail(tooSlow)
		case errors.Is(err, io.ErrUnexpectedEOF):
			t.fail(incomplete)
		default:
			return errClient
		}
		return nil
	}
	ctx := t.r.Context()
	c, err := t.h.pool.get(ctx, addr)
	if err != nil {
		if ctx.Err() != nil {
			return errClient
		}
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	t.watch(c)
	reuse, err := t.exchange(c)
	if !t.unwatch() || !reuse {
		t.h.pool.drop(c)
	} else {
		t.h.pool.put(c)
	}
	return err
}

// watch closes c when the client goes away: so must the request. It is not for while the
// body is read: net/http then takes a client that only closed its sending side for gone,
// and the one who reads finds out himself.
func (t *transfer) watch(c *conn) {
	t.stop = context.AfterFunc(t.r.Context(), func() { _ = c.Close() })
}

// unwatch reports whether c was left alone.
func (t *transfer) unwatch() bool { return t.stop() }

// exchange sends the request and answers with the answer. reuse: the connection may be
// used again.
func (t *transfer) exchange(c *conn) (reuse bool, err error) {
	hasBody := t.r.ContentLength != 0
	hold := hasBody && t.small == nil
	head := t.h.appendHead(make([]byte, 0, 2<<10), t.r, hold || expectsContinue(t.r))
	need := len(head) // without which nothing is done; what is asked may need nothing of the body
	if len(t.small) > 0 {
		head = append(head, t.small...)
	}
	if n, err := c.Write(head); err != nil {
		return false, t.lost(c, n >= need && !t.repeatable(), err)
	}
	s := &sender{t: t, c: c}
	for {
		resp, err := http.ReadResponse(c.br, t.r)
		if err != nil {
			if s.started() {
				return false, t.lost(c, true, errors.Join(err, s.end()))
			}
			return false, t.lost(c, !t.repeatable(), err)
		}
		if resp.StatusCode == http.StatusContinue {
			switch {
			case hold && !s.started():
				s.start()
			case !hasBody && expectsContinue(t.r):
				t.w.WriteHeader(http.StatusContinue) // see s3's ServeHTTP
			}
			continue
		}
		if resp.StatusCode < 200 {
			continue
		}
		if resp.Header.Get(elsewhereHeader) != "" && !s.started() {
			return false, fmt.Errorf("%w: %s does not lead", errAgain, c.addr)
		}
		if s.started() {
			_ = s.end() // the answer says what became of it
		}
		reuse := t.answer(c, resp)
		return reuse && (!hold || s.done), nil
	}
}

// lost is the outcome where the connection failed before an answer. maybe: the request
// may have been served.
func (t *transfer) lost(c *conn, maybe bool, err error) error {
	switch {
	case t.r.Context().Err() != nil:
		return errClient
	case maybe:
		return fmt.Errorf("%w: %s: %w", errUnknown, c.addr, err)
	}
	return fmt.Errorf("%w: %s: %w", errAgain, c.addr, err)
}

// repeatable reports whether the request, sent to where its outcome is not known, may be
// sent again: it changes nothing, or what it changes is in a body that was not sent.
func (t *transfer) repeatable() bool {
	switch t.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return !t.begun || t.whole
	case http.MethodPut:
		return t.r.ContentLength != 0 && !t.begun && !t.copies()
	}
	return false
}

// copies reports whether what is written is somewhere else than in the body.
func (t *transfer) copies() bool {
	for name := range t.r.URL.Query() {
		if strings.EqualFold(name, "X-Amz-Copy-Source") {
			return true
		}
	}
	return t.r.Header.Get("X-Amz-Copy-Source") != ""
}
