package remote

import (
	"context"
	"sync"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// peer is one connection of a mount.
type peer struct {
	srv  *Server
	conn *rpc.Conn

	mu  sync.Mutex
	ses *session // nil until Begin or Resume
}

var _ rpc.Handler = (*peer)(nil)

// operation serves one method of a session.
type operation func(ctx context.Context, s *session, r *rpc.Request) (rpc.Answer, error)

// Serve implements rpc.Handler. What is answered may be from memory alone: that another session
// has a lock, that this one has a lease, that it was heard of. So it is sent only while this
// node certainly leads; else the connection is closed, and the mount asks where that is done.
func (p *peer) Serve(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	a, err := p.admit(ctx, r)
	if !p.srv.proven() {
		p.conn.Close() // before this returns: then the answer isn't sent
	}
	return a, err
}

// admit serves a request, unless the server is about to end.
func (p *peer) admit(ctx context.Context, r *rpc.Request) (a rpc.Answer, err error) {
	if r.Urgent || r.Method == mAwaitLock {
		// The urgent ones give back what others wait for: they are let in to the end.
		// And a wait for a lock is none that the end should wait for.
		return p.serve(ctx, r)
	}
	if !p.srv.enter() {
		return rpc.Answer{}, errs.Newf("remote.serve", errs.Unavailable, "the server is shutting down")
	}
	returned := false
	defer func() {
		if !returned { // a panic, which the transport deals with
			p.srv.leave()
		}
	}()
	a, err = p.serve(ctx, r)
	returned = true
	free := a.Free
	a.Free = func() { // the call is over when its answer was written
		if free != nil {
			free()
		}
		p.srv.leave()
	}
	return a, err
}

func (p *peer) serve(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	switch r.Method {
	case mBegin:
		return p.begin(ctx, r)
	case mResume:
		return p.resume(ctx, r)
	}
	op := p.srv.ops[r.Method]
	if op == nil {
		return rpc.Answer{}, errs.Newf("remote.serve", errs.Unsupported, "unknown method %d", r.Method)
	}
	p.mu.Lock()
	ses := p.ses
	p.mu.Unlock()
	if ses == nil {
		return rpc.Answer{}, errs.Newf("remote.serve", errs.Fenced, "no session on this connection")
	}
	// The end of the session or of the server closes the connection, and with it ctx.
	return op(ctx, ses, r)
}

// adopt binds the session to the connection, until that is lost.
func (p *peer) adopt(ses *session) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ses != nil {
		return bad("this connection has a session")
	}
	if err := ses.attach(p.conn); err != nil {
		return err
	}
	p.ses = ses
	p.srv.wg.Add(1)
	go func() {
		defer p.srv.wg.Done()
		select {
		case <-p.conn.Done():
			ses.detach(p.conn)
		case <-ses.ctx.Done():
		}
	}()
	return nil
}

func (p *peer) begin(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	var q beginReq
	if err := r.Decode(&q); err != nil {
		return rpc.Answer{}, err
	}
	if err := q.check(); err != nil {
		return rpc.Answer{}, err
	}
	a, err := p.srv.begin(ctx, p, q.Node)
	return rpc.Answer{Header: a}, err
}

func (p *peer) resume(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	var q resumeReq
	var held api.Held
	if err := first(r.Decode(&q), r.DecodePayload(&held)); err != nil {
		return rpc.Answer{}, err
	}
	if err := first(checkHeld(held), checkPromise(q.Promised), checkHeldLocks(q.Locks)); err != nil {
		return rpc.Answer{}, err
	}
	held.Promised, held.Locks = q.Promised, q.Locks
	return p.srv.resume(ctx, p, q, held)
}

// plain makes an operation of a call that changes nothing, or may come twice.
func plain[Q checker](do func(ctx context.Context, f api.Files, q Q) (any, error)) operation {
	return func(ctx context.Context, s *session, r *rpc.Request) (rpc.Answer, error) {
		var q Q
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		if err := q.check(); err != nil {
			return rpc.Answer{}, err
		}
		a, err := do(ctx, s.files, q)
		return rpc.Answer{Header: a}, err
	}
}

// locked makes an operation on locks that changes nothing, or may come twice.
func locked(do func(ctx context.Context, k api.Locks, q lockReq) (any, error)) operation {
	return func(ctx context.Context, s *session, r *rpc.Request) (rpc.Answer, error) {
		var q lockReq
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		if err := q.check(); err != nil {
			return rpc.Answer{}, err
		}
		a, err := do(ctx, s.locks, q)
		return rpc.Answer{Header: a}, err
	}
}

// once makes an operation of a call that has its effect once.
func once[Q checker](do func(ctx context.Context, f api.Files, q Q, payload []byte) (any, error)) operation {
	return func(ctx context.Context, s *session, r *rpc.Request) (rpc.Answer, error) {
		var q numbered[Q]
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		if err := q.Body.check(); err != nil {
			return rpc.Answer{}, err
		}
		a, err := s.calls.run(ctx, s.ctx, api.Seq{N: q.Seq, Acked: q.Acked}, func(ctx context.Context) (any, error) {
			if q.Dirs {
				ctx, _ = api.WithDirs(ctx)
			}
			return do(ctx, s.files, q.Body, r.Payload)
		})
		return rpc.Answer{Header: a}, err
	}
}

// lockedOnce is once for an operation on locks.
func lockedOnce[Q checker](do func(ctx context.Context, k api.Locks, q Q) (any, error)) operation {
	return func(ctx context.Context, s *session, r *rpc.Request) (rpc.Answer, error) {
		return once(func(ctx context.Context, _ api.Files, q Q, _ []byte) (any, error) {
			return do(ctx, s.locks, q)
		})(ctx, s, r)
	}
}
