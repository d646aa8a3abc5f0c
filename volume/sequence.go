package volume

import (
	"sync"
	"sync/atomic"
)

// counter counts from 1.
type counter struct{ n atomic.Uint64 }

func (c *counter) next() uint64 { return c.n.Add(1) }

// sequence numbers the commands of a session and knows below which number all are
// answered, so that their kept results may go.
type sequence struct {
	mu   sync.Mutex
	last uint64
	low  uint64              // all numbers <= low are done
	over map[uint64]struct{} // done numbers > low
}

func (s *sequence) next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	return s.last
}

func (s *sequence) done(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil {
		s.over = map[uint64]struct{}{}
	}
	s.over[n] = struct{}{}
	for {
		if _, ok := s.over[s.low+1]; !ok {
			return
		}
		s.low++
		delete(s.over, s.low)
	}
}

// acked is the number below which results will not be asked for again.
func (s *sequence) acked() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.low + 1
}
