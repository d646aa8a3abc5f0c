package peers

import (
	"time"

	"twofold"
	"twofold/cluster/rpc"
)

// The methods of this package: 100 to 119.
const (
	mHello rpc.Method = 100 // hello -> welcome; the first on each connection
	mPing  rpc.Method = 101 // ping -> pong

	firstMethod, lastMethod rpc.Method = 100, 119
)

// Versions of what nodes ask of each other that this build speaks. The highest one that
// both know is used (State.Protocol).
const (
	MinProtocol = 1
	MaxProtocol = 1
)

// Class is which of the two connections to a node a call takes.
type Class uint8

// Numbers are on the wire.
const (
	Control Class = 1 // small calls that must not wait: raft, leases, states
	Data    Class = 2 // shards
)

func (c Class) known() bool { return c == Control || c == Data }

func (c Class) String() string {
	switch c {
	case Control:
		return "control"
	case Data:
		return "data"
	}
	return "unknown"
}

// facts are what a node says of itself.
type facts struct {
	Min     int               `cbor:"1,keyasint"` // protocol versions
	Max     int               `cbor:"2,keyasint"`
	Program string            `cbor:"3,keyasint"`
	Node    int               `cbor:"4,keyasint"` // its number
	Name    string            `cbor:"5,keyasint"` // as the arguments have it
	Process twofold.UUID      `cbor:"6,keyasint"` // of this run of it
	Digests []string          `cbor:"7,keyasint"`
	Args    []string          `cbor:"8,keyasint"`
	Cluster twofold.ClusterID `cbor:"9,keyasint"`  // zero: not known yet
	Wall    int64             `cbor:"10,keyasint"` // its clock, ns since 1970
}

// hello is what the dialling node says first.
type hello struct {
	Facts facts `cbor:"1,keyasint"`
	To    int   `cbor:"2,keyasint"` // whom it wants to reach
	Class Class `cbor:"3,keyasint"`
}

// welcome is the answer, also where it is a refusal: so each side can say in its own
// words what differs.
type welcome struct {
	Facts   facts  `cbor:"1,keyasint"`
	Refused string `cbor:"2,keyasint,omitempty"` // why; empty: accepted
}

type ping struct {
	Cluster twofold.ClusterID `cbor:"1,keyasint"`
}

type pong struct {
	Cluster twofold.ClusterID `cbor:"1,keyasint"`
	Wall    int64             `cbor:"2,keyasint"` // ns since 1970
}

// skew is how far the other clock is ahead, when an answer that was asked for at sent
// (this node's clock) and came at received says wall. The answer is taken to have been
// given in the middle, which is wrong by half the round trip at most (RFC 5905 section
// 8 with one time for both of the server's).
func skew(sent, received time.Time, wall int64) time.Duration {
	middle := sent.Add(received.Sub(sent) / 2)
	return time.Unix(0, wall).Sub(middle)
}
