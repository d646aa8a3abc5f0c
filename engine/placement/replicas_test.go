package placement

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"twofold"
)

func TestTolerance(t *testing.T) {
	for _, c := range []struct {
		args, std string
		want      Tolerance
		r, w      int
	}{
		{"d{1...1}", "", Tolerance{0, 0, 0, 0}, 0, 0},
		{"d{1...2}", "", Tolerance{1, 0, 1, 1}, 1, 0},
		{"d{1...3}", "", Tolerance{1, 1, 1, 1}, 1, 1},
		{"d{1...4}", "", Tolerance{2, 1, 2, 2}, 2, 1},
		{"d{1...5}", "", Tolerance{2, 2, 2, 2}, 2, 2},
		{"d{1...4}", "EC:0", Tolerance{0, 1, 2, 2}, 0, 0},
		{"d{1...4}", "EC:1", Tolerance{1, 1, 2, 2}, 1, 1},
		{"d{1...8}", "", Tolerance{4, 3, 2, 2}, 2, 2},
		{"d{1...16}", "", Tolerance{4, 7, 2, 2}, 2, 2},
	} {
		l, err := New([]string{c.args}, Classes{Standard: c.std})
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Tolerance(); got != c.want || got.Reads() != c.r || got.Writes() != c.w {
			t.Errorf("%s %s: %+v, reads %d, writes %d", c.args, c.std, got, got.Reads(), got.Writes())
		}
	}
}

// Over many nodes a majority must be there: nobody can fence the others.
func TestToleranceOfNodes(t *testing.T) {
	p, err := newPool("", 0, [][]string{{"a"}, {"b"}, {"c"}, {"d"}})
	if err != nil {
		t.Fatal(err)
	}
	l := Layout{Pools: []Pool{p}, Standard: 2}
	if got := l.Tolerance(); got != (Tolerance{2, 1, 1, 1}) {
		t.Errorf("%+v", got)
	}
}

// Any survivors intersect every majority; one fewer may not.
func TestSurvivors(t *testing.T) {
	for n := 1; n <= 5; n++ {
		if s, m := Survivors(n), Majority(n); s+m <= n || s-1+m > n {
			t.Errorf("%d replicas: %d survivors and a majority of %d", n, s, m)
		}
	}
}

func TestReplicas(t *testing.T) {
	two, err := New([]string{"d{1...24}"}, Classes{})
	if err != nil {
		t.Fatal(err)
	}
	all := two.Drives()
	if got := Replicas(all, nil, 5, nil); !slices.Equal(got, []int{0, 12, 1, 13, 2}) {
		t.Error(got)
	}
	// One that is lost is replaced in the emptier set, and the others stay.
	lost := func(i int) bool { return i != 12 }
	if got := Replicas(all, []int{0, 1, 13, 2}, 5, lost); !slices.Equal(got, []int{0, 1, 13, 2, 14}) {
		t.Error(got)
	}
	if got := Replicas(all[:2], nil, 5, nil); !slices.Equal(got, []int{0, 1}) {
		t.Error(got)
	}
}

func TestReplicasSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, sets := rapid.IntRange(1, 6).Draw(t, "nodes"), rapid.IntRange(1, 4).Draw(t, "sets")
		drives := make([]Drive, rapid.IntRange(1, 30).Draw(t, "drives"))
		perNode := map[int]int{}
		for i := range drives {
			drives[i] = Drive{Node: rapid.IntRange(0, nodes-1).Draw(t, "node"), Set: twofold.SetID{Set: uint16(i % sets)}}
			perNode[drives[i].Node]++
		}
		want := ReplicaCount(len(drives))
		got := Replicas(drives, nil, want, nil)
		if len(got) != want {
			t.Fatalf("%d of %d", len(got), want)
		}
		on := map[int]int{}
		for _, i := range got {
			on[drives[i].Node]++
		}
		for n := range perNode {
			for m := range perNode {
				if on[n] > on[m]+1 && on[m] < perNode[m] {
					t.Fatalf("node %d has %d, node %d has %d of its %d drives", n, on[n], m, on[m], perNode[m])
				}
			}
		}
	})
}
