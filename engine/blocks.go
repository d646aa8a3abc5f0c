package engine

import (
	"context"
	"sync"

	"twofold/engine/erasure"
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

// part is the bytes [from, to) of each block of a stripe.
type part struct {
	stripe   int64
	from, to int
}

func (p part) len() int { return p.to - p.from }

// gatherBlocks reads a part of blocks: those of want, or as many others as there are
// data shards. The caller closes what it returns without an error.
func (b *BlobReader) gatherBlocks(ctx context.Context, p part, want erasure.Set) (*blocks, erasure.Set, error) {
	bs := new(blocks)
	g := b.gather(want)
	g.op = func(ctx context.Context, shard int) error {
		bl, err := b.sources[shard].readBlock(ctx, b, p)
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

// rebuild returns a stripe that has the wanted data blocks, computed from the good ones
// where they were not read. Its blocks are the parts that were read: byte n of each
// block is coded with byte n of the others, and with no other byte.
func (b *BlobReader) rebuild(bs *blocks, good erasure.Set, p part, want erasure.Set) (*erasure.Stripe, error) {
	whole := good.Contains(want)
	n := p.len() * b.coder.Data()
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
