package replica

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
)

// boot starts the replicas.
func (g *Group) boot(ctx context.Context) error {
	first, err := g.found(g.opts.Dirs[0])
	if err != nil {
		return err
	}
	g.add(first)
	for _, d := range g.opts.Dirs[1:] {
		if err := g.join(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// found makes the first replica of a new group: the only voter. The others join it.
func (g *Group) found(d Dir) (*node, error) {
	n, err := openNode(d, identity{Version: identityVersion, Drive: d.Drive, Standing: member, Epoch: 1}, g.net, &g.opts, g.failed)
	if err != nil {
		return nil, err
	}
	c := raft.Configuration{Servers: []raft.Server{serverOf(d.Drive, raft.Voter)}}
	if err := raft.BootstrapCluster(n.config(), n.store, n.store, n.snaps, n.port, c); err != nil {
		n.release()
		return nil, errs.E("replica.found", errs.Other, err)
	}
	if err := n.start(); err != nil {
		n.release()
		return nil, err
	}
	return n, nil
}

// failed is called when a replica went out by itself.
func (g *Group) failed(n *node) {}

// join makes an empty replica in d, fills it and gives it a vote.
func (g *Group) join(ctx context.Context, d Dir) error {
	n, err := openNode(d, identity{Version: identityVersion, Drive: d.Drive, Standing: joining, Epoch: 1}, g.net, &g.opts, g.failed)
	if err != nil {
		return err
	}
	if err := n.start(); err != nil {
		n.release()
		return err
	}
	g.add(n)
	s := serverOf(d.Drive, raft.Nonvoter)
	err = g.change(ctx, func(l *node) raft.Future {
		return l.raft.AddNonvoter(s.ID, s.Address, 0, time.Second)
	})
	if err != nil {
		return err
	}
	if err := g.catchUp(ctx, n); err != nil {
		return err
	}
	if err := n.setIdentity(func(id *identity) { id.Standing = member }); err != nil {
		return err
	}
	n.port.voteless.Store(false)
	return g.change(ctx, func(l *node) raft.Future {
		return l.raft.AddVoter(s.ID, s.Address, 0, time.Second)
	})
}

// catchUp waits until a replica has what the leader had committed at the call.
func (g *Group) catchUp(ctx context.Context, n *node) error {
	l, err := g.awaitLeader(ctx)
	if err != nil {
		return err
	}
	goal := l.raft.CommitIndex()
	for n.raft.AppliedIndex() < goal {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return errs.E("replica.join", errs.Unavailable, ctx.Err())
		case <-n.gone:
			return n.reason
		}
	}
	return nil
}

// change has the leader change the configuration, whoever it is.
func (g *Group) change(ctx context.Context, do func(leader *node) raft.Future) error {
	for {
		l, err := g.awaitLeader(ctx)
		if err != nil {
			return err
		}
		err = l.await(ctx, do(l))
		if err == nil {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return errs.E("replica.change", errs.Unavailable, err)
		}
	}
}
