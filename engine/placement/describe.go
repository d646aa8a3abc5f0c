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
		fmt.Fprintf(&b, "Pool %d: %s in %s\n", i+1, plural(len(p.Drives), "drive"), p.Arg)
		fmt.Fprintf(&b, "  %s\n", l.poolWords(p))
	}
	l.describeMetadata(&b)
	l.describeLosses(&b)
	for _, w := range l.Warnings {
		fmt.Fprintf(&b, "Note: %s\n", w)
	}
	return b.String()
}

func (l Layout) poolWords(p Pool) string {
	if p.SetSize == 1 {
		return plural(p.Sets(), "set") + " of 1 drive, EC:0: no parity, all of the capacity is usable"
	}
	c := CodingFor(p.SetSize, l.Standard, 0)
	s := fmt.Sprintf("%s of %d drives, EC:%d: %d data + %d parity shards, %s of the capacity is usable",
		plural(p.Sets(), "erasure set"), p.SetSize, c.Parity, c.Data, c.Parity, share(c.Data, p.SetSize))
	if l.RRS != l.Standard {
		s += fmt.Sprintf("\n  REDUCED_REDUNDANCY objects have EC:%d (%s usable) and bear the loss of %s", l.RRS, share(p.SetSize-l.RRS, p.SetSize), drivesOf(l.RRS))
	}
	return s
}

// share is a fraction in percent, rounded down: a promise is not rounded up.
func share(part, whole int) string { return fmt.Sprintf("%d%%", 100*part/whole) }

func (l Layout) describeMetadata(b *strings.Builder) {
	drives := len(l.Drives())
	n := ReplicaCount(drives)
	switch {
	case n == 1:
		b.WriteString("Metadata: 1 replica, on the only drive\n")
	case n == drives:
		fmt.Fprintf(b, "Metadata: %d replicas, one on each drive; any %s enough to go on\n", n, l.metaNeeds(n))
	default:
		fmt.Fprintf(b, "Metadata: %d replicas, on %d of the %d drives; any %s enough to go on\n", n, n, drives, l.metaNeeds(n))
	}
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
	r, w := t.Reads(), t.Writes()
	switch {
	case r == 0:
		b.WriteString("Survives: the loss of no drive: a drive that is lost takes objects with it\n")
	case r == w:
		fmt.Fprintf(b, "Survives: the loss of any %s: reads and writes go on\n", plural(r, "drive"))
	case w == 0:
		fmt.Fprintf(b, "Survives: the loss of any %s for reads, of none for writes\n", plural(r, "drive"))
	default:
		fmt.Fprintf(b, "Survives: the loss of any %s for reads, of any %s for writes\n", plural(r, "drive"), plural(w, "drive"))
	}
	if len(l.Drives()) > 1 {
		fmt.Fprintf(b, "  in each set, data bears the loss of %d for reads and %d for new objects; metadata bears %d and %d\n",
			t.DataReads, t.DataWrites, t.MetaReads, t.MetaWrites)
	}
}
