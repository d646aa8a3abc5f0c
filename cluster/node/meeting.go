package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/internal/errs"
	"twofold/metadata/replica"
)

// How nodes come together at the start.
//
// A store that is there needs no meeting: a node that has one of its metadata replicas
// opens its drives and takes part. A node without one waits until another one tells that
// there is a store, and which.
//
// A store that is not there is made when all nodes have met: the node that has the
// first drive of the layout gets everybody's report, and where no drive has taken
// part in a store yet it chooses the cluster's id, formats its own drives, has the others
// format theirs, and makes the first metadata replica. That one makes the store: before,
// nothing was acknowledged, and a start that was interrupted is done over with the id
// that the first formatted drive has.

// meeting is what a node tells of itself. Part of Node.
type meeting struct {
	mu     sync.Mutex
	report report // guarded by mu

	formatting sync.Mutex // held by who formats drives
	met        bool       // guarded by formatting: the drives are open, nothing is formatted any more
	said       said       // of what is waited for; by Open's goroutine alone
}

// reported is the report of the moment.
func (m *meeting) reported() report {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.report
}

// set replaces the report.
func (m *meeting) set(r report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report = r
}

// How often a node that waits looks again, and how long it waits before it says so.
const (
	meetEvery = 250 * time.Millisecond
	meetQuiet = 1500 * time.Millisecond
	meetCall  = 3 * time.Second
)

// meet returns when it is known what store this node is part of: n.cluster. found: it
// is new, its drives are formatted, and this node has to make its first replica.
func (n *Node) meet(ctx context.Context) (inv *inventory, found bool, err error) {
	began := time.Now()
	for {
		if inv, err = n.lookAround(); err != nil {
			return nil, false, err
		}
		mine := n.meeting.reported()
		if mine.Begun {
			n.join(mine.Cluster)
			return inv, false, nil
		}
		reports, waits := n.gather(ctx)
		switch cluster, err := n.existing(mine, reports); {
		case err != nil:
			waits = append(waits, err.Error())
		case !cluster.IsZero():
			n.join(cluster)
			return inv, false, nil
		case len(waits) > 0:
		case n.makesStore():
			waits = n.create(ctx, reports)
			if len(waits) == 0 {
				inv, err := n.lookAround()
				n.join(n.cluster)
				return inv, true, err
			}
		default:
			waits = []string{fmt.Sprintf("%s makes the store", n.url(n.first()))}
		}
		if time.Since(began) > meetQuiet {
			n.sayWaiting(waits)
		}
		select {
		case <-ctx.Done():
			return nil, false, errs.E("node.Open", errs.Canceled, ctx.Err())
		case <-time.After(meetEvery):
		}
	}
}

// join notes which store this node is part of.
func (n *Node) join(cluster twofold.ClusterID) {
	n.meeting.formatting.Lock()
	defer n.meeting.formatting.Unlock()
	n.cluster, n.meeting.met = cluster, true
}

// first is the node that makes a new store: the one whose drive has its first replica.
func (n *Node) first() int { return n.opts.Layout.ReplicaDrives()[0].Node }

func (n *Node) makesStore() bool { return n.first() == n.opts.Cluster.Self }

// sayWaiting tells the person at the terminal what is waited for, when that changes.
func (n *Node) sayWaiting(waits []string) {
	var b strings.Builder
	for _, w := range waits {
		fmt.Fprintf(&b, "waiting: %s\n", w)
	}
	if text := b.String(); n.meeting.said.isNews(text, time.Now()) {
		n.opts.Say(text)
	}
}

// lookAround inspects this node's drives, and reports on them.
func (n *Node) lookAround() (*inventory, error) {
	n.meeting.formatting.Lock()
	defer n.meeting.formatting.Unlock()
	inv, err := n.opts.inspect(n.fs)
	if err != nil {
		return nil, err
	}
	n.meeting.set(n.reportOf(inv))
	return inv, nil
}

// reportOf is what others are told of an inventory.
func (n *Node) reportOf(inv *inventory) report {
	r := report{Cluster: inv.cluster, Looked: true}
	for _, p := range inv.places {
		pos := position(p.planned)
		var d driveReport
		if p.format != nil {
			pos = [3]int{int(p.format.Pool), int(p.format.Set), p.format.Index}
			d.Drive = p.format.Drive
			r.Begun = r.Begun || begun(p.path)
		}
		if p.absent != nil && !os.IsNotExist(p.absent) {
			d.Why = p.absent.Error()
		}
		set := setOf(pos)
		d.Pool, d.Set, d.Index = set.Pool, set.Set, pos[2]
		r.Drives = append(r.Drives, d)
	}
	return r
}

// report is what other nodes are told: what was found at the start, and once the drives
// are open, these.
func (n *Node) report() report {
	if !n.opened.Load() {
		return n.meeting.reported()
	}
	r := report{Cluster: n.cluster, Looked: true, Begun: true}
	for _, d := range n.ownOpen() {
		f := d.Format()
		r.Drives = append(r.Drives, driveReport{Pool: f.Pool, Set: f.Set, Index: f.Index, Drive: d.ID()})
	}
	return r
}

// begun reports whether the drive has a metadata replica that took part in the group.
// One that can't be read has one: nothing is made anew beside it.
func begun(path string) bool {
	is := true
	_ = within(crashTimeout, func() error {
		is = replica.Begun(path)
		return nil
	})
	return is
}

// gather asks all other nodes for their reports. waits says of those that gave none, or
// whose drives can't be used, why.
func (n *Node) gather(ctx context.Context) (reports map[int]report, waits []string) {
	type answer struct {
		node int
		r    report
		err  error
	}
	c := n.opts.Cluster
	out := make(chan answer)
	others := 0
	for i := range c.Topology.Nodes {
		if i == c.Self {
			continue
		}
		others++
		go func() {
			ctx, cancel := context.WithTimeout(ctx, meetCall)
			defer cancel()
			a := answer{node: i}
			a.err = n.call(ctx, i, mReport, nil, &a.r)
			out <- a
		}()
	}
	reports = map[int]report{c.Self: n.meeting.reported()}
	failed := map[int]error{}
	for range others {
		a := <-out
		if a.err == nil && !a.r.Looked {
			a.err = errs.Newf("node.gather", errs.Unavailable, "it is starting")
		}
		if a.err != nil {
			failed[a.node] = a.err
			continue
		}
		reports[a.node] = a.r
		n.where.learn(a.node, a.r)
	}
	for i := range c.Topology.Nodes {
		why := ""
		if st := c.Peers.State(i); failed[i] != nil && !st.Up && st.Why != "" {
			why = st.Why
		} else if failed[i] != nil {
			why = plainText(failed[i])
		}
		if why != "" {
			waits = append(waits, n.waitFor(i, why))
		}
		for _, d := range reports[i].Drives {
			if d.Why != "" {
				waits = append(waits, fmt.Sprintf("for drive %d of set %s on %s: %s", d.Index+1, twofold.SetID{Pool: d.Pool, Set: d.Set}, n.url(i), d.Why))
			}
		}
	}
	return reports, waits
}

// waitFor says for which node is waited, and why. What peers say of it begins with its address.
func (n *Node) waitFor(node int, why string) string {
	if rest, ok := strings.CutPrefix(why, n.opts.Cluster.Topology.Nodes[node].Addr()); ok {
		if after, colon := strings.CutPrefix(rest, ": "); colon {
			why = after
		} else {
			why = "it" + rest
		}
	}
	return fmt.Sprintf("for %s: %s", n.url(node), why)
}

// waitsForDown says so of each node that is not up.
func (n *Node) waitsForDown() (waits []string) {
	for i := range n.opts.Cluster.Topology.Nodes {
		if st := n.opts.Cluster.Peers.State(i); !st.Up {
			waits = append(waits, n.waitFor(i, st.Why))
		}
	}
	return waits
}

// existing is the cluster of a store that is there by anybody's report, zero where
// nobody knows of one. An error says that drives of different stores are together.
func (n *Node) existing(mine report, reports map[int]report) (cluster twofold.ClusterID, err error) {
	at := -1
	for i := range n.opts.Cluster.Topology.Nodes {
		r, ok := reports[i]
		if !ok || !r.Begun {
			continue
		}
		if at >= 0 && r.Cluster != cluster {
			return cluster, errs.Newf("node.meet", errs.Invalid, "%s has drives of store %s, and %s of store %s: they can't be one; take the drives of one of them off", n.url(at), cluster, n.url(i), r.Cluster)
		}
		at, cluster = i, r.Cluster
	}
	if at >= 0 && !mine.Cluster.IsZero() && mine.Cluster != cluster {
		return cluster, errs.Newf("node.meet", errs.Invalid, "the drives here are of store %s, and those of %s of store %s: take these drives off, or give empty directories", mine.Cluster, n.url(at), cluster)
	}
	return cluster, nil
}

// create has all drives of a new store formatted, where that can be. What it returns
// says why not.
func (n *Node) create(ctx context.Context, reports map[int]report) (waits []string) {
	var id twofold.ClusterID
	at := -1
	for i := range n.opts.Cluster.Topology.Nodes {
		c := reports[i].Cluster
		if c.IsZero() {
			continue
		}
		if at >= 0 && c != id {
			return []string{fmt.Sprintf("%s has drives of store %s, and %s of store %s: take the drives of one of them off, or give empty directories", n.url(at), id, n.url(i), c)}
		}
		at, id = i, c
	}
	if id.IsZero() {
		id = twofold.NewUUID()
	} else if where, err := n.shardsAnywhere(ctx); err != nil {
		return []string{plainText(err)}
	} else if where >= 0 {
		return []string{fmt.Sprintf("%s has data of store %s, and no drive has the names of it: bring the drives with its metadata back", n.url(where), id)}
	}
	if err := n.formatOwn(id, n.opts.Cluster.Self); err != nil {
		return []string{plainText(err)}
	}
	for i := range n.opts.Cluster.Topology.Nodes {
		if i == n.opts.Cluster.Self {
			continue
		}
		if err := n.call(ctx, i, mFormat, formatReq{id}, nil); err != nil {
			waits = append(waits, fmt.Sprintf("for %s: %s", n.url(i), plainText(err)))
		}
	}
	return waits
}

// shardsAnywhere finds a node with a shard; -1: there is none.
func (n *Node) shardsAnywhere(ctx context.Context) (int, error) {
	for i := range n.opts.Cluster.Topology.Nodes {
		var a shardsAns
		var err error
		if i == n.opts.Cluster.Self {
			a.Some, err = n.anyShard()
		} else {
			err = n.call(ctx, i, mShards, nil, &a)
		}
		if err != nil {
			return -1, err
		}
		if a.Some {
			return i, nil
		}
	}
	return -1, nil
}

// anyShard reports whether a drive of this node has a shard.
func (n *Node) anyShard() (bool, error) {
	for _, d := range n.opts.ownDrives() {
		some := false
		err := within(lookTimeout, func() error {
			found, err := filepath.Glob(filepath.Join(d.Path, "blobs", "*", "*"))
			some = len(found) > 0
			return err
		})
		if err != nil || some {
			return some, err
		}
	}
	return false, nil
}

// formatOwn makes the drives of this node those of a new store. Those that are it
// already stay as they are, so that it can be repeated.
func (n *Node) formatOwn(cluster twofold.ClusterID, from int) error {
	const op = "node.format"
	m := &n.meeting
	m.formatting.Lock()
	defer m.formatting.Unlock()
	if m.met {
		if n.cluster != cluster {
			return errs.Newf(op, errs.Invalid, "%s is part of store %s", n.url(n.opts.Cluster.Self), n.cluster)
		}
		return nil
	}
	inv, err := n.opts.inspect(n.fs)
	if err != nil {
		return err
	}
	if r := n.reportOf(inv); r.Begun || !r.Cluster.IsZero() && r.Cluster != cluster {
		return errs.Newf(op, errs.Invalid, "%s has drives of store %s", n.url(n.opts.Cluster.Self), r.Cluster)
	}
	if inv.isNew() {
		n.opts.Say(n.opts.Layout.Describe())
		for _, w := range advice(paths(inv.places)) {
			n.log.Warn(w)
		}
	}
	n.log.Info("the drives of a new store are formatted", "cluster", cluster, "by", n.url(from))
	n.cluster = cluster
	if err := inv.make(); err != nil {
		return err
	}
	at, _ := inv.assign()
	for pos, p := range at {
		if !p.fresh() {
			continue
		}
		abs, err := filepath.Abs(p.path)
		if err != nil {
			return errs.E(op, errs.Invalid, err)
		}
		f := n.format(setOf(pos), pos[2])
		if err := within(lookTimeout, func() error { return drive.WriteFormat(n.fs, abs, f) }); err != nil {
			return errs.Newf(op, errs.KindOf(err), "%s can't be formatted: %v", p.name, err)
		}
		p.format = &f
	}
	inv.cluster = cluster
	m.set(n.reportOf(inv))
	return nil
}

// make makes the directories that are not there yet, of a new store.
func (inv *inventory) make() error {
	for _, p := range inv.places {
		if p.absent == nil {
			continue
		}
		if !os.IsNotExist(p.absent) {
			return errs.Newf("node.Open", errs.Invalid, "%s can't be read: %v", p.name, p.absent)
		}
		if err := os.MkdirAll(p.path, 0o700); err != nil {
			return errs.Newf("node.Open", errs.Invalid, "%s can't be made: %v", p.name, err)
		}
		p.absent = nil
	}
	return nil
}

// plainText is an error without the operations in front of it.
func plainText(err error) string {
	for {
		e, ok := err.(*errs.Error)
		switch {
		case !ok:
			return err.Error()
		case e.Msg != "" || e.Err == nil:
			if e.Msg != "" {
				return e.Msg
			}
			return e.Kind.String()
		}
		err = e.Err
	}
}
