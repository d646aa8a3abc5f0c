package replica

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
)

// reign keeps up the lease of one replica of ours whenever it leads, until it is out.
// There is one for each replica that runs, where there is a wire.
func (g *Group) reign(n *node) {
	seen := make(chan raft.Observation, 8)
	o := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	n.raft.RegisterObserver(o)
	defer n.raft.DeregisterObserver(o)
	hurried := time.Duration(0) // the promise behind which it was
	for {
		wait := g.changed.wait()
		if n.leads() {
			g.rule(n)
		} else if ago, at, ok := n.port.pledge.lapsed(); ok && at != hurried && ago >= n.rank()*rankTime {
			hurried = at
			n.hurry()
		}
		select {
		case <-wait:
		case <-seen: // whom it takes for the leader has changed
			g.changed.notify()
		case <-time.After(50 * time.Millisecond):
		case <-n.gone:
			return
		}
	}
}

// rankTime is between the replicas of a group that a leader has left, so that two of them
// do not stand for election at once and take each other's votes.
const rankTime = 150 * time.Millisecond

// rank is the replica's place among those that vote, whoever leads left out.
func (n *node) rank() (r time.Duration) {
	_, leader := n.raft.LeaderWithID()
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter && s.ID != leader && s.ID < n.sid {
			r++
		}
	}
	return r
}

// hurry has the library look at once whether the leader is still heard of, and stand for
// election if not: its own timers take up to 1.2 s more, and until then it votes for
// nobody else either. It looks when its timeout is made shorter.
func (n *node) hurry() {
	c := n.raft.ReloadableConfig()
	c.HeartbeatTimeout = n.opts.HeartbeatTimeout
	err := n.raft.ReloadConfig(c)
	if err == nil {
		c.HeartbeatTimeout -= time.Nanosecond
		err = n.raft.ReloadConfig(c)
	}
	if err != nil {
		n.log.Debug("standing for election takes its time", "err", err)
	}
}

// rule is one term of a replica that leads. It returns when that is over.
func (g *Group) rule(n *node) {
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	var members sync.WaitGroup
	defer members.Wait()
	defer cancel()

	term := n.raft.CurrentTerm()
	over := func() bool { return !n.leads() || n.raft.CurrentTerm() != term || ctx.Err() != nil }
	if err := g.prove(ctx, n); err != nil || over() {
		return
	}
	// The barrier is committed, and with it all that was in the log before. No change of
	// the configuration that was begun in an earlier term is under way any more, so that
	// the latest one is in force, and changes only by obey from here on.
	if !g.seize(ctx, n) {
		return
	}
	t := newTenure(term, g.net.d, votersIn(n.raft.GetConfiguration().Configuration()))
	r := &reigning{n, t}
	g.reignOf.Store(r)
	<-g.changing
	defer func() {
		g.publishing.Lock()
		defer g.publishing.Unlock()
		if g.reignOf.CompareAndSwap(r, nil) {
			g.lease.Store(nil)
		}
		g.changed.notify()
	}()
	asking := map[twofold.DriveID]func(){}
	for !over() {
		wait := g.changed.wait()
		in := map[twofold.DriveID]bool{}
		for _, s := range n.raft.GetConfiguration().Configuration().Servers {
			id := driveOf(s.ID)
			in[id] = true
			if asking[id] == nil {
				mctx, stop := context.WithCancel(ctx)
				asking[id] = stop
				members.Go(func() { g.ask(mctx, n, t, id) })
			}
		}
		for id, stop := range asking {
			if !in[id] {
				stop()
				delete(asking, id)
			}
		}
		select {
		case <-wait:
		case <-time.After(50 * time.Millisecond):
		case <-n.gone:
		}
	}
}

// reigning is a replica of ours that leads, and what it has been promised.
type reigning struct {
	node   *node
	tenure *tenure
}

// ask asks one member of the group for its promise, again and again.
func (g *Group) ask(ctx context.Context, n *node, t *tenure, id twofold.DriveID) {
	every := t.d / 4
	for {
		pause := every
		g.asking.Add(1) // before handing is looked at: HandOver waits for those that did not see it
		if !g.handing.Load() {
			round, sent := t.begin(), g.net.clock()
			a, err := g.askPromise(ctx, n, id, t.term, round, t.d/2)
			if err == nil {
				g.contacts.note(id, a.last, a.applied)
			}
			if err == nil && a.given {
				t.promised(id, round, sent)
				g.publish(n, t)
			} else {
				pause = every / 8
			}
		}
		g.asking.Add(-1)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// askPromise asks a replica, here or elsewhere.
func (g *Group) askPromise(ctx context.Context, n *node, id twofold.DriveID, term, round uint64, limit time.Duration) (promiseAnswer, error) {
	to := addressOf(id)
	if p := g.net.find(to); p != nil {
		if _, err := n.port.link(to); err != nil {
			return promiseAnswer{}, err
		}
		return p.promise(term, round), nil
	}
	b, err := n.port.send(to, KindPromise, limit, encodePromise(n.dir.Drive, term, round))
	if err != nil {
		return promiseAnswer{}, err
	}
	return decodePromiseAnswer(b)
}

// publish makes the lease that the promises are good for the current one.
func (g *Group) publish(n *node, t *tenure) {
	g.publishing.Lock()
	defer g.publishing.Unlock()
	end, epoch, ok := t.end()
	if r := g.reignOf.Load(); !ok || r == nil || r.tenure != t {
		return
	}
	old := g.lease.Load()
	held := g.holds(old)
	g.lease.Store(&lease{node: n, term: t.term, tenure: t, end: end, epoch: epoch})
	if !held || old.epoch != epoch {
		g.changed.notify()
	}
}

// votersIn lists who votes in a configuration.
func votersIn(c raft.Configuration) []twofold.DriveID {
	var list []twofold.DriveID
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter {
			list = append(list, driveOf(s.ID))
		}
	}
	return list
}

// contacts remembers when the leader last had an answer of each member. The zero value
// is ready.
type contacts struct {
	mu   sync.Mutex
	seen map[twofold.DriveID]contact // guarded by mu
}

type contact struct {
	at            time.Time
	last, applied uint64
}

func (c *contacts) note(id twofold.DriveID, last, applied uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[twofold.DriveID]contact{}
	}
	c.seen[id] = contact{time.Now(), last, applied}
}

func (c *contacts) get(id twofold.DriveID) (contact, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.seen[id]
	return v, ok
}
