package engine

import (
	"context"
	"io"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// maxPurpose is the most bytes of WriteOptions.Purpose, a shard trailer's limit.
const maxPurpose = 4 << 10

// writeWindow is how many stripes of a blob are handed to the drives and not yet
// written by all of them: enough that reading, coding and writing overlap, and with
// the stripe being filled the bound of a write's memory. Where many blobs are written
// at once each has fewer (ahead.go).
const writeWindow = 4

// graceFactor is how many times as long as the quorum took the others may take:
// where all drives are slow, one that is a little slower is not left behind.
const graceFactor = 4

// WriteOptions say what is written where.
type WriteOptions struct {
	ID  twofold.BlobID // never used before
	Set twofold.SetID
	// Parity asks for so many parity shards; -1 for the set's default. The blob
	// gets more when drives are offline.
	Parity int
	// Purpose is what the blob is written for: at most 4 KiB, kept in the trailer
	// of every shard.
	Purpose []byte
	// SizeHint is how many bytes are expected; 0 where that is not known. It
	// bounds nothing.
	SizeHint int64
}

// Write stores all of r as a blob. Memory is constant, whatever r's length. When it
// returns nil the blob is durable: at least a write quorum of shards (data, one more
// where that equals parity) is fsynced, and missing ones are reported to repair.
// When it returns an error nothing is stored that a reader finds.
//
// An error of r is returned as it is. errs.WriteQuorum: too few drives took their
// shard; errs.NoSpace or errs.ReadOnly where that is the reason; errs.Canceled;
// errs.Invalid; errs.NotFound where there is no such set.
func (e *Engine) Write(ctx context.Context, o WriteOptions, r io.Reader) (twofold.Blob, error) {
	const op = "engine.Write"
	s, err := e.set(o.Set)
	if err != nil {
		return twofold.Blob{}, err
	}
	if len(o.Purpose) > maxPurpose {
		return twofold.Blob{}, errs.Newf(op, errs.Invalid, "a purpose of %d bytes; the limit is %d", len(o.Purpose), maxPurpose)
	}
	if o.Parity > len(s.at)/2 {
		return twofold.Blob{}, errs.Newf(op, errs.Invalid, "parity %d on a set of %d drives", o.Parity, len(s.at))
	}
	if !e.live.beginWrite(o.ID) {
		return twofold.Blob{}, errs.Newf(op, errs.Invalid, "blob %s is being written already", o.ID)
	}
	blob, missing, err := e.write(ctx, s, o, r)
	e.live.endWrite(o.ID)
	if missing > 0 { // reported only now: repair leaves alone what is being written
		e.log.Warn("blob written with shards missing", "blob", o.ID, "set", s.id, "missing", missing)
		e.reportDamage(Damage{Blob: o.ID, Set: s.id})
	}
	return blob, err
}

// write does it, and returns how many shards are missing after a success.
func (e *Engine) write(ctx context.Context, s *set, o WriteOptions, r io.Reader) (blob twofold.Blob, missing int, err error) {
	w, err := e.startWrite(ctx, s, o)
	if err != nil {
		return blob, 0, err
	}
	defer w.abort() // does nothing after a success
	size, err := w.copyFrom(r)
	if err == nil {
		err = w.commit(size)
	}
	if err != nil {
		return blob, 0, err
	}
	return twofold.Blob{
		ID: o.ID, Set: o.Set, Data: uint8(w.coder.Data()), Parity: uint8(w.coder.Parity()), Size: size,
	}, w.missing(), nil
}

// write is one blob being written. One goroutine, Write's caller, coordinates: it
// alone touches these fields unless they say otherwise. Each shard has a goroutine
// that calls its drive and reports each finished step as an event; a step is the
// create, each block, and the commit.
type write struct {
	e      *Engine
	ctx    context.Context
	set    *set
	opts   WriteOptions
	coder  *erasure.Coder
	quorum int

	shards []*shardWrite // by index; those with a drive that can't be written are dead from the start
	steps  int           // handed to every live shard
	events chan stepEvent

	decided chan struct{} // closed when the outcome is known; failed may be read then
	failed  bool
	ended   chan struct{} // closed when the last goroutine has ended
}

// stepEvent says that a shard's goroutine finished a step. The channel has room for
// all that can be outstanding, so that sending never blocks.
type stepEvent struct {
	shard *shardWrite
	err   error
}

// startWrite decides the coding by the drives that can be written now, and starts
// the shards.
func (e *Engine) startWrite(ctx context.Context, s *set, o WriteOptions) (*write, error) {
	p, err := s.plan(o.Parity)
	if err != nil {
		return nil, err
	}
	coder, err := e.Coder(p.Data, p.Parity)
	if err != nil {
		return nil, err
	}
	n := len(s.at)
	w := &write{
		e: e, ctx: ctx, set: s, opts: o, coder: coder, quorum: p.WriteQuorum(),
		shards: make([]*shardWrite, n), steps: 1,
		events:  make(chan stepEvent, n*(writeWindow+2)),
		decided: make(chan struct{}), ended: make(chan struct{}),
	}
	h := drive.ShardHeader{
		Cluster: e.opts.Cluster, Blob: o.ID, Set: o.Set,
		Data: uint8(p.Data), Parity: uint8(p.Parity), Stripe: erasure.StripeSize, Piece: drive.PieceLen,
		Created: twofold.Now(),
	}
	w.startShards(h, p.use)
	return w, nil
}

// copyFrom hands all of r to the shards, stripe by stripe, and returns its length.
func (w *write) copyFrom(r io.Reader) (int64, error) {
	var size int64
	for {
		st, eof, err := w.fill(r, w.opts.SizeHint-size)
		if err != nil {
			return 0, err
		}
		n := st.Len()
		if n > 0 {
			size += int64(n)
			err = w.submit(st, eof)
		}
		st.Release()
		if err != nil || eof {
			return size, err
		}
	}
}

// smallStripe is the buffer's size for a stripe that is not expected to be larger.
const smallStripe = 64 << 10

// fill reads a stripe: full, unless r ends. It takes a small buffer where little is
// expected, and a full one when that turns out to be wrong.
func (w *write) fill(r io.Reader, expect int64) (st *erasure.Stripe, eof bool, err error) {
	room := erasure.StripeSize
	if w.opts.SizeHint > 0 && expect < erasure.StripeSize {
		// One byte more, to meet the end of r in the same stripe.
		room = max(smallStripe, int(expect)+1)
		room = min(room, erasure.StripeSize)
	}
	st = w.e.pool.Full(w.coder, room)
	n := 0
	for idle := 0; n < erasure.StripeSize; {
		if n == room {
			st, room = w.grow(st)
		}
		m, err := r.Read(st.Content()[n:])
		n += m
		if err == io.EOF {
			st.Truncate(w.coder, n)
			return st, true, nil
		}
		if err == nil && m == 0 {
			if idle++; idle == 100 {
				err = io.ErrNoProgress
			}
		} else {
			idle = 0
		}
		if err != nil {
			st.Release()
			return nil, false, err
		}
	}
	return st, false, nil
}

// grow moves a stripe's content into one with room for a full stripe.
func (w *write) grow(st *erasure.Stripe) (*erasure.Stripe, int) {
	full := w.e.pool.Full(w.coder, erasure.StripeSize)
	copy(full.Content(), st.Content())
	st.Release()
	return full, erasure.StripeSize
}

// submit codes a stripe and queues its blocks, after the shards have room. Where the
// stripe may not be with the drives while another is filled, it waits for them.
func (w *write) submit(st *erasure.Stripe, last bool) error {
	if err := w.coder.Encode(st); err != nil {
		return err
	}
	if err := w.await(w.steps + 1 - writeWindow); err != nil {
		return err
	}
	alone := !last && !w.e.ahead.admit(st)
	for _, sw := range w.shards {
		if sw.live {
			st.Retain()
			sw.jobs <- job{stripe: st}
		}
	}
	w.steps++
	if alone {
		return w.await(w.steps)
	}
	return nil
}

// commit makes the shards durable and decides the outcome.
func (w *write) commit(size int64) error {
	t := &drive.ShardTrailer{Size: size, Purpose: w.opts.Purpose}
	for _, sw := range w.shards {
		if sw.live {
			sw.jobs <- job{trailer: t}
		}
	}
	w.steps++
	if err := w.await(w.steps); err != nil {
		return err
	}
	w.decide(false)
	return nil
}

// await waits until every live shard has finished target steps. Shards that are
// behind are left behind: after Options.Grace once a write quorum is there, after
// Options.WriteTimeout in any case.
func (w *write) await(target int) error {
	var timer *time.Timer
	var start time.Time
	graced := false
	for {
		ready, behind := w.progress(target)
		switch {
		case w.ctx.Err() != nil:
			return errs.E("engine.Write", errs.Canceled, context.Cause(w.ctx))
		case ready+behind < w.quorum:
			return w.quorumError()
		case behind == 0:
			return nil
		}
		if timer == nil {
			start = time.Now()
			timer = time.NewTimer(w.e.opts.WriteTimeout)
			defer timer.Stop()
		}
		if ready >= w.quorum && !graced {
			graced = true
			timer.Reset(max(w.e.opts.Grace, graceFactor*time.Since(start)))
		}
		select {
		case ev := <-w.events:
			w.apply(ev)
		case <-timer.C:
			w.leaveBehind(target)
		case <-w.ctx.Done():
		}
	}
}

// progress counts the live shards that have finished target steps, and those that
// have not.
func (w *write) progress(target int) (ready, behind int) {
	for _, sw := range w.shards {
		switch {
		case !sw.live:
		case sw.done >= target:
			ready++
		default:
			behind++
		}
	}
	return ready, behind
}

func (w *write) apply(ev stepEvent) {
	sw := ev.shard
	if !sw.live {
		return
	}
	if ev.err == nil {
		sw.done++
		return
	}
	w.e.log.Warn("shard not written", "blob", w.opts.ID, "drive", sw.drv.String(), "err", ev.err)
	w.drop(sw, ev.err)
}

// drop takes a shard out of the write. Its goroutine discards what it has.
func (w *write) drop(sw *shardWrite, err error) {
	sw.live = false
	sw.err = err
	sw.dropped.Store(true)
	close(sw.jobs)
}

// leaveBehind drops the shards that have not finished target steps.
func (w *write) leaveBehind(target int) {
	for _, sw := range w.shards {
		if sw.live && sw.done < target {
			w.e.log.Warn("drive too slow, left behind", "blob", w.opts.ID, "drive", sw.drv.String())
			w.drop(sw, errs.Newf("engine.Write", errs.Unavailable, "%s did not answer in time", sw.drv))
			sw.call.leave()
		}
	}
}

// missing is the number of shards that are not there after a success.
func (w *write) missing() int {
	n := 0
	for _, sw := range w.shards {
		if !sw.live {
			n++
		}
	}
	return n
}

// decide fixes the outcome, once. Shards that were committed although the write
// failed are deleted by their goroutines.
func (w *write) decide(failed bool) {
	w.failed = failed
	for _, sw := range w.shards {
		if sw.live {
			close(sw.jobs)
		}
	}
	close(w.decided)
}

// abort discards everything, unless the outcome is decided. It waits for the drives,
// but not for long.
func (w *write) abort() {
	select {
	case <-w.decided:
		return
	default:
	}
	w.decide(true)
	timer := time.NewTimer(w.e.opts.Grace)
	defer timer.Stop()
	select {
	case <-w.ended:
	case <-timer.C:
		for _, sw := range w.shards {
			sw.call.leave()
		}
	}
}
