package peers

import (
	"context"
	"log/slog"
	"net"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// Node is a node as the arguments name it.
type Node struct {
	Name    string // http://node1:9000
	Address string // node1:9000; where it is dialled, and what messages call it
}

// Options are what Peers needs. Self, Nodes, Digests, Secret and Logger are required.
type Options struct {
	Self  int    // this node's number
	Nodes []Node // all of them, this one included; a node's number is its place here
	// Digests are of what all nodes must have in common: the i-th of the first i+1 pools
	// of the arguments. Two nodes agree where the shorter list ends like the longer one
	// has it there: one of them knows a pool more.
	Digests []string
	Args    []string // the arguments as given, for messages
	Secret  rpc.Secret
	Program string            // this program's version, for messages and State
	Cluster twofold.ClusterID // zero: not known yet, see SetCluster
	Logger  *slog.Logger
	// Dial opens the connections below (TLS); nil is plain TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Now  func() time.Time // the clock that is compared; nil: time.Now
}

func (o Options) check() error {
	const op = "peers.New"
	switch {
	case len(o.Nodes) == 0 || o.Self < 0 || o.Self >= len(o.Nodes):
		return errs.Newf(op, errs.Invalid, "node %d of %d", o.Self, len(o.Nodes))
	case len(o.Digests) == 0:
		return errs.Newf(op, errs.Invalid, "no digests")
	case o.Secret == rpc.Secret{}:
		return errs.Newf(op, errs.Invalid, "no secret")
	case o.Logger == nil:
		return errs.Newf(op, errs.Invalid, "no logger")
	}
	return nil
}
