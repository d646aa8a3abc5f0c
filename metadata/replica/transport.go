package replica

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
)

// network carries raft's messages between the replicas of this process, and over the
// wire to those of others. Every vote passes through it, which is what view.go builds on.
type network struct {
	wire  Wire          // nil: there are no others
	clock clock         // of promises
	d     time.Duration // that a promise lasts

	// grants counts votes that were granted. It is raised before the candidate
	// learns of the vote, so that it has changed before anybody can be leader on
	// the strength of it.
	grants atomic.Uint64

	mu    sync.RWMutex
	ports map[raft.ServerAddress]*port // guarded by mu
}

func newNetwork() *network {
	return &network{ports: map[raft.ServerAddress]*port{}, clock: machineClock(), d: promiseTime}
}

// attach makes a port for a replica, in the place of one it had before. quiet is how
// long promises may be in force that the replica gave before it started.
func (n *network) attach(id raft.ServerID, voteless bool, quiet time.Duration) *port {
	p := &port{
		net: n, addr: raft.ServerAddress(id),
		consumer: make(chan raft.RPC),
		beats:    make(chan *beat),
		closed:   make(chan struct{}),
	}
	p.severed.Store(new(make(chan struct{})))
	p.alive.Store(newLife())
	p.voteless.Store(voteless)
	if n.wire != nil {
		p.pledge = newPledge(n.clock, func() uint64 { return p.node.Load().raft.CurrentTerm() }, quiet)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.ports[p.addr]; old != nil {
		old.close()
	}
	n.ports[p.addr] = p
	return p
}

func (n *network) find(addr raft.ServerAddress) *port {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.ports[addr]
}

// port is one replica's end of the network. It implements raft.Transport.
type port struct {
	net      *network
	addr     raft.ServerAddress
	consumer chan raft.RPC
	beats    chan *beat

	once   sync.Once
	closed chan struct{} // closed for good

	// severed points to a channel that is closed while the port is cut off.
	severed atomic.Pointer[chan struct{}]
	cutMu   sync.Mutex // serialises cut and mend

	// Of messages over the wire:
	streams atomic.Uint64        // pipelines to other processes so far
	reached broadcast            // another process answered a heartbeat
	alive   atomic.Pointer[life] // ends with severed, and with closed
	pledge  *pledge              // nil without a wire
	node    atomic.Pointer[node] // set when its raft instance is there
	order   ordering             // of what comes through a pipeline
	inflow  inflow               // the snapshot that comes in

	// voteless replicas neither ask for votes nor give any: they may not know what
	// the group has committed.
	voteless atomic.Bool
}

var (
	_ raft.Transport   = (*port)(nil)
	_ raft.WithPreVote = (*port)(nil)
	_ raft.WithClose   = (*port)(nil)
)

// cut stops every message from and to the port, those on their way included.
func (p *port) cut() {
	p.cutMu.Lock()
	defer p.cutMu.Unlock()
	if !p.isCut() {
		close(*p.severed.Load())
		p.alive.Load().end()
	}
}

// mend undoes cut.
func (p *port) mend() {
	p.cutMu.Lock()
	defer p.cutMu.Unlock()
	if p.isCut() {
		p.severed.Store(new(make(chan struct{})))
		p.alive.Store(newLife())
	}
}

func (p *port) isCut() bool {
	select {
	case <-*p.severed.Load():
		return true
	default:
		return false
	}
}

func (p *port) close() {
	p.once.Do(func() {
		close(p.closed)
		p.cutMu.Lock()
		defer p.cutMu.Unlock()
		p.alive.Load().end()
	})
}

// life is a context that ends when messages must not pass any more.
type life struct {
	ctx context.Context
	end func()
}

func newLife() *life {
	l := &life{}
	l.ctx, l.end = context.WithCancel(context.Background())
	return l
}

// Close implements raft.WithClose.
func (p *port) Close() error {
	p.close()
	return nil
}

var errUnreachable = errs.Newf("replica.transport", errs.Unavailable, "the replica can't be reached")

// link is a pair of ports with the channels that end a call between them.
type link struct {
	from, to       *port
	fromCut, toCut chan struct{}
}

func (p *port) link(to raft.ServerAddress) (link, error) {
	t := p.net.find(to)
	if t == nil {
		return link{}, errUnreachable
	}
	l := link{from: p, to: t, fromCut: *p.severed.Load(), toCut: *t.severed.Load()}
	return l, l.check()
}

// check fails when a message must not pass any more.
func (l link) check() error {
	select {
	case <-l.fromCut:
	case <-l.toCut:
	case <-l.from.closed:
	case <-l.to.closed:
	default:
		return nil
	}
	return errUnreachable
}

// send hands an RPC to the other replica's main loop.
func (l link) send(rpc raft.RPC) error {
	if err := l.check(); err != nil {
		return err
	}
	select {
	case l.to.consumer <- rpc:
		return nil
	case <-l.fromCut:
	case <-l.toCut:
	case <-l.from.closed:
	case <-l.to.closed:
	}
	return errUnreachable
}

// wait waits for the answer. There is no deadline: a replica that does not answer is
// cut off by its watchdog.
func (l link) wait(answer <-chan raft.RPCResponse) (any, error) {
	select {
	case r := <-answer:
		if err := l.check(); err != nil {
			return nil, err
		}
		return r.Response, r.Error
	case <-l.fromCut:
	case <-l.toCut:
	case <-l.from.closed:
	case <-l.to.closed:
	}
	return nil, errUnreachable
}

// call is send and wait.
func (p *port) call(to raft.ServerAddress, cmd any, data io.Reader) (any, error) {
	l, err := p.link(to)
	if err != nil {
		return nil, err
	}
	answer := make(chan raft.RPCResponse, 1)
	if err := l.send(raft.RPC{Command: cmd, Reader: data, RespChan: answer}); err != nil {
		return nil, err
	}
	return l.wait(answer)
}

// answer copies a response of the expected type out of an RPC's result.
func answer[T any](to *T, r any, err error) error {
	if err != nil {
		return err
	}
	v, ok := r.(*T)
	if !ok {
		return errs.Newf("replica.transport", errs.Other, "unexpected response %T", r)
	}
	*to = *v
	return nil
}

// Consumer implements raft.Transport.
func (p *port) Consumer() <-chan raft.RPC { return p.consumer }

// LocalAddr implements raft.Transport. A replica's address is its id.
func (p *port) LocalAddr() raft.ServerAddress { return p.addr }

// EncodePeer implements raft.Transport.
func (p *port) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

// DecodePeer implements raft.Transport.
func (p *port) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// AppendEntries implements raft.Transport. The request is copied: the library
// reuses its own after an error, while the other side may still read it.
func (p *port) AppendEntries(_ raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if p.isRemote(to) {
		return p.appendRemote(to, req, resp)
	}
	r := *req
	if isHeartbeat(req) {
		v, err := p.beat(to, &r)
		return answer(resp, v, err)
	}
	v, err := p.call(to, &r, nil)
	return answer(resp, v, err)
}

// RequestVote implements raft.Transport.
func (p *port) RequestVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if !p.mayVote(to) {
		return errUnreachable
	}
	if p.net.wire != nil {
		return p.askVote(to, req, resp)
	}
	v, err := p.call(to, req, nil)
	if r, ok := v.(*raft.RequestVoteResponse); ok && r.Granted {
		p.net.grants.Add(1) // before the candidate sees it
	}
	return answer(resp, v, err)
}

// RequestPreVote implements raft.WithPreVote.
func (p *port) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if !p.mayVote(to) {
		return errUnreachable
	}
	if p.net.wire != nil {
		return p.askPreVote(to, req, resp)
	}
	v, err := p.call(to, req, nil)
	return answer(resp, v, err)
}

// mayVote reports whether the port may ask for a vote, and the other give one, as far
// as is known here: a replica in another process sees to it itself.
func (p *port) mayVote(to raft.ServerAddress) bool {
	t := p.net.find(to)
	return !p.voteless.Load() && (t != nil && !t.voteless.Load() || t == nil && p.net.wire != nil)
}

// InstallSnapshot implements raft.Transport.
func (p *port) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if p.isRemote(to) {
		return p.installRemote(to, req, resp, data)
	}
	r := *req
	v, err := p.call(to, &r, data)
	return answer(resp, v, err)
}

// TimeoutNow implements raft.Transport.
func (p *port) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if p.isRemote(to) {
		_, err := p.send(to, KindTimeout, voteLimit, newMessage(p.drive(), 0).b)
		return err
	}
	if t := p.net.find(to); t != nil && t.pledge != nil && t.pledge.bound() {
		return errPromised
	}
	v, err := p.call(to, req, nil)
	return answer(resp, v, err)
}

// campaign makes a replica stand for election at once, as its leader would when it
// hands over: used when the leader is known to be gone.
func (n *network) campaign(id raft.ServerID) {
	p := n.find(raft.ServerAddress(id))
	if p == nil || p.isCut() || p.pledge != nil && p.pledge.bound() {
		return
	}
	rpc := raft.RPC{
		Command: &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
			ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id),
		}},
		RespChan: make(chan raft.RPCResponse, 1),
	}
	select {
	case p.consumer <- rpc:
	case <-p.closed:
	case <-time.After(time.Second):
	}
}
