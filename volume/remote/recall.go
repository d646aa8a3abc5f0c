package remote

import (
	"context"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// callbacks is the client as the server calls it.
type callbacks Client

var _ rpc.Handler = (*callbacks)(nil)

// recall is a call of Holder.Recall under way.
type recall struct {
	done chan struct{} // closed when err is there
	err  error
}

// Serve implements rpc.Handler.
func (b *callbacks) Serve(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	switch r.Method {
	case mRecall, mRecallLocks:
	case mInvalidate:
		return rpc.Answer{}, b.invalidate(ctx, r)
	default:
		return rpc.Answer{}, errs.Newf("remote.callback", errs.Unsupported, "unknown method %d", r.Method)
	}
	var q leaseReq
	if err := r.Decode(&q); err != nil {
		return rpc.Answer{}, err
	}
	if err := q.check(); err != nil {
		return rpc.Answer{}, err
	}
	if r.Method == mRecallLocks {
		return rpc.Answer{}, (*Client)(b).recallLocks(ctx, q)
	}
	rec := (*Client)(b).recall(q)
	select {
	case <-rec.done:
		return rpc.Answer{}, rec.err
	case <-ctx.Done():
		return rpc.Answer{}, errs.E("remote.callback", errs.Canceled, ctx.Err())
	}
}

// invalidate runs Holder.Invalidate. It may run twice at the same time, for a server
// that asks again after a reconnect.
func (b *callbacks) invalidate(ctx context.Context, r *rpc.Request) error {
	var q invalidateReq
	if err := r.Decode(&q); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	return b.opts.Holder.Invalidate(ctx, q.Stale)
}

// recall starts Holder.Recall, or finds the one under way: after a reconnect the
// server asks again. It runs under the client's context: a flush that was begun is
// brought to its end whatever becomes of the connection that asked for it.
func (c *Client) recall(q leaseReq) *recall {
	c.mu.Lock()
	rec := c.recalls[q]
	if rec != nil {
		c.mu.Unlock()
		return rec
	}
	rec = &recall{done: make(chan struct{})}
	c.recalls[q] = rec
	c.mu.Unlock()
	if !c.background(func() {
		err := c.opts.Holder.Recall(c.ctx, q.Ino, q.Token)
		c.finish(q, rec, err)
	}) {
		c.finish(q, rec, errs.Newf("remote.callback", errs.Unavailable, "the mount is shutting down"))
	}
	return rec
}

func (c *Client) finish(q leaseReq, rec *recall, err error) {
	c.mu.Lock()
	delete(c.recalls, q)
	c.mu.Unlock()
	rec.err = err
	close(rec.done)
}
