// Package slab hands out large buffers of one size that lie outside Go's heap. What is
// on the heap costs up to twice its size, as the collector lets as much garbage gather as
// there was memory in use; and the runtime gives it back to the system minutes later. A
// slab costs what is in use, and what has not been used for a few seconds goes back.
//
// A buffer must come back through Put, or its memory stays until the process ends, and
// nobody may use it afterwards: the collector does not help here.
package slab

import (
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// idle is how long a free buffer keeps its memory.
const idle = 5 * time.Second

// Pool hands out buffers of one size. Make one with New. Safe for concurrent use.
type Pool struct {
	size int

	mu     sync.Mutex
	warm   []free   // with memory, the one used last at the end
	cold   [][]byte // addresses without memory
	mapped map[*byte]struct{}
	timer  *time.Timer // runs while anything is warm
}

// free is a buffer that nobody uses, since when.
type free struct {
	buf   []byte
	since time.Time
}

// New returns a pool of buffers of size bytes, which is more than a page.
func New(size int) *Pool {
	return &Pool{size: size, mapped: make(map[*byte]struct{})}
}

// Size is the length of each buffer, in bytes.
func (p *Pool) Size() int { return p.size }

// Get returns a buffer of Size bytes that begins at a page. Its content is anything.
func (p *Pool) Get() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.warm); n > 0 {
		b := p.warm[n-1].buf
		p.warm[n-1] = free{}
		p.warm = p.warm[:n-1]
		return b
	}
	if n := len(p.cold); n > 0 {
		b := p.cold[n-1]
		p.cold = p.cold[:n-1]
		return b
	}
	b, err := unix.Mmap(-1, 0, p.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil { // the system's limit on mappings or on memory: the heap says which
		return aligned(p.size)
	}
	p.mapped[unsafe.SliceData(b)] = struct{}{}
	return b
}

// aligned is a buffer of the heap's.
func aligned(size int) []byte {
	page := unix.Getpagesize()
	b := make([]byte, size+page)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & uintptr(page-1))
	return b[skip : skip+size : skip+size]
}

// Put gives a buffer of Get's back: the whole of it, from its first byte.
func (p *Pool) Put(b []byte) {
	if cap(b) != p.size {
		panic("slab: a buffer of another pool")
	}
	b = b[:p.size]
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.mapped[unsafe.SliceData(b)]; !ok {
		return // the heap's
	}
	p.warm = append(p.warm, free{b, time.Now()})
	if p.timer == nil {
		p.timer = time.AfterFunc(idle, p.cool)
	}
}

// cool takes the memory of what has been free for long. The addresses stay, so that
// whoever used a buffer too late would find zeros, not somebody else's memory.
func (p *Pool) cool() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.warm) && time.Since(p.warm[n].since) >= idle {
		if unix.Madvise(p.warm[n].buf, unix.MADV_DONTNEED) != nil {
			break
		}
		p.cold = append(p.cold, p.warm[n].buf)
		n++
	}
	p.warm = append(p.warm[:0], p.warm[n:]...)
	clear(p.warm[len(p.warm):cap(p.warm)])
	if p.timer = nil; len(p.warm) > 0 {
		p.timer = time.AfterFunc(idle, p.cool)
	}
}

// Free is how many bytes of memory the pool keeps that nobody uses.
func (p *Pool) Free() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.warm) * p.size
}
