package replica

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// remotePipeline is the pipeline to a replica in another process: up to inFlight
// messages are under way at a time, and as many requests wait for them. It implements
// raft.AppendPipeline.
type remotePipeline struct {
	p      *port
	to     raft.ServerAddress
	stream uint64

	queue chan *remoteFuture // to be sent
	sent  chan *remoteFuture // being sent, in order
	slots chan struct{}      // one for each message under way
	done  chan raft.AppendFuture

	once   sync.Once
	closed chan struct{}
}

var _ raft.AppendPipeline = (*remotePipeline)(nil)

// remoteFuture is a request and the messages that it has become.
type remoteFuture struct {
	appendFuture
	answers chan remoteAnswer // closed when all messages have been sent
}

type remoteAnswer struct {
	b   []byte
	err error
}

func (p *port) remotePipeline(to raft.ServerAddress) *remotePipeline {
	pl := &remotePipeline{
		p: p, to: to, stream: p.streams.Add(1),
		queue:  make(chan *remoteFuture),
		sent:   make(chan *remoteFuture, inFlight-1),
		slots:  make(chan struct{}, inFlight),
		done:   make(chan raft.AppendFuture),
		closed: make(chan struct{}),
	}
	go pl.transmit()
	go pl.collect()
	return pl
}

// AppendEntries implements raft.AppendPipeline. It waits while two requests are under
// way: what is to be sent grows meanwhile.
func (pl *remotePipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := &remoteFuture{
		appendFuture: appendFuture{start: time.Now(), req: req, resp: resp, ready: make(chan struct{})},
		answers:      make(chan remoteAnswer, len(parts(req))),
	}
	select {
	case pl.queue <- f:
		return f, nil
	case <-pl.closed:
		return nil, raft.ErrPipelineShutdown
	}
}

// transmit sends requests as messages, each on a goroutine that waits for its answer.
// The places keep them in order at the other end.
func (pl *remotePipeline) transmit() {
	place := uint64(0)
	for {
		var f *remoteFuture
		select {
		case f = <-pl.queue:
		case <-pl.closed:
			return
		}
		select {
		case pl.sent <- f:
		case <-pl.closed:
			return
		}
		var wg sync.WaitGroup
		for _, part := range parts(f.req) {
			select {
			case pl.slots <- struct{}{}:
			case <-pl.closed:
				return
			}
			msg := encodeAppend(pl.p.drive(), f.req, part, pl.stream, place)
			place++
			wg.Go(func() {
				b, err := pl.p.send(pl.to, KindAppend, appendLimit, msg)
				<-pl.slots
				f.answers <- remoteAnswer{b, err}
			})
		}
		go func() {
			wg.Wait()
			close(f.answers)
		}()
	}
}

// collect passes answers on in order. It ends the pipeline at the first that fails.
func (pl *remotePipeline) collect() {
	defer pl.shut()
	for {
		var f *remoteFuture
		select {
		case f = <-pl.sent:
		case <-pl.closed:
			return
		}
		f.err = pl.outcome(f)
		if f.err != nil {
			// As in pipeline.receive: the library does not look at the error.
			*f.resp = raft.AppendEntriesResponse{RPCHeader: f.req.RPCHeader, Term: f.req.Term}
		}
		close(f.ready)
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

// outcome is a request's answer: of its messages the worst, or the one that is furthest.
func (pl *remotePipeline) outcome(f *remoteFuture) error {
	var best raft.AppendEntriesResponse
	for n := 0; ; n++ {
		var a remoteAnswer
		open := false
		select {
		case a, open = <-f.answers:
		case <-pl.closed:
			return raft.ErrPipelineShutdown
		}
		if !open {
			*f.resp = best
			return nil
		}
		if a.err != nil {
			return a.err
		}
		var r raft.AppendEntriesResponse
		if err := pl.p.appended(pl.to, a.b, &r); err != nil {
			return err
		}
		switch {
		case n == 0:
			best = r
		case !r.Success || !best.Success:
			best.Success, best.Term = false, max(best.Term, r.Term)
			best.LastLog = min(best.LastLog, r.LastLog)
		default:
			best.Term, best.LastLog = max(best.Term, r.Term), max(best.LastLog, r.LastLog)
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (pl *remotePipeline) Consumer() <-chan raft.AppendFuture { return pl.done }

// Close implements raft.AppendPipeline.
func (pl *remotePipeline) Close() error {
	pl.shut()
	return nil
}

func (pl *remotePipeline) shut() { pl.once.Do(func() { close(pl.closed) }) }
