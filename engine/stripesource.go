package engine

import (
	"context"

	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// Stripes is the number of the blob's stripes.
func (b *BlobReader) Stripes() int64 {
	size := int64(b.stripeLen.Load())
	return (b.blob.Size + size - 1) / size
}

// Stripe reads stripe i whole and codes it again, so that every block of it is
// there, parity too: what repair writes shards from. The caller releases it. Errors
// as WriteRange.
func (b *BlobReader) Stripe(ctx context.Context, i int64) (*erasure.Stripe, error) {
	if i < 0 || i >= b.Stripes() {
		return nil, errs.Newf("engine.Stripe", errs.Invalid, "there is no stripe %d", i)
	}
	if !b.acquire() {
		return nil, errs.Newf("engine.read", errs.Invalid, "the reader is closed")
	}
	defer b.release()
	n := b.stripeContent(i)
	data := erasure.Span(0, b.coder.Data())
	all := part{i, 0, b.coder.BlockLen(n)}
	bs, got, err := b.gatherBlocks(ctx, all, data)
	if err != nil {
		return nil, err
	}
	defer bs.close()
	st, err := b.rebuild(bs, got, all, data)
	if err != nil {
		return nil, err
	}
	defer st.Release()
	full := b.e.pool.Full(b.coder, n)
	copy(full.Content(), st.Content())
	if err := b.coder.Encode(full); err != nil {
		full.Release()
		return nil, err
	}
	return full, nil
}
