package fusefs

import (
	"context"
	"sync"
	"time"
)

// How long after a signal an interrupted request is given to end by itself. Any
// signal interrupts, also one that its process ignores a moment later (Go's
// scheduler sends them all the time), so a request that is merely normal must not
// end with EINTR. See DESIGN.md, "Interrupts".
const (
	graceWait   = 250 * time.Millisecond // requests that only look, or wait for a lease
	graceChange = 5 * time.Second        // requests that may have changed something already
	gracePages  = 10 * time.Second       // reads into the page cache: failing is SIGBUS for a mapping
)

// request is the context of one FUSE request: it ends a grace after the kernel
// interrupted the request, or with the mount. end must be called before the
// request is answered, because go-fuse uses cancel again for the next one.
type request struct {
	cancel <-chan struct{}
	grace  time.Duration
	mount  context.Context

	once sync.Once
	done chan struct{} // made by the first Done
	over chan struct{} // closed by end
}

var _ context.Context = (*request)(nil)

func (f *fsys) request(cancel <-chan struct{}, grace time.Duration) *request {
	return &request{cancel: cancel, grace: grace, mount: f.ctx, over: make(chan struct{})}
}

func (r *request) end() { close(r.over) }

func (r *request) Done() <-chan struct{} {
	r.once.Do(func() {
		r.done = make(chan struct{})
		go r.watch()
	})
	return r.done
}

func (r *request) watch() {
	select {
	case <-r.over:
		return
	case <-r.mount.Done():
		close(r.done)
		return
	case <-r.cancel:
	}
	t := time.NewTimer(r.grace)
	defer t.Stop()
	select {
	case <-r.over:
	case <-r.mount.Done():
		close(r.done)
	case <-t.C:
		close(r.done)
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
