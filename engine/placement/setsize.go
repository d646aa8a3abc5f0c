package placement

import (
	"fmt"
	"strings"
)

// SetSize is the size of the erasure sets of a pool of nodes machines with drives
// drives each. errs.Invalid, with what would work, where no size fits.
func SetSize(nodes, drives int) (int, error) {
	if nodes < 1 || drives < 1 {
		return 0, invalid("a pool has at least one drive")
	}
	if n := setSize(nodes, drives); n > 0 {
		return n, nil
	}
	total := nodes * drives
	why := fmt.Sprintf("%d drives can't be divided into equal sets of 2 to %d drives", total, MaxSetSize)
	if nodes > 1 {
		why = fmt.Sprintf("%d nodes with %s can't form sets of 2 to %d drives that take equally many from each node",
			nodes, plural(drives, "drive"), MaxSetSize)
	}
	return 0, invalid("%s; what works: %s", why, offers(nodes, drives))
}

func setSize(nodes, drives int) int {
	total := nodes * drives
	if total == 1 {
		return 1
	}
	for s := min(MaxSetSize, total); s >= 2; s-- {
		if total%s == 0 && (s%nodes == 0 || nodes%s == 0) {
			return s
		}
	}
	return 0
}

// surprise says what a user with so many drives would not expect, or "".
func surprise(nodes, drives int) string {
	total, size := nodes*drives, setSize(nodes, drives)
	if total <= MaxSetSize || size >= 8 {
		return ""
	}
	what := plural(total, "drive")
	if nodes > 1 {
		what = fmt.Sprintf("%d nodes with %s", nodes, plural(drives, "drive"))
	}
	return fmt.Sprintf("%s can only form small sets, of %d drives (EC:%d at most); larger sets lose less capacity to parity or bear more: %s",
		what, size, size/2, offers(nodes, drives))
}

// Shape is a pool that would work.
type Shape struct {
	Nodes, Drives, SetSize int
}

// Suggest finds the nearest shapes with good sets (8 drives and more, or the whole
// pool): fewer and more nodes, and on one machine fewer and more drives.
func Suggest(nodes, drives int) []Shape {
	var out []Shape
	try := func(dn, dd int) {
		for n, d := nodes+dn, drives+dd; n >= 1 && d >= 1 && n <= nodes+64 && d <= drives+64; n, d = n+dn, d+dd {
			if s := setSize(n, d); s >= 8 || s == n*d {
				out = append(out, Shape{n, d, s})
				return
			}
		}
	}
	if nodes == 1 {
		try(0, -1)
		try(0, 1)
		return out
	}
	try(-1, 0)
	try(1, 0)
	try(0, 1)
	return out
}

func offers(nodes, drives int) string {
	var s []string
	for _, o := range Suggest(nodes, drives) {
		if nodes == 1 {
			s = append(s, fmt.Sprintf("%s (sets of %d)", plural(o.Drives, "drive"), o.SetSize))
		} else {
			s = append(s, fmt.Sprintf("%s with %s (sets of %d)", plural(o.Nodes, "node"), plural(o.Drives, "drive"), o.SetSize))
		}
	}
	return strings.Join(s, ", or ")
}

// at is a drive's place among the machines.
type at struct{ node, drive int }

// arrange lists all drives set by set. Each set has equally many of each node, or
// one each of size nodes.
func arrange(nodes, each, size int) []at {
	out := make([]at, 0, nodes*each)
	if size%nodes == 0 {
		k := size / nodes
		for first := 0; first < each; first += k {
			for d := first; d < first+k; d++ { // neighbours in the set are on different nodes
				for n := range nodes {
					out = append(out, at{n, d})
				}
			}
		}
		return out
	}
	for d := range each {
		for n := range nodes { // size divides nodes: each run of size is a set
			out = append(out, at{n, d})
		}
	}
	return out
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
