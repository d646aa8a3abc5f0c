package replica

import (
	"github.com/hashicorp/raft"
)

// beat is a heartbeat on its way. Heartbeats pass by a replica's main loop, which
// may be waiting for its drive.
type beat struct {
	req    *raft.AppendEntriesRequest
	answer chan raft.RPCResponse
}

// isHeartbeat tells the requests that the library sends only to be answered.
func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return r.Term != 0 && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && len(r.Entries) == 0 && r.LeaderCommitIndex == 0
}

// SetHeartbeatHandler implements raft.Transport. The handler runs on a goroutine of
// the replica that is asked: it may write a new term to its drive, and a drive that
// fails ends the goroutine, which must not be the leader's.
func (p *port) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		return
	}
	go func() {
		defer p.close() // the handler ended its goroutine: the replica is done
		for {
			select {
			case b := <-p.beats:
				handle(raft.RPC{Command: b.req, RespChan: b.answer})
			case <-p.closed:
				return
			}
		}
	}()
}

func (p *port) beat(to raft.ServerAddress, req *raft.AppendEntriesRequest) (any, error) {
	l, err := p.link(to)
	if err != nil {
		return nil, err
	}
	b := &beat{req: req, answer: make(chan raft.RPCResponse, 1)}
	select {
	case l.to.beats <- b:
		return l.wait(b.answer)
	case <-l.fromCut:
	case <-l.toCut:
	case <-l.from.closed:
	case <-l.to.closed:
	}
	return nil, errUnreachable
}
