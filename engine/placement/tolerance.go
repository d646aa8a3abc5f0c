package placement

import (
	"fmt"
	"slices"
)

// Tolerance is how many drives, or nodes, may be lost at once, whichever they are.
type Tolerance struct {
	DataReads  int // every STANDARD object can be read
	DataWrites int // and new ones written, to one set or another
	MetaReads  int // every name and attribute can be read
	MetaWrites int // and changed
}

// Reads is what reads bear: data and metadata both.
func (t Tolerance) Reads() int { return min(t.DataReads, t.MetaReads) }

// Writes is what writes bear. A store that lost data does not count as writable.
func (t Tolerance) Writes() int { return min(t.DataWrites, t.MetaWrites, t.Reads()) }

// Tolerance counts drives in the worst case: the lost ones have most shards of one
// set, or of every set, and all have metadata replicas.
func (l Layout) Tolerance() Tolerance { return l.toleranceWith(l.quorum(l.ReplicaCount())) }

func (l Layout) toleranceWith(q quorum) Tolerance {
	t := Tolerance{DataReads: l.Standard, DataWrites: -1, MetaReads: q.replicas - q.read, MetaWrites: q.replicas - q.write}
	for _, p := range l.Pools { // where a set can't be written, others are
		t.DataWrites += p.Sets() * (WritesBear(p.SetSize, l.Standard) + 1)
	}
	return t
}

// setWrites is how many drives of any one set may be lost while it can be written.
func (l Layout) setWrites() int {
	n := MaxSetSize
	for _, p := range l.Pools {
		n = min(n, WritesBear(p.SetSize, l.Standard))
	}
	return n
}

// NodeTolerance counts nodes in the worst case: those that have most drives of a set,
// and most metadata replicas where these are put first. A replica that was lost is
// replaced on another node, so that metadata bears more nodes one after the other
// than at once. Of a store on one node, none.
func (l Layout) NodeTolerance() Tolerance { return l.nodeToleranceWith(l.quorum(l.ReplicaCount())) }

func (l Layout) nodeToleranceWith(q quorum) Tolerance {
	nodes := l.Nodes()
	if nodes == 1 {
		return Tolerance{}
	}
	t := Tolerance{DataReads: nodes}
	for _, p := range l.Pools {
		t.DataReads = min(t.DataReads, l.Standard/p.PerNode())
		// Sets lie on all of a pool's nodes, or on so many apart groups of them. With
		// one pool that can be written there is somewhere to write.
		apart := max(1, p.Nodes/p.SetSize)
		t.DataWrites = max(t.DataWrites, apart*(WritesBear(p.SetSize, l.Standard)/p.PerNode()+1)-1)
	}
	on := map[int]int{}
	for _, d := range l.replicaDrives(q.replicas) {
		on[d.Node]++
	}
	var counts []int
	for _, n := range on {
		counts = append(counts, n)
	}
	slices.SortFunc(counts, func(a, b int) int { return b - a })
	left := q.replicas
	for i, n := range counts {
		left -= n
		if left >= q.read {
			t.MetaReads = i + 1
		}
		if left >= q.write {
			t.MetaWrites = i + 1
		}
	}
	return t
}

// quorum is how many of a store's metadata replicas have to be there.
type quorum struct{ replicas, read, write int }

// quorum is what holds. On one machine one process owns every drive, and goes on from
// as many as are sure to hold every commit between them. Over many nodes a majority
// is needed to write, as nobody can fence the others, and to read, as only a leader
// that a majority confirms answers.
func (l Layout) quorum(replicas int) quorum {
	if l.Nodes() == 1 {
		return quorum{replicas, Survivors(replicas), Survivors(replicas)}
	}
	return quorum{replicas, Majority(replicas), Majority(replicas)}
}

// Most metadata replicas over many nodes. Each command is sent to all of their logs.
const mostReplicas = 9

// ReplicaCount is how many metadata replicas this store has. On one machine that is
// ReplicaCount of its drives. Over many nodes it is the number up to 5 with which
// most nodes may fail (data counted), then most drives: two nodes of four drives each
// have 4, two on each, so that either half has all of the commits. It is 7 or 9, one a
// node, where data bears the loss of 3 or of 4 nodes: metadata does then too.
func (l Layout) ReplicaCount() int {
	drives := 0
	for _, p := range l.Pools {
		drives += len(p.Drives)
	}
	nodes, most := l.Nodes(), ReplicaCount(drives)
	if nodes == 1 {
		return most
	}
	best, bears := 0, []int(nil)
	for n := 1; n <= most; n++ {
		// Survivors: reads of what is certain from less than a majority are no reason
		// to have another number later.
		q := quorum{n, Survivors(n), Majority(n)}
		of, dr := l.nodeToleranceWith(q), l.toleranceWith(q)
		b := []int{of.Writes(), of.Reads(), dr.Writes(), dr.Reads(), of.MetaWrites, of.MetaReads, dr.MetaWrites, dr.MetaReads}
		if best == 0 || slices.Compare(b, bears) > 0 {
			best, bears = n, b
		}
	}
	data := l.nodeToleranceWith(quorum{})
	for best < min(data.DataReads, data.DataWrites)*2+1 && best >= most && best+2 <= min(nodes, mostReplicas) {
		best += 2
	}
	return best
}

// ReplicaDrives is where a new store puts its metadata replicas, in order of choice:
// the first is the one that founds the group.
func (l Layout) ReplicaDrives() []Drive { return l.replicaDrives(l.ReplicaCount()) }

func (l Layout) replicaDrives(n int) []Drive {
	all := l.Drives()
	var out []Drive
	for _, i := range Replicas(all, nil, n, nil) {
		out = append(out, all[i])
	}
	return out
}

// warnOfNodes says where many nodes bear the loss of none.
func (l *Layout) warnOfNodes() {
	nodes := l.Nodes()
	if nodes == 1 {
		return
	}
	if nodes == 2 {
		l.Warnings = append(l.Warnings, "of two nodes neither is a majority, so that metadata needs both; three nodes and more go on without one")
	}
	for i, p := range l.Pools {
		k := p.PerNode()
		switch {
		case l.Standard == 0 || k <= l.Standard:
		case p.Nodes == 1:
			l.Warnings = append(l.Warnings, fmt.Sprintf("%s is all on one node: while that is away its objects can't be read", p.words(i)))
		default:
			s := fmt.Sprintf("%s has %d drives of each node in a set, and parity EC:%d bears the loss of %d: a node that is away takes objects with it", p.words(i), k, l.Standard, l.Standard)
			if !slices.ContainsFunc(l.Pools, func(p Pool) bool { return p.SetSize/2 < k }) {
				s += fmt.Sprintf("; S3_STORAGE_CLASS_STANDARD=EC:%d bears it", k)
			}
			l.Warnings = append(l.Warnings, s)
		}
	}
}

// WritesBear is how many drives of a set may be lost while writes go on.
func WritesBear(size, parity int) int {
	lost := 0
	for lost+1 < size && size-(lost+1) >= CodingFor(size, parity, lost+1).WriteQuorum() {
		lost++
	}
	return lost
}
