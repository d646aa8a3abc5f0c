package node

import (
	"context"
	"path/filepath"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/placement"
	"twofold/internal/errs"
	"twofold/metadata/replica"
)

// watchDrives looks after every slot of the layout, also those without a drive.
func (n *Node) watchDrives() {
	n.monitor = drive.NewMonitor(drive.MonitorOptions{Logger: n.log, Handle: n.handle})
	open := map[*drive.Slot]*drive.Local{}
	for _, d := range n.drives {
		f := d.Format()
		open[n.slots[f.SetID()][f.Index]] = d
	}
	paths := n.slotPaths()
	for set, slots := range n.slots {
		for i, s := range slots {
			w := drive.Watched{Slot: s, Drive: open[s]}
			if w.Drive == nil {
				path, ok := paths[s]
				if !ok {
					continue
				}
				w.Options = drive.Options{FS: n.fs, Path: path, Logger: n.log}
				w.Format = n.format(set, i)
				w.Format.Drive = s.Drive().ID()
			}
			n.monitor.Watch(w)
		}
	}
}

// slotPaths is where the drives that are missing would be.
func (n *Node) slotPaths() map[*drive.Slot]string {
	out := map[*drive.Slot]string{}
	for pos, p := range n.at {
		abs, err := filepath.Abs(p.path)
		if err != nil {
			continue
		}
		set := setOf(pos)
		out[n.slots[set][pos[2]]] = abs
	}
	return out
}

// handle is told what happens to drives. The engine sees it by the slots; what is
// left is the metadata replica, and making a new drive of an empty directory.
func (n *Node) handle(e drive.Event) {
	ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
	defer cancel()
	switch e.Kind {
	case drive.Lost:
		if e.Drive != nil {
			n.group.DriveLost(e.Drive.ID())
			n.addReplicaSoon()
		}
	case drive.Back:
		n.remember(e.Drive)
		n.serveDrive(e.Drive)
		if hasReplica(e.Drive) {
			if err := n.group.DriveBack(ctx, replicaDir(e.Drive)); err != nil {
				n.log.Warn("the metadata replica of a drive that came back does not take part", "drive", e.Drive, "err", err)
			}
		}
		n.addReplicaSoon()
		n.kickOrphans()
	case drive.Replaced:
		if err := n.mayReformat(ctx, e.Slot); err != nil {
			n.log.Warn("an empty directory is not made a new drive", "drive", e.Slot.Drive(), "err", err)
			return
		}
		old := e.Slot.Drive().ID()
		d, err := e.Reformat(ctx)
		if err != nil {
			n.log.Error("an empty directory could not be made a new drive", "drive", e.Slot.Drive(), "err", err)
			return
		}
		n.remember(d)
		n.unserveDrive(old)
		n.serveDrive(d)
		n.addReplicaSoon()
	}
}

func replicaDir(d *drive.Local) replica.Dir { return replica.Dir{Drive: d.ID(), Path: d.Path()} }

// mayReformat refuses while too few drives of the set are there to refill it: then
// the empty directory may be a disk that is not mounted. Over several nodes the one
// that leads tells.
func (n *Node) mayReformat(ctx context.Context, s *drive.Slot) error {
	if n.several() {
		return n.askReplace(ctx, s)
	}
	return n.refillable(s)
}

// refillable reports whether enough drives of the slot's set are there to refill it.
func (n *Node) refillable(s *drive.Slot) error {
	set, _ := s.Position()
	slots := n.slots[set]
	up := 0
	for _, o := range slots {
		if o != s && o.Drive().State() != drive.Offline {
			up++
		}
	}
	if need := len(slots) - min(n.opts.Layout.Standard, len(slots)/2); up < need {
		return errs.Newf("node.mayReformat", errs.ReadQuorum, "%d of the %d other drives of set %s are there, and %d are needed to refill it", up, len(slots)-1, set, need)
	}
	return nil
}

// remember keeps a drive to be closed, and forgets one it stands for.
func (n *Node) remember(d *drive.Local) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, o := range n.drives {
		if o == d {
			return
		}
		if o.ID() == d.ID() {
			n.drives[i] = d
			return
		}
	}
	n.drives = append(n.drives, d)
}

// How often keepReplicas looks, and how seldom while that fails.
const (
	replicaEvery = 10 * time.Second
	replicaRest  = 10 * time.Minute
)

// keepReplicas looks now and then whether there are as many metadata replicas as the
// layout wants. Most events that take one away or bring one back are the monitor's;
// but a replica may go out, or not open, on a drive that is there all the time: a
// file of it could not be read, or the drive hung for a while.
func (n *Node) keepReplicas() {
	for wait := replicaEvery; ; {
		select {
		case <-n.ctx.Done():
			return
		case <-n.wantReplica:
			wait = replicaEvery
		case <-time.After(wait):
		}
		ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
		if n.addReplica(ctx) {
			wait = replicaEvery
		} else {
			wait = min(2*wait, replicaRest)
		}
		cancel()
	}
}

// addReplicaSoon has keepReplicas look. The next event of a drive does not wait for it: a
// replica may take a minute that can't be made before another drive is back.
func (n *Node) addReplicaSoon() {
	select {
	case n.wantReplica <- struct{}{}:
	default:
	}
}

// addReplica gives drives without a metadata replica one, until there are as many as
// the layout wants. It reports whether that succeeded. For keepReplicas alone.
func (n *Node) addReplica(ctx context.Context) (ok bool) {
	want := n.opts.Layout.ReplicaCount()
	members := map[twofold.DriveID]bool{}
	for _, m := range n.group.Status().Replicas {
		members[m.Drive] = m.State != "lost"
	}
	n.mu.Lock()
	var open []placement.Drive
	var drives []*drive.Local
	var keep []int
	for _, d := range n.drives {
		f := d.Format()
		if n.slots[f.SetID()][f.Index].Drive().ID() != d.ID() || d.State() == drive.Offline || !n.present(d) {
			continue
		}
		if members[d.ID()] {
			keep = append(keep, len(drives))
		}
		open = append(open, placement.Drive{Path: d.Path(), Set: f.SetID(), Index: f.Index})
		drives = append(drives, d)
	}
	n.mu.Unlock()
	ok = true
	for _, i := range placement.Replicas(open, keep, want, nil)[len(keep):] {
		d := drives[i]
		err := n.group.AddReplica(ctx, replicaDir(d))
		if err != nil && !errs.Is(err, errs.Exists) { // else it is being made
			n.log.Warn("no metadata replica on this drive for now", "drive", d, "err", err)
			ok = false
		}
	}
	return ok
}

// present reports whether a drive's path still leads to it. Its state tells that too,
// half a second later: a replica that is made before would be made in a directory
// that is not the drive, or not there.
func (n *Node) present(d *drive.Local) bool {
	return within(crashTimeout, func() error {
		f, err := drive.ReadFormat(n.fs, d.Path())
		if err == nil && f.Drive != d.ID() {
			err = errs.Newf("node", errs.Unavailable, "drive %s is there", f.Drive)
		}
		return err
	}) == nil
}

// orphanEvery is how often all drives are walked for garbage.
const orphanEvery = 24 * time.Hour

// kickOrphans asks for a walk for garbage, where the store is led.
func (n *Node) kickOrphans() {
	l := n.leads.cur.Load()
	if l == nil {
		return
	}
	select {
	case l.orphans <- struct{}{}:
	default:
	}
}

// collectOrphans deletes what nothing refers to: after the start, after a drive came
// back, and daily.
func (l *Leading) collectOrphans() {
	tick := time.NewTicker(orphanEvery)
	defer tick.Stop()
	for {
		deleted, err := l.volume.CollectOrphans(l.ctx)
		if l.ctx.Err() != nil {
			return
		}
		if err != nil {
			l.n.log.Warn("the walk for garbage was not finished", "err", err)
		}
		if deleted > 0 {
			l.n.log.Info("garbage collected: blobs that nothing refers to", "blobs", deleted)
		}
		select {
		case <-l.ctx.Done():
			return
		case <-l.orphans:
		case <-tick.C:
		}
	}
}
