package drives

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// Bounds of what one connection may have open at the server.
const (
	maxWriters = 1 << 10
	maxReaders = 1 << 12 // beyond, the one that was not used for longest ends
	maxWalks   = 1 << 6
	// maxReading bounds the bytes that were read and are not sent yet: a node that
	// takes them slowly is asked to wait, not given memory.
	maxReading = 64 << 20
)

// peer is what one connection has open at the server.
type peer struct {
	s       *Server
	ctx     context.Context // ends with the connection, or the server
	cancel  context.CancelFunc
	reading *semaphore.Weighted // of maxReading

	mu      sync.Mutex
	closed  bool                    // guarded by mu
	writers map[handle]*writeHandle // guarded by mu
	readers map[handle]*readHandle  // guarded by mu
	walks   map[handle]*walkHandle  // guarded by mu; not the one that is being served
}

// peer finds what a connection has open.
func (s *Server) peer(c *rpc.Conn) (*peer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.peers[c]; p != nil {
		return p, nil
	}
	if s.closed {
		return nil, errs.Newf("drives.Server", errs.Unavailable, "shutting down")
	}
	p := &peer{
		s: s, reading: semaphore.NewWeighted(maxReading),
		writers: make(map[handle]*writeHandle), readers: make(map[handle]*readHandle), walks: make(map[handle]*walkHandle),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	s.peers[c] = p
	s.wg.Add(1)
	go p.watch(c)
	return p, nil
}

// watch ends the handles that nobody uses, and all of them with the connection.
func (p *peer) watch(c *rpc.Conn) {
	defer p.s.wg.Done()
	tick := time.NewTicker(p.s.opt.Idle / 4)
	defer tick.Stop()
	for {
		select {
		case <-c.Done():
		case <-p.ctx.Done():
		case now := <-tick.C:
			p.sweep(now.Add(-p.s.opt.Idle))
			continue
		}
		p.close()
		p.s.mu.Lock()
		delete(p.s.peers, c)
		p.s.mu.Unlock()
		return
	}
}

// close ends all handles. Writers are aborted side by side: a drive may hang.
func (p *peer) close() {
	p.cancel()
	p.mu.Lock()
	p.closed = true
	writers, readers := p.writers, p.readers
	p.writers, p.readers, p.walks = nil, nil, nil // walks end with ctx
	var unused []*readHandle
	for _, h := range readers {
		if h.gone = true; h.refs == 0 {
			unused = append(unused, h)
		}
	}
	p.mu.Unlock()
	for _, h := range unused {
		h.r.Close()
	}
	var wg sync.WaitGroup
	for _, h := range writers {
		wg.Go(h.end)
	}
	wg.Wait()
}

// sweep ends the handles that were used last before a time, and are not in use.
func (p *peer) sweep(before time.Time) {
	p.mu.Lock()
	var writers []*writeHandle
	for id, h := range p.writers {
		if h.idleSince(before) {
			delete(p.writers, id)
			writers = append(writers, h)
		}
	}
	var readers []*readHandle
	for id, h := range p.readers {
		if h.refs == 0 && h.used.Before(before) {
			delete(p.readers, id)
			readers = append(readers, h)
		}
	}
	for id, h := range p.walks {
		if h.used.Before(before) {
			delete(p.walks, id)
			h.cancel()
		}
	}
	p.mu.Unlock()
	for _, h := range readers {
		h.r.Close()
	}
	for _, h := range writers {
		h.end()
	}
}
