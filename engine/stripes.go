package engine

import (
	"context"
	"time"

	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// readAhead is how many stripes are read before they are asked for, where drives
// have to be waited for.
const readAhead = 2

// readWaits is how long a stripe takes that did not come from memory. Below, reading
// ahead only costs: the bytes leave the processor's caches before they are sent.
const readWaits = 2 * time.Millisecond

// stripes calls fn for the bytes [off, off+n), which the blob has, in order and by
// block. What fn is given is valid only during the call.
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
	ctx, cancel := context.WithCancel(ctx)
	var ahead chan piece // nil as long as stripes are read when they are asked for
	defer func() {
		cancel()
		if ahead != nil {
			for p := range ahead {
				p.release()
			}
		}
	}()
	for i := first; i <= last; i++ {
		var p piece
		if ahead == nil {
			start := time.Now()
			p = b.piece(ctx, i, off, n)
			if i < last && p.err == nil && time.Since(start) > readWaits {
				ahead = b.ahead(ctx, i+1, last, off, n)
			}
		} else {
			var ok bool
			if p, ok = <-ahead; !ok {
				return errs.E("engine.read", errs.Canceled, context.Cause(ctx))
			}
		}
		if err := p.give(fn); err != nil {
			return err
		}
	}
	return nil
}

// ahead reads the stripes first to last of [off, off+n) until ctx ends.
func (b *BlobReader) ahead(ctx context.Context, first, last, off, n int64) chan piece {
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
	return pieces
}

// piece is bytes of a stripe's content, or the error in their place: as the blocks
// that they were read in, or as a stripe where some had to be computed.
type piece struct {
	blocks []block
	st     *erasure.Stripe
	lo, hi int // of the stripe, where there is one
	err    error
}

// piece reads what stripe i has of [off, off+n): of one block no more than that.
func (b *BlobReader) piece(ctx context.Context, i, off, n int64) piece {
	size := int64(b.stripeLen.Load())
	lo := int(max(0, off-i*size))
	hi := int(min(size, off+n-i*size))
	blockLen := b.coder.BlockLen(b.stripeContent(i))
	first, last := lo/blockLen, (hi-1)/blockLen
	part := part{stripe: i, from: 0, to: blockLen}
	if first == last {
		part.from, part.to = lo-first*blockLen, hi-first*blockLen
	}
	want := erasure.Span(first, last+1)
	all, got, err := b.gatherBlocks(ctx, part, want)
	if err != nil {
		return piece{err: err}
	}
	defer all.close()
	if !got.Contains(want) {
		st, err := b.rebuild(all, got, part, want)
		at := first * part.len()
		return piece{st: st, lo: at + lo - first*blockLen - part.from, hi: at + hi - first*blockLen - part.from, err: err}
	}
	p := piece{blocks: make([]block, 0, want.Len())}
	for s := first; s <= last; s++ {
		bl := all.take(s)
		at := s*blockLen + part.from // of its data, in the stripe
		bl.data = bl.data[max(0, lo-at):min(len(bl.data), hi-at)]
		p.blocks = append(p.blocks, bl)
	}
	return p
}

// give hands the bytes to fn and lets go of them.
func (p *piece) give(fn func([]byte) error) error {
	defer p.release()
	switch {
	case p.err != nil:
		return p.err
	case p.st != nil:
		return fn(p.st.Content()[p.lo:p.hi])
	}
	for len(p.blocks) > 0 {
		if err := fn(p.blocks[0].data); err != nil {
			return err
		}
		p.blocks[0].release()
		p.blocks = p.blocks[1:]
	}
	return nil
}

func (p *piece) release() {
	if p.st != nil {
		p.st.Release()
		p.st = nil
	}
	for _, bl := range p.blocks {
		bl.release()
	}
	p.blocks = nil
}
