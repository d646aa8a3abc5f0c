package fusefs

import (
	"context"
	"sync"
)

// budget bounds the dirty bytes of a whole mount.
type budget struct {
	max int64

	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed when bytes come back; nil while nobody waits
}

// take reserves n bytes if they are there. force takes them anyway: for pages that
// the kernel writes back because of a recall, which must not wait for other files.
func (b *budget) take(n int64, force bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !force && b.used > 0 && b.used+n > b.max {
		return false
	}
	b.used += n
	return true
}

func (b *budget) give(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
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
