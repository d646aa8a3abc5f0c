package replica

import (
	"time"
)

// When a replica takes a snapshot: after so many commands, or bytes of them, since
// the last one. What lies behind the snapshot is replayed after an unclean stop; it
// bounds the restart. Measured: see DESIGN.md.
const (
	snapEntries = 10_000
	snapBytes   = 64 << 20
)

// How much of the log stays behind a snapshot, for followers that lag: this many
// entries, or fewer where they are large.
const (
	minTrailing   = 128
	maxTrailing   = 8192
	trailingBytes = 32 << 20
)

// keepSnapshots takes the replica's snapshots until it is out. Replicas of a group
// get thresholds of their own, so that they do not all do it at once.
func (n *node) keepSnapshots(rank int) {
	factor := 1 + float64(rank)/8
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.gone:
			return
		}
		entries, bytes := n.host.sinceEntries.Load(), n.host.sinceBytes.Load()
		if float64(entries) < snapEntries*factor && float64(bytes) < snapBytes*factor {
			continue
		}
		if err := n.snapshot(); err != nil {
			n.log.Debug("no snapshot now", "err", err)
			continue
		}
		n.host.sinceEntries.Add(-entries)
		n.host.sinceBytes.Add(-bytes)
	}
}

// snapshot takes a snapshot now and lets the log behind it go.
func (n *node) snapshot() error {
	entries, bytes := n.host.sinceEntries.Load(), n.host.sinceBytes.Load()
	trailing := uint64(maxTrailing)
	if entries > 0 && bytes > 0 {
		trailing = min(max(uint64(trailingBytes/max(bytes/entries, 1)), minTrailing), maxTrailing)
	}
	c := n.raft.ReloadableConfig()
	if c.TrailingLogs != trailing {
		c.TrailingLogs = trailing
		if err := n.raft.ReloadConfig(c); err != nil {
			return err
		}
	}
	f := n.raft.Snapshot()
	answer := make(chan error, 1)
	go func() { answer <- f.Error() }()
	select {
	case err := <-answer:
		return err
	case <-n.gone:
		return n.reason
	}
}
