package drives

import (
	"context"
	"sync"
	"time"

	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// maxAhead is how many calls of a shard may wait for their turn.
const maxAhead = 16

// writeHandle is a shard that another node writes. Its calls come in any order, each on a
// goroutine of its own, and have their turn by their numbers.
type writeHandle struct {
	w      drive.ShardWriter // of whoever has the turn
	cancel context.CancelFunc

	mu    sync.Mutex
	next  uint32        // guarded by mu; number of the call whose turn it is
	busy  bool          // guarded by mu; that call is at it
	ended bool          // guarded by mu
	turn  chan struct{} // guarded by mu; closed when one of the above changes
	used  time.Time     // guarded by mu
}

// enter waits for call seq's turn.
func (h *writeHandle) enter(ctx context.Context, seq uint32) error {
	const op = "drives.Write"
	for {
		h.mu.Lock()
		turn := h.turn
		switch {
		case h.ended:
			h.mu.Unlock()
			return errs.Newf(op, errs.Unavailable, "the shard's writing has ended")
		case seq < h.next || seq == h.next && h.busy || seq > h.next+maxAhead:
			h.mu.Unlock()
			return errs.Newf(op, errs.Invalid, "call %d of a shard when call %d is due", seq, h.next)
		case seq == h.next:
			h.busy = true
			h.mu.Unlock()
			return nil
		}
		h.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			h.end() // the calls before this one will not all come
			return errs.E(op, errs.Canceled, context.Cause(ctx))
		}
	}
}

// leave ends the turn; and the handle, where it had its last one or is to end.
func (h *writeHandle) leave(last bool) {
	h.mu.Lock()
	h.busy = false
	h.next++
	h.ended = h.ended || last
	h.used = time.Now()
	h.changed()
	ended := h.ended
	h.mu.Unlock()
	if ended {
		h.w.Abort() // does nothing after a Commit
		h.cancel()
	}
}

// changed wakes those that wait for their turn. h.mu is held.
func (h *writeHandle) changed() {
	close(h.turn)
	h.turn = make(chan struct{})
}

// end aborts the shard: now, or when the call that is at it leaves.
func (h *writeHandle) end() {
	h.mu.Lock()
	first, busy := !h.ended, h.busy
	h.ended = true
	h.changed()
	h.mu.Unlock()
	h.cancel()
	if first && !busy {
		h.w.Abort()
	}
}

// idleSince reports whether the handle was not used since a time, and nobody is at it.
func (h *writeHandle) idleSince(t time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.busy && h.used.Before(t)
}

// write serves mWrite.
func (s *Server) write(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	var q writeRequest
	err := decode(r, &q)
	if err == nil {
		err = q.check(len(r.Payload))
	}
	if err != nil {
		return rpc.Answer{}, err
	}
	p, err := s.peer(r.Conn)
	if err != nil {
		return rpc.Answer{}, err
	}
	h, err := p.writer(&q)
	if err != nil {
		return rpc.Answer{}, err
	}
	if err := h.enter(ctx, q.Seq); err != nil {
		if errs.Is(err, errs.Canceled) {
			p.dropWriter(q.Writer, h)
		}
		return rpc.Answer{}, err
	}
	// A caller that goes away gives the shard up.
	stop := context.AfterFunc(ctx, h.cancel)
	err = h.step(&q, r.Payload)
	if !stop() && err == nil && q.Trailer == nil {
		err = errs.E("drives.Write", errs.Canceled, context.Cause(ctx))
	}
	last := err != nil || q.Trailer != nil
	h.leave(last)
	if last && q.Writer != 0 {
		p.dropWriter(q.Writer, h)
	}
	return done(r, err)
}

// step does what a call asks.
func (h *writeHandle) step(q *writeRequest, payload []byte) error {
	for _, n := range q.Blocks {
		if err := h.w.WriteBlock(payload[:n]); err != nil {
			return err
		}
		payload = payload[n:]
	}
	if q.Trailer == nil {
		return nil
	}
	return h.w.Commit(drive.ShardTrailer{Size: q.Trailer.Size, Purpose: q.Trailer.Purpose})
}

// writer finds the handle of a call, or makes it for the first one. A shard in one call
// has a handle that nobody else finds.
func (p *peer) writer(q *writeRequest) (*writeHandle, error) {
	const op = "drives.Write"
	if q.Seq > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		if h := p.writers[q.Writer]; h != nil {
			return h, nil
		}
		return nil, errs.Newf(op, errs.Unavailable, "the shard's writing has ended")
	}
	d, err := p.s.drive(q.Drive)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(p.ctx)
	w, err := d.Create(ctx, q.Header.header())
	if err != nil {
		cancel()
		return nil, err
	}
	h := &writeHandle{w: w, cancel: cancel, turn: make(chan struct{}), used: time.Now()}
	if q.Trailer != nil {
		return h, nil
	}
	p.mu.Lock()
	switch {
	case p.closed:
		err = errs.Newf(op, errs.Unavailable, "the connection has ended")
	case p.writers[q.Writer] != nil:
		err = errs.Newf(op, errs.Invalid, "handle %d is in use", q.Writer)
	case len(p.writers) >= maxWriters:
		err = errs.Newf(op, errs.Unavailable, "%d shards are being written by one node", len(p.writers))
	default:
		p.writers[q.Writer] = h
	}
	p.mu.Unlock()
	if err != nil {
		h.end()
		return nil, err
	}
	return h, nil
}

func (p *peer) dropWriter(id handle, h *writeHandle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writers[id] == h {
		delete(p.writers, id)
	}
}

// abort serves mAbort. That there is no such handle is fine.
func (s *Server) abort(r *rpc.Request) (rpc.Answer, error) {
	var q handleRequest
	if err := decode(r, &q); err != nil {
		return rpc.Answer{}, err
	}
	p, err := s.peer(r.Conn)
	if err != nil {
		return rpc.Answer{}, err
	}
	p.mu.Lock()
	h := p.writers[q.Handle]
	delete(p.writers, q.Handle)
	p.mu.Unlock()
	if h != nil {
		h.end()
	}
	return done(r, nil)
}

// keep serves mKeep: the handles that it names were used just now.
func (s *Server) keep(r *rpc.Request) (rpc.Answer, error) {
	var q handlesRequest
	if err := decode(r, &q); err != nil {
		return rpc.Answer{}, err
	}
	p, err := s.peer(r.Conn)
	if err != nil {
		return rpc.Answer{}, err
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range q.Handles {
		if h := p.writers[id]; h != nil {
			h.mu.Lock()
			h.used = now
			h.mu.Unlock()
		}
	}
	return done(r, nil)
}
