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

// Client is an administrator's connection. Safe for concurrent use.
type Client struct{ conn *rpc.Conn }

// Dial connects to HOST:PORT. errs.Unavailable where no server answers, errs.Access for
// other credentials than the server's.
func Dial(ctx context.Context, endpoint string, secret rpc.Secret) (*Client, error) {
	conn, err := rpc.Dial(ctx, endpoint, rpc.Config{Secret: secret, Role: rpc.RoleAdmin, Logger: slog.New(slog.DiscardHandler)}, nobody{})
	if err != nil {
		return nil, err
	}
	return &Client{conn}, nil
}

// nobody serves the server's calls: it makes none.
type nobody struct{}

// Serve implements rpc.Handler.
func (nobody) Serve(context.Context, *rpc.Request) (rpc.Answer, error) {
	return rpc.Answer{}, errs.Newf("admin.Client", errs.Unsupported, "an administrator serves nothing")
}

// Close ends the connection.
func (c *Client) Close() { c.conn.Close() }

// Quota implements Store, on the server.
func (c *Client) Quota(ctx context.Context, name twofold.BucketName) (q api.Quota, err error) {
	_, err = c.conn.Call(ctx, &rpc.Call{Method: mQuota, Header: quotaReq{name}, Reply: &q})
	return q, err
}

// SetQuota is Store's, on the server, and says what the bucket has then.
func (c *Client) SetQuota(ctx context.Context, name twofold.BucketName, limit int64) (q api.Quota, err error) {
	_, err = c.conn.Call(ctx, &rpc.Call{Method: mSetQuota, Header: setQuotaReq{name, limit}, Reply: &q})
	return q, err
}

// Info is how the store is, from whichever node is asked. errs.Unsupported: the server is
// of a version that does not tell.
func (c *Client) Info(ctx context.Context) (*info.Info, error) {
	in := &info.Info{}
	_, err := c.conn.Call(ctx, &rpc.Call{Method: mInfo, Reply: in})
	return in, err
}
