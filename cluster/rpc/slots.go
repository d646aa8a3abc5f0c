package rpc

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// slots keep us within what the peer serves at a time. A slot is held from before
// a request is sent until its answer came, even if the caller went away: the peer
// counts the same way, so that it never sees more than it allowed.
type slots struct {
	calls  chan struct{}
	urgent chan struct{}
	bytes  *semaphore.Weighted
	max    Limits
}

func newSlots(l Limits) slots {
	return slots{
		calls:  make(chan struct{}, l.Calls),
		urgent: make(chan struct{}, l.Urgent),
		bytes:  semaphore.NewWeighted(l.Bytes),
		max:    l,
	}
}

func (s *slots) of(urgent bool) chan struct{} {
	if urgent {
		return s.urgent
	}
	return s.calls
}

// acquire waits for a slot for a request with n payload bytes; false when ctx or
// the connection's context ended before.
func (s *slots) acquire(ctx, conn context.Context, urgent bool, n int64) bool {
	ch := s.of(urgent)
	select {
	case ch <- struct{}{}:
	default:
		select {
		case ch <- struct{}{}:
		case <-ctx.Done():
			return false
		case <-conn.Done():
			return false
		}
	}
	if n == 0 || s.bytes.TryAcquire(n) {
		return true
	}
	wait, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(conn, cancel)()
	defer cancel()
	if s.bytes.Acquire(wait, n) != nil {
		<-ch
		return false
	}
	return true
}

func (s *slots) release(urgent bool, n int64) {
	if n > 0 {
		s.bytes.Release(n)
	}
	<-s.of(urgent)
}
