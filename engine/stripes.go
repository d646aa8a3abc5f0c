package engine

import (
	"context"

	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// readAhead is how many stripes are read before they are asked for.
const readAhead = 2

// piece is bytes [lo, hi) of a stripe's content, or the error in its place.
type piece struct {
	st     *erasure.Stripe
	lo, hi int
	err    error
}

// stripes calls fn for the bytes [off, off+n), which the blob has, in order and by
// stripe. What fn is given is valid only during the call.
func (b *BlobReader) stripes(ctx context.Context, off, n int64, fn func([]byte) error) error {
	if n == 0 {
		return nil
	}
	if !b.acquire() {
		return errs.Newf("engine.read", errs.Invalid, "the reader is closed")
	}
	defer b.release()
	size := int64(b.stripeLen.Load())
	first, last := off/size, (off+n-1)/size
	if first == last {
		return b.piece(ctx, first, off, n).give(fn)
	}
	ctx, cancel := context.WithCancel(ctx)
	pieces := make(chan piece, readAhead)
	go func() {
		defer close(pieces)
		for i := first; i <= last; i++ {
			p := b.piece(ctx, i, off, n)
			select {
			case pieces <- p:
			case <-ctx.Done():
				p.release()
				return
			}
			if p.err != nil {
				return
			}
		}
	}()
	defer func() {
		cancel()
		for p := range pieces {
			p.release()
		}
	}()
	for range last - first + 1 {
		p, ok := <-pieces
		if !ok {
			return errs.E("engine.read", errs.Canceled, context.Cause(ctx))
		}
		if err := p.give(fn); err != nil {
			return err
		}
	}
	return nil
}

// piece reads what stripe i has of [off, off+n).
func (b *BlobReader) piece(ctx context.Context, i, off, n int64) piece {
	size := int64(b.stripeLen.Load())
	lo := max(0, off-i*size)
	hi := min(size, off+n-i*size)
	st, err := b.stripe(ctx, i, int(lo), int(hi))
	return piece{st: st, lo: int(lo), hi: int(hi), err: err}
}

// give hands the bytes to fn and lets go of them.
func (p piece) give(fn func([]byte) error) error {
	defer p.release()
	if p.err != nil {
		return p.err
	}
	return fn(p.st.Content()[p.lo:p.hi])
}

func (p piece) release() {
	if p.st != nil {
		p.st.Release()
	}
}

// stripeMemory is where the blocks of one stripe are read to. Data blocks go to one
// buffer, which then is the content; parity needs a larger one, which a healthy read
// does without.
type stripeMemory struct {
	b    *BlobReader
	n    int // bytes of content
	main *erasure.Stripe
	full *erasure.Stripe // main, or the buffer with room for parity, or nil yet
	of   [erasure.MaxShards]*erasure.Stripe
}

// start takes the buffer that reading the first shards needs.
func (m *stripeMemory) start(first []int) {
	c := m.b.coder
	for _, i := range first {
		if i >= c.Data() {
			m.full = m.b.e.pool.Full(c, m.n)
			m.main = m.full
			return
		}
	}
	m.main = m.b.e.pool.Data(c, m.n)
}

// retain decides where a shard's block is read to, and keeps that for its op.
func (m *stripeMemory) retain(shard int) {
	st := m.main
	if shard >= m.b.coder.Data() {
		if m.full == nil {
			m.full = m.b.e.pool.Full(m.b.coder, m.n)
		}
		st = m.full
	}
	st.Retain()
	m.of[shard] = st
}

// finish returns a stripe that has the wanted data blocks, computed where they were
// not read. No buffer that an op left behind still writes into is computed into.
func (m *stripeMemory) finish(got gathered, want erasure.Set) (*erasure.Stripe, error) {
	if got.good.Contains(want) {
		m.main.Retain()
		return m.main, nil
	}
	c := m.b.coder
	dst := m.full
	if dst == nil || dst == m.main && got.running&want != 0 {
		dst = m.b.e.pool.Full(c, m.n)
	} else {
		dst.Retain()
	}
	for i := range m.of {
		if got.good.Has(i) && m.of[i] != dst {
			copy(dst.Block(i), m.of[i].Block(i))
		}
	}
	if err := c.Reconstruct(dst, got.good, want); err != nil {
		dst.Release()
		return nil, err
	}
	return dst, nil
}

func (m *stripeMemory) release() {
	m.main.Release()
	if m.full != nil && m.full != m.main {
		m.full.Release()
	}
}
