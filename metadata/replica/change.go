package replica

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
)

// seize waits until nobody changes the configuration, and takes the right to. It is
// given back by <-g.changing. false: ctx ended, or the replica went out.
func (g *Group) seize(ctx context.Context, n *node) bool {
	select {
	case g.changing <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-n.gone:
	}
	return false
}

// petition has the leader do what is asked, whoever it is, again until it is done or ctx
// ends. It returns the index up to which the leader's log is committed. errs.Exists: the
// replica that was to be removed leads.
func (g *Group) petition(ctx context.Context, what request, id twofold.DriveID) (uint64, error) {
	var last error
	for {
		commit, err := g.petitionOnce(ctx, what, id)
		switch errs.KindOf(err) {
		case errs.Exists, errs.Invalid, errs.Precondition:
			return 0, err
		}
		if err == nil {
			return commit, nil
		}
		last = err
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return 0, errs.E("replica.petition", errs.Unavailable, errors.Join(ctx.Err(), last))
		}
	}
}

// askLimit is how long a leader may take for what it is asked.
const askLimit = 5 * time.Second

func (g *Group) petitionOnce(ctx context.Context, what request, id twofold.DriveID) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	leader, here, _ := g.Leadership()
	if here {
		return g.obey(ctx, what, id)
	}
	if leader.IsZero() {
		if leader = g.inquire(ctx); leader.IsZero() {
			return 0, errs.Newf("replica.petition", errs.Unavailable, "the metadata has no leader that is known")
		}
	}
	b, err := g.net.wire.Send(ctx, leader, KindAsk, encodeAsk(id, what, id))
	if err != nil {
		return 0, err
	}
	d := &decoder{b: b}
	commit := d.u64()
	return commit, d.done()
}

// inquire asks the other processes who leads, at once; zero: nobody knows.
func (g *Group) inquire(ctx context.Context) (leader twofold.DriveID) {
	others := g.net.wire.Others()
	type reply struct {
		id   twofold.DriveID
		term uint64
	}
	replies := make(chan reply, len(others))
	ctx, cancel := context.WithTimeout(ctx, voteLimit)
	defer cancel()
	for _, to := range others {
		go func() {
			var r reply
			if b, err := g.net.wire.Send(ctx, to, KindWhere, newMessage(to, 0).b); err == nil {
				r.id, r.term, _ = decodeWhere(b)
			}
			replies <- r
		}()
	}
	best := uint64(0)
	for range others {
		if r := <-replies; !r.id.IsZero() && r.term >= best {
			leader, best = r.id, r.term
		}
	}
	return leader
}

func (g *Group) receiveWhere(msg []byte) ([]byte, error) {
	d, _, err := openMessage(msg)
	if err == nil {
		err = d.done()
	}
	if err != nil {
		return nil, err
	}
	id, _, term := g.Leadership()
	return encodeWhere(id, term), nil
}

func (g *Group) receiveAsk(ctx context.Context, to twofold.DriveID, msg []byte) ([]byte, error) {
	what, id, err := decodeAsk(msg)
	if err != nil {
		return nil, err
	}
	if n := g.leader(); n == nil || n.dir.Drive != to {
		return nil, errElsewhere
	}
	commit, err := g.obey(ctx, what, id)
	if err != nil {
		return nil, err
	}
	e := &encoder{}
	e.u64(commit)
	return e.b, nil
}

// obey does, as the leader, what is asked. What is so already is done. errs.Unavailable
// where the leader is none any more or too few would be left to vote.
func (g *Group) obey(ctx context.Context, what request, id twofold.DriveID) (commit uint64, err error) {
	const op = "replica.obey"
	n := g.leader()
	if n == nil {
		return 0, errElsewhere
	}
	if what == askGoal {
		return n.raft.CommitIndex(), nil
	}
	l, err := g.awaitLease(ctx)
	if err != nil {
		return 0, err
	}
	n = l.node
	if !g.seize(ctx, n) {
		return 0, errs.E(op, errs.Unavailable, ctx.Err())
	}
	release := func() { <-g.changing }
	now := n.raft.GetConfiguration().Configuration()
	next, do, err := plan(n, now, what, id)
	if err != nil || do == nil {
		release()
		return n.raft.CommitIndex(), err
	}
	if err := g.prepare(ctx, l, votersIn(now), votersIn(next)); err != nil {
		release()
		return 0, err
	}
	f := do()
	changed := make(chan error, 1)
	go func() { // the configuration may still change when the caller has given up
		defer release()
		outcome := make(chan error, 1)
		go func() { outcome <- f.Error() }()
		select {
		case err := <-outcome:
			l.tenure.settle(votersIn(n.raft.GetConfiguration().Configuration()))
			g.changed.notify()
			changed <- err
		case <-n.gone:
			changed <- n.reason
		}
	}()
	select {
	case err = <-changed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return 0, errs.E(op, errs.Unavailable, err)
	}
	g.log.Info("the metadata's configuration changed", "drive", id, "voters", len(votersIn(next)))
	return n.raft.CommitIndex(), nil
}

// plan is what changes the configuration as asked; nil where there is nothing to do.
func plan(n *node, now raft.Configuration, what request, id twofold.DriveID) (next raft.Configuration, do func() raft.Future, err error) {
	const op = "replica.obey"
	s := serverOf(id, raft.Nonvoter)
	at := -1
	for i, old := range now.Servers {
		if old.ID == s.ID {
			at = i
		}
	}
	next = now.Clone()
	switch {
	case what == askNonvoter && at < 0:
		if len(now.Servers) >= maxConfigLen {
			return next, nil, errs.Newf(op, errs.Invalid, "%d replicas are enough", len(now.Servers))
		}
		return next, func() raft.Future { return n.raft.AddNonvoter(s.ID, s.Address, 0, time.Second) }, nil
	case what == askVoter && at < 0:
		return next, nil, errs.Newf(op, errs.Precondition, "drive %s is not a member of the group", id)
	case what == askVoter && now.Servers[at].Suffrage != raft.Voter:
		next.Servers[at].Suffrage = raft.Voter
		return next, func() raft.Future { return n.raft.AddVoter(s.ID, s.Address, 0, time.Second) }, nil
	case what == askRemove && s.ID == n.sid:
		return next, nil, errs.Newf(op, errs.Exists, "the drive's replica leads")
	case what == askRemove && at >= 0:
		next.Servers = append(next.Servers[:at:at], next.Servers[at+1:]...)
		return next, func() raft.Future { return n.raft.RemoveServer(s.ID, 0, time.Second) }, nil
	}
	return next, nil, nil
}

// prepare makes sure that who votes next can carry the group, and waits for a lease of
// promises by a majority of them as well. The caller may change the configuration.
func (g *Group) prepare(ctx context.Context, l *lease, now, next []twofold.DriveID) error {
	const op = "replica.obey"
	if len(now) == len(next) {
		return nil // one by one they change: nobody's vote did
	}
	alive := 0
	for _, id := range next {
		if c, ok := g.contacts.get(id); ok && time.Since(c.at) < 2*g.net.d {
			alive++
		}
	}
	if alive < majority(len(next)) {
		return errs.Newf(op, errs.Unavailable, "only %d of the %d replicas that would vote answer", alive, len(next))
	}
	epoch := l.tenure.cover(next)
	g.publish(l.node, l.tenure)
	for {
		wait := g.changed.wait()
		cur := g.lease.Load()
		if g.holds(cur) && cur.tenure == l.tenure && cur.epoch >= epoch {
			l.tenure.required.Store(epoch)
			return nil
		}
		lost := !l.node.leads() || l.node.raft.CurrentTerm() != l.term
		select {
		case <-wait:
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			lost = true
		}
		if lost {
			l.tenure.settle(now)
			return errs.Newf(op, errs.Unavailable, "too few replicas confirm the leader for the configuration to change")
		}
	}
}

// Remove takes a drive's replica out of the configuration, by way of the leader. It is
// for one that is lost, or on a drive that is to go: a replica that runs stops soon
// after. errs.Exists where it leads.
func (g *Group) Remove(ctx context.Context, id twofold.DriveID) error {
	if g.net.wire == nil {
		return errs.Newf("replica.Remove", errs.Unsupported, "the metadata is not shared with other nodes")
	}
	_, err := g.petition(ctx, askRemove, id)
	return err
}

// Replace makes a replica on a fresh drive of this process and then removes a lost one.
func (g *Group) Replace(ctx context.Context, lost twofold.DriveID, fresh Dir) error {
	if err := g.AddReplica(ctx, fresh); err != nil {
		return err
	}
	return g.Remove(ctx, lost)
}
