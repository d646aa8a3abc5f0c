package repair

import (
	"context"
	"time"

	"twofold"
	"twofold/engine"
	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// Result is what a heal did.
type Result struct {
	Healed   int  // shards rewritten
	Waiting  int  // shards that could not be rewritten although their drive is there
	Absent   int  // shards whose drive is offline or full: a refill brings them
	Unwanted bool // nobody wants the blob: nothing was done, or undone again
}

// heal is one blob being healed.
type heal struct {
	h    *Healer
	id   twofold.BlobID
	set  twofold.SetID
	done chan struct{} // closed at the end

	// found are shards that reads met as bad since the heal began; guarded by Healer.mu.
	found erasure.Set
}

// Heal rewrites the shards of a blob that are missing, that do not open, that are of
// another coding than the rest, and those named in d. It reads from any good
// ones. errs.ReadQuorum: too few of those are left now, errs.NotFound: none is; nothing was changed.
// errs.Canceled; other errors: try again later. One heal of a blob runs at a time, a
// second call waits and then looks again.
func (h *Healer) Heal(ctx context.Context, d engine.Damage) (Result, error) {
	if h.e.Writing(d.Blob) {
		return Result{}, nil // Write reports what it leaves missing
	}
	x, err := h.begin(ctx, d)
	if err != nil {
		return Result{}, err
	}
	defer h.end(x)
	var total Result
	for range erasure.MaxShards {
		res, err := x.once(ctx, d)
		total.Healed += res.Healed
		total.Waiting, total.Absent, total.Unwanted = res.Waiting, res.Absent, res.Unwanted
		if err != nil {
			h.countFailure(ctx, err)
			return total, err
		}
		h.mu.Lock()
		more := x.found
		x.found = 0
		h.mu.Unlock()
		if more == 0 || res.Healed == 0 {
			break
		}
		d.Shards, d.Wrong = more, 0
	}
	return total, nil
}

func (h *Healer) countFailure(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case errs.Is(err, errs.ReadQuorum), errs.Is(err, errs.NotFound):
		h.stats.unrecoverable.Add(1)
	default:
		h.stats.failed.Add(1)
	}
}

// begin waits until no other heal of the blob runs.
func (h *Healer) begin(ctx context.Context, d engine.Damage) (*heal, error) {
	for {
		h.mu.Lock()
		other := h.active[d.Blob]
		if other == nil {
			x := &heal{h: h, id: d.Blob, set: d.Set, done: make(chan struct{})}
			h.active[d.Blob] = x
			h.mu.Unlock()
			return x, nil
		}
		h.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, errs.E("repair.Heal", errs.Canceled, context.Cause(ctx))
		}
	}
}

func (h *Healer) end(x *heal) {
	h.mu.Lock()
	delete(h.active, x.id)
	h.mu.Unlock()
	close(x.done)
}

// once looks at the blob and rewrites what is bad.
func (x *heal) once(ctx context.Context, d engine.Damage) (Result, error) {
	deleted, end := x.h.e.BeginHeal(x.id)
	defer end()
	wanted, err := x.wanted(ctx, deleted)
	if err != nil || !wanted {
		return Result{Unwanted: !wanted}, err
	}
	states, err := x.h.e.Inspect(ctx, x.id, x.set)
	if err != nil {
		return Result{}, err
	}
	d.Shards = x.h.confirm(ctx, x.id, states, d.Shards)
	s, err := survey(x.h.e.Cluster(), x.id, x.set, states, d.Shards|d.Wrong)
	if err != nil {
		return Result{}, err
	}
	res := Result{Absent: s.absent, Waiting: s.waiting}
	if len(s.targets) == 0 {
		return res, nil
	}
	written, err := x.rewrite(ctx, s, d, deleted)
	res.Waiting += len(s.targets) - len(written)
	if err != nil || len(written) == 0 {
		return res, err
	}
	x.h.e.Forget(x.id)
	wanted, err = x.wanted(ctx, deleted)
	if err == nil && !wanted {
		x.undo(written)
		res.Unwanted, res.Waiting = true, 0
		return res, nil
	}
	res.Healed = len(written)
	x.h.mu.Lock()
	for _, t := range written {
		x.found = x.found.Without(t.index) // what was met while they were read
	}
	x.h.mu.Unlock()
	x.h.stats.healed.Add(int64(res.Healed))
	x.h.log.Info("blob healed", "blob", x.id, "set", x.set, "shards", res.Healed)
	return res, nil
}

func (x *heal) wanted(ctx context.Context, deleted func() bool) (bool, error) {
	if deleted() {
		return false, nil
	}
	return x.h.o.Wanted(ctx, x.id)
}

// target is a shard to be written.
type target struct {
	drv   drive.Drive
	index int
	w     drive.ShardWriter
	err   error
}

// rewrite writes the targets and returns those that were committed. Targets that
// fail are left out; an error means that the blob can't be read, and then none is
// written.
func (x *heal) rewrite(ctx context.Context, s *surveyed, d engine.Damage, deleted func() bool) ([]*target, error) {
	br, err := x.h.e.OpenAvoiding(ctx, s.blob, d)
	if err != nil {
		return nil, err
	}
	defer br.Close()
	open := 0
	for _, t := range s.targets {
		head := s.header
		head.Index, head.Piece = uint8(t.index), drive.PieceLen // of an older blob as well
		if t.w, t.err = t.drv.Create(ctx, head); t.err == nil {
			open++
		}
	}
	defer func() {
		for _, t := range s.targets {
			if t.w != nil {
				t.w.Abort() // nothing after a commit; what stays is the drive's to clean
			}
		}
	}()
	for i := int64(0); i < br.Stripes() && open > 0; i++ {
		st, err := br.Stripe(ctx, i)
		if err != nil {
			return nil, err
		}
		for _, t := range s.targets {
			if t.err == nil {
				if t.err = t.w.WriteBlock(st.Block(t.index)); t.err != nil {
					open--
				}
			}
		}
		st.Release()
	}
	if deleted() {
		return nil, nil
	}
	return x.commit(s), ctx.Err()
}

func (x *heal) commit(s *surveyed) []*target {
	var written []*target
	for _, t := range s.targets {
		if t.err == nil {
			t.err = t.w.Commit(s.trailer)
		}
		if t.err != nil {
			x.h.log.Debug("shard not rewritten", "blob", x.id, "drive", t.drv.String(), "err", t.err)
			continue
		}
		written = append(written, t)
		x.h.stats.healedBytes.Add(s.bytes)
	}
	return written
}

// undo takes away the shards of a blob that was deleted while they were written.
func (x *heal) undo(written []*target) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, t := range written {
		if err := t.drv.Delete(ctx, x.id); err != nil {
			x.h.log.Warn("shard of a deleted blob stays until collection", "blob", x.id, "drive", t.drv.String(), "err", err)
		}
	}
}
