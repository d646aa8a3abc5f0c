package rpc

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"twofold/internal/errs"
)

const maxHandshakes = 64 // at a time: before they are done, anybody can start one

// Accept decides what serves a new connection, by its peer's role; an error refuses
// it. It is called before any frame is read.
type Accept func(*Conn) (Handler, error)

// Server takes connections from the S3 port. Safe for concurrent use.
type Server struct {
	cfg        Config
	codec      *Codec
	accept     Accept
	handshakes chan struct{}

	mu     sync.Mutex
	closed bool
	conns  map[*Conn]struct{}
	early  map[net.Conn]struct{} // still shaking hands
	wg     sync.WaitGroup        // of both
	said   map[string]time.Time  // refusals, by host and words: when they were logged last
}

// NewServer makes a server; errs.Invalid for a bad configuration. Its role is
// RoleNode unless cfg says otherwise.
func NewServer(cfg Config, accept Accept) (*Server, error) {
	if cfg.Role == 0 {
		cfg.Role = RoleNode
	}
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	codec, err := NewCodec()
	if err != nil {
		return nil, err
	}
	return &Server{
		cfg:        cfg,
		codec:      codec,
		accept:     accept,
		handshakes: make(chan struct{}, maxHandshakes),
		conns:      make(map[*Conn]struct{}),
		early:      make(map[net.Conn]struct{}),
	}, nil
}

// Wrap serves upgrade requests and leaves everything else to next.
func (s *Server) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isUpgrade(r) {
			next.ServeHTTP(w, r)
			return
		}
		select {
		case s.handshakes <- struct{}{}:
		default:
			http.Error(w, "too many connections are being made", http.StatusServiceUnavailable)
			return
		}
		defer func() { <-s.handshakes }()
		if err := s.upgrade(w); err != nil {
			s.refused(r.RemoteAddr, err)
		}
	})
}

const (
	refusedAgain = time.Minute // the same refusal is logged again after that
	maxRefused   = 1024        // different ones that are remembered
)

// refused logs a refusal. Who is refused comes again, as mounts and nodes do every other
// second: once a minute is enough of the same.
func (s *Server) refused(remote string, err error) {
	host, _, splitErr := net.SplitHostPort(remote)
	if splitErr != nil {
		host = remote
	}
	what, now := host+" "+err.Error(), time.Now()
	s.mu.Lock()
	last, seen := s.said[what]
	again := !seen || now.Sub(last) >= refusedAgain
	if again {
		if s.said == nil || len(s.said) >= maxRefused {
			s.said = make(map[string]time.Time)
		}
		s.said[what] = now
	}
	s.mu.Unlock()
	if again {
		s.cfg.Logger.Warn("refused a connection", slog.String("peer", remote), slog.Any("err", err))
	}
}

func (s *Server) upgrade(w http.ResponseWriter) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return nil
	}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	nc, err := hijack(w, s.cfg.HandshakeTimeout)
	if err != nil {
		return err
	}
	if !s.track(nc) {
		_ = nc.Close() // shutting down
		return nil
	}
	c, h, err := s.shake(nc)
	s.mu.Lock()
	delete(s.early, nc)
	if err == nil && s.closed {
		err = errs.Newf("rpc.Server", errs.Unavailable, "shutting down")
	}
	if err != nil {
		s.mu.Unlock()
		_ = nc.Close() // the handshake's error says more
		return err
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	c.start(h)
	go s.untrack(c)
	return nil
}

func (s *Server) track(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.early[nc] = struct{}{}
	return true
}

func (s *Server) untrack(c *Conn) {
	defer s.wg.Done()
	c.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *Server) shake(nc net.Conn) (*Conn, Handler, error) {
	a, err := handshakeServer(nc, s.cfg.Secret, newHello(s.cfg.Role, s.cfg.Limits))
	if err != nil {
		return nil, nil, err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return nil, nil, errs.E("rpc.Server", errs.Unavailable, err)
	}
	c := newConn(nc, s.cfg, a, s.codec)
	h, err := s.accept(c)
	return c, h, err
}

// Close refuses new connections, closes those there are, and waits for their
// handlers.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for nc := range s.early {
		_ = nc.Close() // nothing was promised on it
	}
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	s.wg.Wait()
}
