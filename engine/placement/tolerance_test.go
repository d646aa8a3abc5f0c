package placement

import (
	"fmt"
	"math/bits"
	"strings"
	"testing"
)

// grid plans a pool of nodes with drives each.
func grid(t *testing.T, classes Classes, shapes ...[2]int) Layout {
	t.Helper()
	var pools []PoolDrives
	first := 0
	for i, s := range shapes {
		p := PoolDrives{Arg: fmt.Sprint(s)}
		for n := range s[0] {
			var paths []string
			for d := range s[1] {
				paths = append(paths, fmt.Sprintf("/p%d/d%d", i, d))
			}
			p.Nodes, p.Paths = append(p.Nodes, first+n), append(p.Paths, paths)
		}
		first += s[0]
		pools = append(pools, p)
	}
	l, err := OfNodes(pools, func(n int) string { return fmt.Sprint("node", n) }, classes)
	if err != nil {
		t.Fatal(shapes, err)
	}
	return l
}

func TestNodeTolerance(t *testing.T) {
	for _, c := range []struct {
		shapes   [][2]int
		std      string
		replicas int
		nodes    Tolerance
	}{
		{[][2]int{{1, 4}}, "", 4, Tolerance{}},
		{[][2]int{{1, 200}}, "", 5, Tolerance{}},
		{[][2]int{{2, 1}}, "", 2, Tolerance{1, 0, 0, 0}},
		{[][2]int{{2, 4}}, "", 4, Tolerance{1, 0, 0, 0}},
		{[][2]int{{3, 1}}, "", 3, Tolerance{1, 1, 1, 1}},
		{[][2]int{{3, 6}}, "", 5, Tolerance{1, 1, 1, 1}},
		{[][2]int{{4, 1}}, "", 4, Tolerance{2, 1, 1, 1}},
		{[][2]int{{4, 2}}, "", 4, Tolerance{2, 1, 1, 1}},
		{[][2]int{{4, 4}}, "", 5, Tolerance{1, 1, 1, 1}}, // data bears one node whatever metadata does: more drives instead
		{[][2]int{{5, 1}}, "", 5, Tolerance{2, 2, 2, 2}},
		{[][2]int{{5, 2}}, "", 5, Tolerance{2, 2, 2, 2}},
		{[][2]int{{6, 1}}, "", 5, Tolerance{3, 2, 2, 2}},
		{[][2]int{{8, 1}}, "", 7, Tolerance{4, 3, 3, 3}},
		{[][2]int{{9, 2}}, "", 9, Tolerance{4, 4, 4, 4}},
		{[][2]int{{16, 200}}, "", 9, Tolerance{4, 7, 4, 4}},
		{[][2]int{{16, 200}}, "EC:2", 5, Tolerance{2, 7, 2, 2}},
		{[][2]int{{16, 200}}, "EC:8", 9, Tolerance{8, 7, 4, 4}},
		{[][2]int{{32, 32}}, "", 9, Tolerance{4, 15, 4, 4}}, // two halves, apart
		{[][2]int{{38, 12}}, "", 5, Tolerance{1, 18, 2, 2}},
		{[][2]int{{4, 1}, {1, 4}}, "", 5, Tolerance{0, 1, 2, 2}}, // the second pool is one node's
	} {
		l := grid(t, Classes{Standard: c.std}, c.shapes...)
		if n, got := l.ReplicaCount(), l.NodeTolerance(); n != c.replicas || got != c.nodes {
			t.Errorf("%v %s: %d replicas, %+v; want %d, %+v", c.shapes, c.std, n, got, c.replicas, c.nodes)
		}
	}
}

// What NodeTolerance promises holds whichever nodes are lost, and no more does.
func TestNodeToleranceIsTheWorstCase(t *testing.T) {
	for _, shape := range [][2]int{{2, 1}, {2, 4}, {3, 1}, {3, 6}, {4, 1}, {4, 2}, {4, 4}, {5, 2}, {6, 1}, {8, 2}, {9, 2}, {10, 3}, {12, 4}} {
		l := grid(t, Classes{}, shape)
		on := map[int]int{}
		replicas := l.ReplicaDrives()
		for _, d := range replicas {
			on[d.Node]++
		}
		bears := Tolerance{99, 99, 99, 99} // fewest lost nodes that break it, less one
		for lost := uint(1); lost < 1<<shape[0]; lost++ {
			n := bits.OnesCount(lost)
			dataReads, dataWrites := true, false
			for s := range l.Pools[0].Sets() {
				gone := 0
				for _, d := range l.Pools[0].Set(s) {
					if lost>>d.Node&1 == 1 {
						gone++
					}
				}
				size := l.Pools[0].SetSize
				dataReads = dataReads && size-gone >= CodingFor(size, l.Standard, 0).ReadQuorum()
				dataWrites = dataWrites || size-gone >= CodingFor(size, l.Standard, gone).WriteQuorum()
			}
			left := len(replicas)
			for node, k := range on {
				if lost>>node&1 == 1 {
					left -= k
				}
			}
			for _, b := range []struct {
				ok   bool
				most *int
			}{{dataReads, &bears.DataReads}, {dataWrites, &bears.DataWrites},
				{left >= Majority(len(replicas)), &bears.MetaReads}, {left >= Majority(len(replicas)), &bears.MetaWrites}} {
				if !b.ok {
					*b.most = min(*b.most, n-1)
				}
			}
		}
		if got := l.NodeTolerance(); got != bears {
			t.Errorf("%v: %+v is promised, %+v is so", shape, got, bears)
		}
	}
}

// The founder is on the first drive, and replicas are on as many nodes as they can.
func TestReplicaDrives(t *testing.T) {
	l := grid(t, Classes{}, [2]int{16, 200})
	for i, d := range l.ReplicaDrives() {
		if d.Node != i {
			t.Errorf("replica %d is on node %d", i, d.Node)
		}
	}
	l = grid(t, Classes{}, [2]int{2, 4})
	var nodes []int
	for _, d := range l.ReplicaDrives() {
		nodes = append(nodes, d.Node)
	}
	if fmt.Sprint(nodes) != "[0 1 0 1]" {
		t.Error(nodes)
	}
}

func TestWarningsOfNodes(t *testing.T) {
	for _, c := range []struct {
		shapes [][2]int
		std    string
		says   []string // one each
	}{
		{[][2]int{{4, 4}}, "", nil},
		{[][2]int{{1, 4}}, "", nil},
		{[][2]int{{4, 4}}, "EC:0", nil},
		{[][2]int{{2, 4}}, "", []string{"of two nodes neither is a majority"}},
		{[][2]int{{2, 8}}, "", []string{"of two nodes", "pool 1 ([2 8]) has 8 drives of each node in a set, and parity EC:4 bears the loss of 4: a node that is away takes objects with it; S3_STORAGE_CLASS_STANDARD=EC:8 bears it"}},
		{[][2]int{{2, 8}}, "EC:8", []string{"of two nodes"}},
		{[][2]int{{4, 4}}, "EC:3", []string{"has 4 drives of each node in a set, and parity EC:3"}},
		{[][2]int{{4, 4}, {1, 16}}, "", []string{"pool 2 ([1 16]) is all on one node"}},
	} {
		got := grid(t, Classes{Standard: c.std}, c.shapes...).Warnings
		ok := len(got) == len(c.says)
		for i := range min(len(got), len(c.says)) {
			ok = ok && strings.Contains(got[i], c.says[i])
		}
		if !ok {
			t.Errorf("%v %s: %q", c.shapes, c.std, got)
		}
	}
}
