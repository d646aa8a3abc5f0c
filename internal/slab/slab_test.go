package slab

import (
	"bytes"
	"sync"
	"testing"
	"time"
	"unsafe"
)

func TestBuffersAreNobodyElses(t *testing.T) {
	p := New(256 << 10)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				b := p.Get()
				if len(b) != p.Size() || uintptr(unsafe.Pointer(unsafe.SliceData(b)))&4095 != 0 {
					t.Errorf("a buffer of %d bytes at %p", len(b), b)
				}
				mark := byte(g*31 + i)
				b[0], b[len(b)-1] = mark, mark
				if b[0] != mark || b[len(b)-1] != mark {
					t.Error("two have the same buffer")
				}
				p.Put(b[:i%len(b)])
			}
		})
	}
	wg.Wait()
	if n := len(p.mapped); n > 8 {
		t.Errorf("%d buffers were made for 8 users", n)
	}
}

// TestMemoryGoesBack: what was free for long has no memory, and is used again.
func TestMemoryGoesBack(t *testing.T) {
	p := New(256 << 10)
	b := p.Get()
	for i := range b {
		b[i] = 0xee
	}
	p.Put(b)
	if p.Free() != p.Size() {
		t.Fatalf("%d bytes are free after one buffer came back", p.Free())
	}
	p.mu.Lock()
	p.warm[0].since = time.Now().Add(-idle)
	p.mu.Unlock()
	p.cool()
	if p.Free() != 0 {
		t.Fatalf("%d bytes are kept", p.Free())
	}
	again := p.Get()
	if unsafe.SliceData(again) != unsafe.SliceData(b) {
		t.Fatal("new addresses, where old ones were free")
	}
	if !bytes.Equal(again, make([]byte, p.Size())) {
		t.Fatal("the memory had not gone")
	}
}

func TestForeignBufferPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("a buffer of another size was taken")
		}
	}()
	New(256 << 10).Put(make([]byte, 4096))
}
