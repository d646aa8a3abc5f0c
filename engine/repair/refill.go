package repair

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"twofold"
	"twofold/engine"
	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// Marker is a drive that can be marked as one being refilled: Healing, also after a
// restart, until the mark is taken away. drive.Local is one; without it the drive's
// state does not tell.
type Marker interface {
	SetHealing(ctx context.Context, healing bool) error
	Healing() bool
}

var _ Marker = (*drive.Local)(nil)

// Refill brings the drive in a slot up to date, after it was replaced or came back:
// it is marked Healing, every blob of its set that it lacks is healed, and the mark
// is taken away. What fails is tried again until ctx ends; blobs that can't be
// rebuilt are left out. Idempotent. errs.Canceled; errs.Unavailable when the drive
// goes away again.
func (h *Healer) Refill(ctx context.Context, slot *drive.Slot) error {
	set, at := slot.Position()
	only := erasure.Set(0).With(at)
	return h.refill(ctx, set, only, only)
}

func mark(ctx context.Context, d drive.Drive, healing bool) error {
	m, ok := d.(Marker)
	if !ok || m.Healing() == healing {
		return nil
	}
	return m.SetHealing(ctx, healing)
}

// refill marks the drives at the positions in fresh, heals what those at the positions
// in at lack, and takes the marks away.
func (h *Healer) refill(ctx context.Context, set twofold.SetID, at, fresh erasure.Set) error {
	slots := h.e.Slots(set)
	drives := make([]drive.Drive, len(slots))
	for i, s := range slots {
		drives[i] = s.Drive()
		if fresh.Has(i) {
			if err := mark(ctx, drives[i], true); err != nil {
				return err
			}
		}
	}
	n := int64(at.Len())
	h.stats.refilling.Add(n)
	defer h.stats.refilling.Add(-n)
	p := h.progress(set, at)
	defer h.forget(p)
	for delay := h.o.RetryDelay; ; delay = min(2*delay, maxRetryDelay) {
		healed, failed, err := h.fill(ctx, set, at, p)
		if err != nil {
			return err
		}
		if healed > 0 {
			h.log.Info("drives refilled", "set", set, "blobs", healed, "failed", failed)
		}
		if failed == 0 {
			break
		}
		for i, s := range slots {
			if at.Has(i) && (s.Drive() != drives[i] || drives[i].State() == drive.Offline) {
				return errs.Newf("repair.Refill", errs.Unavailable, "%s went away while it was refilled", drives[i])
			}
		}
		if !sleep(ctx, delay) {
			return errs.E("repair.Refill", errs.Canceled, context.Cause(ctx))
		}
	}
	for i, d := range drives {
		if at.Has(i) && slots[i].Drive() == d {
			if err := mark(ctx, d, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxFillFailures ends a walk: a drive that takes nothing need not be told so for
// every blob.
const maxFillFailures = 100

var errEnough = errors.New("too many failures")

// fill walks a set once and heals the blobs that any drive lacks, several at a time.
// failed counts those to be tried again that the drives at the positions lack.
func (h *Healer) fill(ctx context.Context, set twofold.SetID, at erasure.Set, p *progress) (healed, failed int64, err error) {
	p.begin()
	var nHealed, nFailed atomic.Int64
	jobs := make(chan engine.Found)
	var wg sync.WaitGroup
	for range h.o.Workers {
		wg.Go(func() {
			for f := range jobs {
				ok, err := h.fillBlob(ctx, set, f.ID)
				p.done.Add(1)
				switch {
				case ok:
					nHealed.Add(1)
				case err != nil && f.Asked&^f.On&at != 0:
					nFailed.Add(1)
				}
			}
		})
	}
	lacking := func(f engine.Found) bool {
		p.seen.Add(1)
		if f.Asked&^f.On == 0 {
			return false
		}
		p.lacking.Add(1)
		return true
	}
	asked, err := h.walk(ctx, set, twofold.BlobID{}, lacking, func(f engine.Found) error {
		if nFailed.Load() >= maxFillFailures {
			return errEnough
		}
		select {
		case jobs <- f:
		case <-ctx.Done():
		}
		return nil
	})
	close(jobs)
	wg.Wait()
	switch {
	case errors.Is(err, errEnough):
		err = nil
	case err == nil && !enoughWalked(asked, at, len(h.e.Slots(set))):
		nFailed.Add(1)
	}
	return nHealed.Load(), nFailed.Load(), err
}

// fillBlob heals one blob and reports whether a shard was rewritten. An error: try
// again. A blob that can't be rebuilt now is left to the queue.
func (h *Healer) fillBlob(ctx context.Context, set twofold.SetID, id twofold.BlobID) (bool, error) {
	d := engine.Damage{Blob: id, Set: set}
	res, err := h.Heal(ctx, d)
	switch {
	case errs.Is(err, errs.ReadQuorum), errs.Is(err, errs.NotFound):
		h.queue.add(d)
		return false, nil
	case err != nil:
		return false, err
	case res.Waiting > 0:
		return false, errs.Newf("repair.Refill", errs.Unavailable, "%d shards of blob %s were not taken", res.Waiting, id)
	}
	return res.Healed > 0, nil
}

// enoughWalked reports whether a walk met every blob that the positions lack: these
// drives were walked, and of the others so many that a blob, which has at least half
// of its shards somewhere, was on one of them.
func enoughWalked(asked, at erasure.Set, n int) bool {
	return asked.Contains(at) && asked.Len() > n/2
}
