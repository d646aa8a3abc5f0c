package remote

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/semaphore"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// readBudget is how many bytes of answers to Read a session may have in memory.
const readBudget = 64 << 20

// session is the server's side of a mount's session, across its connections. It is
// the api.Holder that the volume calls.
type session struct {
	srv    *Server
	vol    Session         // set by start, before anybody else has the session
	files  api.Files       // of vol
	locks  api.Locks       // likewise
	ctx    context.Context // ends with the session, or the server
	cancel context.CancelFunc
	reads  *semaphore.Weighted

	calls table

	mu    sync.Mutex
	conn  *rpc.Conn     // nil while the mount is away
	back  chan struct{} // closed when conn is set
	ended bool
	bye   bool // the mount asked for the end and closes the connection itself
}

var (
	_ api.Holder     = (*session)(nil)
	_ api.LockHolder = (*session)(nil)
)

func newSession(s *Server) *session {
	ses := &session{srv: s, reads: semaphore.NewWeighted(readBudget), back: make(chan struct{})}
	ses.ctx, ses.cancel = context.WithCancel(s.ctx)
	ses.calls.init()
	return ses
}

// Peer is the address that the mount is connected from; empty while it is away.
func (s *session) Peer() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return ""
	}
	return s.conn.RemoteAddr()
}

func (s *session) start(vol Session) { s.vol, s.files, s.locks = vol, vol.Files(), vol.Locks() }

// attach makes c the mount's connection; an older one is closed.
func (s *session) attach(c *rpc.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errs.Newf("remote.attach", errs.Fenced, "session %d has ended", s.vol.ID())
	}
	// Under the lock, so that the volume hears of coming and going in order.
	if err := s.vol.Alive(); err != nil {
		return err
	}
	if s.conn == nil {
		close(s.back)
	} else {
		go s.conn.Close() // the mount has given it up; it may not have noticed itself
	}
	s.conn = c
	return nil
}

// detach tells the volume that the mount is away, unless it is back already.
func (s *session) detach(c *rpc.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return
	}
	s.conn = nil
	s.back = make(chan struct{})
	if !s.ended {
		s.vol.Disconnected()
	}
}

// close ends what the session has running.
func (s *session) close() {
	s.mu.Lock()
	s.ended = true
	c, bye := s.conn, s.bye
	s.mu.Unlock()
	s.cancel()
	if c != nil && !bye { // after a bye the answer is still on its way
		c.Close()
	}
}

// connection waits for the mount to be connected.
func (s *session) connection(ctx context.Context) (*rpc.Conn, error) {
	for {
		s.mu.Lock()
		c, back := s.conn, s.back
		s.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-back:
		case <-ctx.Done():
			return nil, errs.E("remote.callBack", errs.Canceled, ctx.Err())
		case <-s.ctx.Done():
			return nil, errs.Newf("remote.callBack", errs.Fenced, "the mount's session has ended")
		}
	}
}

// Recall implements api.Holder: the mount is asked, on whatever connection it has,
// until it answered or ctx ends. errs.Fenced when the session ended.
func (s *session) Recall(ctx context.Context, ino twofold.Ino, token uint64) error {
	return s.callBack(ctx, &rpc.Call{Method: mRecall, Header: leaseReq{ino, token}})
}

// Invalidate implements api.Holder, likewise. It is urgent: a flush may wait for it, and a
// recall for the flush.
func (s *session) Invalidate(ctx context.Context, stale []api.Stale) error {
	return s.callBack(ctx, &rpc.Call{Method: mInvalidate, Header: invalidateReq{stale}, Urgent: true})
}

// RecallLocks implements api.LockHolder, likewise.
func (s *session) RecallLocks(ctx context.Context, ino twofold.Ino, token uint64) error {
	return s.callBack(ctx, &rpc.Call{Method: mRecallLocks, Header: leaseReq{ino, token}})
}

// Revoked makes the mount come back on a new connection, for which it drops what it has
// cached (Holder.Held): its machine may have been suspended, and its clock not have seen
// the end of its leases. Nothing that it sent on the old one is answered any more, also
// no keep-alive.
func (s *session) Revoked() {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

func (s *session) callBack(ctx context.Context, call *rpc.Call) error {
	for {
		c, err := s.connection(ctx)
		if err != nil {
			return err
		}
		_, err = c.Call(ctx, call)
		if !errors.Is(err, rpc.ErrLost) {
			return err
		}
		s.detach(c) // else the next round would take it again
	}
}

// Held implements api.Holder: the volume got the mount's own word with Resume.
func (s *session) Held() api.Held { return api.Held{} }

// Lost implements api.Holder. The mount learns it from its next Resume, which the
// closed connection makes it send.
func (s *session) Lost(error) { s.close() }
