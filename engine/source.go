package engine

import (
	"context"

	"twofold/engine/drive"
	"twofold/internal/errs"
)

// source is one shard of an open blob. It is opened when first asked, and again when
// the drive in its slot has changed.
type source struct {
	pos   *position
	index int

	lock    chan struct{} // full while somebody opens the shard; guards what follows
	drv     drive.Drive
	r       drive.ShardReader
	err     error // why drv has no good shard
	corrupt bool  // a block failed its hash: asked last
	closed  bool
}

func newSource(p *position, index int) *source {
	return &source{pos: p, index: index, lock: make(chan struct{}, 1)}
}

func (s *source) unlock() { <-s.lock }

// open returns the shard's reader.
func (s *source) open(ctx context.Context, b *BlobReader) (drive.ShardReader, error) {
	select {
	case s.lock <- struct{}{}:
		defer s.unlock()
	case <-ctx.Done():
		return nil, errs.E("engine.read", errs.Canceled, context.Cause(ctx))
	}
	if s.closed {
		return nil, errs.Newf("engine.read", errs.Invalid, "the reader is closed")
	}
	d := s.pos.slot.Drive()
	if s.drv == d && (s.r != nil || s.err != nil) {
		return s.r, s.err
	}
	s.closeReader()
	r, err := d.Open(ctx, b.blob.ID)
	if err == nil {
		if err = b.check(r.Info(), s.index); err != nil {
			r.Close()
			r = nil
		}
	}
	if err != nil && transient(err) {
		return nil, err // asked again next time
	}
	s.drv, s.r, s.err, s.corrupt = d, r, err, false
	if err != nil {
		b.reportBad(s, err)
	}
	return r, err
}

// transient reports whether an error says nothing of the shard itself.
func transient(err error) bool {
	switch errs.KindOf(err) {
	case errs.NotFound, errs.Corrupt:
		return false
	}
	return true
}

// readBlock reads a part of the shard's block.
func (s *source) readBlock(ctx context.Context, b *BlobReader, p part) (block, error) {
	r, err := s.open(ctx, b)
	if err != nil {
		return block{}, err
	}
	data, release, err := r.LendBlock(ctx, p.stripe, p.from, p.to)
	switch {
	case err == nil || ctx.Err() != nil:
	case errs.Is(err, errs.Corrupt):
		s.lock <- struct{}{}
		s.corrupt = true
		s.unlock()
		b.reportBad(s, err)
	default:
		s.reopen(r) // a drive that went and came back has its files anew
	}
	return block{data, release}, err
}

// reopen makes the next read open the shard again, unless somebody did already.
func (s *source) reopen(r drive.ShardReader) {
	s.lock <- struct{}{}
	defer s.unlock()
	if s.r == r {
		s.closeReader()
		s.drv = nil
	}
}

// knownBad reports whether the shard is known to be missing or bad.
func (s *source) knownBad() bool {
	select {
	case s.lock <- struct{}{}:
		defer s.unlock()
	default:
		return false // it is being opened
	}
	return s.corrupt || s.err != nil && s.drv == s.pos.slot.Drive()
}

// closeReader lets go of the open file. The caller holds the lock.
func (s *source) closeReader() {
	if s.r != nil {
		s.r.Close()
	}
	s.r, s.err = nil, nil
}

func (s *source) close() {
	s.lock <- struct{}{}
	defer s.unlock()
	s.closeReader()
	s.closed = true
}

// check holds a shard's header and trailer against the blob.
func (b *BlobReader) check(i drive.ShardInfo, index int) error {
	h := i.Header
	switch {
	case h.Cluster != b.e.opts.Cluster, h.Blob != b.blob.ID, h.Set != b.blob.Set,
		h.Data != b.blob.Data, h.Parity != b.blob.Parity, i.Trailer.Size != b.blob.Size:
		return errs.Newf("engine.read", errs.Corrupt, "the shard is of another blob, or of another coding of it")
	case int(h.Index) != index:
		b.misplaced.Store(true)
		return errs.Newf("engine.read", errs.Corrupt, "shard %d where shard %d belongs", h.Index, index)
	case h.Stripe == 0 || h.Stripe > maxStripe:
		return errs.Newf("engine.read", errs.Corrupt, "a stripe of %d bytes", h.Stripe)
	case !b.stripeLen.CompareAndSwap(0, h.Stripe) && b.stripeLen.Load() != h.Stripe:
		return errs.Newf("engine.read", errs.Corrupt, "a stripe of %d bytes where others have %d", h.Stripe, b.stripeLen.Load())
	}
	return nil
}

// reportBad tells repair of a shard that is missing or bad.
func (b *BlobReader) reportBad(s *source, err error) {
	d := Damage{Blob: b.blob.ID, Set: b.blob.Set}
	if errs.Is(err, errs.NotFound) {
		if s.pos.slot.Drive().State() == drive.Healing {
			return // the refill finds it
		}
	} else {
		d.Shards = d.Shards.With(s.index)
	}
	b.e.log.Warn("bad shard", "blob", b.blob.ID, "shard", s.index, "drive", s.pos.slot.Drive().String(), "err", err)
	b.e.reportDamage(d)
}
