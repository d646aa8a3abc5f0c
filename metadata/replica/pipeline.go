package replica

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// inFlight is how many requests a pipeline has with a follower at a time: one that
// it writes and one that waits for it. More would only cut the log into smaller
// pieces, each with an fsync of its own: while a request waits, the next one grows.
const inFlight = 2

// pipeline implements raft.AppendPipeline.
type pipeline struct {
	l    link
	sent chan *appendFuture // on their way, in order
	done chan raft.AppendFuture

	once   sync.Once
	closed chan struct{}
}

var _ raft.AppendPipeline = (*pipeline)(nil)

// AppendEntriesPipeline implements raft.Transport.
func (p *port) AppendEntriesPipeline(_ raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if p.isRemote(to) {
		return p.remotePipeline(to), nil
	}
	l, err := p.link(to)
	if err != nil {
		return nil, err
	}
	pl := &pipeline{
		l:      l,
		sent:   make(chan *appendFuture, inFlight-1),
		done:   make(chan raft.AppendFuture),
		closed: make(chan struct{}),
	}
	go pl.receive()
	return pl, nil
}

// AppendEntries implements raft.AppendPipeline.
func (pl *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := &appendFuture{
		start: time.Now(), req: req, resp: resp,
		answer: make(chan raft.RPCResponse, 1), ready: make(chan struct{}),
	}
	// A place among those on their way first, so that answers are waited for in the
	// order of the requests.
	select {
	case pl.sent <- f:
	case <-pl.closed:
		return nil, raft.ErrPipelineShutdown
	}
	if err := pl.l.send(raft.RPC{Command: req, RespChan: f.answer}); err != nil {
		pl.shut()
		return nil, err
	}
	return f, nil
}

// receive passes answers on in order. It ends the pipeline at the first that fails.
func (pl *pipeline) receive() {
	defer pl.shut()
	for {
		var f *appendFuture
		select {
		case f = <-pl.sent:
		case <-pl.closed:
			return
		}
		v, err := pl.await(f)
		f.err = answer(f.resp, v, err)
		close(f.ready)
		if f.err != nil {
			// The library does not look at an answer's error here: a pipeline that
			// broke hands out a refusal, and replication starts over without it.
			*f.resp = raft.AppendEntriesResponse{RPCHeader: f.req.RPCHeader, Term: f.req.Term}
		}
		select {
		case pl.done <- f:
		case <-pl.closed:
			return
		}
		if f.err != nil {
			return
		}
	}
}

func (pl *pipeline) await(f *appendFuture) (any, error) {
	select {
	case r := <-f.answer:
		return r.Response, r.Error
	case <-pl.closed:
		return nil, raft.ErrPipelineShutdown
	case <-pl.l.fromCut:
	case <-pl.l.toCut:
	case <-pl.l.from.closed:
	case <-pl.l.to.closed:
	}
	return nil, errUnreachable
}

// Consumer implements raft.AppendPipeline.
func (pl *pipeline) Consumer() <-chan raft.AppendFuture { return pl.done }

// Close implements raft.AppendPipeline.
func (pl *pipeline) Close() error {
	pl.shut()
	return nil
}

func (pl *pipeline) shut() { pl.once.Do(func() { close(pl.closed) }) }

// appendFuture implements raft.AppendFuture.
type appendFuture struct {
	start  time.Time
	req    *raft.AppendEntriesRequest
	resp   *raft.AppendEntriesResponse
	answer chan raft.RPCResponse
	ready  chan struct{} // closed when err and resp are set
	err    error
}

func (f *appendFuture) Error() error {
	<-f.ready
	return f.err
}
func (f *appendFuture) Start() time.Time                      { return f.start }
func (f *appendFuture) Request() *raft.AppendEntriesRequest   { return f.req }
func (f *appendFuture) Response() *raft.AppendEntriesResponse { return f.resp }
