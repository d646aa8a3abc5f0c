package remote

import (
	"context"
	"sync"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// table has a session's numbered calls: those that run, and those whose answer the
// mount may not have. It sees to it that a number runs once.
type table struct {
	mu    sync.Mutex
	low   uint64 // numbers below it will not come again
	calls map[uint64]*numberedCall
}

type numberedCall struct {
	cancel  context.CancelFunc
	settled bool          // guarded by table.mu: it must not run again
	done    chan struct{} // closed when the outcome is there
	answer  any
	err     error
}

func (t *table) init() {
	t.low = 1
	t.calls = make(map[uint64]*numberedCall)
}

// run runs fn under number seq, or joins or repeats the outcome of an earlier run.
// fn's context ends with base or when the mount's caller went away, but not with
// the connection: the mount will come back for the answer.
func (t *table) run(ctx, base context.Context, seq api.Seq, fn func(context.Context) (any, error)) (any, error) {
	opCtx, cancel := context.WithCancel(api.WithSeq(base, seq))
	defer cancel()
	call, mine, err := t.enter(seq, cancel)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() {
		if rpc.CanceledByPeer(ctx) {
			call.cancel()
		}
	})()
	if mine {
		t.execute(opCtx, seq.N, call, fn)
		return call.answer, call.err
	}
	select {
	case <-call.done:
		return call.answer, call.err
	case <-ctx.Done():
		return nil, errs.E("remote.call", errs.Canceled, ctx.Err())
	}
}

// execute runs fn and leaves its outcome in call, also when it panics.
func (t *table) execute(ctx context.Context, n uint64, call *numberedCall, fn func(context.Context) (any, error)) {
	call.err = errs.Newf("remote.call", errs.Other, "internal error")
	defer func() {
		if call.err != nil && again(errs.KindOf(call.err)) {
			// The mount sends it once more, and then it has to run.
			t.mu.Lock()
			if t.calls[n] == call && !call.settled {
				delete(t.calls, n)
			}
			t.mu.Unlock()
		}
		close(call.done)
	}()
	call.answer, call.err = fn(ctx)
}

// again tells the failures after which the same number is sent, and runs, again.
func again(k errs.Kind) bool {
	return k == errs.Unavailable || k == errs.UnknownOutcome || k == errs.Canceled
}

// enter finds the call or makes it; mine tells the caller to run it.
func (t *table) enter(seq api.Seq, cancel context.CancelFunc) (call *numberedCall, mine bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq.Acked > seq.N || seq.N == 0 {
		return nil, false, bad("call %d with everything below %d answered", seq.N, seq.Acked)
	}
	t.forget(seq.Acked)
	if seq.N < t.low || seq.N-t.low > 2*window {
		return nil, false, bad("call %d while %d is next", seq.N, t.low)
	}
	if call = t.calls[seq.N]; call != nil {
		return call, false, nil
	}
	call = &numberedCall{cancel: cancel, done: make(chan struct{})}
	t.calls[seq.N] = call
	return call, true, nil
}

// forget drops the answers below acked. Calls come in any order: acked may be older
// than what is known.
func (t *table) forget(acked uint64) {
	if acked <= t.low {
		return
	}
	if acked-t.low <= uint64(len(t.calls)) {
		for ; t.low < acked; t.low++ {
			delete(t.calls, t.low)
		}
		return
	}
	for n := range t.calls {
		if n < acked {
			delete(t.calls, n)
		}
	}
	t.low = acked
}

// settle makes sure that a number does not run any more, nor will: a running call is
// canceled and waited for, one that did not come yet is refused if it does. done
// tells that it had succeeded.
func (t *table) settle(ctx context.Context, n uint64) (done bool, err error) {
	t.mu.Lock()
	if n < t.low || n-t.low > 2*window {
		t.mu.Unlock()
		return false, bad("settling call %d while %d is next", n, t.low)
	}
	call := t.calls[n]
	if call == nil {
		call = &numberedCall{cancel: func() {}, done: make(chan struct{}),
			err: errs.Newf("remote.call", errs.Canceled, "the caller went away")}
		close(call.done)
		t.calls[n] = call
	}
	call.settled = true
	t.mu.Unlock()
	call.cancel()
	select {
	case <-call.done:
		return call.err == nil, nil
	case <-ctx.Done():
		return false, errs.E("remote.settle", errs.Canceled, ctx.Err())
	}
}
