package replica

import (
	"context"
	"errors"
	"sync"
	"time"

	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// lease is the proof that a replica's state is the newest there is. DESIGN.md has
// the argument; in short: no other replica can have become leader unless a vote was
// granted since. Where all replicas are in this process, every vote raises
// network.grants; with a wire, a majority has promised not to vote before end.
type lease struct {
	node   *node
	term   uint64
	grants uint64 // network.grants before leadership was confirmed

	// With a wire:
	tenure *tenure
	end    instant
	epoch  uint64 // stands for the promises that it is made of, see tenure.required
}

// holds reports whether the lease is good at this moment, without a wire.
func (l *lease) holds(net *network) bool {
	return l != nil && l.grants == net.grants.Load() && l.node.leads() && l.node.raft.CurrentTerm() == l.term
}

// View implements metadata.Store.
func (g *Group) View(ctx context.Context, fn func(metadata.View) error) error {
	for {
		l := g.lease.Load()
		if !g.holds(l) {
			var err error
			if l, err = g.relet(ctx); err != nil {
				return err
			}
		}
		err := l.node.host.cur.Load().machine.View(fn)
		var fault *kv.Fault
		var damage *kv.Damage
		switch {
		case errors.As(err, &fault): // the drive can't be read; fn has begun
			l.node.fail(err)
			return errs.E("replica.View", errs.Unavailable, err)
		case errors.As(err, &damage) && g.canSpare():
			l.node.fail(err) // the others have the value; this one is made again
			return errs.E("replica.View", errs.Unavailable, err)
		case errors.Is(err, kv.ErrClosed) && ctx.Err() == nil: // the replica is on its way out
			l.node.fail(err)
		default:
			return err
		}
	}
}

// relet waits for a lease that was confirmed after the call.
func (g *Group) relet(ctx context.Context) (*lease, error) {
	if g.net.wire != nil {
		return g.awaitLease(ctx)
	}
	return g.confirm(ctx)
}

// canSpare tells whether a replica that works, but for a damaged value, may be taken
// out: only where the others are a majority. Otherwise it serves what is sound.
func (g *Group) canSpare() bool {
	return len(g.running())-1 >= majority(len(g.voters()))
}

// roundGate lets readers share confirmations: a reader waits for one that began
// after it arrived, and there is one at a time.
type roundGate struct {
	mu      sync.Mutex
	next    *round // guarded by mu; not begun: readers may still join it
	running bool   // guarded by mu
}

// round is one confirmation of leadership and those who wait for it.
type round struct {
	done  chan struct{}
	lease *lease
	err   error
}

// confirm returns a lease that was confirmed by a round that began after the call.
func (g *Group) confirm(ctx context.Context) (*lease, error) {
	q := &g.rounds
	q.mu.Lock()
	r := q.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		q.next = r
	}
	if !q.running {
		q.running = true
		go g.runRounds()
	}
	q.mu.Unlock()
	select {
	case <-r.done:
		return r.lease, r.err
	case <-ctx.Done():
		return nil, errs.E("replica.View", errs.Unavailable, ctx.Err())
	}
}

// runRounds confirms until nobody waits.
func (g *Group) runRounds() {
	q := &g.rounds
	for {
		q.mu.Lock()
		r := q.next
		q.next = nil
		if r == nil {
			q.running = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		r.lease, r.err = g.confirmOnce()
		if r.err == nil {
			g.lease.Store(r.lease)
		}
		close(r.done)
	}
}

// confirmOnce finds the leader and has it confirmed, again until it succeeds.
func (g *Group) confirmOnce() (*lease, error) {
	ctx, cancel := context.WithTimeout(g.ctx, patience)
	defer cancel()
	for {
		n, err := g.awaitLeader(ctx)
		if err != nil {
			return nil, err
		}
		wait := g.changed.wait()
		// The order matters: grants first, then the term, then the confirmation.
		l := &lease{node: n, grants: g.net.grants.Load(), term: n.raft.CurrentTerm()}
		err = g.prove(ctx, n)
		if err == nil && n.leads() && n.raft.CurrentTerm() == l.term {
			return l, nil
		}
		select {
		case <-wait:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, errs.E("replica.View", errs.Unavailable, errors.Join(err, ctx.Err()))
		}
	}
}

// prove confirms that the replica leads, and that everything committed in
// earlier terms is in its state machine: a barrier is an entry of its own term that
// a majority of the voters has stored, and that the state machine has come to, when
// what the replica held back until it led is applied. (VerifyLeader would be cheaper, but counts replicas without a vote, too. One
// barrier an election costs nothing.)
func (g *Group) prove(ctx context.Context, n *node) error {
	if err := n.await(ctx, n.raft.Barrier(time.Second).Error); err != nil {
		return err
	}
	return n.await(ctx, func() error {
		err := n.host.settle()
		if err != nil {
			n.fail(err)
		}
		return err
	})
}

// await waits for f, which may never return when the replica's drive hangs.
func (n *node) await(ctx context.Context, f func() error) error {
	answer := make(chan error, 1)
	go func() { answer <- f() }()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.gone:
		return n.reason
	case <-*n.port.severed.Load():
		return errUnreachable
	}
}
