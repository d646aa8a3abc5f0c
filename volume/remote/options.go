package remote

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// Options of Dial. Endpoints, Secret, Holder and Logger are required.
type Options struct {
	// Endpoints are HOST:PORT, or URLs, of S3 ports of the store's nodes. Any one that
	// answers is enough: it tells the others.
	Endpoints []string
	Secret    rpc.Secret
	// Holder's Held and Lost are called while there is no connection: they must not
	// wait for calls of the client. Lost may start some (opens of the files that are
	// still needed), which then run in the new session.
	Holder api.Holder
	Logger *slog.Logger
	Node   string // what the server's operator sees; default host name and pid

	// Caches asks for read leases: Holder.Invalidate is called. Holder.Held drops what it
	// has cached: the server that is attached to next may be one that does not know of it.
	Caches bool
	// KeepAlive is how often the server is told that this mount lives, which must be
	// well within its lease term. Default a quarter of that.
	KeepAlive time.Duration
	// RetryFor is for how long a call is repeated while the server says that it can't
	// serve it now (errs.Unavailable: an election, a start); default 30 s. For a
	// connection that can't be made there is no such limit.
	RetryFor time.Duration
	// MaxBackoff is the longest pause between two attempts to connect; default 1 s.
	MaxBackoff time.Duration
	// Transport has the connection's finer options (Dial for TLS, ping timeouts).
	// Secret, Role and Logger are filled in.
	Transport rpc.Config
}

func (o Options) withDefaults() Options {
	if o.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown host"
		}
		o.Node = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	if o.RetryFor == 0 {
		o.RetryFor = 30 * time.Second
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = time.Second
	}
	if o.Transport.Pool == nil {
		o.Transport.Pool = rpc.NewPool()
	}
	o.Transport.Secret, o.Transport.Role, o.Transport.Logger = o.Secret, rpc.RoleMount, o.Logger
	return o
}

func (o Options) check() error {
	if len(o.Endpoints) == 0 || slices.Contains(o.Endpoints, "") || o.Secret == (rpc.Secret{}) || o.Holder == nil || o.Logger == nil {
		return errs.Newf("remote.Dial", errs.Invalid, "an option is missing")
	}
	return nil
}

// pause is the wait between two attempts.
type pause struct {
	next, max time.Duration
}

const firstPause = 10 * time.Millisecond

func newPause(max time.Duration) pause { return pause{firstPause, max} }

// wait waits, longer each time; false when ctx ended.
func (p *pause) wait(ctx context.Context) bool {
	t := time.NewTimer(p.next)
	defer t.Stop()
	p.next = min(2*p.next, p.max)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
