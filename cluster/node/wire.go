package node

import (
	"context"

	"twofold"
	"twofold/cluster/peers"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/metadata/replica"
)

// wire carries the messages of metadata replicas between nodes.
type wire struct{ n *Node }

var _ replica.Wire = wire{}

// Methods of the replicas, 150 to 179.
const (
	firstRaft rpc.Method = 150
	mRaft     rpc.Method = 150
	lastRaft  rpc.Method = 179
)

// raftHead goes before a message, which is the payload.
type raftHead struct {
	To   twofold.DriveID `cbor:"1,keyasint"`
	Kind replica.Kind    `cbor:"2,keyasint"`
}

// raftAnswer is the answer.
type raftAnswer struct {
	Message []byte `cbor:"1,keyasint,omitempty"`
}

// largeMessage is from how many bytes on a message of the log goes beside the shards:
// heartbeats and promises must not wait behind it.
const largeMessage = 128 << 10

// Send implements replica.Wire.
func (w wire) Send(ctx context.Context, to twofold.DriveID, kind replica.Kind, msg []byte) ([]byte, error) {
	node, err := w.n.find(ctx, to)
	if err != nil {
		return nil, err
	}
	class := peers.Control
	if !kind.Urgent() && len(msg) > largeMessage {
		class = peers.Data
	}
	var a raftAnswer
	_, err = w.n.opts.Cluster.Peers.Call(ctx, node, class, &rpc.Call{
		Method: mRaft, Header: raftHead{to, kind}, Payload: [][]byte{msg}, Urgent: kind.Urgent(), Reply: &a,
	})
	return a.Message, err
}

// Others implements replica.Wire.
func (w wire) Others() []twofold.DriveID { return w.n.where.oneOfEach(w.n.opts.Cluster.Self) }

// receive takes a message for a replica here.
func (n *Node) receive(ctx context.Context, _ int, r *rpc.Request) (rpc.Answer, error) {
	var h raftHead
	switch {
	case r.Method != mRaft:
		return rpc.Answer{}, errs.Newf("node.receive", errs.Unsupported, "unknown method %d", r.Method)
	case !n.opened.Load():
		return rpc.Answer{}, errs.Newf("node.receive", errs.Unavailable, "this node is starting")
	}
	if err := r.Decode(&h); err != nil {
		return rpc.Answer{}, err
	}
	msg, err := n.group.Receive(ctx, h.To, h.Kind, r.Payload)
	return rpc.Answer{Header: raftAnswer{msg}}, err
}
