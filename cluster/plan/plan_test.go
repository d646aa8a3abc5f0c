package plan

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"twofold/cluster/topology"
	"twofold/engine/placement"
)

func planOf(t *testing.T, args string) Plan {
	t.Helper()
	top, err := topology.Parse(strings.Fields(args), placement.Classes{})
	if err != nil {
		t.Fatal(err)
	}
	return Of(top, 0)
}

// Two ways to the same answer: what the layout says any n nodes may be lost of, and
// what goes through all choices of n finds.
func TestSimulationAgreesWithTolerance(t *testing.T) {
	for _, args := range []string{
		"http://n{1...2}/d{1...4}", "http://n{1...3}/d{1...6}", "http://n{1...4}/d", "http://n{1...4}/d{1...2}", "http://n{1...4}/d{1...4}",
		"http://n{1...5}/d{1...2}", "http://n{1...8}/d", "http://n{1...9}/d{1...2}", "http://n{1...10}/d{1...3}", "http://n{1...14}/d",
		"http://n{1...4}/d{1...4} http://n{5...12}/d{1...4}", "http://n{1...2}/d{1...2} http://n{2...3}/e{1...2}",
	} {
		p := planOf(t, args)
		p.Simulate(100, 99)
		if len(p.Lost.Nodes) != len(p.Nodes) {
			t.Fatalf("%s: %d of %d nodes lost", args, len(p.Lost.Nodes), len(p.Nodes))
		}
		s := p.Survives.Nodes
		one := len(p.Pools) == 1
		for _, l := range p.Lost.Nodes {
			for _, c := range []struct {
				what        string
				have, bears int
				exact       bool
			}{{"data read", l.Readable, s.DataReads, true}, {"new data", l.SomeWrite, s.DataWrites, one},
				{"metadata read", l.MetaRead, s.MetadataReads, true}, {"metadata changed", l.MetaWrite, s.MetadataWrites, true}} {
				all := c.have == l.Choices
				if l.Nodes <= c.bears && !all || c.exact && l.Nodes == c.bears+1 && all {
					t.Errorf("%s, %s with %d nodes lost: %d of %d choices, but it bears %d", args, c.what, l.Nodes, c.have, l.Choices, c.bears)
				}
			}
			if (l.Below == 0) != (l.Readable == l.Choices) || l.Below == 0 && l.NotRead != 0 {
				t.Errorf("%s: %+v", args, l)
			}
		}
	}
}

// Names go to pools as these have room, and to sets evenly: within 6 standard
// deviations of a draw, which does not happen by chance, and the seed is fixed.
func TestSpread(t *testing.T) {
	p := planOf(t, "http://n{1...4}/d{1...4} http://n{5...8}/d{1...12}")
	p.Simulate(40_000, 0)
	if l := p.Lost; l.Sets != 4 || l.Mean != 10_000 || len(l.Nodes) != 0 {
		t.Fatalf("%+v", l)
	}
	if d := math.Sqrt(10_000); float64(p.Lost.Least) < 10_000-6*d || float64(p.Lost.Most) > 10_000+6*d {
		t.Errorf("%+v", p.Lost)
	}
	again := planOf(t, "http://n{1...4}/d{1...4} http://n{5...8}/d{1...12}")
	if again.Simulate(40_000, 0); fmt.Sprint(*again.Lost) != fmt.Sprint(*p.Lost) {
		t.Error("the same plan gives other figures")
	}
}

func TestChoose(t *testing.T) {
	var got []string
	choose(4, 2, func(at []int) { got = append(got, fmt.Sprint(at)) })
	if s := strings.Join(got, ""); s != "[0 1][0 2][0 3][1 2][1 3][2 3]" {
		t.Error(s)
	}
	if !few(16, 4, 1820) || few(16, 4, 1819) || !few(3, 0, 1) {
		t.Error("16 over 4 is 1820")
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1 KiB", 1<<20 - 1: "1023.99 KiB", 3 << 39: "1.5 TiB", 8e12: "7.27 TiB", math.MaxInt64: "7.99 EiB"} {
		if got := bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
