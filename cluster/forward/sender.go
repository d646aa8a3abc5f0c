package forward

import (
	"errors"
	"io"
	"strconv"
	"sync/atomic"
	"time"
)

// sender streams a request's body on a goroutine of its own, while the answer is waited
// for: it may come before the body's end.
type sender struct {
	t    *transfer
	c    *conn
	over chan struct{} // closed when it has returned
	stop atomic.Bool

	// Set before over is closed.
	done bool // all was sent
	err  error
}

func (s *sender) started() bool { return s.over != nil }

// start begins to read the body: net/http then says "100 Continue" where the client
// waits for that.
func (s *sender) start() {
	s.t.begun = true
	s.t.unwatch()
	s.over = make(chan struct{})
	// The answer may begin while the body is being read.
	_ = s.t.rc.EnableFullDuplex() // fails where it is not HTTP/1, which is so anyway
	go func() {
		defer close(s.over)
		s.err = s.run()
		if s.done = s.err == nil; s.done {
			s.t.watch(s.c)
		}
	}()
}

func (s *sender) run() error {
	buf := s.t.h.bufs.Get().(*[]byte)
	defer s.t.h.bufs.Put(buf)
	b := *buf
	body, asChunks := s.t.r.Body, chunked(s.t.r)
	const room, tail = 18, 2 // for a chunk's length, and its end
	for !s.stop.Load() {
		n, err := body.Read(b[room : len(b)-tail])
		if n > 0 {
			out := b[room : room+n]
			if asChunks {
				out = frame(b, room, n)
			}
			if _, werr := s.c.Write(out); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			s.t.whole = true
			if asChunks {
				_, err = s.c.Write(s.trailer())
				return err
			}
			return nil
		}
		if err != nil {
			// The body ends here for the leading node too, visibly short: it has its
			// own answer to that, for a client that only closed its sending side.
			if half, ok := s.c.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
				_ = s.c.Close() // what else there is
			}
			return err
		}
	}
	return errors.New("answered before its end")
}

// frame makes a chunk (RFC 9112 section 7.1) of the n bytes at b[room:].
func frame(b []byte, room, n int) []byte {
	var hex [16]byte
	size := strconv.AppendUint(hex[:0], uint64(n), 16)
	at := room - len(size) - 2
	copy(b[at:], size)
	copy(b[room-2:], "\r\n")
	copy(b[room+n:], "\r\n")
	return b[at : room+n+2]
}

// trailer is the last chunk, with the trailer fields that came with the body.
func (s *sender) trailer() []byte {
	b := []byte("0\r\n")
	for name, values := range s.t.r.Trailer {
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	return append(b, "\r\n"...)
}

// end waits until the sender has returned, which it makes it do where it has not.
func (s *sender) end() error {
	select {
	case <-s.over:
		return s.err
	default:
	}
	s.stop.Store(true)
	now := time.Unix(1, 0)
	_ = s.c.SetWriteDeadline(now) // an error is a connection that has ended
	_ = s.t.rc.SetReadDeadline(now)
	<-s.over
	// Where it was at the end just now, net/http may have taken the interruption for the
	// client's end: it is one, so the connection is closed, and no longer watched.
	s.t.unwatch()
	_ = s.t.rc.SetReadDeadline(time.Time{})
	s.t.whole, s.done = false, false
	return s.err
}
