package replica

import (
	"context"
	"sync"

	"twofold/internal/errs"
)

// ordering hands the messages of a pipeline to a replica in the order in which they
// were sent, though they may overtake each other on the wire. There is one pipeline at a
// time, the newest: what comes late of one before is refused. The zero value is ready.
type ordering struct {
	moved broadcast // what is below changed

	mu     sync.Mutex
	term   uint64 // guarded by mu; of the leader whose pipeline it is
	stream uint64 // guarded by mu; the pipeline, numbered by its leader
	next   uint64 // guarded by mu; place of the next message
}

// turn is where a message stands.
type turn int

const (
	tooLate turn = iota
	tooEarly
	now
)

func (o *ordering) at(a appended) turn {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a.req.Term > o.term || a.req.Term == o.term && a.stream > o.stream {
		o.term, o.stream, o.next = a.req.Term, a.stream, 0
		o.moved.notify()
	}
	switch {
	case a.req.Term != o.term || a.stream != o.stream || a.place < o.next:
		return tooLate
	case a.place > o.next:
		return tooEarly
	}
	return now
}

// inTurn calls put when it is the message's turn; put ends with ctx. A message
// outside pipelines (stream 0) has no turn to wait for.
func (o *ordering) inTurn(ctx context.Context, a appended, put func() error) error {
	if a.stream == 0 {
		return put()
	}
	for {
		wait := o.moved.wait()
		switch o.at(a) {
		case tooLate:
			return errs.Newf("replica.Receive", errs.Stale, "a message of a pipeline that has gone on without it")
		case now:
			if err := put(); err != nil {
				return err
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.term == a.req.Term && o.stream == a.stream {
				o.next++
			}
			o.moved.notify()
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return errUnreachable
		}
	}
}
