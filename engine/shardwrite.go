package engine

import (
	"context"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// shardWrite is one shard of a write: a goroutine that calls the drive, fed through
// jobs. The coordinator owns the fields unless they say otherwise.
type shardWrite struct {
	drv   drive.Drive
	index int
	jobs  chan job // closed by the coordinator; room for all that can be outstanding

	live bool
	done int   // steps finished
	err  error // why it is not live

	dropped atomic.Bool // set when live ends: the goroutine discards
	call    call        // the goroutine
}

// job is a block to write, or the commit where there is a trailer.
type job struct {
	stripe  *erasure.Stripe
	trailer *drive.ShardTrailer
}

// startShards starts a goroutine for each shard whose position is used.
func (w *write) startShards(h drive.ShardHeader, use []bool) {
	var running atomic.Int32
	running.Store(1)
	end := func() {
		if running.Add(-1) == 0 {
			close(w.ended)
		}
	}
	for i, at := range Placement(h.Blob, len(w.shards)) {
		p := w.set.at[at]
		sw := &shardWrite{drv: p.slot.Drive(), index: i, live: use[at]}
		sw.call.pos, sw.call.counter = p, &p.stuck
		w.shards[i] = sw
		if !sw.live {
			sw.err = unusable(sw.drv)
			sw.call.end()
			continue
		}
		sw.jobs = make(chan job, writeWindow+2)
		own := h
		own.Index = uint8(i)
		running.Add(1)
		go func() {
			defer end()
			sw.run(w, own)
		}()
	}
	end()
}

// unusable is why nothing is written to a drive in its state.
func unusable(d drive.Drive) error {
	kind := errs.Unavailable
	if d.State() == drive.Full {
		kind = errs.NoSpace
	}
	return errs.Newf("engine.Write", kind, "%s can't be written now", d)
}

// run is the shard's goroutine. It ends when jobs is closed and the write's outcome
// is decided.
func (sw *shardWrite) run(w *write, h drive.ShardHeader) {
	defer sw.call.end()
	report := func(err error) { w.events <- stepEvent{sw, err} }
	shard, err := sw.drv.Create(w.ctx, h)
	report(err)
	committed := false // or tried: the shard may be there
	for j := range sw.jobs {
		if err == nil && !sw.dropped.Load() {
			if j.trailer != nil {
				committed = true
				err = shard.Commit(*j.trailer)
			} else {
				err = shard.WriteBlock(j.stripe.Block(sw.index))
			}
			report(err)
		}
		if j.stripe != nil {
			j.stripe.Release()
		}
	}
	if shard == nil {
		return
	}
	if !committed || err != nil {
		if err := shard.Abort(); err != nil {
			w.e.log.Debug("abort of a shard", "drive", sw.drv.String(), "err", err)
		}
	}
	if committed {
		<-w.decided
		if w.failed {
			w.e.discard(sw.drv, h.Blob)
		}
	}
}

// discard deletes a shard of a failed write. What can't be deleted is garbage that
// collection finds.
func (e *Engine) discard(d drive.Drive, b twofold.BlobID) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.Delete(ctx, b); err != nil {
		e.log.Debug("delete of a failed write's shard", "drive", d.String(), "err", err)
	}
}
