package remote

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy is a network between a mount and a server that can be cut.
type proxy struct {
	addr string
	l    net.Listener
	to   string

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	limit func() int64 // bytes until a connection's direction breaks; nil: never
	wg    sync.WaitGroup
}

func startProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), l: l, to: to, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.serve)
	t.Cleanup(p.stop)
	return p
}

func (p *proxy) serve() {
	for {
		a, err := p.l.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = a.Close()
			continue
		}
		p.mu.Lock()
		p.conns[a], p.conns[b] = struct{}{}, struct{}{}
		limit := p.limit
		p.mu.Unlock()
		p.wg.Go(func() { p.pipe(a, b, limit) })
		p.wg.Go(func() { p.pipe(b, a, limit) })
	}
}

func (p *proxy) pipe(dst, src net.Conn, limit func() int64) {
	var r io.Reader = src
	if limit != nil {
		r = io.LimitReader(src, limit())
	}
	_, _ = io.Copy(dst, r) // its end is the connection's, however it comes
	_ = dst.Close()
	_ = src.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, src)
}

// cut breaks all connections; new ones can be made.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// stop breaks the network for good.
func (p *proxy) stop() {
	_ = p.l.Close()
	p.cut()
	p.wg.Wait()
}
