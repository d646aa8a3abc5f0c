package placement

// ReplicaCount is how many metadata replicas a store of so many drives has.
func ReplicaCount(drives int) int {
	if drives <= 4 {
		return drives
	}
	return 5
}

// Majority is how many of n replicas must have a command in their logs before it is
// committed.
func Majority(n int) int { return n/2 + 1 }

// Survivors is how few of n replicas are enough to hold every commit between them:
// any so many include one of each majority.
func Survivors(n int) int { return n - Majority(n) + 1 }

// Replicas chooses want drives for metadata replicas, as positions in drives, in
// order of choice. keep are positions that have one already and stay; it is spread
// over nodes first, then sets, then in the order of drives. usable says which
// drives can be chosen (nil: all). Fewer than want are returned where no more are.
func Replicas(drives []Drive, keep []int, want int, usable func(i int) bool) []int {
	chosen := make(map[int]bool, want)
	onNode := map[int]int{}
	onSet := map[[2]uint16]int{}
	var out []int
	take := func(i int) {
		chosen[i] = true
		onNode[drives[i].Node]++
		onSet[setKey(drives[i])]++
		out = append(out, i)
	}
	for _, i := range keep {
		if !chosen[i] {
			take(i)
		}
	}
	for len(out) < want {
		best := -1
		for i, d := range drives {
			if chosen[i] || usable != nil && !usable(i) {
				continue
			}
			if best < 0 || less(onNode[d.Node], onSet[setKey(d)], onNode[drives[best].Node], onSet[setKey(drives[best])]) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		take(best)
	}
	return out
}

func setKey(d Drive) [2]uint16 { return [2]uint16{d.Set.Pool, d.Set.Set} }

func less(node, set, bestNode, bestSet int) bool {
	if node != bestNode {
		return node < bestNode
	}
	return set < bestSet
}

// Tolerance is how many drives may be lost, whichever they are.
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

// Tolerance counts the worst case: the lost drives are all in one set, and all have
// metadata replicas.
func (l Layout) Tolerance() Tolerance {
	t := Tolerance{DataReads: l.Standard, DataWrites: MaxSetSize}
	for _, p := range l.Pools {
		t.DataWrites = min(t.DataWrites, writesBear(p.SetSize, l.Standard))
	}
	n := ReplicaCount(len(l.Drives()))
	t.MetaReads = n - Survivors(n)
	t.MetaWrites = n - Majority(n)
	if l.Nodes() == 1 {
		// One process owns every drive: nobody else can go on from the others.
		t.MetaWrites = t.MetaReads
	}
	return t
}

// writesBear is how many drives of a set may be lost while writes go on.
func writesBear(size, parity int) int {
	lost := 0
	for lost+1 < size && size-(lost+1) >= CodingFor(size, parity, lost+1).WriteQuorum() {
		lost++
	}
	return lost
}
