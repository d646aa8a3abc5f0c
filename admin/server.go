package admin

import (
	"context"
	"log/slog"

	"twofold"
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

// Server serves administrators. Safe for concurrent use.
type Server struct {
	store Store
	log   *slog.Logger
}

// NewServer makes a server over a store.
func NewServer(store Store, log *slog.Logger) *Server { return &Server{store, log} }

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
	switch r.Method {
	case mQuota:
		var q quotaReq
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		return s.quota(ctx, q.Bucket)
	case mSetQuota:
		var q setQuotaReq
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		if q.Limit < 0 {
			return rpc.Answer{}, errs.Newf("admin.SetQuota", errs.Invalid, "a quota of %d bytes", q.Limit)
		}
		if err := s.store.SetQuota(ctx, q.Bucket, q.Limit); err != nil {
			return rpc.Answer{}, err
		}
		s.log.Info("quota set", "bucket", q.Bucket, "bytes", q.Limit)
		return s.quota(ctx, q.Bucket)
	}
	return rpc.Answer{}, errs.Newf("admin.serve", errs.Unsupported, "unknown method %d", r.Method)
}

func (s *Server) quota(ctx context.Context, name twofold.BucketName) (rpc.Answer, error) {
	q, err := s.store.Quota(ctx, name)
	return rpc.Answer{Header: q}, err
}
