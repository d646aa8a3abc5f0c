package node

import (
	"context"
	"sync"
	"time"

	"twofold"
	"twofold/cluster/drives"
	"twofold/cluster/peers"
	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/engine/placement"
)

// far puts the drives of other nodes into their slots, while this node leads. Which drive is
// at a position is what its node says; it may become another one.
type far struct {
	l     *Leading
	nodes map[int]*drives.Node
	plan  map[[3]int]placement.Drive // by position
	at    map[twofold.DriveID][3]int // what is known of drives; of openFar, then of watch
}

// caller calls one node on one of the two connections to it.
type caller struct {
	p     *peers.Peers
	node  int
	class peers.Class
}

var _ drives.Caller = caller{}

// Call implements drives.Caller.
func (c caller) Call(ctx context.Context, call *rpc.Call) (int, error) {
	return c.p.Call(ctx, c.node, c.class, call)
}

// Up implements drives.Caller.
func (c caller) Up() bool { return c.p.Up(c.node) }

// How often it is looked whether a node has another drive at a position, and how long the
// opening of the store waits for the nodes to tell of theirs.
const (
	farEvery = 250 * time.Millisecond
	farFirst = time.Second
)

// openFar begins to use the drives of the other nodes. It returns when those that are up
// have told of them, or a second later.
func (l *Leading) openFar(ctx context.Context) error {
	n := l.n
	c := n.opts.Cluster
	f := &far{l: l, nodes: map[int]*drives.Node{}, plan: map[[3]int]placement.Drive{}, at: map[twofold.DriveID][3]int{}}
	l.far = f
	for _, d := range n.opts.Layout.Drives() {
		if d.Node == c.Self {
			continue
		}
		f.plan[position(d)] = d
		if f.nodes[d.Node] != nil {
			continue
		}
		node, err := drives.NewNode(caller{c.Peers, d.Node, peers.Data}, drives.Options{
			Name: n.url(d.Node), Logger: n.log, Control: caller{c.Peers, d.Node, peers.Control}, Changed: f.changed,
		})
		if err != nil {
			return err
		}
		f.nodes[d.Node] = node
	}
	first, cancel := context.WithTimeout(ctx, farFirst)
	defer cancel()
	f.refresh(first) // which drives there are
	f.look()
	f.refresh(first) // and how they are: one that is offline now is taken for one that was away
	l.wg.Go(f.watch)
	return nil
}

// refresh asks all nodes that are up for the states of their drives.
func (f *far) refresh(ctx context.Context) {
	var wg sync.WaitGroup
	for i, node := range f.nodes {
		if f.l.n.opts.Cluster.Peers.Up(i) {
			wg.Go(func() { _ = node.Refresh(ctx) }) // one that can't tell is asked again
		}
	}
	wg.Wait()
}

// watch looks for drives that are new at their positions.
func (f *far) watch() {
	tick := time.NewTicker(farEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.l.ctx.Done():
			return
		case <-tick.C:
			f.look()
		}
	}
}

// look puts drives into their slots that are not there yet.
func (f *far) look() {
	for i, node := range f.nodes {
		for _, id := range node.Drives() {
			f.place(i, node, id)
		}
	}
}

// place puts one drive of a node into its slot.
func (f *far) place(i int, node *drives.Node, id twofold.DriveID) {
	n := f.l.n
	if _, ok := f.at[id]; !ok {
		f.ask(i)
	}
	pos, ok := f.at[id]
	if !ok {
		return // it is looked at again
	}
	d, ok := f.plan[pos]
	if !ok || d.Node != i {
		return // the node itself refuses such drives
	}
	slot := n.slots[d.Set][d.Index]
	cur := slot.Drive()
	if cur.ID() == id && !isAbsent(cur) {
		return
	}
	r := node.Drive(id, n.opts.nameOf(d))
	if !isAbsent(cur) && (cur.State() != drive.Offline || r.State() == drive.Offline) {
		return // the one that was replaced is told of as well, for a moment
	}
	n.where.put(id, i, pos)
	slot.Put(r)
	n.addReplicaSoon()
}

// ask asks a node which drives it has, and at which positions.
func (f *far) ask(i int) {
	ctx, cancel := context.WithTimeout(f.l.ctx, meetCall)
	defer cancel()
	var r report
	if err := f.l.n.call(ctx, i, mReport, nil, &r); err != nil || r.Cluster != f.l.n.cluster {
		return
	}
	f.l.n.where.learn(i, r)
	for _, d := range r.Drives {
		if !d.Drive.IsZero() {
			f.at[d.Drive] = [3]int{int(d.Pool), int(d.Set), d.Index}
		}
	}
}

func isAbsent(d drive.Drive) bool {
	_, ok := d.(*drive.Absent)
	return ok
}

// changed is told that the state of a drive has become another one.
func (f *far) changed(_ *drives.Remote, was, is drive.State) {
	if was == drive.Offline || is == drive.Offline {
		f.l.n.addReplicaSoon()
	}
	if was == drive.Offline && is != drive.Offline {
		f.l.n.kickOrphans()
	}
}

// close ends all use of the other nodes' drives.
func (f *far) close() {
	for _, d := range f.plan {
		slot := f.l.n.slots[d.Set][d.Index]
		slot.Put(drive.NewAbsent(twofold.DriveID{}, f.l.n.opts.nameOf(d)))
	}
	for _, node := range f.nodes {
		node.Close()
	}
}
