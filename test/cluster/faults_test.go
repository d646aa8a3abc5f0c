package cluster

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fault is something that befalls a node, or the network.
type fault struct {
	name   string
	single bool // the store goes on beside it; S3 at the node itself does not
	begin  func(n *Node)
	end    func(n *Node)
}

// faults are all kinds of them.
func (c *Cluster) faults(rng *rand.Rand) []fault {
	whole := func(*Node) { c.Net.All(Link{}) }
	serve := func(n *Node) { n.Serve(c.Drives(1)) }
	return []fault{
		{"killed", true, (*Node).Crash, serve},
		{"paused", true, (*Node).Pause, (*Node).Resume},
		{"cut off", true, func(n *Node) { c.Net.Isolate(n.Number) }, whole},
		{"mute", true, func(n *Node) { // it hears the others, and they don't hear it
			for i := range len(c.Nodes) + 1 {
				if i != n.Number {
					c.Net.Set(n.Number, i, Link{Cut: true})
				}
			}
		}, whole},
		{"deaf", true, func(n *Node) {
			for i := range len(c.Nodes) + 1 {
				if i != n.Number {
					c.Net.Set(i, n.Number, Link{Cut: true})
				}
			}
		}, whole},
		{"one half", false, func(n *Node) { // with it and another one: neither is a majority of four
			half := []int{n.Number, (n.Number + 1 + rng.IntN(len(c.Nodes)-1)) % len(c.Nodes)}
			var rest []int
			for i := range c.Nodes {
				if i != half[0] && i != half[1] {
					rest = append(rest, i)
				}
			}
			c.Net.Partition(half, rest)
		}, whole},
		{"delayed, as all are", false, func(*Node) {
			c.Net.All(Link{Delay: time.Duration(rng.Int64N(int64(20 * time.Millisecond))), Jitter: 10 * time.Millisecond})
		}, whole},
		{"losing packets, as all are", false, func(*Node) { c.Net.All(Link{Loss: 0.02}) }, whole},
		{"emptied", false, c.empty, func(*Node) {}},
		{"restarted, as all are", false, func(*Node) {
			for _, n := range c.Nodes {
				n.Crash()
			}
		}, func(*Node) {
			for _, n := range c.Nodes {
				serve(n)
			}
		}},
	}
}

// empty puts an empty directory in the place of the drive of a node that runs, and returns when
// the store has refilled it.
func (c *Cluster) empty(n *Node) {
	c.t.Helper()
	const replaced, refilled = "drive replaced", "from=healing to=online"
	before := strings.Count(n.Said(), replaced)
	drive := filepath.Join(n.Dir, "data", "d1")
	old := drive + ".old"
	if err := os.Rename(drive, old); err != nil { // files that are open go on to work, and are of no account
		c.t.Fatal(err)
	}
	if err := os.Mkdir(drive, 0o755); err != nil {
		c.t.Fatal(err)
	}
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) { // it takes the longer the more there is
		said := n.Said()
		if strings.Count(said, replaced) > before && strings.LastIndex(said, refilled) > strings.LastIndex(said, replaced) {
			c.t.Logf("the empty drive of %s is taken and refilled: after %v", n.Name, time.Since(begin).Round(time.Millisecond))
			break
		}
		if time.Since(begin) > 10*time.Minute {
			c.t.Fatalf("the empty drive of %s is not refilled", n.Name)
		}
	}
	if err := os.RemoveAll(old); err != nil {
		c.t.Fatal(err)
	}
}
