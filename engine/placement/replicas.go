package placement

// ReplicaCount is how many metadata replicas a store of so many drives on one
// machine has. Layout.ReplicaCount knows of nodes.
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
