package fusefs

import (
	"context"
	"sync"
	"time"
)

// budget bounds the dirty bytes of a whole mount: by memory, and by what the store
// has promised to keep free for them (see promise.go).
type budget struct {
	max int64

	mu      sync.Mutex
	used    int64
	freed   chan struct{} // closed when bytes come back; nil while nobody waits
	promise promise
}

// admission is what became of asking for a piece of the budget.
type admission uint8

const (
	admitted   admission = iota
	full                 // there is no memory until something is flushed
	unpromised           // the store has not promised the space
)

// take reserves n bytes if they are there. force takes them anyway: for pages that
// the kernel writes back because of a recall, which must not wait for other files.
func (b *budget) take(n int64, force bool) admission {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case force:
	case b.used > 0 && b.used+n > b.max:
		return full
	case !b.covers(n):
		return unpromised
	}
	b.used += n
	return admitted
}

// spend gives n bytes back that were flushed: the store has used what it promised.
func (b *budget) spend(n int64) {
	b.mu.Lock()
	b.promise.bytes -= n
	b.mu.Unlock()
	b.give(n)
}

func (b *budget) give(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used -= n; b.used == 0 {
		b.promise.idle = time.Now()
	}
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

// wait waits until n bytes would fit, or ctx ends.
func (b *budget) wait(ctx context.Context, n int64) error {
	for {
		b.mu.Lock()
		if b.used == 0 || b.used+n <= b.max {
			b.mu.Unlock()
			return nil
		}
		if b.freed == nil {
			b.freed = make(chan struct{})
		}
		ch := b.freed
		b.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return canceled("write", ctx)
		}
	}
}

func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
