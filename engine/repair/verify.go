package repair

import (
	"context"
	"sync"

	"twofold"
	"twofold/engine"
	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// verify reads all of a blob's shards. Errors: errs.ReadQuorum, errs.NotFound,
// errs.Canceled.
func (h *Healer) verify(ctx context.Context, set twofold.SetID, id twofold.BlobID) (verdict, error) {
	var v verdict
	states, err := h.e.Inspect(ctx, id, set)
	if err != nil {
		return v, err
	}
	s, err := survey(h.e.Cluster(), id, set, states, 0)
	if err != nil {
		return v, err
	}
	v.missing = len(s.targets)
	coder, err := h.e.Coder(int(s.blob.Data), int(s.blob.Parity))
	if err != nil {
		return v, err
	}
	var drives []drive.Drive // by shard index
	drives = make([]drive.Drive, coder.Shards())
	for at, index := range s.holds {
		if index >= 0 {
			drives[index] = states[at].Drive
		}
	}
	r := &shardsReader{id: id, readers: make([]drive.ShardReader, len(drives))}
	defer r.close()
	r.open(ctx, drives, &v)
	stripes := drive.Blocks(s.header, s.blob.Size)
	for i := int64(0); i < stripes && ctx.Err() == nil; i++ {
		n := int(min(int64(s.header.Stripe), s.blob.Size-i*int64(s.header.Stripe)))
		st := h.e.Buffers().Full(coder, n)
		good := r.read(ctx, i, st, &v)
		if good == erasure.Span(0, coder.Shards()) {
			checkParity(coder, h.e.Buffers(), st, &v)
		}
		st.Release()
	}
	if ctx.Err() != nil {
		return v, errs.E("repair.verify", errs.Canceled, context.Cause(ctx))
	}
	return v, nil
}

// confirm reads the shards that were reported as bad and returns those that are: a
// reader may have had an old file open, or bad memory.
func (h *Healer) confirm(ctx context.Context, id twofold.BlobID, states []engine.ShardState, reported erasure.Set) erasure.Set {
	var bad erasure.Set
	for _, st := range states {
		i := int(st.Info.Header.Index)
		if st.Err == nil && i < erasure.MaxShards && reported.Has(i) && !h.passes(ctx, id, st) {
			bad = bad.With(i)
		}
	}
	return bad
}

// passes reports whether every block of a shard can be read and passes its hash.
func (h *Healer) passes(ctx context.Context, id twofold.BlobID, st engine.ShardState) bool {
	rd, err := st.Drive.Open(ctx, id)
	if err != nil {
		return false
	}
	defer rd.Close()
	head, size := rd.Info().Header, rd.Info().Trailer.Size
	p := make([]byte, drive.BlockLen(head, size, 0))
	for i := range drive.Blocks(head, size) {
		n, err := rd.ReadBlocks(ctx, i, 1, p)
		if err != nil || int64(n) != drive.BlockLen(head, size, i) {
			return false
		}
	}
	return true
}

// shardsReader reads all shards of one blob, side by side.
type shardsReader struct {
	id      twofold.BlobID
	readers []drive.ShardReader // by index; nil: not readable now
}

func (r *shardsReader) open(ctx context.Context, drives []drive.Drive, v *verdict) {
	for i, d := range drives {
		if d == nil {
			continue
		}
		rd, err := d.Open(ctx, r.id)
		if err == nil {
			r.readers[i] = rd
		} else if errs.Is(err, errs.Corrupt) || errs.Is(err, errs.NotFound) {
			v.bad = v.bad.With(i)
		}
	}
}

// read reads the blocks of stripe i and returns which are good.
func (r *shardsReader) read(ctx context.Context, i int64, st *erasure.Stripe, v *verdict) erasure.Set {
	failures := make([]error, len(r.readers))
	var wg sync.WaitGroup
	for shard, rd := range r.readers {
		if rd == nil {
			continue
		}
		wg.Go(func() {
			p := st.Block(shard)
			n, err := rd.ReadBlocks(ctx, i, 1, p)
			if err == nil && n != len(p) {
				err = errs.Newf("repair.verify", errs.Corrupt, "block %d has %d bytes, not %d", i, n, len(p))
			}
			failures[shard] = err
		})
	}
	wg.Wait()
	var good erasure.Set
	for shard, rd := range r.readers {
		switch err := failures[shard]; {
		case rd == nil:
		case err == nil:
			good = good.With(shard)
			v.bytes += int64(st.BlockLen())
		case errs.Is(err, errs.Corrupt):
			v.bad = v.bad.With(shard)
		default: // the drive went away; nothing is known of the shard
			rd.Close()
			r.readers[shard] = nil
		}
	}
	return good
}

func (r *shardsReader) close() {
	for _, rd := range r.readers {
		if rd != nil {
			rd.Close()
		}
	}
}

// checkParity finds blocks that pass their hashes and yet are wrong. With two parity
// blocks or more a single wrong one can be told: without it the others fit.
func checkParity(c *erasure.Coder, pool *erasure.Pool, st *erasure.Stripe, v *verdict) {
	if ok, err := c.Verify(st); ok || err != nil {
		return
	}
	wrong := -1
	if c.Parity() >= 2 {
		all := erasure.Span(0, c.Shards())
		for i := range c.Shards() {
			if fitsWithout(c, pool, st, all, i) {
				if wrong >= 0 {
					wrong = -1
					break
				}
				wrong = i
			}
		}
	}
	if wrong < 0 {
		v.mismatched++
		return
	}
	v.wrong = v.wrong.With(wrong)
}

// fitsWithout reports whether all blocks but block i are of one code word.
func fitsWithout(c *erasure.Coder, pool *erasure.Pool, st *erasure.Stripe, all erasure.Set, i int) bool {
	try := pool.Full(c, st.Len())
	defer try.Release()
	for j := range c.Shards() {
		copy(try.Block(j), st.Block(j))
	}
	if err := c.Reconstruct(try, all.Without(i), erasure.Set(0).With(i)); err != nil {
		return false
	}
	ok, err := c.Verify(try)
	return ok && err == nil
}
