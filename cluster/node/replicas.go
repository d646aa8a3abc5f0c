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

// replicaLost is for how long nothing must have been heard of a replica before another
// one takes its place: longer than a machine takes to start again.
const replicaLost = 5 * time.Minute

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
	want := n.opts.Layout.ReplicaCount()
	all := n.opts.Layout.Drives()
	ids := make([]twofold.DriveID, len(all)) // of what is there now
	index := map[[3]int]int{}
	for i, d := range all {
		ids[i] = n.slots[d.Set][d.Index].Drive().ID()
		index[position(d)] = i
	}
	usable := func(i int) bool {
		return !ids[i].IsZero() && n.slots[all[i].Set][all[i].Index].Drive().State() != drive.Offline
	}
	var keep []int // positions that have one
	voters, sound := 0, 0
	members := map[twofold.DriveID]bool{}
	var lost []twofold.DriveID
	group, err := l.provenMembers()
	if err != nil {
		return want, err
	}
	for _, m := range group {
		members[m.Drive] = true
		if m.Voter {
			voters++
		}
		at, known := n.where.drive(m.Drive)
		i, planned := index[at.pos]
		replaced := known && planned && !ids[i].IsZero() && ids[i] != m.Drive
		if replaced || m.Silent > replicaLost {
			lost = append(lost, m.Drive)
			continue
		}
		if m.Voter {
			sound++
		}
		if known && planned {
			keep = append(keep, i)
		}
	}
	free := func(i int) bool { return usable(i) && !members[ids[i]] }
	kept := len(keep)
	chosen := placement.Replicas(all, keep, max(want, kept), free)[kept:]
	for _, i := range chosen {
		var instead twofold.DriveID
		if len(lost) > 0 {
			instead, lost = lost[0], lost[1:]
		}
		if e := l.askForReplica(ctx, ids[i], instead, all[i].Node); err == nil {
			err = e
		}
	}
	if len(lost) > 0 && sound >= want { // the others are enough without it
		if e := n.group.Remove(ctx, lost[0]); err == nil {
			err = e
		}
	}
	return want - voters, err
}

// askForReplica has a node make a replica on a drive of its own.
func (l *Leading) askForReplica(ctx context.Context, id, lost twofold.DriveID, node int) error {
	n := l.n
	if node == n.opts.Cluster.Self {
		return n.makeReplica(ctx, id, lost)
	}
	return n.call(ctx, node, mReplica, replicaReq{id, lost}, nil)
}
