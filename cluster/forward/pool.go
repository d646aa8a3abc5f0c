package forward

import (
	"bufio"
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	dialTimeout = 2 * time.Second
	maxIdle     = 256
	// maxIdleTime is well below the time after which a server closes an idle connection
	// (two minutes), so that a request seldom meets its end.
	maxIdleTime = 30 * time.Second
)

// conn is a connection to another node, used for one request at a time.
type conn struct {
	net.Conn
	addr  string
	br    *bufio.Reader // of answers' heads; bodies mostly pass it by
	since time.Time     // idle since
}

// pool has the connections to the leading node, and those to earlier ones as long as
// their requests run. Safe for concurrent use.
type pool struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu     sync.Mutex
	addr   string                // of the leading node; guarded by mu
	idle   []*conn               // to addr, the latest last; guarded by mu
	used   map[*conn]struct{}    // guarded by mu
	dials  map[*dialing]struct{} // guarded by mu
	closed bool                  // guarded by mu
}

// dialing is a connection that is being made.
type dialing struct {
	addr   string
	cancel context.CancelFunc
}

func (p *pool) init(dial func(ctx context.Context, network, addr string) (net.Conn, error)) {
	p.dial = dial
	if dial == nil {
		p.dial = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}}).DialContext
	}
	p.used = map[*conn]struct{}{}
	p.dials = map[*dialing]struct{}{}
}

// get returns a connection, an idle one that still stands where there is one.
func (p *pool) get(ctx context.Context, addr string) (*conn, error) {
	for {
		c := p.takeIdle(addr)
		if c == nil {
			break
		}
		if time.Since(c.since) < maxIdleTime && stands(c.Conn) {
			return c, nil
		}
		p.drop(c)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	d := &dialing{addr, cancel}
	p.mu.Lock()
	p.dials[d] = struct{}{}
	p.mu.Unlock()
	nc, err := p.dial(ctx, "tcp", addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.dials, d)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, addr: addr, br: bufio.NewReaderSize(nc, 4<<10)}
	if p.closed {
		_ = nc.Close() // nothing was sent
		return nil, net.ErrClosed
	}
	p.used[c] = struct{}{}
	return c, nil
}

func (p *pool) takeIdle(addr string) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 || p.addr != addr {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	p.used[c] = struct{}{}
	return c
}

// put gives back a connection whose request and answer are through.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, c)
	if p.closed || c.addr != p.addr || len(p.idle) >= maxIdle {
		_ = c.Close() // nothing is under way
		return
	}
	c.since = time.Now()
	p.idle = append(p.idle, c)
}

// drop closes a connection.
func (p *pool) drop(c *conn) {
	p.mu.Lock()
	delete(p.used, c)
	p.mu.Unlock()
	_ = c.Close() // what was under way is lost, and known to be
}

// keep makes addr the node whose idle connections are kept. Those that are being made to
// another one are given up: nothing was sent, and a node that is cut off would hold up who
// waits for it until dialTimeout.
func (p *pool) keep(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.addr == addr {
		return
	}
	p.addr = addr
	for d := range p.dials {
		if d.addr != addr {
			d.cancel()
		}
	}
	for _, c := range p.idle {
		_ = c.Close() // idle
	}
	p.idle = nil
}

// cutOthers closes connections in use to any other node than addr.
func (p *pool) cutOthers(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.used {
		if c.addr != addr {
			_ = c.Close() // whoever uses it sees that
		}
	}
}

func (p *pool) close() {
	p.keep("")
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cutOthers("")
}

// stands reports whether an idle connection was neither closed nor written to by the
// other end, as far as this machine has heard: recv(2) with MSG_PEEK.
func stands(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return true // found out by using it
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN
		return true
	})
	return err == nil && quiet
}
