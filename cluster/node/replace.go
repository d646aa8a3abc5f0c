package node

import (
	"context"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// Empty directories in the place of drives, of a store over several nodes. The node that
// has the directory formats it; the one that leads knows whether there is enough to
// refill it from.

// replaceAgain is when an empty directory that was refused is looked at again.
const replaceAgain = 5 * time.Second

// askReplace asks the node that leads whether the empty directory at the slot may become
// a drive. Where it may not, it is asked again a while later.
func (n *Node) askReplace(ctx context.Context, s *drive.Slot) (err error) {
	defer func() {
		if err != nil {
			time.AfterFunc(replaceAgain, n.monitor.Again)
		}
	}()
	set, index := s.Position()
	ctx, cancel := context.WithTimeout(ctx, meetCall)
	defer cancel()
	node, _ := n.where.leading()
	switch {
	case node < 0:
		return errs.Newf("node.askReplace", errs.Unavailable, "no node leads the store now")
	case node == n.opts.Cluster.Self:
		return n.mayReplace(set, index)
	}
	return n.call(ctx, node, mReplace, replaceReq{Pool: set.Pool, Set: set.Set, Index: index}, nil)
}

// mayReplace answers that, where the store is led. A pool that is being added has nothing
// to refill from, and needs nothing.
func (n *Node) mayReplace(set twofold.SetID, index int) error {
	const op = "node.mayReplace"
	l := n.leads.cur.Load()
	switch {
	case l == nil:
		return errs.Newf(op, errs.Unavailable, "this node does not lead the store")
	case int(set.Pool) >= len(n.opts.Layout.Pools):
		return errs.Newf(op, errs.Unavailable, "the node that leads was started without pool %d", set.Pool+1)
	case index < 0 || index >= len(n.slots[set]):
		return errs.Newf(op, errs.Invalid, "there is no drive %d in set %s", index+1, set)
	case int(set.Pool) >= int(l.pools.Load()):
		return nil
	}
	return n.refillable(n.slots[set][index])
}

// serveDrive lets other nodes use a drive of this one.
func (n *Node) serveDrive(d *drive.Local) {
	if n.served != nil {
		n.served.Add(d)
		f := d.Format()
		n.where.put(d.ID(), n.opts.Cluster.Self, [3]int{int(f.Pool), int(f.Set), f.Index})
	}
}

func (n *Node) unserveDrive(id twofold.DriveID) {
	if n.served != nil && !id.IsZero() {
		n.served.Remove(id)
	}
}
