package node

import (
	"context"
	"time"

	"twofold/cluster/drives"
	"twofold/cluster/peers"
	"twofold/internal/errs"
	"twofold/metadata/replica"
)

// openAmong opens this node's part of a store over several nodes: it comes together with
// the others, opens its drives and its replicas, and takes part. Whether it leads is
// decided after that, again and again: see lead_among.go.
func (n *Node) openAmong(ctx context.Context) error {
	p := n.opts.Cluster.Peers
	n.served = drives.NewServer(drives.ServerOptions{Logger: n.log})
	p.Handle(firstMethod, lastMethod, peers.HandlerFunc(n.serve))
	p.Handle(drives.MethodFirst, drives.MethodLast, n.served)
	p.Handle(firstRaft, lastRaft, peers.HandlerFunc(n.receive))
	p.Start()
	for _, w := range n.opts.Layout.Warnings {
		n.log.Warn(w)
	}
	inv, found, err := n.meet(ctx)
	if err != nil {
		return err
	}
	p.SetCluster(n.cluster)
	if err := n.openOwn(ctx, inv); err != nil {
		return err
	}
	if err := n.openMetadata(ctx, found); err != nil {
		return err
	}
	n.opened.Store(true)
	if err := n.opts.Locks.Settle(); err != nil {
		n.log.Warn("the locks of the drives will not outlive this process", "err", err)
	}
	n.watchDrives()
	n.wg.Go(n.followLeader)
	n.wg.Go(n.announce)
	n.wg.Go(n.mendReplicas)
	n.wg.Go(func() { n.leadInTurn(found) })
	if err := n.awaitLeader(ctx); err != nil {
		return err
	}
	n.wg.Go(n.tellLeader)
	return nil
}

// openOwn opens the drives of this node. Nothing is formatted at a mere request any more.
func (n *Node) openOwn(ctx context.Context, inv *inventory) error {
	if _, moved := inv.assign(); len(moved) > 0 {
		for _, m := range moved {
			n.log.Warn("a drive is in another place than the command line has it; it is recognised by its id", "drive", m)
		}
	}
	for _, p := range inv.places {
		if p.absent != nil {
			n.log.Warn("a drive is missing; the store goes on without it", "drive", p.name, "err", p.absent)
		}
	}
	if err := n.openDrives(ctx, inv, false); err != nil {
		return err
	}
	for _, d := range n.drives {
		n.serveDrive(d)
	}
	return nil
}

// awaitLeader returns when somebody leads, or says for whom it waits.
func (n *Node) awaitLeader(ctx context.Context) error {
	began := time.Now()
	for {
		url, _, changed := n.Where()
		if url != "" {
			n.sayWaiting(nil)
			return nil
		}
		if time.Since(began) > meetQuiet {
			n.sayWaiting(append([]string{"for a majority of the nodes that have the metadata"}, n.waitsForDown()...))
		}
		select {
		case <-ctx.Done():
			return errs.E("node.Open", errs.Canceled, ctx.Err())
		case err := <-n.failed:
			return err
		case <-changed:
		case <-n.opts.Cluster.Peers.Watch():
		case <-time.After(meetEvery):
		}
	}
}

// ownReplicas are this node's drives with a metadata replica; of a new store the one that
// makes its first.
func (n *Node) ownReplicas(found bool) (dirs []replica.Dir) {
	first := n.opts.Layout.ReplicaDrives()[0]
	for _, d := range n.drives {
		f := d.Format()
		isFirst := f.SetID() == first.Set && f.Index == first.Index
		if found && isFirst || !found && hasReplica(d) {
			dirs = append(dirs, replicaDir(d))
		}
	}
	return dirs
}
