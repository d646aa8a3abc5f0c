package rpc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"twofold/internal/errs"
)

// ErrLost is in the chain of every error of a call whose connection ended before
// the answer came: the call may or may not have been served.
var ErrLost = errors.New("connection lost")

// errPeerCanceled is the cause of a request's context that the caller canceled.
var errPeerCanceled = errors.New("canceled by the caller")

// CanceledByPeer reports whether ctx, a request's, ended because the peer's caller
// went away (and not because the connection was lost).
func CanceledByPeer(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errPeerCanceled)
}

// Conn is a connection after its handshake. Both ends call and serve. Safe for
// concurrent use.
type Conn struct {
	cfg     Config
	nc      net.Conn
	codec   *Codec
	peer    hello
	version int
	r       *bufio.Reader
	w       *writer

	ctx    context.Context // ends with the connection; requests' contexts come from it
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the reading side is through
	served sync.WaitGroup
	jobs   chan job     // to a goroutine that waits for one
	idle   atomic.Int32 // how many do

	slots  slots         // what the peer lets us have in service
	lastID atomic.Uint64 // of our requests
	read   atomic.Uint64 // bytes read: a sign of life

	ponging atomic.Bool // a pong is being written

	mu      sync.Mutex
	waiting map[uint64]*pending  // our calls, by id
	active  map[uint64]*incoming // the peer's requests in service, by id
	usage   Limits               // what the peer has in service: Calls, Urgent, Bytes
	err     error                // why the connection ended
}

func newConn(nc net.Conn, cfg Config, a agreed, codec *Codec) *Conn {
	c := &Conn{
		cfg:     cfg,
		nc:      nc,
		codec:   codec,
		peer:    a.peer,
		version: a.version,
		done:    make(chan struct{}),
		jobs:    make(chan job),
		slots:   newSlots(a.peer.limits),
		waiting: make(map[uint64]*pending),
		active:  make(map[uint64]*incoming),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.r = bufio.NewReaderSize(countingReader{nc, &c.read}, 32<<10)
	c.w = newWriter(nc, c.ctx.Done(), c.fail)
	return c
}

// start begins to read frames. h serves the peer's requests; nil refuses them.
func (c *Conn) start(h Handler) {
	go c.readLoop(h)
	go c.watch()
}

// Version is the protocol version that both ends agreed on.
func (c *Conn) Version() int { return c.version }

// PeerRole is what the other end is.
func (c *Conn) PeerRole() Role { return c.peer.role }

// RemoteAddr is the other end's network address.
func (c *Conn) RemoteAddr() string { return c.nc.RemoteAddr().String() }

// Pool has buffers for payloads.
func (c *Conn) Pool() *Pool { return c.cfg.Pool }

// Codec is the codec of headers.
func (c *Conn) Codec() *Codec { return c.codec }

// Done is closed when the connection has ended and every call on it has its
// outcome. Handlers may still run; see Wait.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended; nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// closeGrace is how long Close waits for answers that are being written.
const closeGrace = 100 * time.Millisecond

// Close ends the connection: calls fail with ErrLost, the contexts of requests in
// service end. Answers given before are written, if the peer takes them. It does not
// wait for handlers.
func (c *Conn) Close() {
	c.w.finish(closeGrace)
	c.fail(errs.Newf("rpc.Conn", errs.Unavailable, "closed here"))
	<-c.done
}

// Wait waits until the connection has ended and all handlers have returned.
func (c *Conn) Wait() {
	<-c.done
	c.served.Wait()
}

// fail gives the connection up. Only the first reason is kept.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	c.mu.Unlock()
	c.cancel(ErrLost)
	_ = c.nc.Close() // the reader returns; there is nobody to tell of a failed close
}

// lost is what calls get after the end.
func (c *Conn) lost() error {
	return &errs.Error{Op: "rpc.Call", Kind: errs.Unavailable, Err: errors.Join(ErrLost, c.Err())}
}

func (c *Conn) readLoop(h Handler) {
	err := c.readFrames(h)
	if errors.Is(err, io.EOF) {
		err = errs.Newf("rpc.Conn", errs.Unavailable, "closed by the peer")
	}
	c.fail(err)
	c.mu.Lock()
	for id, p := range c.waiting {
		delete(c.waiting, id)
		p.finish(c.lostLocked())
	}
	c.waiting = nil // registering fails from now on
	c.mu.Unlock()
	close(c.done)
}

func (c *Conn) lostLocked() error {
	return &errs.Error{Op: "rpc.Call", Kind: errs.Unavailable, Err: errors.Join(ErrLost, c.err)}
}

// readFrames reads until an error. It never waits for a handler, nor for the
// writing side.
func (c *Conn) readFrames(h Handler) error {
	var b [headLen]byte
	for {
		if _, err := io.ReadFull(c.r, b[:]); err != nil {
			return err
		}
		f, err := parseHead(&b, c.cfg.Limits.Payload)
		if err != nil {
			return err
		}
		switch f.typ {
		case frameRequest:
			err = c.readRequest(f, h)
		case frameAnswer, frameError:
			err = c.readAnswer(f)
		case frameCancel:
			c.cancelRequest(f.id)
		case framePing:
			// One at a time: a flood of pings costs us no more than one goroutine, and
			// any byte is a sign of life.
			if c.ponging.CompareAndSwap(false, true) {
				go func() { c.control(framePong, f.id); c.ponging.Store(false) }()
			}
		case framePong: // its bytes were the sign of life
		}
		if err != nil {
			return err
		}
	}
}

// control sends a frame without content. Not to be called by the reader: it may
// wait for the socket.
func (c *Conn) control(t frameType, id uint64) {
	var b [headLen]byte
	head{typ: t, id: id}.put(&b)
	c.w.send(nil, &b, nil)
}

// countingReader counts what comes through.
type countingReader struct {
	r io.Reader
	n *atomic.Uint64
}

func (r countingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n.Add(uint64(n))
	return n, err
}
