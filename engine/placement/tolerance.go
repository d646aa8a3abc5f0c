package placement

import "slices"

// Tolerance is how many drives, or nodes, may be lost at once, whichever they are.
type Tolerance struct {
	DataReads  int // every STANDARD object can be read
	DataWrites int // and new ones written
	MetaReads  int // every name and attribute can be read
	MetaWrites int // and changed
}

// Reads is what reads bear: data and metadata both.
func (t Tolerance) Reads() int { return min(t.DataReads, t.MetaReads) }

// Writes is what writes bear. A store that lost data does not count as writable.
func (t Tolerance) Writes() int { return min(t.DataWrites, t.MetaWrites, t.Reads()) }

// Tolerance counts drives in the worst case: the lost ones are all in one set, and
// all have metadata replicas.
func (l Layout) Tolerance() Tolerance { return l.toleranceWith(l.ReplicaCount()) }

func (l Layout) toleranceWith(replicas int) Tolerance {
	t := Tolerance{DataReads: l.Standard, DataWrites: MaxSetSize}
	for _, p := range l.Pools {
		t.DataWrites = min(t.DataWrites, writesBear(p.SetSize, l.Standard))
	}
	t.MetaReads = replicas - Survivors(replicas)
	t.MetaWrites = replicas - Majority(replicas)
	if l.Nodes() == 1 {
		// One process owns every drive: nobody else can go on from the others.
		t.MetaWrites = t.MetaReads
	}
	return t
}

// NodeTolerance counts nodes in the worst case: those that have most drives of a set,
// and most metadata replicas where these are put first. A replica that was lost is
// replaced on another node, so that metadata bears more nodes one after the other
// than at once. Of a store on one node, none.
func (l Layout) NodeTolerance() Tolerance { return l.nodeToleranceWith(l.ReplicaCount()) }

func (l Layout) nodeToleranceWith(replicas int) Tolerance {
	nodes := l.Nodes()
	if nodes == 1 {
		return Tolerance{}
	}
	t := Tolerance{DataReads: nodes, DataWrites: nodes}
	for _, p := range l.Pools {
		t.DataReads = min(t.DataReads, l.Standard/p.PerNode())
		t.DataWrites = min(t.DataWrites, writesBear(p.SetSize, l.Standard)/p.PerNode())
	}
	on := map[int]int{}
	for _, d := range l.replicaDrives(replicas) {
		on[d.Node]++
	}
	var counts []int
	for _, n := range on {
		counts = append(counts, n)
	}
	slices.SortFunc(counts, func(a, b int) int { return b - a })
	left := replicas
	for i, n := range counts {
		left -= n
		if left >= Survivors(replicas) {
			t.MetaReads = i + 1
		}
		if left >= Majority(replicas) {
			t.MetaWrites = i + 1
		}
	}
	return t
}

// ReplicaCount is how many metadata replicas this store has. On one machine that is
// ReplicaCount of its drives. Over many nodes it is the number up to 5 with which
// most nodes may fail (data counted), then most drives: two nodes of four drives each
// have 4, two on each, because 5 would be 3 on one, without which nothing could be
// read. What makes no difference to the whole is to be good for metadata itself.
func (l Layout) ReplicaCount() int {
	drives := 0
	for _, p := range l.Pools {
		drives += len(p.Drives)
	}
	most := ReplicaCount(drives)
	if l.Nodes() == 1 {
		return most
	}
	best, bears := 0, []int(nil)
	for n := 1; n <= most; n++ {
		of, dr := l.nodeToleranceWith(n), l.toleranceWith(n)
		b := []int{of.Writes(), of.Reads(), dr.Writes(), dr.Reads(), of.MetaWrites, of.MetaReads, dr.MetaWrites, dr.MetaReads}
		if best == 0 || slices.Compare(b, bears) > 0 {
			best, bears = n, b
		}
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

// writesBear is how many drives of a set may be lost while writes go on.
func writesBear(size, parity int) int {
	lost := 0
	for lost+1 < size && size-(lost+1) >= CodingFor(size, parity, lost+1).WriteQuorum() {
		lost++
	}
	return lost
}
