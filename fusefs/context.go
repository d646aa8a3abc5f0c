package fusefs

import (
	"context"
	"sync"
	"time"
)

// How long after a signal an interrupted request is given to end by itself, before it is
// asked whether the signal is the end of its process (dying.go): only then does it end
// with EINTR. See DESIGN.md, "Interrupts".
const (
	graceWait   = 250 * time.Millisecond // requests that only look, or wait for a lease
	graceChange = 5 * time.Second        // requests that may have changed something already
	gracePages  = 10 * time.Second       // reads into the page cache: failing is SIGBUS for a mapping
)

// watchAfter is how long a request may take before it is looked whether it is interrupted:
// a goroutine for each that only waits for its end would be a tenth of a small read's cost.
const watchAfter = 20 * time.Millisecond

// request is the context of one FUSE request: it ends a grace after the kernel
// interrupted the request for a signal that ends the caller, or with the mount. end must
// be called before the request is answered, because go-fuse uses cancel again for the
// next one.
type request struct {
	cancel <-chan struct{}
	caller uint32 // thread id; 0: not known here
	grace  time.Duration
	mount  context.Context

	mu    sync.Mutex    // guards what follows
	done  chan struct{} // made by the first Done
	over  chan struct{} // likewise; closed by end
	timer *time.Timer   // of watch, from then on
	ended bool          // nothing is watched any more
}

var _ context.Context = (*request)(nil)

func (f *fsys) request(cancel <-chan struct{}, caller uint32, grace time.Duration) *request {
	return &request{cancel: cancel, caller: caller, grace: grace, mount: f.ctx}
}

func (r *request) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.timer != nil { // most requests wait for nothing
		close(r.over)
		r.timer.Stop()
	}
}

func (r *request) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if !r.ended {
			r.over = make(chan struct{})
			r.timer = time.AfterFunc(watchAfter, r.watch)
		}
	}
	return r.done
}

// watch closes done when the time has come; on a goroutine of its own.
func (r *request) watch() {
	select {
	case <-r.over:
		return
	case <-r.mount.Done():
		close(r.done)
		return
	case <-r.cancel:
	}
	// The kernel interrupts a request once only: a signal that ends the process may come
	// later, and is looked for.
	t := time.NewTimer(r.grace)
	defer t.Stop()
	for {
		select {
		case <-r.over:
			return
		case <-r.mount.Done():
			close(r.done)
			return
		case <-t.C:
			if dying(r.caller) {
				close(r.done)
				return
			}
			t.Reset(graceWait)
		}
	}
}

func (r *request) Err() error {
	select {
	case <-r.Done():
		return context.Canceled
	default:
		return nil
	}
}

func (r *request) Deadline() (time.Time, bool) { return time.Time{}, false }
func (r *request) Value(any) any               { return nil }
