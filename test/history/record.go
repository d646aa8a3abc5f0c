package history

import (
	"sync"
	"time"
)

// recorder collects the events of a round. Safe for concurrent use.
type recorder struct {
	start time.Time

	mu      sync.Mutex
	last    uint32 // operation
	token   uint32
	events  []Event
	unknown int
	strange []string // errors that nothing in this round explains
}

func (r *recorder) now() int64 { return time.Since(r.start).Nanoseconds() }

// newToken is a value that nothing else in the round has.
func (r *recorder) newToken() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.token++
	return r.token
}

// number gives an operation its number.
func (r *recorder) number(op *Op) *Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	op.N = r.last
	return op
}

// add notes what was called and answered between two moments. Looks without an answer
// say nothing, and are left out.
func (r *recorder) add(client int, op *Op, out *Out, call, ret int64) {
	if out == nil || out.Unknown && !op.changes() {
		return
	}
	if op.N == 0 {
		r.number(op)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if out.Unknown {
		ret = never
		r.unknown++
	}
	r.events = append(r.events, Event{Client: client, Call: call, Return: ret, Op: op, Out: out})
}

// do records what fn does and returns its answer.
func (r *recorder) do(client int, op *Op, fn func() *Out) *Out {
	r.number(op)
	call := r.now()
	out := fn()
	r.add(client, op, out, call, r.now())
	return out
}

// odd notes an error that may not be.
func (r *recorder) odd(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.strange) < 10 {
		r.strange = append(r.strange, text)
	}
}
