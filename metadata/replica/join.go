package replica

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
)

// joinLimit is how long a replica may take to be filled in the background.
const joinLimit = 30 * time.Minute

// joinSoon makes or finishes a replica in the background, again until it succeeds.
// It does nothing while a join of the drive is at work.
func (g *Group) joinSoon(d Dir, anew bool) {
	g.mu.Lock()
	busy := g.joins[d.Drive] || g.closing
	g.mu.Unlock()
	if busy {
		return
	}
	g.background.Go(func() {
		ctx, cancel := context.WithTimeout(g.ctx, joinLimit)
		defer cancel()
		for ctx.Err() == nil {
			err := g.join(ctx, d, anew)
			if err == nil || errs.Is(err, errs.Exists) || g.ctx.Err() != nil {
				return
			}
			g.log.Error("a metadata replica is not ready", "drive", d.Drive, "path", d.Path, "err", err)
			anew = g.node(d.Drive) == nil
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
			}
		}
	})
}

// join gives the drive a replica with a vote. Anew: from nothing, in the place of
// what the drive holds; otherwise a replica that runs there without a vote is
// promoted. errs.Exists while another join of the drive is at work.
func (g *Group) join(ctx context.Context, d Dir, anew bool) error {
	const op = "replica.join"
	g.mu.Lock()
	busy := g.joins[d.Drive] || g.closing
	if !busy {
		g.joins[d.Drive] = true
	}
	g.mu.Unlock()
	if busy {
		return errs.Newf(op, errs.Exists, "drive %s is being joined already", d.Drive)
	}
	defer func() {
		g.mu.Lock()
		delete(g.joins, d.Drive)
		g.mu.Unlock()
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)()

	n := g.node(d.Drive)
	if g.revive(d) {
		return nil
	}
	if n == nil && !anew {
		return nil // it went out meanwhile: the keeper's business
	}
	if n == nil || anew {
		var err error
		if n, err = g.makeNode(ctx, d, n); err != nil {
			return errs.E(op, errs.KindOf(err), err)
		}
	}
	if err := g.promote(ctx, n); err != nil {
		return errs.E(op, errs.KindOf(err), err)
	}
	if err := sweep(d); err != nil {
		n.log.Warn("what a replica replaced stays", "err", err)
	}
	g.log.Info("a metadata replica joined the group", "drive", d.Drive, "path", d.Path)
	return nil
}

// revive starts a replica that comes back while the group is at a stop for want of
// replicas: nobody went on without it, so that its log and its vote are good.
func (g *Group) revive(d Dir) bool {
	g.mu.Lock()
	stopped := g.outage != nil
	g.mu.Unlock()
	if !stopped || g.node(d.Drive) != nil {
		return false
	}
	var epoch uint64
	for _, n := range g.running() {
		epoch = max(epoch, n.identity().Epoch)
	}
	var n *node
	err := guard(startLimit, func() error {
		id, err := readIdentity(d.g0())
		if err != nil {
			return err
		}
		if id == nil || id.Drive != d.Drive || id.Standing != member || id.Epoch != epoch {
			return errs.Newf("replica.revive", errs.Stale, "its replica is not one that counts")
		}
		n, err = openNode(d, *id, &g.opts, g.onFail)
		return err
	})
	if err == nil {
		err = n.start(g.net)
	}
	if err != nil {
		g.log.Warn("a drive came back that does not help", "drive", d.Drive, "path", d.Path, "err", err)
		return false
	}
	g.log.Info("a metadata replica is back", "drive", d.Drive, "path", d.Path)
	g.enlist(n)
	g.wake()
	return true
}

func (g *Group) node(id twofold.DriveID) *node {
	for _, n := range g.running() {
		if n.dir.Drive == id {
			return n
		}
	}
	return nil
}

// makeNode starts an empty replica without a vote. The id must not be in the
// configuration before its directory is emptied: a voter that forgot what it voted
// for, and what it held, would undo commits.
func (g *Group) makeNode(ctx context.Context, d Dir, old *node) (n *node, err error) {
	if old != nil {
		old.out(errs.Newf("replica.join", errs.Unavailable, "the replica is made again"))
		g.bury()
	}
	s := serverOf(d.Drive, raft.Nonvoter)
	if err := g.banish(ctx, s.ID); err != nil {
		return nil, err
	}
	epoch := uint64(0)
	for _, n := range g.running() {
		epoch = max(epoch, n.identity().Epoch)
	}
	id := identity{Version: identityVersion, Drive: d.Drive, Standing: joining, Epoch: epoch}
	err = guard(startLimit, func() (err error) {
		if err := wipe(d); err != nil {
			return err
		}
		n, err = openNode(d, id, &g.opts, g.onFail)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := n.start(g.net); err != nil {
		n.abandon()
		return nil, err
	}
	g.enlist(n)
	return n, nil
}

// banish waits until an id is not in the configuration. errs.Exists where its replica
// leads: the group went on from it while a new one was about to be made.
func (g *Group) banish(ctx context.Context, id raft.ServerID) error {
	if g.net.wire != nil {
		_, err := g.petition(ctx, askRemove, driveOf(id))
		return err
	}
	return g.change(ctx, func(l *node) raft.Future {
		if l.sid == id {
			return errFuture{errs.Newf("replica.join", errs.Exists, "the drive's replica leads")}
		}
		return l.raft.RemoveServer(id, 0, time.Second)
	})
}

// errFuture is a raft.Future that failed.
type errFuture struct{ err error }

func (f errFuture) Error() error { return f.err }

// promote fills a replica and gives it its vote.
func (g *Group) promote(ctx context.Context, n *node) error {
	if g.net.wire != nil {
		return g.promoteShared(ctx, n)
	}
	s := serverOf(n.dir.Drive, raft.Nonvoter)
	err := g.change(ctx, func(l *node) raft.Future { return l.raft.AddNonvoter(s.ID, s.Address, 0, time.Second) })
	if err != nil {
		return err
	}
	if err := g.catchUp(ctx, n); err != nil {
		return err
	}
	// Every replica learns of the new voter before its vote counts, see tally; the
	// new one is as current as the others now.
	var epoch uint64
	nodes := g.running()
	for _, m := range nodes {
		epoch = max(epoch, m.identity().Epoch)
	}
	err = g.tell(nodes, func(id *identity) { id.Voters = with(id.Voters, n.dir.Drive) })
	if err != nil {
		return err
	}
	voters := g.voters()
	err = g.tell([]*node{n}, func(id *identity) {
		id.Standing, id.Epoch = member, max(epoch, id.Epoch)
		id.Voters = with(voters, n.dir.Drive)
	})
	if err != nil {
		return err
	}
	n.port.voteless.Store(false)
	if err := g.change(ctx, func(l *node) raft.Future { return l.raft.AddVoter(s.ID, s.Address, 0, time.Second) }); err != nil {
		return err
	}
	// What is committed now is the whole truth about who votes.
	voters = g.voters()
	return g.tell(g.running(), func(id *identity) { id.Voters = voters })
}

// voters lists who votes by the leader's configuration.
func (g *Group) voters() []twofold.DriveID {
	nodes := g.running()
	if len(nodes) == 0 {
		return nil
	}
	var list []twofold.DriveID
	for _, s := range g.configuration(nodes).Servers {
		if s.Suffrage == raft.Voter {
			list = append(list, driveOf(s.ID))
		}
	}
	return list
}

// with returns the list with id in it. It does not change the list.
func with(list []twofold.DriveID, id twofold.DriveID) []twofold.DriveID {
	for _, v := range list {
		if v == id {
			return list
		}
	}
	return append(list[:len(list):len(list)], id)
}

// catchUp waits until a replica has what the leader had committed a moment ago.
func (g *Group) catchUp(ctx context.Context, n *node) error {
	for {
		l, err := g.awaitLeader(ctx)
		if err != nil {
			return err
		}
		goal := l.raft.CommitIndex()
		for n.raft.AppliedIndex() < goal && l.leads() {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				return errs.E("replica.join", errs.Unavailable, ctx.Err())
			case <-n.gone:
				return n.reason
			}
		}
		if l.leads() && n.raft.AppliedIndex()+256 >= l.raft.CommitIndex() {
			return nil
		}
	}
}

// change has the leader change the configuration, whoever it is, until it is done.
func (g *Group) change(ctx context.Context, do func(leader *node) raft.Future) error {
	for {
		l, err := g.awaitLeader(ctx)
		if err != nil {
			return err
		}
		err = l.await(ctx, do(l).Error)
		if err == nil || errs.Is(err, errs.Exists) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return errs.E("replica.change", errs.Unavailable, errors.Join(ctx.Err(), err))
		}
	}
}
