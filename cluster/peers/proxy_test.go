package peers

import (
	"context"
	"net"
	"sync"
	"testing"
)

// proxy stands between a node and the others that it dials through it. Cut: connections
// are reset and new ones refused. Stalled: they stand, and take bytes, and nothing comes
// through, as with a process that is stopped or packets that are dropped.
type proxy struct {
	mu     sync.Mutex
	wake   *sync.Cond
	cut    bool                  // guarded by mu
	stall  bool                  // guarded by mu
	dials  int                   // guarded by mu
	conns  map[net.Conn]struct{} // guarded by mu
	closed bool                  // guarded by mu
	wg     sync.WaitGroup
}

func newProxy(t testing.TB) *proxy {
	p := &proxy{conns: map[net.Conn]struct{}{}}
	p.wake = sync.NewCond(&p.mu)
	t.Cleanup(p.close)
	return p
}

// dial is a Dial of Options: the far end is reached through the proxy.
func (p *proxy) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	p.mu.Lock()
	p.dials++
	cut := p.cut
	p.mu.Unlock()
	if cut {
		addr = "127.0.0.1:1" // nobody listens there
	}
	far, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	near, client := net.Pipe()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut || p.closed {
		far.Close()
		return nil, net.ErrClosed
	}
	p.conns[far], p.conns[near] = struct{}{}, struct{}{}
	p.wg.Add(2)
	go p.copy(far, near)
	go p.copy(near, far)
	return client, nil
}

func (p *proxy) copy(dst, src net.Conn) {
	defer p.wg.Done()
	defer dst.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		for p.stall && !p.closed && !p.cut {
			p.wake.Wait()
		}
		p.mu.Unlock()
		if _, werr := dst.Write(buf[:n]); werr != nil || err != nil {
			return
		}
	}
}

// set changes what the proxy does.
func (p *proxy) set(cut, stall bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.stall = cut, stall
	if cut {
		p.closeConns()
	}
	p.wake.Broadcast()
}

func (p *proxy) dialled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}

// closeConns is called with p.mu held.
func (p *proxy) closeConns() {
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.closeConns()
	p.wake.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
}
