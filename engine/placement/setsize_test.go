package placement

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"twofold/internal/errs"
)

func TestSetSize(t *testing.T) {
	for _, c := range []struct{ nodes, drives, size int }{
		{4, 1, 4}, {4, 2, 8}, {5, 2, 10}, {8, 1, 8}, {8, 2, 16}, {9, 2, 9}, {2, 180, 12}, {3, 6, 9}, {1, 18, 9}, {1, 24, 12},
		{12, 12, 12}, {32, 32, 16}, {16, 64, 16}, {38, 12, 2},
		{1, 1, 1}, {1, 2, 2}, {1, 3, 3}, {1, 4, 4}, {1, 16, 16}, {1, 32, 16}, {2, 1, 2}, {1, 34, 2}, {3, 7, 3},
	} {
		got, err := SetSize(c.nodes, c.drives)
		if err != nil || got != c.size {
			t.Errorf("%dx%d: %d %v, want %d", c.nodes, c.drives, got, err, c.size)
		}
	}
}

func TestRefusedSizes(t *testing.T) {
	for _, c := range []struct {
		nodes, drives int
		says          string
	}{
		{1, 17, "17 drives can't be divided into equal sets of 2 to 16 drives; what works: 16 drives (sets of 16), or 18 drives (sets of 9)"},
		{1, 19, "18 drives (sets of 9), or 20 drives (sets of 10)"},
		{17, 1, "17 nodes with 1 drive can't form sets of 2 to 16 drives that take equally many from each node; what works: 16 nodes with 1 drive (sets of 16), or 18 nodes with 1 drive (sets of 9)"},
		{17, 4, "16 nodes with 4 drives (sets of 16), or 18 nodes with 4 drives (sets of 9)"},
		{0, 4, "at least one drive"},
	} {
		if n, err := SetSize(c.nodes, c.drives); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%dx%d: %d, %v", c.nodes, c.drives, n, err)
		}
	}
}

func TestSurprises(t *testing.T) {
	for shape, says := range map[[2]int]string{
		{38, 12}: "38 nodes with 12 drives can only form small sets, of 2 drives (EC:1 at most); larger sets lose less capacity to parity or bear more: 36 nodes with 12 drives (sets of 12), or 39 nodes with 12 drives (sets of 13)",
		{1, 34}:  "34 drives can only form small sets, of 2 drives (EC:1 at most); larger sets lose less capacity to parity or bear more: 33 drives (sets of 11), or 36 drives (sets of 12)",
		{1, 16}:  "", {1, 4}: "", {1, 18}: "", {32, 32}: "",
	} {
		if got := surprise(shape[0], shape[1]); got != says {
			t.Errorf("%v: %q", shape, got)
		}
	}
}

// Every set has equally many drives of each node, or lies on as many nodes as it
// has drives; every drive is in one set; and no larger size would do.
func TestArrange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, each := rapid.IntRange(1, 40).Draw(t, "nodes"), rapid.IntRange(1, 40).Draw(t, "drives")
		size, err := SetSize(nodes, each)
		if err != nil {
			for s := 2; s <= min(MaxSetSize, nodes*each); s++ {
				if nodes*each%s == 0 && (s%nodes == 0 || nodes%s == 0) {
					t.Fatalf("refused, but %d would do", s)
				}
			}
			return
		}
		paths := make([][]string, nodes)
		for n := range paths {
			for d := range each {
				paths[n] = append(paths[n], fmt.Sprint(n, "/", d))
			}
		}
		p, err := newPool("", 0, paths)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for s := range p.Sets() {
			perNode := map[int]int{}
			for i, d := range p.Set(s) {
				if seen[d.Path] || int(d.Set.Set) != s || d.Index != i {
					t.Fatalf("%+v in set %d at %d", d, s, i)
				}
				seen[d.Path] = true
				perNode[d.Node]++
			}
			want := max(1, size/nodes)
			for n, k := range perNode {
				if k != want || len(perNode) != min(size, nodes) {
					t.Fatalf("set %d of %d has %d of node %d, on %d nodes", s, size, k, n, len(perNode))
				}
			}
		}
		if len(seen) != nodes*each {
			t.Fatalf("%d of %d drives are in sets", len(seen), nodes*each)
		}
	})
}
