package remote

import (
	"context"
	"crypto/subtle"
	"log/slog"
	"sync"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// Server serves mounts on connections of package rpc. Safe for concurrent use.
type Server struct {
	sessions Sessions
	log      *slog.Logger
	ops      map[rpc.Method]operation

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	draining bool
	running  int           // calls in service, urgent ones left out
	idle     chan struct{} // closed when running is 0 while draining
	live     map[twofold.SessionID]*session
	resuming map[twofold.SessionID]chan struct{} // closed when it is through
}

// NewServer makes a server over sessions.
func NewServer(sessions Sessions, log *slog.Logger) *Server {
	s := &Server{
		sessions: sessions,
		log:      log,
		ops:      operations(),
		idle:     make(chan struct{}),
		live:     make(map[twofold.SessionID]*session),
		resuming: make(map[twofold.SessionID]chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Accept takes a connection whose peer is a mount: it is rpc.Accept for that role.
func (s *Server) Accept(c *rpc.Conn) (rpc.Handler, error) {
	if c.PeerRole() != rpc.RoleMount {
		return nil, errs.Newf("remote.Accept", errs.Unsupported, "peer role %d is not a mount", c.PeerRole())
	}
	return &peer{srv: s, conn: c}, nil
}

// Close lets the calls in service finish until ctx ends, and cuts off the rest.
// New ones are told to come again (mounts then wait for the next server). Sessions
// do not end by it. Close the rpc.Server after it.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	first := !s.draining
	s.draining = true
	if first && s.running == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	select {
	case <-s.idle:
	case <-ctx.Done():
	}
	s.cancel()
	s.wg.Wait()
}

// enter counts a call in; false while draining.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.running++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running--; s.draining && s.running == 0 {
		close(s.idle)
	}
}

// lapse is for how long the proof that this node leads may be missing before a connection is
// given up for it.
const lapse = 500 * time.Millisecond

// proven reports whether what is known here may be answered. A proof that is missing is waited
// for: it comes again, unless another node leads.
func (s *Server) proven() bool {
	if s.sessions.Leads() {
		return true
	}
	tick := time.NewTicker(lapse / 50)
	defer tick.Stop()
	for end := time.Now().Add(lapse); time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return false
		}
		if s.sessions.Leads() {
			return true
		}
	}
	return false
}

// begin makes a session for a mount that has none.
func (s *Server) begin(ctx context.Context, p *peer, node string) (beginAns, error) {
	ses := newSession(s)
	vol, err := s.sessions.Begin(ctx, node, ses)
	if err != nil {
		return beginAns{}, err
	}
	ses.start(vol)
	s.admit(ses)
	if err := p.adopt(ses); err != nil {
		// The mount never heard of this session and can't come back to it.
		if err := vol.End(context.WithoutCancel(ctx)); err != nil {
			s.log.Warn("could not end a session that nobody has", slog.Any("err", err))
		}
		return beginAns{}, err
	}
	s.log.Debug("mount connected", slog.String("mount", node), slog.Uint64("session", uint64(vol.ID())), slog.String("peer", p.conn.RemoteAddr()))
	return beginAns{ID: vol.ID(), Token: vol.Token(), Term: vol.LeaseTerm()}, nil
}

// resume continues a session on a new connection.
func (s *Server) resume(ctx context.Context, p *peer, r resumeReq, held api.Held) (rpc.Answer, error) {
	ses, err := s.find(ctx, r, held)
	if err != nil {
		return rpc.Answer{}, err
	}
	if err := p.adopt(ses); err != nil {
		return rpc.Answer{}, err
	}
	s.log.Debug("mount is back", slog.Uint64("session", uint64(r.ID)), slog.String("peer", p.conn.RemoteAddr()))
	if !r.Terms {
		return rpc.Answer{}, nil
	}
	return rpc.Answer{Header: resumeAns{ses.vol.LeaseTerm()}}, nil
}

// find returns the live session, or has the volume bring it back. One at a time for
// each session: a mount that tries twice must not get two tables.
func (s *Server) find(ctx context.Context, r resumeReq, held api.Held) (*session, error) {
	for {
		s.mu.Lock()
		if ses := s.live[r.ID]; ses != nil {
			s.mu.Unlock()
			if subtle.ConstantTimeCompare(ses.vol.Token(), r.Token) != 1 {
				return nil, errs.Newf("remote.resume", errs.Fenced, "wrong token for session %d", r.ID)
			}
			return ses, nil
		}
		wait, busy := s.resuming[r.ID]
		if !busy {
			wait = make(chan struct{})
			s.resuming[r.ID] = wait
		}
		s.mu.Unlock()
		if !busy {
			return s.revive(ctx, r, held, wait)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, errs.E("remote.resume", errs.Canceled, ctx.Err())
		}
	}
}

func (s *Server) revive(ctx context.Context, r resumeReq, held api.Held, wait chan struct{}) (*session, error) {
	defer func() {
		s.mu.Lock()
		delete(s.resuming, r.ID)
		s.mu.Unlock()
		close(wait)
	}()
	ses := newSession(s)
	vol, err := s.sessions.Resume(ctx, r.ID, r.Token, held, ses)
	if err != nil {
		return nil, err
	}
	ses.start(vol)
	s.admit(ses)
	return ses, nil
}

// admit makes the session known until it ends.
func (s *Server) admit(ses *session) {
	s.mu.Lock()
	s.live[ses.vol.ID()] = ses
	s.mu.Unlock()
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		select {
		case <-ses.vol.Done():
			s.log.Debug("session ended", slog.Uint64("session", uint64(ses.vol.ID())))
		case <-s.ctx.Done():
		}
		s.mu.Lock()
		delete(s.live, ses.vol.ID())
		s.mu.Unlock()
		ses.close()
	}()
}
