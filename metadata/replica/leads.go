package replica

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/plant"
)

// Leadership tells which replica leads, as far as is known here (zero: nobody), whether
// it is one of this process, and its term. It proves nothing; see Leads.
func (g *Group) Leadership() (leader twofold.DriveID, here bool, term uint64) {
	if n := g.leader(); n != nil {
		return n.dir.Drive, true, n.raft.CurrentTerm()
	}
	for _, n := range g.running() {
		t := n.raft.CurrentTerm()
		_, id := n.raft.LeaderWithID()
		// One that thinks itself the leader was looked at above.
		if d := driveOf(id); t >= term && !d.IsZero() && id != n.sid {
			leader, term = d, t
		}
	}
	return leader, false, term
}

// Changed returns a channel that is closed when the leader, the members or what Leads
// says may have changed. Leads also turns false by itself, when time runs out.
func (g *Group) Changed() <-chan struct{} { return g.changed.wait() }

// Leads reports whether a replica of this process leads, proven: no other process has
// had a leader's lease, nor had a command acknowledged, up to the moment of the call.
// Without a Wire there is no other process. It costs no message and does not wait.
func (g *Group) Leads() bool {
	if g.net.wire == nil {
		return g.ctx.Err() == nil
	}
	return g.holds(g.lease.Load())
}

// holds reports whether a lease is good at this moment.
func (g *Group) holds(l *lease) bool {
	if l == nil {
		return false
	}
	if g.net.wire == nil {
		return l.holds(g.net)
	}
	if plant.Is(plant.LeadsUnproven) {
		return l.node.leads() && l.node.raft.CurrentTerm() == l.term
	}
	// The clock first: when the promises that the lease is made of are still enough for
	// the configurations in force after it was read, they were when it was.
	return g.net.clock().before(l.end) && l.epoch >= l.tenure.required.Load() && !g.handing.Load() &&
		l.node.leads() && l.node.raft.CurrentTerm() == l.term
}

// errElsewhere is for a process none of whose replicas leads.
var errElsewhere = errs.Newf("replica", errs.Unavailable, "no replica of the metadata leads on this node")

// awaitLease waits for a lease of a replica of ours that leads; errs.Unavailable at once
// when none does.
func (g *Group) awaitLease(ctx context.Context) (*lease, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		wait := g.changed.wait()
		if l := g.lease.Load(); g.holds(l) {
			return l, nil
		}
		if g.leader() == nil || g.handing.Load() {
			return nil, errElsewhere
		}
		select {
		case <-wait:
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, errs.E("replica.View", errs.Unavailable, ctx.Err())
		case <-g.ctx.Done():
			return nil, errClosed
		}
	}
}

// HandOver gives leadership to a replica of another process, the one with the most of
// the log among those that answer. Leads is false from its beginning on. nil: no replica
// here leads any more, or none did. Where it fails the replica here leads on, and Leads
// turns true again. errs.Unavailable: there is no other process to take it, or it did not
// before ctx ended.
func (g *Group) HandOver(ctx context.Context) error {
	const op = "replica.HandOver"
	if g.net.wire == nil {
		return errs.Newf(op, errs.Unsupported, "the metadata is not shared with other nodes")
	}
	if !g.handing.CompareAndSwap(false, true) { // from here on the lease is not used
		return errs.Newf(op, errs.Busy, "leadership is being handed over already")
	}
	defer func() {
		g.handing.Store(false)
		g.changed.notify()
	}()
	g.changed.notify()
	r := g.reignOf.Load()
	if r == nil || g.leader() != r.node {
		if g.leader() == nil {
			return nil
		}
		return errs.Newf(op, errs.Unavailable, "the leader here has only begun")
	}
	// A request that arrives after the release would bind its replica once more.
	for end := time.Now().Add(g.net.d / 2); g.asking.Load() > 0 && ctx.Err() == nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	var failed error
	for _, to := range g.heirs(r.node) {
		if ctx.Err() != nil || !r.node.leads() {
			break
		}
		g.releaseAll(ctx, r)
		err := r.node.await(ctx, r.node.raft.LeadershipTransferToServer(raft.ServerID(to.String()), addressOf(to)).Error)
		failed = errors.Join(failed, err)
		// The library says so before it has stepped down.
		for end := time.Now().Add(g.opts.HeartbeatTimeout); err == nil && r.node.leads() && time.Now().Before(end); {
			time.Sleep(2 * time.Millisecond)
		}
	}
	if !r.node.leads() {
		g.log.Info("leadership was handed over", "from", r.node.dir.Drive)
		return nil
	}
	return errs.E(op, errs.Unavailable, errors.Join(failed, ctx.Err(), errors.New("no other node took over")))
}

// heirs lists voters of other processes that answered lately, the most current first.
func (g *Group) heirs(n *node) []twofold.DriveID {
	type heir struct {
		id   twofold.DriveID
		last uint64
	}
	var list []heir
	for _, id := range votersIn(n.raft.GetConfiguration().Configuration()) {
		c, ok := g.contacts.get(id)
		if g.net.find(addressOf(id)) != nil || !ok || time.Since(c.at) > 2*g.net.d {
			continue
		}
		i := 0
		for i < len(list) && list[i].last >= c.last {
			i++
		}
		list = append(list[:i], append([]heir{{id, c.last}}, list[i:]...)...)
	}
	ids := make([]twofold.DriveID, len(list))
	for i, h := range list {
		ids[i] = h.id
	}
	return ids
}

// releaseAll gives the promises back that a leader does not count on any more: nobody
// could vote for another one before they end. One that isn't told just votes later.
func (g *Group) releaseAll(ctx context.Context, r *reigning) {
	round := r.tenure.renounce()
	servers := r.node.raft.GetConfiguration().Configuration().Servers
	done := make(chan struct{}, len(servers))
	for _, s := range servers {
		go func() {
			defer func() { done <- struct{}{} }()
			if p := g.net.find(s.Address); p != nil {
				p.pledge.release(r.tenure.term, round)
				return
			}
			_, err := r.node.port.send(s.Address, KindRelease, voteLimit/2, encodePromise(r.node.dir.Drive, r.tenure.term, round))
			if err != nil {
				g.log.Debug("a promise is not given back", "drive", s.ID, "err", err)
			}
		}()
	}
	for range servers {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}
