package replica

import (
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
)

// Dir is a drive that has a replica, or gets one.
type Dir struct {
	Drive twofold.DriveID
	Path  string // the drive's directory; the replica is in meta/g0 below it
}

func (d Dir) g0() string { return filepath.Join(d.Path, "meta", "g0") }

// node is one replica: a drive with a log, an index and a raft instance.
type node struct {
	dir  Dir
	sid  raft.ServerID
	log  *slog.Logger
	opts *Options

	anchor *anchor
	disk   disk
	store  *logStore
	snaps  *snapStore
	host   *stateHost
	port   *port
	raft   *raft.Raft

	identMu sync.Mutex
	ident   identity // guarded by identMu

	once   sync.Once
	gone   chan struct{} // closed when the replica is out: failed, given up or closed
	reason error         // why; set before gone is closed
	onFail func(*node)

	leading chan bool // the library's notices of leadership won and lost

	slow atomic.Bool // cut off by the watchdog
}

// openNode opens the files of a replica. ident nil: the directory is empty and gets
// a new replica, as id says.
func openNode(d Dir, ident identity, net *network, o *Options, onFail func(*node)) (n *node, err error) {
	sid := raft.ServerID(d.Drive.String())
	n = &node{
		dir: d, sid: sid, opts: o, ident: ident, onFail: onFail,
		log:     o.Logger.With("replica", d.Path),
		gone:    make(chan struct{}),
		leading: make(chan bool, 8),
	}
	defer func() {
		if err != nil {
			n.release()
		}
	}()
	g0 := d.g0()
	if err := mkdirSync(g0); err != nil {
		return nil, errs.E("replica.open", errs.Other, err)
	}
	if n.anchor, err = dropAnchor(g0); err != nil {
		return nil, err
	}
	if err := ident.write(g0); err != nil {
		return nil, err
	}
	rl := &raftLog{Logger: newRaftLog(n.log), log: n.log}
	if n.disk, err = openDisk(filepath.Join(g0, "wal"), rl); err != nil {
		return nil, errs.E("replica.open", errs.Other, err)
	}
	if o.wrapDisk != nil {
		n.disk = o.wrapDisk(d, n.disk)
	}
	n.store = newLogStore(n.disk, n.fail, n.anchor.holds)
	if n.snaps, err = openSnaps(filepath.Join(g0, "snapshots"), n.log); err != nil {
		return nil, err
	}
	n.host = &stateHost{base: kvDir(g0), snaps: n.snaps, newMachine: o.NewMachine, fail: n.fail, log: n.log}
	if err := n.host.open(false); err != nil {
		return nil, err
	}
	if err := n.trimLog(); err != nil {
		return nil, err
	}
	n.port = net.attach(sid)
	n.port.voteless.Store(ident.Standing != member)
	return n, nil
}

// trimLog removes a log that ends before the snapshot does: the replica stopped
// between taking a leader's snapshot and removing what it replaced. The library
// would append behind a hole.
func (n *node) trimLog() error {
	meta, _ := n.snaps.newest()
	first, err := n.disk.FirstIndex()
	if err != nil {
		return errs.E("replica.open", errs.Other, err)
	}
	last, err := n.disk.LastIndex()
	if err != nil {
		return errs.E("replica.open", errs.Other, err)
	}
	if meta == nil || last == 0 || last >= meta.Index {
		return nil
	}
	if err := n.disk.DeleteRange(first, last); err != nil {
		return errs.E("replica.open", errs.Other, err)
	}
	return nil
}

// config is the raft library's, for this replica.
func (n *node) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = n.sid
	c.Logger = newRaftLog(n.log)
	c.HeartbeatTimeout = n.opts.HeartbeatTimeout
	c.ElectionTimeout = n.opts.HeartbeatTimeout
	c.LeaderLeaseTimeout = n.opts.HeartbeatTimeout
	c.CommitTimeout = 100 * time.Millisecond
	c.MaxAppendEntries = 256
	c.BatchApplyCh = true
	c.NoSnapshotRestoreOnStart = true
	c.NoLegacyTelemetry = true
	c.NotifyCh = n.leading
	c.SnapshotInterval = 24 * time.Hour // snapshots.go decides
	c.SnapshotThreshold = 1 << 62
	c.TrailingLogs = minTrailing
	return c
}

// start starts the raft instance. It runs the library's start on a goroutine of its
// own, which a failing drive ends.
func (n *node) start() error {
	type result struct {
		r   *raft.Raft
		err error
	}
	ch := make(chan result, 1)
	go func() {
		defer close(ch)
		r, err := raft.NewRaft(n.config(), n.host, n.store, n.store, n.snaps, n.port)
		ch <- result{r, err}
	}()
	res, ok := <-ch
	if !ok {
		return errs.E("replica.start", errs.Unavailable, n.reason)
	}
	if res.err != nil {
		return errs.E("replica.start", errs.Other, res.err)
	}
	n.raft = res.r
	return nil
}

// fail takes the replica out: it is cut off at once, and shut down in the
// background. It may be called from the library's goroutines, any number of times.
func (n *node) fail(err error) {
	n.once.Do(func() {
		n.reason = err
		if n.port != nil {
			n.port.cut()
		}
		close(n.gone)
		go n.onFail(n)
	})
}

// isGone reports whether the replica is out.
func (n *node) isGone() bool {
	select {
	case <-n.gone:
		return true
	default:
		return false
	}
}

// leads reports whether the replica believes to be the leader and can be heard.
func (n *node) leads() bool {
	return n.raft != nil && !n.isGone() && !n.port.isCut() && n.raft.State() == raft.Leader
}

// setIdentity changes the durable identity.
func (n *node) setIdentity(change func(*identity)) error {
	n.identMu.Lock()
	defer n.identMu.Unlock()
	id := n.ident
	change(&id)
	if id == n.ident {
		return nil
	}
	if err := id.write(n.dir.g0()); err != nil {
		return err
	}
	if err := n.anchor.holds(); err != nil {
		return err
	}
	n.ident = id
	return nil
}

func (n *node) identity() identity {
	n.identMu.Lock()
	defer n.identMu.Unlock()
	return n.ident
}

// stop shuts the raft instance down and waits for it, no longer than limit. It
// reports whether the instance ended: one that hangs in its drive does not.
func (n *node) stop(limit time.Duration) bool {
	if n.raft == nil {
		return true
	}
	n.port.cut()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.raft.Shutdown().Error()
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// close stops the replica in order: its index is clean afterwards.
func (n *node) close(limit time.Duration) error {
	n.once.Do(func() {
		n.reason = errs.Newf("replica.close", errs.Unavailable, "the replica was closed")
		close(n.gone)
	})
	if !n.stop(limit) {
		return errs.Newf("replica.close", errs.Unavailable, "%s does not stop: its drive hangs", n.dir.Path)
	}
	return n.release()
}

// release closes the files.
func (n *node) release() error {
	var first error
	keep := func(err error) {
		if first == nil && err != nil {
			first = err
		}
	}
	if n.port != nil {
		n.port.close()
	}
	if n.host != nil {
		if cur := n.host.cur.Load(); cur != nil {
			keep(cur.store.Close())
		}
	}
	if n.disk != nil {
		keep(n.disk.Close())
	}
	if n.anchor != nil {
		keep(n.anchor.close())
	}
	return first
}
