package placement

import "testing"

func TestDefaultParity(t *testing.T) {
	want := []int{1: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 3, 7: 3, 8: 4, 9: 4, 12: 4, 16: 4}
	for size, p := range want {
		if size > 0 && (p > 0 || size == 1) && DefaultParity(size) != p {
			t.Errorf("set of %d: EC:%d, want EC:%d", size, DefaultParity(size), p)
		}
	}
}

func TestQuorums(t *testing.T) {
	for _, c := range []struct {
		size, parity, offline int
		data, coded           int
		write                 int
	}{
		{1, 0, 0, 1, 0, 1},
		{2, 1, 0, 1, 1, 2},
		{3, 1, 0, 2, 1, 2},
		{4, 2, 0, 2, 2, 3},
		{4, 2, 1, 2, 2, 3}, // half is the most
		{4, 1, 1, 2, 2, 3},
		{16, 4, 0, 12, 4, 12},
		{16, 4, 3, 9, 7, 9},
		{16, 4, 9, 8, 8, 9},
		{5, 2, 1, 3, 2, 3},
	} {
		got := CodingFor(c.size, c.parity, c.offline)
		if got != (Coding{c.data, c.coded}) || got.WriteQuorum() != c.write || got.ReadQuorum() != c.data {
			t.Errorf("%+v: %+v, write %d, read %d", c, got, got.WriteQuorum(), got.ReadQuorum())
		}
	}
}

// Whatever was acknowledged at write quorum can be read by any later read quorum's
// worth of what the set bears, and two writes can't both have a quorum.
func TestQuorumInvariants(t *testing.T) {
	for size := 1; size <= MaxSetSize; size++ {
		for parity := 0; parity <= size/2; parity++ {
			for offline := 0; offline < size; offline++ {
				c := CodingFor(size, parity, offline)
				if c.Data+c.Parity != size || c.Data < c.Parity || c.Parity < parity {
					t.Fatalf("set %d EC:%d, %d offline: %+v", size, parity, offline, c)
				}
				if size > 1 && c.Parity > 0 && 2*c.WriteQuorum() <= size {
					t.Fatalf("%+v: two writes fit", c)
				}
				if c.WriteQuorum() < c.ReadQuorum() {
					t.Fatalf("%+v: an acknowledged write can't be read", c)
				}
			}
		}
	}
}
