package remote

import (
	"context"
	"sync"

	"twofold/internal/errs"
	"twofold/volume/api"
)

// numbers gives out a session's call numbers and knows which were answered.
type numbers struct {
	mu       sync.Mutex
	last     uint64              // the last one given
	low      uint64              // all below it were answered
	answered map[uint64]struct{} // those above low
	moved    chan struct{}       // closed and replaced when low moves
}

func newNumbers() *numbers {
	return &numbers{low: 1, answered: make(map[uint64]struct{}), moved: make(chan struct{})}
}

// next gives out a number. It waits while the oldest unanswered call is a whole
// window behind, so that the tables of both sides stay small.
func (n *numbers) next(ctx context.Context) (uint64, error) {
	for {
		n.mu.Lock()
		if n.last+1-n.low < window {
			n.last++
			seq := n.last
			n.mu.Unlock()
			return seq, nil
		}
		moved := n.moved
		n.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, errs.E("remote.call", errs.Canceled, ctx.Err())
		}
	}
}

// seq is number s with the watermark of now.
func (n *numbers) seq(s uint64) api.Seq {
	n.mu.Lock()
	defer n.mu.Unlock()
	return api.Seq{N: s, Acked: n.low}
}

// answer notes that nobody will ask for s again.
func (n *numbers) answer(s uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s != n.low {
		n.answered[s] = struct{}{}
		return
	}
	for {
		n.low++
		if _, ok := n.answered[n.low]; !ok {
			break
		}
		delete(n.answered, n.low)
	}
	close(n.moved)
	n.moved = make(chan struct{})
}
