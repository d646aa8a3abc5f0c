package engine

import (
	"context"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// answer is what one position said.
type answer[T any] struct {
	drv   drive.Drive
	value T
	err   error
}

// ask runs fn on the drives of a set at once and returns their answers by position.
// Those that take longer than timeout are left behind with errs.Unavailable; offline
// ones, and with skipStuck those that have left calls behind before, are not asked.
func ask[T any](ctx context.Context, s *set, timeout time.Duration, skipStuck bool,
	fn func(context.Context, drive.Drive) (T, error)) []answer[T] {
	const op = "engine"
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type reply struct {
		at    int
		value T
		err   error
	}
	replies := make(chan reply, len(s.at))
	answers := make([]answer[T], len(s.at))
	calls := make([]*call, len(s.at))
	asked := 0
	for i, p := range s.at {
		d := p.slot.Drive()
		answers[i].drv = d
		if d.State() == drive.Offline || skipStuck && p.stuck.Load() > 0 {
			answers[i].err = errs.Newf(op, errs.Unavailable, "%s is offline or does not answer", d)
			continue
		}
		c := &call{pos: p, counter: &p.stuck}
		calls[i] = c
		asked++
		go func() {
			v, err := fn(ctx, d)
			c.end()
			replies <- reply{i, v, err}
		}()
	}
	for ; asked > 0; asked-- {
		select {
		case r := <-replies:
			answers[r.at].value, answers[r.at].err = r.value, r.err
			calls[r.at] = nil
		case <-ctx.Done():
			for i, c := range calls {
				if c != nil {
					c.leave()
					answers[i].err = errs.Newf(op, errs.Unavailable, "%s did not answer in time", answers[i].drv)
				}
			}
			return answers
		}
	}
	return answers
}

// ShardState is what one slot has of a blob.
type ShardState struct {
	Slot  *drive.Slot
	Drive drive.Drive // that was asked
	Info  drive.ShardInfo
	Err   error // errs.NotFound, errs.Corrupt, errs.Unavailable, ...
}

// Inspect asks each drive of a set what it has of a blob: header and trailer, not
// the blocks. errs.NotFound where there is no such set, errs.Canceled.
func (e *Engine) Inspect(ctx context.Context, b twofold.BlobID, id twofold.SetID) ([]ShardState, error) {
	s, err := e.set(id)
	if err != nil {
		return nil, err
	}
	answers := ask(ctx, s, e.opts.ReadTimeout, true, func(ctx context.Context, d drive.Drive) (drive.ShardInfo, error) {
		return d.Stat(ctx, b)
	})
	if ctx.Err() != nil {
		return nil, errs.E("engine.Inspect", errs.Canceled, context.Cause(ctx))
	}
	states := make([]ShardState, len(answers))
	for i, a := range answers {
		states[i] = ShardState{Slot: s.at[i].slot, Drive: a.drv, Info: a.value, Err: a.err}
	}
	return states, nil
}

// Delete removes a blob's shards from the drives of its set that can be reached. On
// the others they stay as garbage, which the walk over all blobs finds. Readers that
// have the blob open keep what they have. An error: nothing is known to be deleted,
// try again.
func (e *Engine) Delete(ctx context.Context, blob twofold.Blob) error {
	s, err := e.set(blob.Set)
	if err != nil {
		return err
	}
	e.live.beginDelete(blob.ID)
	defer e.live.endDelete(blob.ID)
	e.cache.drop(blob.ID)
	answers := ask(ctx, s, e.opts.WriteTimeout, true, func(ctx context.Context, d drive.Drive) (struct{}, error) {
		return struct{}{}, d.Delete(ctx, blob.ID)
	})
	deleted := 0
	var failure error
	for _, a := range answers {
		switch {
		case a.err == nil || errs.Is(a.err, errs.NotFound):
			deleted++
		default:
			failure = a.err
			e.log.Debug("shard not deleted", "blob", blob.ID, "drive", a.drv.String(), "err", a.err)
		}
	}
	if deleted > 0 {
		return nil
	}
	if ctx.Err() != nil {
		return errs.E("engine.Delete", errs.Canceled, context.Cause(ctx))
	}
	return errs.E("engine.Delete", errs.Unavailable, failure)
}
