package peers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"twofold"
)

// MaxSkew is how far the clocks of two nodes may be apart: as far as S3 lets a
// request's be ("RequestTimeTooSkewed"), so that what is signed by one node's clock is
// good at another.
const MaxSkew = 15 * time.Minute

// facts are this node's.
func (p *Peers) facts() facts {
	return facts{
		Min: MinProtocol, Max: MaxProtocol, Program: p.opts.Program,
		Node: p.opts.Self, Name: p.opts.Nodes[p.opts.Self].Name, Process: p.process,
		Digests: p.opts.Digests, Args: p.opts.Args,
		Cluster: p.cluster(), Wall: p.opts.Now().UnixNano(),
	}
}

// check says why this node and the other one can't work together; "" where they can.
// at is where the other one was reached, or came from. ahead is how far its clock is
// ahead of this node's. The sentences name the node, what was found and what is
// expected, seen from here.
func (p *Peers) check(at string, f facts, ahead time.Duration) string {
	mine := p.facts()
	self := p.opts.Nodes[p.opts.Self].Address
	switch {
	case f.Max < mine.Min || f.Min > mine.Max:
		return fmt.Sprintf("%s (version %s) speaks the protocol between nodes in %s, this node (version %s) in %s: upgrade one release at a time",
			at, f.Program, versions(f), mine.Program, versions(mine))
	case !agree(f.Digests, mine.Digests):
		if slices.Equal(f.Args, mine.Args) {
			return fmt.Sprintf("%s was started with the same arguments as this node but with another parity (storage classes): start all nodes with the same", at)
		}
		return fmt.Sprintf("%s was started with other arguments: it has %s, this node has %s: start all nodes with the same", at, quoted(f.Args), quoted(mine.Args))
	case f.Process == p.process:
		return fmt.Sprintf("%s leads to this node itself, %s: names and addresses of the nodes must be different ones", at, self)
	case f.Node == p.opts.Self:
		return fmt.Sprintf("%s says that it is node %s, which this node is: two processes run as the same node", at, self)
	case f.Node < 0 || f.Node >= len(p.opts.Nodes):
		return fmt.Sprintf("%s is node %s of a pool that this node does not know yet: it has %s, this node has %s", at, f.Name, quoted(f.Args), quoted(mine.Args))
	case f.Name != p.opts.Nodes[f.Node].Name:
		return fmt.Sprintf("%s says that it is node %s, which is %s here", at, f.Name, p.opts.Nodes[f.Node].Name)
	}
	if s := p.otherStore(at, f.Cluster); s != "" {
		return s
	}
	if ahead.Abs() > MaxSkew {
		return fmt.Sprintf("the clock of %s is %v %s this node's, at most %v is allowed: set the clocks (NTP)", at, ahead.Abs().Round(time.Second), side(ahead), MaxSkew)
	}
	return ""
}

// otherStore says that the other node's drives belong to another store.
func (p *Peers) otherStore(at string, theirs twofold.ClusterID) string {
	mine := p.cluster()
	if mine.IsZero() || theirs.IsZero() || mine == theirs {
		return ""
	}
	return fmt.Sprintf("the drives of %s belong to store %v, those of this node to store %v", at, theirs, mine)
}

func side(ahead time.Duration) string {
	if ahead < 0 {
		return "behind"
	}
	return "ahead of"
}

// agree compares what is common to both: one may know further pools.
func agree(a, b []string) bool {
	n := min(len(a), len(b))
	return n > 0 && a[n-1] == b[n-1]
}

func versions(f facts) string {
	if f.Min == f.Max {
		return fmt.Sprintf("version %d", f.Max)
	}
	return fmt.Sprintf("versions %d to %d", f.Min, f.Max)
}

func quoted(args []string) string {
	return fmt.Sprintf("%q", strings.Join(args, " "))
}
