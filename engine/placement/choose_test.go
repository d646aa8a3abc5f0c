package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"twofold"
)

func TestChoosePool(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	free := []uint64{3 << 30, 0, 1 << 30}
	var hits [3]int
	const n = 40000
	for range n {
		hits[ChoosePool(free, r.Uint64())]++
	}
	if hits[1] != 0 || hits[0] < n*73/100 || hits[0] > n*77/100 {
		t.Error(hits)
	}
	for _, c := range []struct {
		free   []uint64
		random uint64
		want   int
	}{
		{nil, 5, -1},
		{[]uint64{0, 0}, 5, -1},
		{[]uint64{0, 1}, 0, 1},
		{[]uint64{1, 1}, math.MaxUint64, 1},
		{[]uint64{math.MaxUint64, math.MaxUint64}, 0, 0},
		{[]uint64{math.MaxUint64, math.MaxUint64}, math.MaxUint64, 1},
	} {
		if got := ChoosePool(c.free, c.random); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func TestChooseSet(t *testing.T) {
	a, b := twofold.ClusterID{1}, twofold.ClusterID{15: 2}
	const sets, names = 5, 20000
	var hits [sets]int
	same := 0
	for i := range names {
		name := fmt.Sprint("dir/object-", i)
		s := ChooseSet(a, name, sets)
		hits[s]++
		if s == ChooseSet(b, name, sets) {
			same++
		}
	}
	for s, h := range hits {
		if h < names/sets*9/10 || h > names/sets*11/10 {
			t.Errorf("set %d got %d of %d", s, h, names)
		}
	}
	if same > names/sets*11/10 {
		t.Errorf("%d of %d names are in the same set in both clusters", same, names)
	}
	// Blobs stay where they are, but names should not wander between releases.
	if got := fmt.Sprint(ChooseSet(a, "a", 16), ChooseSet(a, "b", 16), ChooseSet(b, "a", 16), ChooseSet(a, "a", 1)); got != "13 9 13 0" {
		t.Error(got)
	}
}
