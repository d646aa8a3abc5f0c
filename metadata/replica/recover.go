package replica

import (
	"time"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
)

// stopLimit is how long a replica may take to stop before it counts as hung.
const stopLimit = 5 * time.Second

// forceRunning goes on from the replicas that run, which are fewer than a majority.
// errs.Unavailable where they are too few to hold every commit: then they are left
// running as they are, for drives that come back.
func (g *Group) forceRunning(nodes []*node) error {
	for _, n := range nodes {
		n.port.cut()
	}
	var stopped []*node
	for _, n := range nodes {
		if !n.stop(stopLimit) {
			n.fail(errs.Newf("replica.force", errs.Unavailable, "the drive hangs"))
			continue
		}
		n.out(errRestarted)
		g.delist(n)
		if n.identity().Standing == member {
			stopped = append(stopped, n.reborn())
		} else if err := guard(stopLimit, n.release); err != nil {
			n.log.Warn("closing a replica that was being filled", "err", err)
		}
	}
	var sound []*node
	var histories []history
	for _, n := range stopped {
		var h history
		if err := guard(stopLimit, func() (err error) { h, err = n.history(); return err }); err != nil {
			g.giveUp(n.dir, err)
			n.abandon()
			continue
		}
		sound, histories = append(sound, n), append(histories, h)
	}
	q := tally(sound, histories)
	if !q.enough {
		g.setOutage(q.unavailable(g.opts.Dirs))
		err := g.startAll(sound)
		g.refused = names(g.running())
		return err
	}
	g.log.Error("the metadata lost its majority: going on from the replicas that are left, which hold every commit",
		"have", len(sound), "of", len(q.voters), "lost", q.missing())
	return g.force(sound, histories)
}

var errRestarted = errs.Newf("replica", errs.Unavailable, "the replica starts again")

// force makes the replica with the best log the only voter, in a term that nobody
// has had, and lets the others join it again. None of them is started. The epoch is
// raised first: those that are away have no say when they come back.
func (g *Group) force(nodes []*node, histories []history) error {
	const op = "replica.force"
	q := tally(nodes, histories)
	if !q.enough {
		return q.unavailable(g.opts.Dirs)
	}
	g.net.grants.Add(1) // ends every lease
	g.opts.exchange.reset()
	var term uint64
	for _, h := range histories {
		term = max(term, h.term)
	}
	best := nodes[q.best]
	voters := []twofold.DriveID{best.dir.Drive}
	if err := g.fence(nodes, voters); err != nil {
		return err
	}
	err := guard(startLimit, func() error { return best.crown(histories[q.best].last.index+1, term+1) })
	if err != nil {
		return errs.E(op, errs.KindOf(err), err)
	}
	if err := best.start(g.net); err != nil {
		return err
	}
	g.enlist(best)
	g.elect([]*node{best})
	for _, n := range nodes {
		if n == best {
			continue
		}
		err := guard(stopLimit, func() error {
			return n.setIdentity(n.dir, func(id *identity) { id.Standing = joining })
		})
		if err == nil {
			err = n.start(g.net)
		}
		if err != nil {
			g.giveUp(n.dir, err)
			n.abandon()
			continue
		}
		g.enlist(n) // the keeper sees that it has no vote, and has it join
	}
	g.setOutage(nil)
	return nil
}

// crown appends the configuration in which this replica is the only voter.
func (n *node) crown(index, term uint64) error {
	c := raft.Configuration{Servers: []raft.Server{serverOf(n.dir.Drive, raft.Voter)}}
	if err := n.disk.SetUint64([]byte("CurrentTerm"), term); err != nil {
		return err
	}
	entry := &raft.Log{Index: index, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c), AppendedAt: time.Now()}
	if err := n.disk.StoreLogs([]*raft.Log{entry}); err != nil {
		return err
	}
	return n.anchor.holds()
}

// fence raises the epoch on every one of the replicas, durably. One that can't take
// it is failing, and the error says that the circle has to be drawn again.
func (g *Group) fence(nodes []*node, voters []twofold.DriveID) error {
	var epoch uint64
	for _, n := range nodes {
		epoch = max(epoch, n.identity().Epoch)
	}
	return g.tell(nodes, func(id *identity) {
		id.Epoch = epoch + 1
		if voters != nil {
			id.Voters = voters
		}
	})
}

// tell changes the identity of every one of the replicas. Those that can't fail, and
// then so does tell.
func (g *Group) tell(nodes []*node, change func(*identity)) error {
	errc := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() {
			err := guard(stopLimit, func() error { return n.setIdentity(n.dir, change) })
			if err != nil {
				n.fail(err)
			}
			errc <- err
		}()
	}
	var first error
	for range nodes {
		if err := <-errc; err != nil && first == nil {
			first = errs.E("replica.fence", errs.Unavailable, err)
		}
	}
	return first
}
