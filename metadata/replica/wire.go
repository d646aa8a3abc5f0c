package replica

import (
	"context"

	"twofold"
	"twofold/internal/errs"
)

// Wire carries messages to replicas in other processes. Whoever implements it has
// proven who the other side is; what it says is checked here. Safe for concurrent use.
type Wire interface {
	// Send delivers a message to Group.Receive of the process that has the drive and
	// returns its answer, or its error with the kind kept. errs.Unavailable: the
	// process can't be reached, and the message may have been delivered all the same.
	// Messages may overtake each other. It returns soon after ctx ends; msg is the
	// caller's again then.
	Send(ctx context.Context, to twofold.DriveID, kind Kind, msg []byte) ([]byte, error)
	// Others lists drives of other processes, at least one of each that may have a
	// replica. They are asked who leads.
	Others() []twofold.DriveID
}

// Kind is what a message is. The numbers are part of the protocol between nodes.
type Kind uint8

// Kinds of messages.
const (
	KindAppend   Kind = 1  // raft's AppendEntries
	KindBeat     Kind = 2  // raft's heartbeat
	KindVote     Kind = 3  // raft's RequestVote
	KindPreVote  Kind = 4  // raft's RequestPreVote
	KindTimeout  Kind = 5  // raft's TimeoutNow
	KindSnapOpen Kind = 6  // raft's InstallSnapshot: the request
	KindSnapData Kind = 7  // some of the snapshot's bytes
	KindSnapEnd  Kind = 8  // the end of it, and the outcome
	KindPromise  Kind = 9  // a leader asks for a promise
	KindRelease  Kind = 10 // a leader gives promises back
	KindAsk      Kind = 11 // the leader is to change the configuration, or asked how far it is
	KindWhere    Kind = 12 // who leads; any process answers, with a replica or without
)

// Urgent tells whether a message must not wait behind large ones: it is small, and
// the group stops without it.
func (k Kind) Urgent() bool {
	switch k {
	case KindBeat, KindVote, KindPreVote, KindTimeout, KindPromise, KindRelease:
		return true
	}
	return false
}

// MaxMessage is the most bytes of a message, and of an answer. One with entries of the
// log is larger than 1 MiB only where a single command is (metadata.MaxCommandLen).
const MaxMessage = 8<<20 + 64<<10

// Receive takes a message from another process and returns the answer. It does not
// keep msg. It may wait for the replica's drive until ctx ends. errs.NotFound: the drive
// has no replica here; errs.Invalid: a message that breaks the rules, of which nothing
// was done; errs.Unsupported: of another version.
func (g *Group) Receive(ctx context.Context, to twofold.DriveID, kind Kind, msg []byte) ([]byte, error) {
	const op = "replica.Receive"
	if len(msg) > MaxMessage {
		return nil, errs.Newf(op, errs.Invalid, "a message of %d bytes", len(msg))
	}
	if g.net.wire == nil {
		return nil, errs.Newf(op, errs.Unsupported, "the metadata is not shared with other nodes")
	}
	if kind == KindWhere {
		return g.receiveWhere(msg)
	}
	p := g.net.find(addressOf(to))
	if p == nil {
		return nil, errs.Newf(op, errs.NotFound, "no replica of the metadata on drive %s here", to)
	}
	if p.isCut() {
		return nil, errUnreachable
	}
	if kind == KindAsk {
		return g.receiveAsk(ctx, to, msg)
	}
	return p.receive(ctx, kind, msg)
}
