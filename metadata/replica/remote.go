package replica

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
)

// How long the answer to a message may take. Whoever is asked may be stopped, or wait
// for its drive.
const (
	voteLimit   = time.Second
	appendLimit = 3 * time.Second
)

var errPromised = errs.Newf("replica.transport", errs.Busy, "the replica has promised not to vote")

// drive is the replica's.
func (p *port) drive() twofold.DriveID { return driveOf(raft.ServerID(p.addr)) }

// isRemote reports whether a replica is in another process.
func (p *port) isRemote(to raft.ServerAddress) bool {
	return p.net.wire != nil && p.net.find(to) == nil
}

// send sends a message over the wire. It ends when the port is cut off, too.
func (p *port) send(to raft.ServerAddress, kind Kind, limit time.Duration, msg []byte) ([]byte, error) {
	life := p.alive.Load().ctx
	if p.isCut() || life.Err() != nil {
		return nil, errUnreachable
	}
	ctx, cancel := context.WithTimeout(life, limit)
	defer cancel()
	b, err := p.net.wire.Send(ctx, driveOf(raft.ServerID(to)), kind, msg)
	switch {
	case life.Err() != nil:
		return nil, errUnreachable // cut off meanwhile: the answer does not count
	case err != nil:
		return nil, err
	case len(b) > MaxMessage:
		return nil, errs.Newf("replica.transport", errs.Invalid, "an answer of %d bytes", len(b))
	}
	return b, nil
}

// appendRemote is AppendEntries to another process: one message after the other, until
// one is refused. Entries for a process that can't be reached wait here until it can: the
// library would wait for up to 10 s after each failure, also when a node is back.
func (p *port) appendRemote(to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if isHeartbeat(req) {
		b, err := p.send(to, KindBeat, voteLimit, encodeAppend(p.drive(), req, part{}, 0, 0))
		if err != nil {
			return err
		}
		p.reached.notify()
		return p.appended(to, b, resp)
	}
	for _, part := range parts(req) {
		b, err := p.sendEntries(to, req.Term, encodeAppend(p.drive(), req, part, 0, 0))
		if err != nil {
			return err
		}
		if err := p.appended(to, b, resp); err != nil || !resp.Success {
			return err
		}
	}
	return nil
}

// sendEntries sends entries until they are answered, for as long as the replica leads in
// the term and the other one is a member.
func (p *port) sendEntries(to raft.ServerAddress, term uint64, msg []byte) ([]byte, error) {
	for {
		wait := p.reached.wait()
		b, err := p.send(to, KindAppend, appendLimit, msg)
		n := p.node.Load()
		if err == nil || p.isCut() || n == nil || !n.leads() || n.raft.CurrentTerm() != term || !n.knows(to) {
			return b, err
		}
		select {
		case <-wait: // some node answered a heartbeat
		case <-time.After(time.Second):
		case <-p.alive.Load().ctx.Done():
			return nil, errUnreachable
		}
	}
}

// knows reports whether a replica is in the latest configuration.
func (n *node) knows(addr raft.ServerAddress) bool {
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.Address == addr {
			return true
		}
	}
	return false
}

func (p *port) appended(to raft.ServerAddress, b []byte, resp *raft.AppendEntriesResponse) error {
	if err := decodeAppended(b, resp); err != nil {
		return err
	}
	resp.RPCHeader = headerOf(driveOf(raft.ServerID(to)))
	return nil
}

// askVote is RequestVote where replicas make promises.
func (p *port) askVote(to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if p.pledge.bound() {
		return errPromised // it asks nobody, so that it can't be elected
	}
	t := p.net.find(to)
	if t == nil {
		b, err := p.send(to, KindVote, voteLimit, encodeBallot(p.drive(), ballot{req.Term, req.LastLogIndex, req.LastLogTerm, req.LeadershipTransfer}))
		if err != nil {
			return err
		}
		*resp = raft.RequestVoteResponse{RPCHeader: headerOf(driveOf(raft.ServerID(to)))}
		resp.Term, resp.Granted, err = decodeVoted(b)
		return err
	}
	l, err := p.link(to)
	if err != nil {
		return err
	}
	v, err := t.voteFor(req, l.send, l.wait)
	return answer(resp, v, err)
}

// askPreVote is RequestPreVote where replicas make promises.
func (p *port) askPreVote(to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) (err error) {
	if p.pledge.bound() {
		return errPromised
	}
	switch t := p.net.find(to); {
	case t == nil:
		var b []byte
		b, err = p.send(to, KindPreVote, voteLimit, encodeBallot(p.drive(), ballot{req.Term, req.LastLogIndex, req.LastLogTerm, false}))
		if err == nil {
			*resp = raft.RequestPreVoteResponse{RPCHeader: headerOf(driveOf(raft.ServerID(to)))}
			resp.Term, resp.Granted, err = decodeVoted(b)
		}
	case t.pledge.bound():
		*resp = raft.RequestPreVoteResponse{RPCHeader: headerOf(t.drive()), Term: req.Term}
	default:
		var v any
		v, err = p.call(to, req, nil)
		err = answer(resp, v, err)
	}
	if err == nil && p.pledge.bound() {
		return errPromised // meanwhile: a leader was heard of, whom a new term would disturb
	}
	return err
}

// voteFor has the replica decide on a request for its vote, unless it has promised not
// to. While the library has the request no promise is made.
func (p *port) voteFor(req *raft.RequestVoteRequest, send func(raft.RPC) error, wait func(<-chan raft.RPCResponse) (any, error)) (any, error) {
	if !p.pledge.beginVote() {
		return &raft.RequestVoteResponse{RPCHeader: headerOf(p.drive()), Term: req.Term}, nil
	}
	decided, outcome := make(chan raft.RPCResponse, 1), make(chan raft.RPCResponse, 1)
	if err := send(raft.RPC{Command: req, RespChan: decided}); err != nil {
		p.pledge.endVote() // the library never saw it
		return nil, err
	}
	go func() { // whoever waits may give up before the library has answered
		defer p.pledge.endVote()
		select {
		case r := <-decided:
			outcome <- r
		case <-p.closed:
		}
	}()
	return wait(outcome)
}
