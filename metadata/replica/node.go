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
	Path  string // the drive's directory, which exists; the replica is in meta/g0 below it
}

func (d Dir) g0() string { return filepath.Join(d.Path, "meta", "g0") }

// files are what a replica has on its drive, open.
type files struct {
	anchor *anchor
	disk   disk
	snaps  *snapStore

	identMu sync.Mutex
	ident   identity // guarded by identMu
}

// node is a replica that runs: its files, a raft instance and an end of the network.
// It runs once; a replica that starts again is another node on the same files.
type node struct {
	*files
	dir    Dir
	sid    raft.ServerID
	log    *slog.Logger
	opts   *Options
	onFail func(*node)

	store *logStore
	host  *stateHost
	port  *port
	raft  *raft.Raft // set by start, before the node is shared

	once   sync.Once
	gone   chan struct{} // closed when the replica is out: failed, given up or closed
	reason error         // why; set before gone is closed

	leading chan bool   // the library's notices of leadership won and lost
	slow    atomic.Bool // cut off by the watchdog
	full    atomic.Bool // the drive has less than its reserve of free space
	strikes int         // of the watchdog: how often it was
	first   bool        // it has just founded the group: it can have promised nothing
	born    time.Time
}

// newNode makes a node without files.
func newNode(d Dir, o *Options, onFail func(*node)) *node {
	return &node{
		files: &files{}, dir: d, sid: raft.ServerID(d.Drive.String()), opts: o, onFail: onFail,
		log:     o.Logger.With("replica", d.Path),
		gone:    make(chan struct{}),
		leading: make(chan bool, 8),
		born:    time.Now(),
	}
}

// openNode opens the files of a replica, or makes them. It may hang with its drive.
func openNode(d Dir, ident identity, o *Options, onFail func(*node)) (n *node, err error) {
	const op = "replica.open"
	n = newNode(d, o, onFail)
	made := n // a failing return makes n nil before this is deferred to
	defer func() {
		if err != nil {
			err = errs.E(op, errs.KindOf(err), err)
			_ = made.release()
		}
	}()
	g0 := d.g0()
	if err := mkdirSync(d.Path, g0); err != nil {
		return nil, err
	}
	if n.anchor, err = dropAnchor(g0, o.Locks); err != nil {
		return nil, err
	}
	rl := &raftLog{Logger: newRaftLog(n.log), log: n.log}
	if n.disk, err = openDisk(filepath.Join(g0, "wal"), rl); err != nil {
		return nil, err
	}
	if o.wrapDisk != nil {
		n.disk = o.wrapDisk(d, n.disk)
	}
	if n.ident, err = n.claimLog(ident); err != nil {
		return nil, err
	}
	if n.snaps, err = openSnaps(filepath.Join(g0, "snapshots"), n.log); err != nil {
		return nil, err
	}
	if err := n.checkLog(); err != nil {
		return nil, err
	}
	n.wire()
	return n, n.host.open(false)
}

// claimLog checks that the log is the identity's, or makes it so when both are new.
// It writes the identity.
func (n *node) claimLog(ident identity) (identity, error) {
	key := []byte("LogID")
	if ident.LogID == "" {
		ident.LogID = twofold.NewUUID().String()
		if err := n.disk.Set(key, []byte(ident.LogID)); err != nil {
			return ident, err
		}
	}
	switch id, err := n.disk.Get(key); {
	case err != nil:
		return ident, err
	case string(id) != ident.LogID:
		return ident, errs.Newf("replica.open", errs.Corrupt, "the log is not the replica's: it was lost and made again")
	}
	return ident, ident.write(n.dir.g0())
}

// wire makes what stands between the files and the raft instance.
func (n *node) wire() {
	n.store = newLogStore(n.disk, n.fail, n.anchor.holds)
	n.host = &stateHost{
		base: kvDir(n.dir.g0()), snaps: n.snaps, newMachine: n.opts.NewMachine, fail: n.fail, log: n.log,
		exchange: n.opts.exchange, verify: n.opts.Verify, verified: n.opts.verified, holdFor: n.opts.holdFor,
	}
}

// reborn is the same replica, stopped before, ready to be started again.
func (n *node) reborn() *node {
	m := newNode(n.dir, n.opts, n.onFail)
	m.files = n.files
	m.wire()
	m.host.cur.Store(n.host.cur.Load())
	m.host.share(m.host.cur.Load().machine)
	m.host.sinceEntries.Store(n.host.sinceEntries.Load())
	m.host.sinceBytes.Store(n.host.sinceBytes.Load())
	return m
}

// checkLog sees to it that the log and the snapshot meet. A log that ends before the
// snapshot does is removed: the replica stopped between taking a leader's snapshot
// and removing what it replaced; the library would append behind a hole.
func (n *node) checkLog() error {
	meta, _ := n.snaps.newest()
	first, err := n.disk.FirstIndex()
	if err != nil {
		return err
	}
	last, err := n.disk.LastIndex()
	if err != nil {
		return err
	}
	var covered uint64
	if meta != nil {
		covered = meta.Index
	}
	switch {
	case first > covered+1:
		return errs.Newf("replica.open", errs.Corrupt, "the log begins at %d, the snapshot ends at %d", first, covered)
	case last == 0 && covered == 0 && n.identity().Standing == member:
		return errs.Newf("replica.open", errs.Corrupt, "a member without a log")
	case last == 0 || last >= covered:
		return nil
	}
	return n.disk.DeleteRange(first, last)
}

// config is the raft library's, for this replica.
func (n *node) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = n.sid
	c.Logger = newRaftLog(n.log)
	c.HeartbeatTimeout = n.opts.HeartbeatTimeout
	c.ElectionTimeout = n.opts.HeartbeatTimeout
	c.LeaderLeaseTimeout = n.opts.HeartbeatTimeout
	if n.opts.Wire != nil {
		c.LeaderLeaseTimeout -= time.Microsecond // leaves room for node.hurry
	}
	c.CommitTimeout = 100 * time.Millisecond
	c.MaxAppendEntries = 128 // commands may be large
	c.BatchApplyCh = true
	c.NoSnapshotRestoreOnStart = true
	c.NoLegacyTelemetry = true
	c.NotifyCh = n.leading
	c.SnapshotInterval = 24 * time.Hour // snapshots.go decides
	c.SnapshotThreshold = 1 << 62
	c.TrailingLogs = maxTrailing
	return c
}

// startLimit is how long a replica may take to start or to be made.
const startLimit = 30 * time.Second

// start joins the network and starts the raft instance, which has a vote only when
// the replica is a member.
func (n *node) start(net *network) error {
	quiet := net.d
	if n.first {
		quiet = 0
	}
	n.port = net.attach(n.sid, n.identity().Standing != member, quiet)
	n.host.exchange.join(n.host)
	err := guard(startLimit, func() error {
		r, err := raft.NewRaft(n.config(), n.host, n.store, n.store, n.snaps, n.port)
		n.raft = r
		return err
	})
	if err != nil {
		n.host.exchange.leave(n.host)
		n.port.close()
		return errs.E("replica.start", errs.KindOf(err), err)
	}
	n.port.node.Store(n) // promises are made from here on
	return nil
}

// out marks the replica as out, and reports whether it was not before.
func (n *node) out(reason error) (first bool) {
	n.once.Do(func() {
		first = true
		n.reason = reason
		if n.port != nil {
			n.port.cut()
		}
		if n.host != nil {
			n.host.exchange.leave(n.host)
			n.host.held.over.Store(true)
		}
		close(n.gone)
	})
	return first
}

// fail takes the replica out: it is cut off at once, and the group gives it up. It
// may be called from the library's goroutines, any number of times.
func (n *node) fail(reason error) {
	if n.out(reason) {
		n.onFail(n)
	}
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
	return !n.isGone() && !n.port.isCut() && n.raft.State() == raft.Leader
}

// setIdentity changes the durable identity.
func (f *files) setIdentity(dir Dir, change func(*identity)) error {
	f.identMu.Lock()
	defer f.identMu.Unlock()
	id := f.ident
	change(&id)
	if err := id.write(dir.g0()); err != nil {
		return err
	}
	if err := f.anchor.holds(); err != nil {
		return err
	}
	f.ident = id
	return nil
}

func (f *files) identity() identity {
	f.identMu.Lock()
	defer f.identMu.Unlock()
	return f.ident
}

// stop shuts the raft instance down and waits for it, no longer than limit. It
// reports whether the instance ended: one that hangs in its drive does not.
func (n *node) stop(limit time.Duration) bool {
	if n.raft == nil {
		return true
	}
	n.port.cut()
	return guard(limit, func() error {
		err := n.raft.Shutdown().Error()
		n.host.rest()
		return err
	}) == nil
}

// close stops the replica in order: its index is clean afterwards.
func (n *node) close(limit time.Duration) error {
	n.out(errClosed)
	if !n.stop(limit) {
		return errs.Newf("replica.close", errs.Unavailable, "%s does not stop: its drive hangs", n.dir.Path)
	}
	return guard(limit, n.release)
}

// abandon stops a replica whose drive is gone, hangs or fails, without waiting for
// the drive. Its index is not closed: Badger would try to write it.
func (n *node) abandon() {
	if cur := n.host.cur.Load(); cur != nil {
		cur.store.Abandon()
	}
	if n.stop(startLimit) {
		_ = n.disk.Close()
		_ = n.anchor.close()
	}
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
			keep(n.host.settle())
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

// position is the end of a replica's log: what decides who may lead.
type position struct{ term, index uint64 }

func (p position) less(q position) bool {
	return p.term < q.term || p.term == q.term && p.index < q.index
}

// history is what a stopped replica's log says.
type history struct {
	last   position
	term   uint64             // current term
	config raft.Configuration // the latest one in the log, committed or not
}

// history reads the log. The raft instance must not run.
func (n *node) history() (h history, err error) {
	var from uint64
	if meta, _ := n.snaps.newest(); meta != nil {
		h.last = position{meta.Term, meta.Index}
		h.config = raft.Configuration{Servers: meta.Configuration}
		from = meta.Index
	}
	if h.term, err = n.disk.GetUint64([]byte("CurrentTerm")); err != nil {
		return h, err
	}
	first, err := n.disk.FirstIndex()
	if err != nil {
		return h, err
	}
	last, err := n.disk.LastIndex()
	if err != nil {
		return h, err
	}
	for i := max(first, from+1); last != 0 && i <= last; i++ {
		var l raft.Log
		if err := n.disk.GetLog(i, &l); err != nil {
			return h, err
		}
		if l.Type == raft.LogConfiguration {
			h.config = raft.DecodeConfiguration(l.Data)
		}
		h.last = position{l.Term, l.Index}
	}
	h.term = max(h.term, h.last.term)
	return h, nil
}
