package replica

import (
	"context"
	"sort"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
)

// onFail is called once when a replica went out by itself.
func (g *Group) onFail(n *node) {
	g.log.Error("a metadata replica is out", "drive", n.dir.Drive, "path", n.dir.Path, "err", n.reason)
	g.wake()
}

func (g *Group) wake() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// keep is the keeper: it gives up replicas that went out, and sees to it that the
// group can go on without them. It runs until the group closes.
func (g *Group) keep() {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-g.kick:
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
		g.watch(time.Now())
		g.bury()
		if g.net.wire != nil {
			g.tend()
		} else {
			g.repair()
		}
	}
}

// bury takes replicas that went out from the running ones.
func (g *Group) bury() {
	for _, n := range *g.nodeList.Load() {
		if !n.isGone() || g.ctx.Err() != nil {
			continue
		}
		g.mu.Lock()
		g.lost[n.dir.Drive] = n.reason
		g.mu.Unlock()
		g.delist(n)
		go n.abandon()
	}
}

// repair brings the group to where every voter runs: it removes the lost ones from
// the configuration, or, when the others are no majority, forces a new one.
func (g *Group) repair() {
	nodes := g.running()
	if len(nodes) == 0 || g.ctx.Err() != nil {
		return
	}
	here := map[string]*node{}
	for _, n := range nodes {
		here[string(n.sid)] = n
	}
	voters := votersOf(g.configuration(nodes))
	for _, n := range nodes {
		if !voters[string(n.sid)] {
			g.joinSoon(n.dir, false)
		}
	}
	var missing []raft.ServerID
	have := 0
	for v := range voters {
		if here[v] != nil {
			have++
		} else {
			missing = append(missing, raft.ServerID(v))
		}
	}
	switch {
	case len(voters) == 0:
	case have < majority(len(voters)):
		if now := names(nodes); now != g.refused {
			g.refused = now
			if err := g.forceRunning(nodes); err != nil {
				g.log.Error("the metadata can't go on", "err", err)
			}
		}
	case len(missing) > 0:
		g.setOutage(nil)
		g.expel(nodes, missing)
	default:
		g.setOutage(nil)
	}
}

// configuration is the newest one that the running replicas know.
func (g *Group) configuration(nodes []*node) raft.Configuration {
	best := nodes[0]
	if l := g.leader(); l != nil {
		best = l
	} else {
		for _, n := range nodes {
			if n.raft.LastIndex() > best.raft.LastIndex() {
				best = n
			}
		}
	}
	return best.raft.GetConfiguration().Configuration()
}

// expel removes lost replicas from the configuration. First every other replica
// notes, durably, that those which are away have no say any more.
func (g *Group) expel(nodes []*node, missing []raft.ServerID) {
	fresh := false
	g.mu.Lock()
	for _, id := range missing {
		fresh = fresh || !g.fenced[driveOf(id)]
	}
	g.mu.Unlock()
	if fresh {
		if err := g.fence(nodes, nil); err != nil {
			g.wake() // one more went out: count again
			return
		}
		g.mu.Lock()
		for _, id := range missing {
			g.fenced[driveOf(id)] = true
		}
		g.mu.Unlock()
	}
	g.elect(nodes)
	ctx, cancel := context.WithTimeout(g.ctx, 2*time.Second)
	defer cancel()
	for _, id := range missing {
		l, err := g.awaitLeader(ctx)
		if err != nil || l.isGone() {
			return
		}
		if err := l.await(ctx, l.raft.RemoveServer(id, 0, time.Second).Error); err != nil {
			g.log.Debug("a lost replica is not removed yet", "drive", id, "err", err)
			return
		}
		g.log.Warn("a lost metadata replica was removed from the group", "drive", id)
	}
	voters := g.voters()
	_ = g.tell(g.running(), func(id *identity) { id.Voters = voters }) // one that can't is out
}

// names identifies a set of replicas that run.
func names(nodes []*node) string {
	list := make([]string, len(nodes))
	for i, n := range nodes {
		list[i] = string(n.sid) + n.born.String()
	}
	sort.Strings(list)
	return strings.Join(list, " ")
}

// elect has a replica stand for election at once where there is no leader, rather
// than wait until the followers miss it.
func (g *Group) elect(nodes []*node) {
	if g.leader() != nil {
		return
	}
	var best *node
	for _, n := range nodes {
		if n.isGone() || n.port.isCut() || n.port.voteless.Load() {
			continue
		}
		if best == nil || n.raft.LastIndex() > best.raft.LastIndex() {
			best = n
		}
	}
	if best != nil && best.raft.State() == raft.Follower {
		g.net.campaign(best.sid)
	}
}

// DriveLost tells that a drive is gone. Its replica is taken out at once.
func (g *Group) DriveLost(id twofold.DriveID) {
	for _, n := range *g.nodeList.Load() {
		if n.dir.Drive == id {
			n.fail(errs.Newf("replica", errs.Unavailable, "the drive is gone"))
		}
	}
}

// DriveBack brings a drive that was lost, or never had a replica, into the group. It
// is filled from the others; what it held is of no account. It returns when the
// replica has a vote, or with an error, after which it may be called again.
func (g *Group) DriveBack(ctx context.Context, d Dir) error {
	for _, n := range g.running() {
		if n.dir.Drive == d.Drive {
			return nil
		}
	}
	return g.join(ctx, d, true)
}

// AddReplica makes a replica on a fresh drive, in the place of a lost one.
// With a Wire one that runs and has its vote by the leader's word stays as it is: who asks may
// be late.
func (g *Group) AddReplica(ctx context.Context, d Dir) error {
	if n := g.node(d.Drive); n != nil && g.net.wire != nil && !n.port.voteless.Load() {
		_, err := g.petition(ctx, askVoter, d.Drive)
		if !errs.Is(err, errs.Precondition) { // it is not in the configuration any more
			return err
		}
	}
	return g.join(ctx, d, true)
}
