package engine

import (
	"context"
	"sync"

	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// block is a verified block in memory that is lent: who has it calls release, once.
type block struct {
	data    []byte
	release func()
}

// blocks are those read of one stripe. Each is put by the goroutine that read it,
// which may be one that was left behind: after close it is let go at once. Safe for
// concurrent use.
type blocks struct {
	mu     sync.Mutex // guards what follows
	of     [erasure.MaxShards]block
	closed bool
}

func (bs *blocks) put(shard int, bl block) {
	bs.mu.Lock()
	closed := bs.closed
	if !closed {
		bs.of[shard] = bl
	}
	bs.mu.Unlock()
	if closed {
		bl.release()
	}
}

// data is a shard's block, valid until close.
func (bs *blocks) data(shard int) []byte {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return bs.of[shard].data
}

// take gives the caller a shard's block to release.
func (bs *blocks) take(shard int) block {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bl := bs.of[shard]
	bs.of[shard] = block{}
	return bl
}

// close lets go of the blocks that were not taken, and of those that still come.
func (bs *blocks) close() {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.closed = true
	for i := range bs.of {
		if bs.of[i].release != nil {
			bs.of[i].release()
			bs.of[i] = block{}
		}
	}
}

// gatherBlocks reads blocks of stripe i: those of want, or as many others as there
// are data shards. The caller closes what it returns without an error.
func (b *BlobReader) gatherBlocks(ctx context.Context, i int64, want erasure.Set) (*blocks, erasure.Set, error) {
	bs := new(blocks)
	blockLen := b.coder.BlockLen(b.stripeContent(i))
	g := b.gather(want)
	g.op = func(ctx context.Context, shard int) error {
		bl, err := b.sources[shard].readBlock(ctx, b, i, blockLen)
		if err == nil {
			bs.put(shard, bl)
		}
		return err
	}
	got, err := b.run(ctx, g)
	if err != nil {
		bs.close()
		return nil, 0, err
	}
	return bs, got.good, nil
}

// rebuild returns a stripe of n bytes that has the wanted data blocks, computed from
// the good ones where they were not read.
func (b *BlobReader) rebuild(bs *blocks, good erasure.Set, n int, want erasure.Set) (*erasure.Stripe, error) {
	whole := good.Contains(want)
	var st *erasure.Stripe
	if whole {
		st = b.e.pool.Data(b.coder, n)
		good &= want
	} else {
		st = b.e.pool.Full(b.coder, n)
	}
	for s := range b.sources {
		if good.Has(s) {
			copy(st.Block(s), bs.data(s))
		}
	}
	if whole {
		return st, nil
	}
	if err := b.coder.Reconstruct(st, good, want); err != nil {
		st.Release()
		return nil, err
	}
	return st, nil
}

// lend reads a block through a reader, into its memory where it lends that.
func (e *Engine) lend(ctx context.Context, r drive.ShardReader, i int64, blockLen int) (block, error) {
	var bl block
	var err error
	if l, ok := r.(drive.BlockLender); ok {
		bl.data, bl.release, err = l.LendBlock(ctx, i)
	} else {
		var one *erasure.Coder
		if one, err = e.Coder(1, 0); err != nil {
			return block{}, err
		}
		st := e.pool.Data(one, blockLen)
		var n int
		n, err = r.ReadBlocks(ctx, i, 1, st.Content())
		bl = block{st.Content()[:n], st.Release}
	}
	if err == nil && len(bl.data) != blockLen {
		err = errs.Newf("engine.read", errs.Corrupt, "block %d has %d bytes, not %d", i, len(bl.data), blockLen)
	}
	if err != nil && bl.release != nil {
		bl.release()
	}
	return bl, err
}
