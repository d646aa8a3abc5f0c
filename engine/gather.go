package engine

import (
	"context"
	"time"

	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// gather is how a read asks several drives: some at once, another one for each that
// fails, and others as well as those that are slow. It returns as soon as the answer
// is complete and leaves the rest behind.
type gather struct {
	e    *Engine
	need int // shards that are enough, whichever: the number of data shards
	// want: these alone are enough too (the data blocks that were asked for).
	want erasure.Set
	// order of asking; the first ones are asked at once.
	order []int
	first int
	at    func(shard int) *position
	// op asks shard's drive. It runs in a goroutine of its own and may be left
	// behind: it owns what it touches.
	op func(ctx context.Context, shard int) error
	// begin, where set, is called before op, in the caller's goroutine.
	begin func(shard int)
}

// gathered is what came of it: the shards whose op succeeded, those still running,
// and one failure.
type gathered struct {
	good, running erasure.Set
	err           error
}

type gatherResult struct {
	shard int
	err   error
}

// run asks until want or need of the shards are good. errs.ReadQuorum when that can't
// be, errs.Canceled.
func (g *gather) run(ctx context.Context) (gathered, error) {
	opCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan gatherResult, len(g.order))
	calls := make([]*call, erasure.MaxShards)
	var st gathered
	var slow erasure.Set
	next := 0
	launch := func() {
		i := g.order[next]
		next++
		if g.begin != nil {
			g.begin(i)
		}
		pos := g.at(i)
		c := &call{pos: pos, counter: &pos.lagging}
		calls[i] = c
		st.running = st.running.With(i)
		go func() {
			err := g.op(opCtx, i)
			c.end()
			results <- gatherResult{i, err}
		}()
	}
	for range min(g.first, len(g.order)) {
		launch()
	}
	hedge := time.NewTimer(g.e.opts.HedgeDelay)
	defer hedge.Stop()
	deadline := time.Now().Add(g.e.opts.ReadTimeout)
	for {
		select {
		case r := <-results:
			st.running, slow = st.running.Without(r.shard), slow.Without(r.shard)
			if r.err == nil {
				st.good = st.good.With(r.shard)
			} else {
				st.err = r.err
			}
			if g.complete(st.good) {
				return st, nil
			}
			if r.err == nil && st.running&^slow != 0 {
				continue
			}
		case <-hedge.C:
			for i := range calls {
				if st.running.Has(i) && !slow.Has(i) {
					slow = slow.With(i)
					calls[i].leave()
				}
			}
			if time.Now().After(deadline) {
				return st, g.failed(st, "no answer in time")
			}
			hedge.Reset(g.e.opts.HedgeDelay)
		case <-ctx.Done():
			return st, errs.E("engine.read", errs.Canceled, context.Cause(ctx))
		}
		for next < len(g.order) && (st.good|st.running&^slow).Len() < g.need {
			launch()
		}
		if st.running == 0 {
			return st, g.failed(st, "")
		}
	}
}

func (g *gather) complete(good erasure.Set) bool {
	return g.want != 0 && good.Contains(g.want) || good.Len() >= g.need
}

func (g *gather) failed(st gathered, why string) error {
	err := errs.Newf("engine.read", errs.ReadQuorum, "%s: %d of the %d shards needed", errs.ReadQuorum, st.good.Len(), g.need)
	e := err.(*errs.Error)
	if why != "" {
		e.Msg += ", " + why
	}
	e.Err = st.err
	return e
}
