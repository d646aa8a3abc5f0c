package placement

import (
	"fmt"
	"strings"
)

// Describe says in words what a store with this layout is and what it survives:
// what people read before anything is formatted. It ends in a newline.
func (l Layout) Describe() string {
	var b strings.Builder
	for i, p := range l.Pools {
		fmt.Fprintf(&b, "Pool %d: %s%s in %s\n", i+1, plural(len(p.Drives), "drive"), l.onNodes(p.Nodes), p.Arg)
		fmt.Fprintf(&b, "  %s\n", l.poolWords(p))
	}
	l.describeMetadata(&b)
	l.describeLosses(&b)
	for _, w := range l.Warnings {
		fmt.Fprintf(&b, "Note: %s\n", w)
	}
	return b.String()
}

// onNodes is " on 4 nodes", where a store has several.
func (l Layout) onNodes(n int) string {
	if l.Nodes() == 1 {
		return ""
	}
	return " on " + plural(n, "node")
}

func (l Layout) poolWords(p Pool) string {
	if p.SetSize == 1 {
		return plural(p.Sets(), "set") + " of 1 drive, EC:0: no parity, all of the capacity is usable"
	}
	c := CodingFor(p.SetSize, l.Standard, 0)
	s := fmt.Sprintf("%s of %d drives, EC:%d: %d data + %d parity shards, %s of the capacity is usable",
		plural(p.Sets(), "erasure set"), p.SetSize, c.Parity, c.Data, c.Parity, share(c.Data, p.SetSize))
	if l.Nodes() > 1 {
		s += fmt.Sprintf("\n  each set has %s of each of %s", plural(p.PerNode(), "drive"), plural(p.SetSize/p.PerNode(), "node"))
	}
	if l.RRS != l.Standard {
		s += fmt.Sprintf("\n  REDUCED_REDUNDANCY objects have EC:%d (%s usable) and bear the loss of %s", l.RRS, share(p.SetSize-l.RRS, p.SetSize), drivesOf(l.RRS))
	}
	return s
}

// share is a fraction in percent, rounded down: a promise is not rounded up.
func share(part, whole int) string { return fmt.Sprintf("%d%%", 100*part/whole) }

func (l Layout) describeMetadata(b *strings.Builder) {
	drives := len(l.Drives())
	n := l.ReplicaCount()
	where := fmt.Sprintf("on %d of the %d drives", n, drives)
	switch {
	case n == 1 && drives == 1:
		where = "on the only drive"
	case n == drives:
		where = "one on each drive"
	}
	if l.Nodes() > 1 {
		on := map[int]bool{}
		for _, d := range l.ReplicaDrives() {
			on[d.Node] = true
		}
		where += fmt.Sprintf(", on %d of the %d nodes", len(on), l.Nodes())
	}
	fmt.Fprintf(b, "Metadata: %s, %s", plural(n, "replica"), where)
	if n > 1 {
		fmt.Fprintf(b, "; any %s enough to go on", l.metaNeeds(n))
	}
	b.WriteString("\n")
}

func (l Layout) metaNeeds(n int) string {
	if k := n - l.Tolerance().MetaWrites; k > 1 {
		return fmt.Sprintf("%d are", k)
	}
	return "1 is"
}

func drivesOf(n int) string {
	if n == 0 {
		return "none"
	}
	return plural(n, "drive")
}

func (l Layout) describeLosses(b *strings.Builder) {
	t := l.Tolerance()
	if l.Nodes() > 1 {
		n := l.NodeTolerance()
		fmt.Fprintf(b, "Survives: %s\n", lossWords(n, "node"))
		fmt.Fprintf(b, "          %s\n", lossWords(t, "drive"))
		fmt.Fprintf(b, "  of nodes, data bears the loss of %d for reads and %d for new objects; metadata bears %d and %d at once\n",
			n.DataReads, n.DataWrites, n.MetaReads, n.MetaWrites)
	} else {
		fmt.Fprintf(b, "Survives: %s\n", lossWords(t, "drive"))
	}
	if len(l.Drives()) > 1 {
		fmt.Fprintf(b, "  in each set, data bears the loss of %d for reads and %d for new objects; metadata bears %d and %d\n",
			t.DataReads, l.setWrites(), t.MetaReads, t.MetaWrites)
		if l.setWrites() < t.Writes() {
			b.WriteString("  where a set can't be written, new objects go to the others\n")
		}
	}
}

// lossWords says which loss of drives, or of nodes, a store survives.
func lossWords(t Tolerance, what string) string {
	r, w := t.Reads(), t.Writes()
	switch {
	case r == 0 && t.DataReads == 0:
		return fmt.Sprintf("the loss of no %s: a %s that is lost takes objects with it", what, what)
	case r == 0:
		return fmt.Sprintf("the loss of no %s: metadata can't be read until it is back", what)
	case r == w:
		return fmt.Sprintf("the loss of any %s: reads and writes go on", plural(r, what))
	case w == 0:
		return fmt.Sprintf("the loss of any %s for reads, of none for writes", plural(r, what))
	}
	return fmt.Sprintf("the loss of any %s for reads, of any %s for writes", plural(r, what), plural(w, what))
}
