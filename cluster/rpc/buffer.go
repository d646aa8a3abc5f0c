package rpc

import (
	"math/bits"
	"sync"
)

// Pool keeps buffers of payloads for reuse, in sizes of powers of two from 4 KiB to
// 32 MiB. Safe for concurrent use.
type Pool struct {
	classes [14]sync.Pool
}

const minClass = 12 // 4 KiB

// NewPool makes an empty pool.
func NewPool() *Pool { return new(Pool) }

// Buffer is a pooled buffer.
type Buffer struct {
	B     []byte
	pool  *Pool
	class int
}

// Get returns a buffer with n bytes of unspecified content.
func (p *Pool) Get(n int) *Buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), minClass) - minClass
	if class >= len(p.classes) {
		return &Buffer{B: make([]byte, n), class: -1}
	}
	if b, ok := p.classes[class].Get().(*Buffer); ok {
		b.B = b.B[:n]
		return b
	}
	return &Buffer{B: make([]byte, n, 1<<(class+minClass)), pool: p, class: class}
}

// Free gives the buffer back; nobody may use it, or slices of it, afterwards. A nil
// buffer is fine.
func (b *Buffer) Free() {
	if b == nil || b.class < 0 {
		return
	}
	b.pool.classes[b.class].Put(b)
}
