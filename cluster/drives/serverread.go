package drives

import (
	"context"
	"time"

	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// readHandle is a shard that another node has open.
type readHandle struct {
	r    drive.ShardReader
	refs int       // guarded by peer.mu; reads under way
	gone bool      // guarded by peer.mu; closed with the last of them
	used time.Time // guarded by peer.mu
}

// open serves mOpen.
func (s *Server) open(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	var q openRequest
	if err := decode(r, &q); err != nil {
		return rpc.Answer{}, err
	}
	d, err := s.drive(q.Drive)
	if err != nil {
		return rpc.Answer{}, err
	}
	shard, err := d.Open(ctx, q.Blob)
	if err != nil {
		return rpc.Answer{}, err
	}
	i := shard.Info()
	a := &openAnswer{Header: toWire(i.Header), Trailer: &wireTrailer{Size: i.Trailer.Size, Purpose: i.Trailer.Purpose}, Bytes: i.Bytes}
	n := contentLen(&i.Header, i.Trailer.Size)
	switch {
	case q.Reader == 0:
		shard.Close()
		return answer(r, a, nil, nil)
	case n <= int64(min(q.Small, maxSmall)):
		defer shard.Close()
		a.All = true
		buf := buffers.get(int(n))
		_, err := shard.ReadBlocks(ctx, 0, drive.Blocks(i.Header, i.Trailer.Size), buf)
		if err != nil {
			buffers.put(buf)
			return rpc.Answer{}, err
		}
		return answer(r, a, buf, func() { buffers.put(buf) })
	}
	p, err := s.peer(r.Conn)
	if err == nil {
		err = p.addReader(q.Reader, &readHandle{r: shard})
	}
	if err != nil {
		shard.Close()
		return rpc.Answer{}, err
	}
	return answer(r, a, nil, nil)
}

// addReader keeps h, and lets go of the one used last where there are too many.
func (p *peer) addReader(id handle, h *readHandle) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errs.Newf("drives.Open", errs.Unavailable, "the connection has ended")
	case p.readers[id] != nil:
		return errs.Newf("drives.Open", errs.Invalid, "handle %d is in use", id)
	}
	if len(p.readers) >= maxReaders {
		var oldest handle
		for k, o := range p.readers {
			if oldest == 0 || o.used.Before(p.readers[oldest].used) {
				oldest = k
			}
		}
		p.removeReader(oldest)
	}
	h.used = time.Now()
	p.readers[id] = h
	return nil
}

// removeReader lets go of a handle. p.mu is held.
func (p *peer) removeReader(id handle) {
	h := p.readers[id]
	if h == nil {
		return
	}
	delete(p.readers, id)
	if h.gone = true; h.refs == 0 {
		h.r.Close()
	}
}

// reader finds a handle and holds it; release gives it back.
func (p *peer) reader(id handle) (h *readHandle, release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h = p.readers[id]
	if h == nil {
		return nil, nil
	}
	h.refs++
	h.used = time.Now()
	return h, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if h.refs--; h.refs == 0 && h.gone {
			h.r.Close()
		}
	}
}

// read serves mRead. What the drive lends is sent as it is.
func (s *Server) read(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	const op = "drives.Read"
	var q readRequest
	if err := decode(r, &q); err != nil {
		return rpc.Answer{}, err
	}
	if q.From >= q.To || q.To > maxBlock {
		return rpc.Answer{}, invalid("[%d, %d) of a block", q.From, q.To)
	}
	p, err := s.peer(r.Conn)
	if err != nil {
		return rpc.Answer{}, err
	}
	h, release := p.reader(q.Reader)
	if h == nil {
		return rpc.Answer{}, errs.Newf(op, errs.Stale, "the shard is not open any more")
	}
	n := int64(q.To - q.From)
	if p.reading.Acquire(ctx, n) != nil {
		release()
		return rpc.Answer{}, errs.E(op, errs.Canceled, context.Cause(ctx))
	}
	data, giveBack, err := h.r.LendBlock(ctx, q.Block, int(q.From), int(q.To))
	if err != nil {
		p.reading.Release(n)
		release()
		return rpc.Answer{}, err
	}
	return answer(r, nil, data, func() {
		giveBack()
		p.reading.Release(n)
		release()
	})
}

// closeReaders serves mClose.
func (s *Server) closeReaders(r *rpc.Request) (rpc.Answer, error) {
	var q handlesRequest
	if err := decode(r, &q); err != nil {
		return rpc.Answer{}, err
	}
	p, err := s.peer(r.Conn)
	if err != nil {
		return rpc.Answer{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range q.Handles {
		p.removeReader(id)
	}
	return done(r, nil)
}
