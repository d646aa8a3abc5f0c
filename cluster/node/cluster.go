package node

import (
	"context"

	"twofold"
	"twofold/cluster/peers"
	"twofold/cluster/rpc"
	"twofold/cluster/topology"
	"twofold/internal/errs"
)

// Cluster is what a node needs to be one of several.
type Cluster struct {
	Topology topology.Topology
	Self     int // this node, as an index of Topology.Nodes
	// Peers are the connections to the others. Open adds its handlers and starts them;
	// the caller gives them the connections that come in, and closes them.
	Peers *peers.Peers
	// Views serve the store where it is led.
	Views Views
}

// Views are told where the store is led. Calls come one at a time.
type Views interface {
	// Lead: the store is open here. It returns at once.
	Lead(l *Leading)
	// Unlead: it is about to end. It returns at once, and nothing new comes to it then.
	Unlead(l *Leading)
	// Closed: it has ended, and whatever is under way at it fails.
	Closed(l *Leading)
}

// Methods between nodes, of protocol version 1 (peers have 100 to 119, drives 120 to
// 149, replicas 150 to 179). Append, never renumber.
const (
	firstMethod rpc.Method = 180
	mReport     rpc.Method = 180 // what a node has
	mLeader     rpc.Method = 181 // who leads
	mFormat     rpc.Method = 182 // make the drives of a new store
	mShards     rpc.Method = 183 // is there a shard on any drive?
	mReplica    rpc.Method = 184 // make a metadata replica on a drive
	mReplace    rpc.Method = 185 // may an empty directory become a drive?
	mInfo       rpc.Method = 186 // how the store is, of the node that leads
	mAbout      rpc.Method = 187 // what a node says of its process
	lastMethod  rpc.Method = 219
)

// report is what a node knows of its drives: the answer to mReport.
type report struct {
	// Cluster is the store that its drives are of; zero: none has an identity.
	Cluster twofold.ClusterID `cbor:"1,keyasint"`
	// Looked: it has looked at its drives. What follows is worth nothing before.
	Looked bool `cbor:"2,keyasint,omitempty"`
	// Begun: one of them has a metadata replica that took part in the store, so that
	// the store is there, whatever else is missing.
	Begun  bool          `cbor:"3,keyasint,omitempty"`
	Drives []driveReport `cbor:"4,keyasint,omitempty"`
}

// driveReport is one drive's part of it, at its position.
type driveReport struct {
	Pool  uint16          `cbor:"1,keyasint,omitempty"`
	Set   uint16          `cbor:"2,keyasint,omitempty"`
	Index int             `cbor:"3,keyasint,omitempty"`
	Drive twofold.DriveID `cbor:"4,keyasint"` // zero: it has no identity
	// Why says that it can't be used, and why; empty where it can, or can be made.
	Why string `cbor:"5,keyasint,omitempty"`
}

type formatReq struct {
	Cluster twofold.ClusterID `cbor:"1,keyasint"`
}

type shardsAns struct {
	Some bool `cbor:"1,keyasint,omitempty"`
}

type leaderReq struct {
	Term uint64 `cbor:"1,keyasint"` // of the group, in which the sender leads
}

type replicaReq struct {
	Drive twofold.DriveID `cbor:"1,keyasint"`
	Lost  twofold.DriveID `cbor:"2,keyasint"` // zero: it is one more
}

type replaceReq struct {
	Pool  uint16 `cbor:"1,keyasint,omitempty"`
	Set   uint16 `cbor:"2,keyasint,omitempty"`
	Index int    `cbor:"3,keyasint,omitempty"`
}

// several reports whether the store is over several nodes.
func (n *Node) several() bool { return n.opts.Cluster != nil }

// url is a node for people.
func (n *Node) url(node int) string { return n.opts.Cluster.Topology.Nodes[node].String() }

// serve answers the other nodes.
func (n *Node) serve(ctx context.Context, from int, r *rpc.Request) (rpc.Answer, error) {
	switch r.Method {
	case mReport:
		return rpc.Answer{Header: n.report()}, nil
	case mFormat:
		var q formatReq
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		return rpc.Answer{}, n.formatOwn(q.Cluster, from)
	case mShards:
		some, err := n.anyShard()
		return rpc.Answer{Header: shardsAns{some}}, err
	case mLeader:
		var q leaderReq
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		return rpc.Answer{}, n.where.told(q.Term, from)
	case mReplica:
		var q replicaReq
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		return rpc.Answer{}, n.makeReplica(ctx, q.Drive, q.Lost)
	case mReplace:
		var q replaceReq
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		return rpc.Answer{}, n.mayReplace(twofold.SetID{Pool: q.Pool, Set: q.Set}, q.Index)
	case mInfo:
		in, err := n.infoHere(ctx)
		if err != nil {
			return rpc.Answer{}, err
		}
		return rpc.Answer{Header: in}, nil
	case mAbout:
		return rpc.Answer{Header: n.about()}, nil
	}
	return rpc.Answer{}, errs.Newf("node.serve", errs.Unsupported, "unknown method %d", r.Method)
}

// call asks another node something, on the connection for small messages.
func (n *Node) call(ctx context.Context, node int, m rpc.Method, q, reply any) error {
	_, err := n.opts.Cluster.Peers.Call(ctx, node, peers.Control, &rpc.Call{Method: m, Header: q, Reply: reply})
	return err
}
