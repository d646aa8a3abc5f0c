package replica

import (
	"context"
	"io"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
)

// receive takes a message for this replica from another process.
func (p *port) receive(ctx context.Context, kind Kind, msg []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.alive.Load().ctx, cancel)()
	switch kind {
	case KindAppend, KindBeat:
		return p.receiveAppend(ctx, kind, msg)
	case KindVote:
		return p.receiveVote(ctx, msg)
	case KindPreVote:
		return p.receivePreVote(ctx, msg)
	case KindTimeout:
		return nil, p.receiveTimeout(ctx, msg)
	case KindSnapOpen:
		return nil, p.receiveSnapOpen(ctx, msg)
	case KindSnapData:
		return nil, p.receiveSnapData(ctx, msg)
	case KindSnapEnd:
		return p.receiveSnapEnd(ctx, msg)
	case KindPromise:
		return p.receivePromise(msg)
	case KindRelease:
		term, round, err := decodePromise(msg)
		if err == nil {
			p.pledge.release(term, round)
		}
		return nil, err
	}
	return nil, errs.Newf("replica.Receive", errs.Unsupported, "a message of kind %d", kind)
}

// put hands an RPC to the replica's main loop.
func (p *port) put(ctx context.Context, rpc raft.RPC) error {
	select {
	case p.consumer <- rpc:
		return nil
	case <-ctx.Done():
	case <-p.closed:
	}
	return errUnreachable
}

// outcome waits for the replica's answer.
func (p *port) outcome(ctx context.Context, answer <-chan raft.RPCResponse) (any, error) {
	select {
	case r := <-answer:
		return r.Response, r.Error
	case <-ctx.Done():
	case <-p.closed:
	}
	return nil, errUnreachable
}

// decide is put and outcome.
func (p *port) decide(ctx context.Context, cmd any, data io.Reader) (any, error) {
	ch := make(chan raft.RPCResponse, 1)
	if err := p.put(ctx, raft.RPC{Command: cmd, Reader: data, RespChan: ch}); err != nil {
		return nil, err
	}
	return p.outcome(ctx, ch)
}

func (p *port) receiveAppend(ctx context.Context, kind Kind, msg []byte) ([]byte, error) {
	a, err := decodeAppend(msg)
	if err != nil {
		return nil, err
	}
	ch := make(chan raft.RPCResponse, 1)
	if kind == KindBeat {
		if !isHeartbeat(a.req) {
			return nil, errs.Newf("replica.Receive", errs.Invalid, "a heartbeat with entries")
		}
		select {
		case p.beats <- &beat{req: a.req, answer: ch}:
		case <-ctx.Done():
			return nil, errUnreachable
		case <-p.closed:
			return nil, errUnreachable
		}
	} else if err := p.order.inTurn(ctx, a, func() error {
		return p.put(ctx, raft.RPC{Command: a.req, RespChan: ch})
	}); err != nil {
		return nil, err
	}
	v, err := p.outcome(ctx, ch)
	var r raft.AppendEntriesResponse
	if err := answer(&r, v, err); err != nil {
		return nil, err
	}
	return encodeAppended(&r), nil
}

func (p *port) receiveVote(ctx context.Context, msg []byte) ([]byte, error) {
	b, from, err := decodeBallot(msg)
	if err != nil {
		return nil, err
	}
	if p.voteless.Load() {
		return nil, errUnreachable
	}
	h := headerOf(from)
	req := &raft.RequestVoteRequest{
		RPCHeader: h, Term: b.term, Candidate: h.Addr, LastLogIndex: b.index, LastLogTerm: b.last, LeadershipTransfer: b.transfer,
	}
	v, err := p.voteFor(req,
		func(rpc raft.RPC) error { return p.put(ctx, rpc) },
		func(ch <-chan raft.RPCResponse) (any, error) { return p.outcome(ctx, ch) })
	var r raft.RequestVoteResponse
	if err := answer(&r, v, err); err != nil {
		return nil, err
	}
	return encodeVoted(r.Term, r.Granted), nil
}

func (p *port) receivePreVote(ctx context.Context, msg []byte) ([]byte, error) {
	b, from, err := decodeBallot(msg)
	if err != nil {
		return nil, err
	}
	if p.voteless.Load() {
		return nil, errUnreachable
	}
	if p.pledge.bound() {
		return encodeVoted(b.term, false), nil
	}
	v, err := p.decide(ctx, &raft.RequestPreVoteRequest{
		RPCHeader: headerOf(from), Term: b.term, LastLogIndex: b.index, LastLogTerm: b.last,
	}, nil)
	var r raft.RequestPreVoteResponse
	if err := answer(&r, v, err); err != nil {
		return nil, err
	}
	return encodeVoted(r.Term, r.Granted), nil
}

func (p *port) receiveTimeout(ctx context.Context, msg []byte) error {
	d, from, err := openMessage(msg)
	if err == nil {
		err = d.done()
	}
	switch {
	case err != nil:
		return err
	case p.voteless.Load():
		return errUnreachable
	case p.pledge.bound():
		return errPromised
	}
	_, err = p.decide(ctx, &raft.TimeoutNowRequest{RPCHeader: headerOf(from)}, nil)
	return err
}

func (p *port) receivePromise(msg []byte) ([]byte, error) {
	term, round, err := decodePromise(msg)
	if err != nil {
		return nil, err
	}
	return p.promise(term, round).encode(), nil
}

// promise is the replica's answer to a leader who asks for one.
func (p *port) promise(term, round uint64) promiseAnswer {
	n := p.node.Load()
	if n == nil || p.isCut() {
		return promiseAnswer{}
	}
	a := promiseAnswer{given: p.pledge.give(term, round, p.net.d), last: n.raft.LastIndex()}
	if cur := n.host.cur.Load(); cur != nil {
		a.applied = cur.machine.Applied()
	}
	return a
}
