package admin

import (
	"context"
	"log/slog"

	"twofold"
	"twofold/cluster/info"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// Store is what the service needs of the store. Safe for concurrent use.
type Store interface {
	// Quota says how much is in a bucket, and may be. errs.NoBucket. It can take long
	// when it is asked for the first time.
	Quota(ctx context.Context, name twofold.BucketName) (api.Quota, error)
	// SetQuota limits a bucket, durably, from when it returns; 0 ends that.
	SetQuota(ctx context.Context, name twofold.BucketName, limit int64) error
}

// Options are what a Server needs. Both functions are safe for concurrent use.
type Options struct {
	// Store is the store where it is open here; the error says where else to ask.
	Store func() (Store, error)
	// Info tells how the store is, also where it is not open here.
	Info   func(ctx context.Context) (*info.Info, error)
	Logger *slog.Logger
}

// Server serves administrators. Safe for concurrent use.
type Server struct {
	opts Options
	log  *slog.Logger
}

// NewServer makes a server.
func NewServer(o Options) *Server { return &Server{o, o.Logger} }

// Accept takes a connection whose peer is an administrator: it is rpc.Accept for that
// role.
func (s *Server) Accept(c *rpc.Conn) (rpc.Handler, error) {
	if c.PeerRole() != rpc.RoleAdmin {
		return nil, errs.Newf("admin.Accept", errs.Unsupported, "peer role %d is not an administrator", c.PeerRole())
	}
	return s, nil
}

var _ rpc.Handler = (*Server)(nil)

// Serve implements rpc.Handler.
func (s *Server) Serve(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	if r.Method == mInfo {
		in, err := s.opts.Info(ctx)
		if err != nil {
			return rpc.Answer{}, err
		}
		return rpc.Answer{Header: in}, nil
	}
	store, err := s.opts.Store()
	if err != nil {
		return rpc.Answer{}, err
	}
	switch r.Method {
	case mQuota:
		var q quotaReq
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		return quota(ctx, store, q.Bucket)
	case mSetQuota:
		var q setQuotaReq
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		if q.Limit < 0 {
			return rpc.Answer{}, errs.Newf("admin.SetQuota", errs.Invalid, "a quota of %d bytes", q.Limit)
		}
		if err := store.SetQuota(ctx, q.Bucket, q.Limit); err != nil {
			return rpc.Answer{}, err
		}
		s.log.Info("quota set", "bucket", q.Bucket, "bytes", q.Limit)
		return quota(ctx, store, q.Bucket)
	}
	return rpc.Answer{}, errs.Newf("admin.serve", errs.Unsupported, "unknown method %d", r.Method)
}

func quota(ctx context.Context, store Store, name twofold.BucketName) (rpc.Answer, error) {
	q, err := store.Quota(ctx, name)
	return rpc.Answer{Header: q}, err
}
