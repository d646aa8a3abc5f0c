// Package placement decides where things go, and nothing else: drives into pools
// and erasure sets, shards and parity, metadata replicas onto drives, blobs onto
// pools and sets. It is pure: arguments, free space and random numbers come in as
// values, plans and sentences go out; every function is safe for concurrent use.
//
// The rules are those that S3 clusters of this family have:
//
//	pool    an argument with an ellipsis, or all plain directories together
//	set     the largest size of 2-16 drives that divides the pool's drives and takes
//	        equally many from each node: a multiple of the nodes, or a divisor of
//	        them (then each set lies on that many different nodes). 1 for one drive.
//	parity  by set size 1: 0, 2-3: 1, 4-5: 2, 6-7: 3, 8 and more: 4; one parity for
//	        all pools, so that each keeps objects equally well: the first pool's,
//	        or what S3_STORAGE_CLASS_STANDARD says; never over half a set
//	write   parity grows by the drives that are offline, up to half the set; it
//	        needs as many drives as data shards, one more where data = parity
//	read    needs as many shards as data shards
//	replica metadata is on every drive up to 4 and on 5 beyond, spread over nodes,
//	        then sets; over many nodes also on 7 or 9 (Layout.ReplicaCount)
package placement

import (
	"twofold"
)

// MaxSetSize is the most drives of a set.
const MaxSetSize = 16

// Drive is a place in the layout: one directory, and where it belongs.
type Drive struct {
	Path  string // as given, ellipses expanded
	Node  int    // from 0; always 0 on one machine
	Set   twofold.SetID
	Index int // position in its set, from 0: shards are rotated over these
}

// Pool is drives that were given together, all of whose sets have one size.
type Pool struct {
	Arg     string // the arguments, for people
	Nodes   int
	SetSize int
	Drives  []Drive // set by set, by Index within a set
}

// Sets is the number of erasure sets.
func (p Pool) Sets() int { return len(p.Drives) / p.SetSize }

// Set returns the drives of a set, by Index.
func (p Pool) Set(i int) []Drive { return p.Drives[i*p.SetSize : (i+1)*p.SetSize] }

// Layout is the whole store's plan.
type Layout struct {
	Pools    []Pool
	Standard int      // parity of STANDARD objects
	RRS      int      // parity of REDUCED_REDUNDANCY objects
	Warnings []string // sentences about what works but surprises
}

// Drives lists every drive: pool by pool, set by set.
func (l Layout) Drives() []Drive {
	var all []Drive
	for _, p := range l.Pools {
		all = append(all, p.Drives...)
	}
	return all
}

// Nodes is the number of nodes. One that has drives of several pools counts once.
func (l Layout) Nodes() int {
	seen := map[int]bool{}
	for _, p := range l.Pools {
		for _, d := range p.Drives {
			seen[d.Node] = true
		}
	}
	return len(seen)
}

// PerNode is how many drives of one set of this pool a node has at most.
func (p Pool) PerNode() int { return max(1, p.SetSize/p.Nodes) }

// Parity is what objects of a storage class get. An unknown class is STANDARD.
func (l Layout) Parity(class string) int {
	if class == "REDUCED_REDUNDANCY" {
		return l.RRS
	}
	return l.Standard
}

// newPool arranges the drives of nodes equally large machines, given node by node,
// in sets. paths[n] are the drives of node n.
func newPool(arg string, pool int, paths [][]string) (Pool, error) {
	nodes, each := len(paths), len(paths[0])
	size, err := SetSize(nodes, each)
	if err != nil {
		return Pool{}, err
	}
	p := Pool{Arg: arg, Nodes: nodes, SetSize: size}
	for i, at := range arrange(nodes, each, size) {
		p.Drives = append(p.Drives, Drive{
			Path:  paths[at.node][at.drive],
			Node:  at.node,
			Set:   twofold.SetID{Pool: uint16(pool), Set: uint16(i / size)},
			Index: i % size,
		})
	}
	return p, nil
}
