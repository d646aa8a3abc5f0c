package replica

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
)

// bootShared starts the replicas of this process where others have some, too: whatever
// is a member, however many there are, without waiting for a leader. What can't be
// started as it is gets made again, in the background, by way of the leader.
func (g *Group) bootShared(found []surveyed, fresh []Dir) error {
	var members []surveyed
	for _, s := range found {
		if s.ident.Standing == member {
			members = append(members, s)
			continue
		}
		g.log.Warn("a metadata replica had not finished joining; it is made again", "drive", s.dir.Drive, "path", s.dir.Path)
		fresh = append(fresh, s.dir)
	}
	nodes, _, damaged := g.openAll(members)
	for _, s := range damaged {
		fresh = append(fresh, s.dir)
	}
	if err := g.startAll(nodes); err != nil {
		return err
	}
	g.background.Go(g.keep)
	for _, d := range fresh {
		g.joinSoon(d, true)
	}
	return nil
}

// tend is the keeper's where there are other processes: it has a replica without a vote
// promoted, and stops one that was removed from the group. A lost one is somebody else's
// to replace: nobody here can tell whether it comes back.
func (g *Group) tend() {
	for _, n := range g.running() {
		f := n.raft.GetConfiguration()
		listed, voter := false, false
		for _, s := range f.Configuration().Servers {
			if s.ID == n.sid {
				listed, voter = true, s.Suffrage == raft.Voter
			}
		}
		switch {
		case voter:
		case listed:
			g.joinSoon(n.dir, false)
		case n.identity().Standing == member && f.Index() > 0 && f.Index() <= n.raft.AppliedIndex():
			g.mu.Lock()
			joining := g.joins[n.dir.Drive]
			g.mu.Unlock()
			if !joining {
				n.fail(errs.Newf("replica", errs.Stale, "the replica was removed from the group"))
			}
		}
	}
}

// promoteShared fills a replica and has the leader give it its vote.
func (g *Group) promoteShared(ctx context.Context, n *node) error {
	if _, err := g.petition(ctx, askNonvoter, n.dir.Drive); err != nil {
		return err
	}
	if err := g.catchUpShared(ctx, n); err != nil {
		return err
	}
	// It may vote before the others know that it may: they count votes by the
	// configuration, and it is as current as they are.
	err := g.tell([]*node{n}, func(id *identity) {
		id.Standing, id.Epoch = member, max(id.Epoch, 1)
		id.Voters = with(votersIn(n.raft.GetConfiguration().Configuration()), n.dir.Drive)
	})
	if err != nil {
		return err
	}
	n.port.voteless.Store(false)
	_, err = g.petition(ctx, askVoter, n.dir.Drive)
	return err
}

// catchUpShared waits until a replica has what the leader had committed a moment ago.
func (g *Group) catchUpShared(ctx context.Context, n *node) error {
	for {
		goal, err := g.petition(ctx, askGoal, n.dir.Drive)
		if err != nil {
			return err
		}
		near := n.raft.AppliedIndex()+256 >= goal
		for n.raft.AppliedIndex() < goal {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return errs.E("replica.join", errs.Unavailable, ctx.Err())
			case <-n.gone:
				return n.reason
			}
		}
		if near {
			return nil
		}
	}
}
