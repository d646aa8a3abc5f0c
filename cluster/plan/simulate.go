package plan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"text/tabwriter"

	"twofold"
	"twofold/engine/placement"
)

// Simulation is where names would go, and what lost nodes would cost.
type Simulation struct {
	Names  int      `json:"names"`
	Sets   int      `json:"sets"`
	Mean   float64  `json:"meanOfSet"` // names of a set
	Least  int      `json:"leastOfSet"`
	Most   int      `json:"mostOfSet"`
	Spread float64  `json:"standardDeviation"` // of names of a set, less what pools of other shapes make
	Nodes  []Losses `json:"lostNodes"`
}

// Losses is what the loss of so many nodes at once costs, over choices of them: all
// there are, or a sample where these are too many.
type Losses struct {
	Nodes     int  `json:"nodes"`
	Choices   int  `json:"choices"`
	Sampled   bool `json:"sampled"`
	Readable  int  `json:"dataReadable"`     // choices after which every object's data can be read
	Writable  int  `json:"dataWritable"`     // ... and new data be written to every set
	SomeWrite int  `json:"dataSomeWritable"` // ... to one set at least, where new objects go then
	MetaRead  int  `json:"metadataReadable"`
	MetaWrite int  `json:"metadataWritable"`
	// The worst choice:
	AtQuorum  int `json:"setsAtReadQuorum"` // sets that bear not one more lost drive
	Below     int `json:"setsBelowReadQuorum"`
	NotRead   int `json:"namesNotReadable"`
	NoSetLeft int `json:"setsNotWritable"`
}

// Most choices of nodes that are looked at for each number of them; each takes
// microseconds.
const mostChoices = 20_000

// group is sets that have the same drives of the same nodes: they fare alike.
type group struct {
	perNode map[int]int
	size    int
	sets    int
	names   int
}

// Simulate places names objects (larger than what goes inline into the metadata) in
// the plan's sets, all drives being equally large and empty, and tries the loss of 1
// up to most nodes; most is cut to the number of nodes. The same plan gives the same
// figures: the random numbers have a fixed seed.
func (p *Plan) Simulate(names, most int) {
	rnd := rand.New(rand.NewPCG(1, 2))
	counts := p.place(names, rnd)
	s := &Simulation{Names: names, Least: names}
	var groups []*group
	variance := 0.0
	for i, pool := range p.top.Layout.Pools {
		mean := float64(sum(counts[i])) / float64(pool.Sets())
		for _, n := range counts[i] {
			s.Sets++
			s.Least, s.Most = min(s.Least, n), max(s.Most, n)
			variance += (float64(n) - mean) * (float64(n) - mean)
		}
		groups = append(groups, groupsOf(pool, counts[i])...)
	}
	s.Mean = float64(names) / float64(s.Sets)
	s.Spread = math.Sqrt(variance / float64(s.Sets))
	for k := 1; k <= min(most, len(p.top.Nodes)) && p.top.Distributed(); k++ {
		s.Nodes = append(s.Nodes, p.lose(k, groups, rnd))
	}
	p.Lost = s
}

func sum(counts []int) int {
	t := 0
	for _, n := range counts {
		t += n
	}
	return t
}

// place counts the names of each set, by pool.
func (p *Plan) place(names int, rnd *rand.Rand) [][]int {
	var cluster twofold.ClusterID
	for i := range cluster {
		cluster[i] = byte(rnd.Uint64())
	}
	var free []uint64
	var counts [][]int
	for _, pool := range p.top.Layout.Pools {
		free = append(free, uint64(len(pool.Drives))<<40)
		counts = append(counts, make([]int, pool.Sets()))
	}
	for i := range names {
		pool := placement.ChoosePool(free, rnd.Uint64())
		counts[pool][placement.ChooseSet(cluster, fmt.Sprintf("bucket/object-%d", i), len(counts[pool]))]++
	}
	return counts
}

func groupsOf(pool placement.Pool, counts []int) []*group {
	var out []*group
	byNodes := map[string]*group{}
	for s := range pool.Sets() {
		perNode := map[int]int{}
		for _, d := range pool.Set(s) {
			perNode[d.Node]++
		}
		key := fmt.Sprint(perNode) // maps are printed in the order of their keys
		g := byNodes[key]
		if g == nil {
			g = &group{perNode: perNode, size: pool.SetSize}
			byNodes[key] = g
			out = append(out, g)
		}
		g.sets++
		g.names += counts[s]
	}
	return out
}

// lose goes through choices of k nodes.
func (p *Plan) lose(k int, groups []*group, rnd *rand.Rand) Losses {
	out := Losses{Nodes: k}
	replicas := map[int]int{}
	for _, d := range p.top.Layout.ReplicaDrives() {
		replicas[d.Node]++
	}
	judge := func(lost []int) {
		out.Choices++
		meta := p.Metadata.Replicas
		for _, n := range lost {
			meta -= replicas[n]
		}
		count(&out.MetaRead, meta >= p.Metadata.NeededToRead)
		count(&out.MetaWrite, meta >= p.Metadata.NeededToWrite)
		var at, below, names, unwritable, writable int
		for _, g := range groups {
			left := g.size
			for _, n := range lost {
				left -= g.perNode[n]
			}
			switch quorum := placement.CodingFor(g.size, p.Parity, 0).ReadQuorum(); {
			case left < quorum:
				below += g.sets
				names += g.names
			case left == quorum:
				at += g.sets
			}
			if left >= placement.CodingFor(g.size, p.Parity, g.size-left).WriteQuorum() {
				writable += g.sets
			} else {
				unwritable += g.sets
			}
		}
		count(&out.Readable, below == 0)
		count(&out.Writable, unwritable == 0)
		count(&out.SomeWrite, writable > 0)
		out.AtQuorum, out.Below = max(out.AtQuorum, at), max(out.Below, below)
		out.NotRead, out.NoSetLeft = max(out.NotRead, names), max(out.NoSetLeft, unwritable)
	}
	n := len(p.top.Nodes)
	if out.Sampled = !few(n, k, mostChoices); out.Sampled {
		for range mostChoices {
			judge(rnd.Perm(n)[:k])
		}
		return out
	}
	choose(n, k, judge)
	return out
}

func count(n *int, is bool) {
	if is {
		*n++
	}
}

// few reports whether there are no more than limit ways to choose k of n.
func few(n, k, limit int) bool {
	ways := 1.0
	for i := range k {
		ways = ways * float64(n-i) / float64(i+1)
	}
	return ways <= float64(limit)+0.5
}

// choose calls fn for each k of 0..n-1; the slice is only good during the call.
func choose(n, k int, fn func([]int)) {
	at := make([]int, k)
	var rest func(i, from int)
	rest = func(i, from int) {
		if i == k {
			fn(at)
			return
		}
		for v := from; v <= n-(k-i); v++ {
			at[i] = v
			rest(i+1, v+1)
		}
	}
	rest(0, 0)
}

func (s *Simulation) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Simulation: %d names over %d sets: %.1f in a set on average, %d at least, %d at most, standard deviation %.1f\n",
		s.Names, s.Sets, s.Mean, s.Least, s.Most, s.Spread)
	if len(s.Nodes) == 0 {
		return b.String()
	}
	b.WriteString("Nodes lost at once: in how many of all choices of them everything goes on, and the sets in the worst choice\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  lost\tchoices\tdata read\tnew data\tmetadata read\tchanged\tsets at quorum\tunreadable\tnames in them\tnot writable")
	for _, l := range s.Nodes {
		of := fmt.Sprint(l.Choices)
		if l.Sampled {
			of = "sample of " + of
		}
		fmt.Fprintf(w, "  %d\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\n", l.Nodes, of, l.share(l.Readable), l.share(l.SomeWrite), l.share(l.MetaRead), l.share(l.MetaWrite),
			l.AtQuorum, l.Below, l.NotRead, l.NoSetLeft)
	}
	w.Flush() // into memory: no error
	return b.String()
}

// share of the choices in percent. Only all are 100%, and only none 0%.
func (l Losses) share(n int) string {
	switch f := 100 * float64(n) / float64(l.Choices); {
	case n == l.Choices:
		return "100%"
	case n == 0:
		return "0%"
	default:
		return fmt.Sprintf("%.1f%%", min(99.9, max(0.1, f)))
	}
}
