package node

import (
	"context"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/placement"
	"twofold/internal/errs"
	"twofold/metadata"
)

// Where metadata replicas are, of a store over several nodes. The node that leads decides;
// the node that has the drive makes the replica.

// makeReplica makes a metadata replica on a drive of this node, because the node that leads
// says so, in the place of a lost one if that is not zero.
func (n *Node) makeReplica(ctx context.Context, id, lost twofold.DriveID) error {
	const op = "node.makeReplica"
	if !n.opened.Load() {
		return errs.Newf(op, errs.Unavailable, "this node is starting")
	}
	for _, d := range n.ownOpen() {
		if d.ID() != id {
			continue
		}
		if !n.present(d) {
			return errs.Newf(op, errs.Unavailable, "%s is not there", d)
		}
		for _, r := range n.group.Status().Replicas {
			if r.Drive == id && r.Voter && r.State != "lost" && r.State != "joining" {
				return nil // whoever asks did not know: it must not be made from nothing
			}
		}
		var err error
		if lost.IsZero() {
			err = n.group.AddReplica(ctx, replicaDir(d))
		} else {
			err = n.group.Replace(ctx, lost, replicaDir(d))
		}
		if errs.Is(err, errs.Exists) {
			err = nil // it is being made, or is there
		}
		return err
	}
	return errs.Newf(op, errs.NotFound, "there is no drive %s here", id)
}

// mendReplicas makes replicas of this node again that went out although their drives are
// there: a file could not be read, or the drive hung for a while.
func (n *Node) mendReplicas() {
	for wait := replicaEvery; ; {
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = replicaEvery
		out := map[twofold.DriveID]bool{}
		for _, r := range n.group.Status().Replicas {
			out[r.Drive] = r.State == "lost"
		}
		for _, d := range n.ownOpen() {
			if !out[d.ID()] || d.State() == drive.Offline || !n.present(d) {
				continue
			}
			ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
			err := n.group.DriveBack(ctx, replicaDir(d))
			cancel()
			if err != nil && !errs.Is(err, errs.Exists) {
				n.log.Warn("a metadata replica does not take part for now", "drive", d, "err", err)
				wait = min(2*wait, replicaRest)
			}
		}
	}
}

// ownOpen lists this node's drives.
func (n *Node) ownOpen() []*drive.Local {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*drive.Local(nil), n.drives...)
}

// keepReplicas sees to it that there are as many replicas as the layout wants, until the
// store is closed here.
func (l *Leading) keepReplicas() {
	for wait := replicaEvery; ; {
		select {
		case <-l.ctx.Done():
			return
		case <-l.n.wantReplica:
			wait = replicaEvery
		case <-time.After(wait):
		}
		ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
		if _, err := l.spreadReplicas(ctx); err == nil {
			wait = replicaEvery
		} else {
			l.n.log.Warn("the metadata has fewer replicas than it should, for now", "err", err)
			wait = min(2*wait, replicaRest)
		}
		cancel()
	}
}

// foundReplicas makes the replicas of a new store before anything is acknowledged: from
// then on it bears what it says. What a node that is gone meanwhile should have is made
// later.
func (l *Leading) foundReplicas(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, foundLimit)
	defer cancel()
	for {
		missing, err := l.spreadReplicas(ctx)
		if err == nil && missing == 0 {
			return
		}
		select {
		case <-ctx.Done():
			l.n.log.Warn("the new store has fewer metadata replicas than it should, for now", "missing", missing, "err", err)
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// fewReplicas reports whether there are less replicas than a majority of those that there
// are to be: then the store was about to be founded when its first node stopped.
func (l *Leading) fewReplicas(ctx context.Context) bool {
	err := l.n.group.View(ctx, func(metadata.View) error { return nil }) // waits for the first proof
	if err != nil {
		return false
	}
	group, err := l.provenMembers()
	if err != nil {
		return false // there is nothing to know here any more
	}
	voters := 0
	for _, m := range group {
		if m.Voter {
			voters++
		}
	}
	return voters < placement.Majority(l.n.opts.Layout.ReplicaCount())
}

// foundLimit is how long a new store waits for all of its replicas.
const foundLimit = 30 * time.Second

// spreadReplicas makes replicas that are missing, and replaces those that are lost for
// good, as far as there are drives for them. missing is how many there are too few.
func (l *Leading) spreadReplicas(ctx context.Context) (missing int, err error) {
	n := l.n
	var seats []seat
	for _, d := range n.opts.Layout.Drives() {
		cur := n.slots[d.Set][d.Index].Drive()
		seats = append(seats, seat{d, cur.ID(), !cur.ID().IsZero() && cur.State() != drive.Offline})
	}
	known := func(id twofold.DriveID) (pos [3]int, ok bool) {
		at, ok := n.where.drive(id)
		return at.pos, ok
	}
	want := n.opts.Layout.ReplicaCount()
	group, err := l.provenMembers()
	if err != nil {
		return want, err
	}
	p := planReplicas(seats, group, known, want)
	for _, m := range p.make {
		if e := l.askForReplica(ctx, m.fresh, m.lost, m.node); err == nil {
			err = e
		}
	}
	if !p.remove.IsZero() {
		if e := n.group.Remove(ctx, p.remove); err == nil {
			err = e
		}
	}
	return p.missing, err
}

// askForReplica has a node make a replica on a drive of its own.
func (l *Leading) askForReplica(ctx context.Context, id, lost twofold.DriveID, node int) error {
	n := l.n
	if node == n.opts.Cluster.Self {
		return n.makeReplica(ctx, id, lost)
	}
	return n.call(ctx, node, mReplica, replicaReq{id, lost}, nil)
}
