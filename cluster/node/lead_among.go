package node

import (
	"context"
	"time"

	"twofold/internal/errs"
)

// Failed tells why this node can't lead, for a reason that lies in its command line.
func (n *Node) Failed() <-chan error { return n.failed }

// followLeader passes on what the group knows of who leads, and that nodes come and go.
func (n *Node) followLeader() {
	for {
		up := n.opts.Cluster.Peers.Watch()
		leader, _, term, changed := n.leadership()
		at := -1
		if !leader.IsZero() {
			ctx, cancel := context.WithTimeout(n.ctx, meetCall)
			at, _ = n.find(ctx, leader) // -1: tried again below
			cancel()
		}
		_ = n.where.told(term, at) // one that knows better has said so
		var again <-chan time.Time
		if at < 0 {
			again = time.After(refreshEvery)
		}
		select {
		case <-n.ctx.Done():
			return
		case <-changed:
		case <-up:
			n.where.touch()
			n.wg.Go(func() { n.askAround(n.ctx) }) // a node that is back may have other drives
		case <-again:
		}
	}
}

// announceEvery is how often the node that leads tells the others so. Those with a replica
// know it themselves, a little sooner.
const announceEvery = 500 * time.Millisecond

// announce tells the other nodes when this one leads.
func (n *Node) announce() {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	c := n.opts.Cluster
	for {
		up := c.Peers.Watch()
		_, here, term, changed := n.leadership()
		if here {
			for i := range c.Topology.Nodes {
				if i != c.Self && c.Peers.Up(i) {
					n.wg.Go(func() {
						ctx, cancel := context.WithTimeout(n.ctx, meetCall)
						defer cancel()
						if err := n.call(ctx, i, mLeader, leaderReq{term}, nil); err != nil {
							n.log.Debug("a node is not told who leads", "node", n.url(i), "err", err)
						}
					})
				}
			}
		}
		select {
		case <-n.ctx.Done():
			return
		case <-changed:
		case <-up:
		case <-tick.C:
		}
	}
}

// leadInTurn opens the store whenever this node leads, and closes it when it does not any
// more. It returns when the node closes. found: the store is new.
func (n *Node) leadInTurn(found bool) {
	for n.ctx.Err() == nil {
		_, here, term, changed := n.leadership()
		if !here {
			select {
			case <-n.ctx.Done():
			case <-changed:
			}
			continue
		}
		n.leadTerm(term, found)
		found = false
	}
}

// leadTerm leads for a term of the group, or until the node closes.
func (n *Node) leadTerm(term uint64, found bool) {
	ctx, cancel := context.WithCancel(n.ctx)
	defer cancel()
	over := make(chan struct{})
	n.wg.Go(func() {
		defer close(over)
		defer cancel()
		n.awaitEnd(ctx, term)
	})
	defer func() { <-over }()
	began := time.Now()
	l, err := n.leadIn(ctx, term, found)
	if err != nil {
		if errs.Is(err, errs.Invalid) { // of what it was started with
			select {
			case n.failed <- err:
			default:
			}
		}
		if ctx.Err() == nil {
			n.log.Error("the store could not be opened; this node tries again", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(leadAgain):
			}
		}
		return
	}
	n.log.Info("this node leads the store", "term", term, "after", time.Since(began).Round(time.Millisecond))
	n.opts.Cluster.Views.Lead(l)
	n.leads.cur.Store(l)
	n.where.touch()
	<-over
	orderly := n.ctx.Err() != nil && n.leadsIn(term)
	n.leads.cur.Store(nil)
	n.where.touch() // also where nobody follows yet: what is served here is to go elsewhere
	n.opts.Cluster.Views.Unlead(l)
	defer n.opts.Cluster.Views.Closed(l)
	if orderly {
		closing, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		if err := l.close(closing); err != nil {
			n.log.Warn("the store was not closed in order", "err", err)
		}
		return
	}
	l.abandon()
	n.log.Info("this node does not lead the store any more", "term", term)
}

// leadAgain is the pause after the store could not be opened.
const leadAgain = 500 * time.Millisecond

// awaitEnd returns when this node does not lead in the term any more, or ctx ends.
func (n *Node) awaitEnd(ctx context.Context, term uint64) {
	for {
		_, here, now, changed := n.leadership()
		if !here || now != term {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// HandOver gives the store to another node, so that this one can stop: clients wait for a
// moment instead of for an election. It returns when this one has closed it, or soon where
// there is no other to take it.
func (n *Node) HandOver() {
	ctx, cancel := context.WithTimeout(context.Background(), handOverLimit)
	defer cancel()
	if n.leads.cur.Load() == nil {
		return
	}
	if err := n.group.HandOver(ctx); err != nil {
		n.log.Warn("the store is not handed over to another node", "err", err)
		return
	}
	for n.leads.cur.Load() != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// handOverLimit bounds HandOver.
const handOverLimit = 5 * time.Second
