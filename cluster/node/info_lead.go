package node

import (
	"context"
	"sync"
	"time"

	"twofold"
	"twofold/cluster/info"
	"twofold/engine/drive"
	"twofold/engine/placement"
	"twofold/engine/repair"
)

// info is all that `twofold admin info` tells, by the node that leads.
func (l *Leading) info(ctx context.Context) *info.Info {
	n := l.n
	in := &info.Info{Complete: true, Time: now(), Store: n.cluster.String(), AnsweredBy: n.nodeName(0)}
	var wg sync.WaitGroup
	if n.several() {
		of := n.opts.Cluster.Info()
		in.Nodes, in.AnsweredBy = of.Nodes, of.AnsweredBy
		self := &in.Nodes[n.opts.Cluster.Self]
		self.Leads, self.Leading = true, seconds(time.Since(l.began))
		self.Uptime, self.Since = seconds(time.Since(n.began)), seconds(time.Since(n.began))
		wg.Go(func() { n.askAbout(ctx, in.Nodes) })
	} else {
		up := seconds(time.Since(n.began))
		in.Nodes = []info.Node{{Name: in.AnsweredBy, Up: true, Since: up, Uptime: up, Version: n.opts.Program, Leads: true, Leading: seconds(time.Since(l.began))}}
	}
	in.Buckets = -1
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, infoWait)
		defer cancel()
		if all, err := l.volume.ListBuckets(ctx); err == nil {
			in.Buckets = len(all)
		}
	})
	l.infoDrives(ctx, in)
	l.infoSets(in)
	l.infoHealing(in)
	space, cancel := context.WithTimeout(ctx, infoWait) // of all sets together, where drives hang
	defer cancel()
	u := l.engine.Usage(space)
	in.Capacity.UsableTotal, in.Capacity.UsableFree = u.Total, u.Free
	in.Metadata = n.infoMetadata()
	for _, m := range l.volume.Mounts() {
		in.Mounts = append(in.Mounts, info.Mount{
			Session: uint64(m.Session), Peer: m.Peer, Process: m.Process, Connected: m.Connected,
			Silent: seconds(m.Silent), Opens: m.Opens,
		})
	}
	wg.Wait()
	in.Judge()
	return in
}

// infoDrives tells of every position, and of the space of all.
func (l *Leading) infoDrives(ctx context.Context, in *info.Info) {
	n := l.n
	all := n.opts.Layout.Drives()
	at := make([]drive.Drive, len(all))
	fills := map[twofold.SetID]repair.Progress{}
	for _, p := range l.healer.Progress() {
		fills[p.Set] = p
	}
	for i, d := range all {
		at[i] = n.slots[d.Set][d.Index].Drive()
		e := n.describe(d)
		n.fillState(&e, at[i])
		if p, ok := fills[d.Set]; ok && e.Healing && p.At.Has(d.Index) {
			e.Refill = &info.Refill{Since: seconds(time.Since(p.Since)), Seen: p.Seen, Lacking: p.Lacking, Done: p.Done}
		}
		if e.Healing {
			in.Healing.Refilling++
		}
		in.Drives = append(in.Drives, e)
	}
	n.fillUsage(ctx, in.Drives, func(i int) drive.Drive { return at[i] })
	seen := map[[2]uint64]bool{}
	for i, e := range in.Drives {
		if fs, ok := at[i].(interface{ FileSystem() uint64 }); ok {
			k := [2]uint64{uint64(all[i].Node), fs.FileSystem()}
			if k[1] != 0 && seen[k] {
				continue
			}
			seen[k] = true
		}
		in.Capacity.RawTotal += e.Total
		in.Capacity.RawFree += e.Free
	}
}

// infoSets tells what the sets can do. That a set can be written is the engine's word.
func (l *Leading) infoSets(in *info.Info) {
	layout := l.n.opts.Layout
	joined := int(l.pools.Load())
	for i, p := range layout.Pools {
		in.Pools = append(in.Pools, info.Pool{Pool: i + 1, Arg: p.Arg, Sets: p.Sets(), Drives: len(p.Drives), Joined: i < joined})
	}
	for _, h := range l.engine.Health() {
		if int(h.Set.Pool) >= joined {
			continue
		}
		size := len(h.Drives)
		s := info.Set{Set: h.Set.String(), Drives: size, Parity: h.Parity, CanRead: h.CanRead, CanWrite: h.CanWrite}
		s.NeedRead = size - h.Parity
		s.NeedWrite = size - placement.WritesBear(size, h.Parity)
		there := size - h.States[drive.Offline]
		s.Readable, s.Writable = there-h.States[drive.Healing], there-h.States[drive.Full]
		s.BearReads = max(s.Readable-s.NeedRead, 0)
		s.BearWrites = max(s.Writable-s.NeedWrite, 0)
		in.Sets = append(in.Sets, s)
	}
}

func (l *Leading) infoHealing(in *info.Info) {
	s := l.healer.Stats()
	h := &in.Healing
	h.Queued, h.Healed, h.HealedBytes, h.Unrecoverable, h.Failed = s.Queued, s.Healed, s.HealedBytes, s.Unrecoverable, s.Failed
	h.Scrubbing, h.ScrubbedBlobs, h.ScrubbedBytes, h.ScrubBad = s.Scrub.Running, s.Scrub.Blobs, s.Scrub.Bytes, s.Scrub.Bad
	if s.Scrub.Running {
		h.ScrubSet = s.Scrub.Position.Set.String()
	}
}
