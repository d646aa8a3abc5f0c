package node

import (
	"context"
	"sync"
	"time"

	"twofold"
	"twofold/internal/errs"
)

// where knows on which node each drive is, and which node leads. Part of Node.
type where struct {
	mu      sync.Mutex
	of      map[twofold.DriveID]whereabouts
	asked   time.Time     // when the others were asked for their drives last
	term    uint64        // of the group, as far as it is known
	leader  int           // in that term; -1: nobody that is known
	changed chan struct{} // closed when term or leader changes, and then another one
}

// whereabouts are a drive's.
type whereabouts struct {
	node int
	pos  [3]int
}

func newWhere() where {
	return where{of: map[twofold.DriveID]whereabouts{}, leader: -1, changed: make(chan struct{})}
}

// learn takes the drives of a node from its report.
func (w *where) learn(node int, r report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range r.Drives {
		if !d.Drive.IsZero() {
			w.of[d.Drive] = whereabouts{node, [3]int{int(d.Pool), int(d.Set), d.Index}}
		}
	}
}

// put notes where one drive is.
func (w *where) put(id twofold.DriveID, node int, pos [3]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of[id] = whereabouts{node, pos}
}

// drive is where a drive is, or was last.
func (w *where) drive(id twofold.DriveID) (at whereabouts, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, known = w.of[id]
	return at, known
}

// oneOfEach lists a drive of each node but one, of those whose drives are known.
func (w *where) oneOfEach(but int) []twofold.DriveID {
	w.mu.Lock()
	defer w.mu.Unlock()
	of := map[int]twofold.DriveID{}
	for id, at := range w.of {
		if other, ok := of[at.node]; at.node != but && (!ok || id.String() < other.String()) {
			of[at.node] = id
		}
	}
	var out []twofold.DriveID
	for _, id := range of {
		out = append(out, id)
	}
	return out
}

// told notes who leads in a term. What is said of an earlier one is too late.
func (w *where) told(term uint64, node int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if term < w.term {
		return errs.Newf("node.where", errs.Stale, "term %d is over, it is %d", term, w.term)
	}
	if node < 0 && term == w.term {
		return nil // whoever said so does not know yet
	}
	if term == w.term && node == w.leader {
		return nil
	}
	w.term, w.leader = term, node
	close(w.changed)
	w.changed = make(chan struct{})
	return nil
}

// touch wakes who waits for a change.
func (w *where) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

// leading is the node that leads as far as is known, -1 for nobody, and a channel that is
// closed when that changes.
func (w *where) leading() (node int, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leader, w.changed
}

// refreshEvery is how often all nodes may be asked for their drives because one is
// looked for.
const refreshEvery = time.Second

// find is the node of a drive. Where it is not known the others are asked.
func (n *Node) find(ctx context.Context, id twofold.DriveID) (int, error) {
	if at, known := n.where.drive(id); known {
		return at.node, nil
	}
	n.askAround(ctx)
	if at, known := n.where.drive(id); known {
		return at.node, nil
	}
	return -1, errs.Newf("node.find", errs.Unavailable, "it is not known on which node drive %s is", id)
}

// askAround asks all nodes for their drives, but not too often.
func (n *Node) askAround(ctx context.Context) {
	n.where.mu.Lock()
	ask := time.Since(n.where.asked) > refreshEvery
	if ask {
		n.where.asked = time.Now()
	}
	n.where.mu.Unlock()
	if ask {
		n.gather(ctx)
	}
}

// Where tells who leads: the node's URL, empty where nobody is known to or that node can't
// be reached; here, that it is this one and the store is open; and a channel that is
// closed when it may have changed.
func (n *Node) Where() (url string, here bool, changed <-chan struct{}) {
	node, changed := n.where.leading() // before the rest, so that no change of that is missed
	switch {
	case n.leads.cur.Load() != nil:
		return n.url(n.opts.Cluster.Self), true, changed
	case node < 0, node == n.opts.Cluster.Self, !n.opts.Cluster.Peers.Up(node):
		return "", false, changed
	}
	return n.url(node), false, changed
}

// leadership is what the group knows of who leads: the drive of the replica that does, whether
// that is one of this node, and the term. changed is closed when it may be otherwise.
func (n *Node) leadership() (leader twofold.DriveID, here bool, term uint64, changed <-chan struct{}) {
	changed = n.group.Changed()
	leader, here, term = n.group.Leadership()
	return leader, here, term, changed
}

// leadsIn reports whether this node leads in a term, proven, at some moment of the call.
func (n *Node) leadsIn(term uint64) bool {
	if !n.group.Leads() {
		return false
	}
	// In this order: a later term would be seen.
	_, here, now := n.group.Leadership()
	return here && now == term
}
