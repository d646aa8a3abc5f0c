package fusefs

import (
	"sync"
	"time"

	"twofold/volume/api"
)

// What is kept of buffers that are not in use: the one that is flushed and the one that is
// filled meanwhile, for as long as streams go on.
const (
	keptBuffers = 2
	keptFor     = 5 * time.Second
)

// buffers are what streams of writes are collected in, of a whole flush each. They are
// used again: to clear 16 MiB of fresh memory, and to collect them as garbage, is work
// for each flush. Safe for concurrent use.
type buffers struct {
	mu   sync.Mutex
	free [][]byte  // guarded by mu
	last time.Time // guarded by mu; when one was given back
}

// take returns an empty buffer with room for a flush. Its content is old bytes.
func (b *buffers) take() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		p := b.free[n-1]
		b.free[n-1], b.free = nil, b.free[:n-1]
		return p
	}
	return make([]byte, 0, api.MaxIO)
}

// give takes back the buffers of a layer that nobody reads any more: its bytes are the
// volume's.
func (b *buffers) give(l *layer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range l.segs {
		if d := l.segs[i].Data; cap(d) == api.MaxIO && len(b.free) < keptBuffers {
			b.free = append(b.free, d[:0])
			b.last = time.Now()
			l.segs[i].Data = nil
		}
	}
}

// rest lets them go where none was given back for a while.
func (b *buffers) rest(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.last) > keptFor {
		b.free = nil
	}
}
