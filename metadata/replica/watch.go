package replica

import (
	"time"

	"twofold/internal/errs"
)

// A drive that hangs does not keep the library from sending heartbeats, so a leader
// with such a drive would stay leader and commit nothing. The watchdog cuts it off:
// the others elect. It is let back in when the drive answers, and given up when it
// does not, or does it again and again.
const (
	slowLog    = 1500 * time.Millisecond // of a write to the log
	slowIndex  = 4 * time.Second         // of a write to the index, which may wait for compactions
	deadDrive  = 15 * time.Second
	maxStrikes = 5
	forgive    = 10 * time.Minute // without a strike
)

// watch looks at every replica's drive. It is the keeper's.
func (g *Group) watch(now time.Time) {
	nodes := g.running()
	var slow []*node
	for _, n := range nodes {
		log, index := n.store.busy.busyFor(now), n.host.busy.busyFor(now)
		switch {
		case max(log, index) > deadDrive:
			n.fail(errs.Newf("replica.watch", errs.Unavailable, "the drive has not answered for %s", max(log, index).Round(time.Second)))
		case log > slowLog || index > slowIndex:
			slow = append(slow, n)
		case n.slow.Load():
			g.log.Warn("a metadata replica's drive answers again", "drive", n.dir.Drive, "path", n.dir.Path)
			n.slow.Store(false)
			n.port.mend()
		}
	}
	machine := len(nodes)-len(slow) < majority(len(nodes))
	if machine && g.net.wire == nil {
		return // it is not one drive but the machine: cutting off would not help
	}
	for _, n := range slow {
		if n.slow.Swap(true) {
			continue
		}
		g.log.Error("a metadata replica's drive hangs", "drive", n.dir.Drive, "path", n.dir.Path)
		if !machine {
			n.strikes++
		}
		if n.strikes >= maxStrikes {
			n.fail(errs.Newf("replica.watch", errs.Unavailable, "the drive hung %d times", n.strikes))
			continue
		}
		time.AfterFunc(forgive, g.wake)
		led := n.leads()
		n.port.cut()
		if led && g.net.wire == nil {
			g.elect(nodes)
		}
	}
}

// watchAnchor looks whether the replica's directory is still there, and has space,
// also when nothing is written. Now and then it trims the index's memory.
func (n *node) watchAnchor() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for round := 1; ; round++ {
		if round%10 == 0 {
			if cur := n.host.cur.Load(); cur != nil {
				cur.store.Trim()
			}
		}
		select {
		case <-tick.C:
		case <-n.gone:
			return
		}
		done := n.store.busy.start()
		err := n.anchor.holds()
		if free, total, ferr := n.opts.space(n.dir.Path); ferr == nil {
			n.full.Store(free < min(reserve, total/50))
		}
		done()
		if err != nil {
			n.fail(err)
			return
		}
	}
}
