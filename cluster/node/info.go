package node

import (
	"context"
	"os"
	"strings"
	"sync"
	"time"

	"twofold"
	"twofold/cluster/info"
	"twofold/engine/drive"
	"twofold/engine/placement"
	"twofold/internal/errs"
)

const (
	// infoWait is how long a node that does not lead waits for one that does: an election.
	infoWait = 3 * time.Second
	// infoCall bounds what one node is asked for. One that does not answer is left out.
	infoCall = time.Second
)

// aboutAns is what a node says of its process.
type aboutAns struct {
	Uptime time.Duration `cbor:"1,keyasint"`
}

// Info tells how the store is. The node that leads knows; another one asks it, and tells
// what it knows itself where none leads within 3 s. It takes no lease and decides nothing:
// what is told is of a moment ago. errs.Canceled; errs.Unavailable where the store is being
// closed.
func (n *Node) Info(ctx context.Context) (*info.Info, error) {
	var end <-chan time.Time
	for {
		if l := n.leads.cur.Load(); l != nil {
			return l.info(ctx), nil
		}
		if !n.several() {
			return nil, errs.Newf("node.Info", errs.Unavailable, "the store is being closed")
		}
		if end == nil {
			end = time.After(infoWait)
		}
		_, changed := n.where.leading()
		in, why := n.infoOfLeading(ctx)
		if in != nil {
			return in, nil
		}
		select {
		case <-changed:
		case <-time.After(infoWait / 10):
		case <-end:
			return n.infoAlone(why), nil
		case <-ctx.Done():
			return nil, errs.E("node.Info", errs.Canceled, ctx.Err())
		}
	}
}

// infoOfLeading asks the node that leads. Nil: there is none, or it does not answer, and
// then why says which and why.
func (n *Node) infoOfLeading(ctx context.Context) (in *info.Info, why string) {
	node, _ := n.where.leading()
	c := n.opts.Cluster
	if node < 0 || node == c.Self || !c.Peers.Up(node) {
		return nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, infoWait)
	defer cancel()
	in = &info.Info{}
	if err := n.call(ctx, node, mInfo, nil, in); err != nil {
		return nil, n.url(node) + " leads the store and can't be asked: " + plainText(err)
	}
	return in, ""
}

// infoHere is the answer to another node: this one leads, or there is none.
func (n *Node) infoHere(ctx context.Context) (*info.Info, error) {
	if l := n.leads.cur.Load(); l != nil {
		return l.info(ctx), nil
	}
	return nil, errs.Newf("node.Info", errs.Unavailable, "it does not lead the store")
}

// about is what this process says of itself.
func (n *Node) about() aboutAns { return aboutAns{time.Since(n.began)} }

// infoAlone is what a node knows that finds no leading one.
func (n *Node) infoAlone(why string) *info.Info {
	c := n.opts.Cluster
	in := c.Info()
	in.Store, in.Unasked = n.cluster.String(), why
	self := &in.Nodes[c.Self]
	self.Uptime = seconds(time.Since(n.began))
	self.Since = self.Uptime
	for _, d := range n.opts.Layout.Drives() {
		e := n.describe(d)
		e.State = info.DriveUnknown
		if d.Node == c.Self {
			n.fillState(&e, n.slots[d.Set][d.Index].Drive())
		}
		in.Drives = append(in.Drives, e)
	}
	n.fillUsage(context.Background(), in.Drives, func(i int) drive.Drive {
		if d := n.opts.Layout.Drives()[i]; d.Node == c.Self {
			return n.slots[d.Set][d.Index].Drive()
		}
		return nil
	})
	in.Metadata = n.infoMetadata()
	in.Judge()
	return in
}

// Info is what is known before a node's part of the store is open: the other nodes.
func (c *Cluster) Info() *info.Info {
	in := &info.Info{Time: now(), AnsweredBy: c.Topology.Nodes[c.Self].String(), Buckets: -1}
	for i, node := range c.Topology.Nodes {
		s := c.Peers.State(i)
		e := info.Node{Name: node.String(), Up: s.Up, Why: s.Why, Version: s.Program, Uptime: -1}
		if !s.Since.IsZero() {
			e.Since = seconds(time.Since(s.Since))
		}
		if i != c.Self && s.Up {
			e.SkewMillis, e.RTTMicros = s.Skew.Milliseconds(), s.RTT.Microseconds()
		}
		in.Nodes = append(in.Nodes, e)
	}
	return in
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// describe is a position of the layout, of which nothing is known yet.
func (n *Node) describe(d placement.Drive) info.Drive {
	return info.Drive{Node: n.nodeName(d.Node), Path: d.Path, Set: d.Set.String(), Index: d.Index + 1}
}

// nodeName is a node's URL. The only node of a store has none: it is called as its machine.
func (n *Node) nodeName(node int) string {
	if n.several() {
		return n.url(node)
	}
	host, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return host
}

// fillState notes what is at a position.
func (n *Node) fillState(e *info.Drive, d drive.Drive) {
	if id := d.ID(); !id.IsZero() {
		e.ID = id.String()
	}
	st := d.State()
	e.State, e.Healing = st.String(), st == drive.Healing
	if m, ok := d.(interface{ Healing() bool }); ok && st != drive.Offline {
		e.Healing = e.Healing || m.Healing()
	}
}

// fillUsage asks all drives at once for their space; of gets what is at a position, nil:
// it is not asked.
func (n *Node) fillUsage(ctx context.Context, all []info.Drive, of func(i int) drive.Drive) {
	ctx, cancel := context.WithTimeout(ctx, infoCall)
	defer cancel()
	type answer struct {
		i int
		u drive.Usage
	}
	out := make(chan answer, len(all)) // one that hangs is not waited for
	asked := 0
	for i := range all {
		d := of(i)
		if d == nil || d.State() == drive.Offline {
			continue
		}
		asked++
		go func() {
			u, err := d.Usage(ctx)
			if err != nil {
				u = drive.Usage{}
			}
			out <- answer{i, u}
		}()
	}
	for range asked {
		select {
		case a := <-out:
			all[a.i].Total, all[a.i].Free = a.u.Total, a.u.Free
		case <-ctx.Done():
			return
		}
	}
}

// infoMetadata is the group as this node knows it.
func (n *Node) infoMetadata() info.Metadata {
	s := n.group.Status()
	m := info.Metadata{
		Wanted: n.opts.Layout.ReplicaCount(), Voters: s.Voters, Live: s.Live, Bears: s.Bearable,
		Quorum: s.Quorum, Term: s.Term, Outage: strings.TrimPrefix(s.Outage, "replica: "),
	}
	lost := map[twofold.DriveID]string{}
	var last uint64
	for _, r := range s.Replicas {
		if r.State == "lost" {
			lost[r.Drive] = r.Reason
		}
		last = max(last, r.Last)
	}
	for _, r := range s.Members {
		last = max(last, r.Last)
	}
	add := func(id twofold.DriveID, r info.Replica, heard bool) {
		r.Drive = id.String()
		r.Node, r.Path = n.whereIs(id)
		r.Why, r.Lost = lost[id]
		if heard && !r.Lost {
			r.Behind = last - min(last, r.Applied)
		}
		m.Replicas = append(m.Replicas, r)
	}
	if n.several() && len(s.Members) > 0 {
		for _, r := range s.Members {
			contact := int64(-1)
			if r.Contact >= 0 {
				contact = r.Contact.Milliseconds()
			}
			add(r.Drive, info.Replica{Voter: r.Voter, Leader: r.Leader, Last: r.Last, Applied: r.Applied, ContactMillis: contact}, r.Last > 0)
		}
		return m
	}
	for _, r := range s.Replicas {
		add(r.Drive, info.Replica{Voter: r.Voter, Leader: r.State == "leader", Last: r.Last, Applied: r.Applied, ContactMillis: -1}, r.Last > 0)
	}
	return m
}

// whereIs is the node and path of a drive, empty where they are not known.
func (n *Node) whereIs(id twofold.DriveID) (node, path string) {
	for _, d := range n.opts.Layout.Drives() {
		if n.slots[d.Set][d.Index].Drive().ID() == id {
			return n.nodeName(d.Node), d.Path
		}
	}
	if !n.several() {
		return n.nodeName(0), ""
	}
	at, known := n.where.drive(id)
	if !known {
		return "", ""
	}
	for _, d := range n.opts.Layout.Drives() {
		if position(d) == at.pos {
			return n.url(at.node), d.Path
		}
	}
	return n.url(at.node), ""
}

// askAbout asks the nodes that are up about their processes.
func (n *Node) askAbout(ctx context.Context, nodes []info.Node) {
	ctx, cancel := context.WithTimeout(ctx, infoCall)
	defer cancel()
	var wg sync.WaitGroup
	for i := range nodes {
		if i == n.opts.Cluster.Self || !nodes[i].Up {
			continue
		}
		wg.Go(func() {
			var a aboutAns
			if n.call(ctx, i, mAbout, nil, &a) == nil { // an older program does not tell
				nodes[i].Uptime = seconds(a.Uptime)
			}
		})
	}
	wg.Wait()
}
