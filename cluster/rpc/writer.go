package rpc

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// smallFrame is up to how many bytes a frame is copied into the common buffer,
	// to share a system call with others.
	smallFrame = 16 << 10
	// maxBuffered is from how many waiting bytes on a sender waits for the socket.
	maxBuffered = 1 << 20
	// writeChunk is the most that one Write is given, so that a slow peer can be
	// told from a dead one.
	writeChunk = 1 << 20
)

// writer puts frames on the wire in the order in which send was entered. Small
// frames are collected while another goroutine writes, and go with its next write;
// on a quiet connection the sender writes at once, without a hand-over.
type writer struct {
	conn net.Conn
	dead <-chan struct{} // closed when the connection is given up
	fail func(error)     // gives it up

	token chan struct{} // holds one item while somebody writes to conn

	mu    sync.Mutex
	buf   []byte // frames to be written, in order
	spare []byte // the other half of a double buffer; nil while it is being written

	// For the watchdog: whether a write is under way, and how much was written.
	writing  atomic.Bool
	progress atomic.Uint64
}

func newWriter(conn net.Conn, dead <-chan struct{}, fail func(error)) *writer {
	return &writer{conn: conn, dead: dead, fail: fail, token: make(chan struct{}, 1)}
}

// send writes one frame. done may end the wait for the socket, before anything of
// the frame is written; it reports whether the frame was, or will be, written. A
// failed write is the connection's end and not reported here. The buffers are the
// caller's again when it returns.
func (w *writer) send(done <-chan struct{}, head *[headLen]byte, header []byte, payload ...[]byte) bool {
	n := headLen + len(header)
	for _, p := range payload {
		n += len(p)
	}
	if n <= smallFrame {
		w.mu.Lock()
		if len(w.buf) < maxBuffered {
			w.buf = append(append(w.buf, head[:]...), header...)
			for _, p := range payload {
				w.buf = append(w.buf, p...)
			}
			w.mu.Unlock()
			w.flush()
			return true
		}
		w.mu.Unlock()
	}
	select {
	case w.token <- struct{}{}:
	case <-w.dead:
		return false
	case <-done:
		return false
	}
	w.drain()
	w.writing.Store(true)
	w.writeFrame(head, header, payload)
	w.writing.Store(false)
	<-w.token
	w.flush() // what others left while we had the token
	return true
}

// flush writes what is buffered unless somebody else is at it, who then will.
func (w *writer) flush() {
	for {
		select {
		case w.token <- struct{}{}:
		default:
			return
		}
		w.drain()
		<-w.token
		// A frame appended between the last look and giving the token back found the
		// token taken: look again.
		w.mu.Lock()
		empty := len(w.buf) == 0
		w.mu.Unlock()
		if empty {
			return
		}
	}
}

// finish waits, for at most d, until what was sent so far is written. Whoever has the
// token writes all of it before giving the token back.
func (w *writer) finish(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case w.token <- struct{}{}:
		<-w.token
		w.flush()
	case <-w.dead:
	case <-t.C:
	}
}

// drain writes the buffer until it is empty. The caller has the token.
func (w *writer) drain() {
	w.writing.Store(true)
	defer w.writing.Store(false)
	for {
		w.mu.Lock()
		b := w.buf
		w.buf, w.spare = w.spare[:0], nil
		w.mu.Unlock()
		if len(b) == 0 {
			w.recycle(b)
			return
		}
		w.write(b)
		w.recycle(b)
	}
}

// recycle keeps b for the next round, unless it has grown out of proportion.
func (w *writer) recycle(b []byte) {
	w.mu.Lock()
	if cap(b) <= 4*smallFrame && cap(b) > cap(w.spare) {
		w.spare = b[:0]
	}
	w.mu.Unlock()
}

// writeFrame writes a large frame straight from its buffers (writev).
func (w *writer) writeFrame(head *[headLen]byte, header []byte, payload [][]byte) {
	bufs := make(net.Buffers, 0, 2+len(payload))
	n := headLen + len(header)
	bufs = append(bufs, head[:], header)
	for _, p := range payload {
		for len(p) > 0 {
			if n >= writeChunk {
				if !w.writev(bufs) {
					return
				}
				bufs, n = bufs[:0], 0
			}
			k := min(len(p), writeChunk-n)
			bufs = append(bufs, p[:k])
			p, n = p[k:], n+k
		}
	}
	w.writev(bufs)
}

func (w *writer) writev(bufs net.Buffers) bool {
	b := bufs // WriteTo consumes its receiver
	n, err := b.WriteTo(w.conn)
	w.progress.Add(uint64(n))
	if err != nil {
		w.fail(err)
	}
	return err == nil
}

func (w *writer) write(b []byte) {
	for len(b) > 0 {
		n, err := w.conn.Write(b[:min(len(b), writeChunk)])
		w.progress.Add(uint64(n))
		if err != nil {
			w.fail(err)
			return
		}
		b = b[n:]
	}
}
