// Package topology reads a server's arguments: which nodes there are, and which
// drives of them form which pools and sets. Every node is started with the same
// arguments and reads the same out of them, so that nothing of it need be agreed on.
//
//	http://node{1...4}:9000/data{1...4}
//	scheme  host        port path       (port: 9000 where none is given)
//
// Each URL with an ellipsis is a pool, and URLs without any are one together
// (distributed quickstart of S3 servers of this family: "each group of servers in the
// command-line is called a pool"). Hosts are compared as text, in lower case and with
// IP addresses in their shortest form (RFC 5952); a host and a port are one node,
// also where they are in several pools.
//
// Arguments that are no URLs are directories of one machine; then there is one node
// without a name. A store on one node is the same, whichever way it was written.
//
// All but Local is pure; everything is safe for concurrent use.
package topology

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"twofold/engine/placement"
	"twofold/internal/errs"
)

// DefaultPort is what nodes listen on where no port is given.
const DefaultPort = 9000

// Node is one server process: where the others, and S3 clients, reach it.
type Node struct {
	Scheme string // "http" or "https"; empty: the only node, given without a URL
	Host   string // a name in lower case, or an IP address (IPv6 without brackets)
	Port   int
}

// String is the URL in its canonical form, as in "http://node1:9000".
func (n Node) String() string {
	if n.Scheme == "" {
		return "this machine"
	}
	return n.Scheme + "://" + n.Addr()
}

// Addr is HOST:PORT for net.Dial: "node1:9000", "[fd00::1]:9000".
func (n Node) Addr() string { return net.JoinHostPort(n.Host, strconv.Itoa(n.Port)) }

// Topology is what the arguments of a server say.
type Topology struct {
	// Nodes are in the order in which the arguments name them: further pools leave
	// the numbers of those before as they are. There is at least one.
	Nodes []Node
	// Layout is the store's plan. Drive.Node is a position in Nodes, Drive.Path the
	// path on that node: absolute and clean if it came from a URL, else as given.
	Layout placement.Layout
}

// Parse reads arguments. An error is errs.Invalid and a sentence that says what to do.
func Parse(args []string, classes placement.Classes) (Topology, error) {
	urls := 0
	for _, a := range args {
		if isURL(a) {
			urls++
		}
	}
	if urls == 0 {
		if i := slices.IndexFunc(args, hostLike); i >= 0 {
			return Topology{}, invalid("%q looks like a directory of another node: that is written http://%s; a directory of this machine of that name is ./%s", args[i], args[i], args[i])
		}
		l, err := placement.New(args, classes)
		return Topology{Nodes: []Node{{}}, Layout: l}, err
	}
	if urls < len(args) {
		plain := args[slices.IndexFunc(args, func(a string) bool { return !isURL(a) })]
		return Topology{}, invalid("%q is no URL, but other arguments are: either all name their node, as in http://node{1...4}/data{1...4}, or none (then it is one machine)", plain)
	}
	return parseURLs(args, classes)
}

func parseURLs(args []string, classes placement.Classes) (Topology, error) {
	groups, err := placement.Groups(args)
	if err != nil {
		return Topology{}, err
	}
	p := parser{number: map[Node]int{}}
	pools := make([]placement.PoolDrives, len(groups))
	for i, g := range groups {
		if pools[i], err = p.pool(g); err != nil {
			return Topology{}, err
		}
	}
	l, err := placement.OfNodes(pools, func(n int) string { return p.nodes[n].Host }, classes)
	if err != nil {
		return Topology{}, err
	}
	if hint := loneNodes(groups, pools); hint != "" {
		l.Warnings = append(l.Warnings, hint)
	}
	return Topology{Nodes: p.nodes, Layout: l}, nil
}

// loneNodes is a hint where the arguments are one pool for each of several nodes, with the
// same directories: what a shell makes of http://node{1..4}/data{1...4}.
func loneNodes(groups []placement.Group, pools []placement.PoolDrives) string {
	if len(groups) < 2 {
		return ""
	}
	var dirs string
	for i, g := range groups {
		_, rest, _ := strings.Cut(g.Arg, "://")
		_, dir, _ := strings.Cut(rest, "/")
		if len(pools[i].Nodes) != 1 || i > 0 && dir != dirs || i > 0 && slices.Equal(pools[i].Nodes, pools[0].Nodes) {
			return ""
		}
		dirs = dir
	}
	return fmt.Sprintf("each of the %d arguments is a pool on one node; sets over all nodes, which bear the loss of one, take one argument with three dots in the host as well, as in http://node{1...%d}/data{1...4}", len(groups), len(groups))
}

// parser numbers the nodes as they are named.
type parser struct {
	nodes  []Node
	number map[Node]int
}

func (p *parser) pool(g placement.Group) (placement.PoolDrives, error) {
	out := placement.PoolDrives{Arg: g.Arg}
	at := map[int]int{} // node number to position in out.Nodes
	for _, u := range g.Drives {
		node, dir, err := parseURL(u)
		if err != nil {
			return out, err
		}
		if len(p.nodes) > 0 && p.nodes[0].Scheme != node.Scheme {
			return out, invalid("%s is %s, but %s is %s: all nodes speak the same", node, node.Scheme, p.nodes[0], p.nodes[0].Scheme)
		}
		n, known := p.number[node]
		if !known {
			n = len(p.nodes)
			p.number[node] = n
			p.nodes = append(p.nodes, node)
		}
		i, seen := at[n]
		if !seen {
			i = len(out.Nodes)
			at[n] = i
			out.Nodes, out.Paths = append(out.Nodes, n), append(out.Paths, nil)
		}
		out.Paths[i] = append(out.Paths[i], dir)
	}
	for i, paths := range out.Paths {
		if len(paths) != len(out.Paths[0]) {
			return out, invalid("%s has %d of the drives of %s, but %s has %d: each node of a pool has equally many",
				p.nodes[out.Nodes[i]], len(paths), g.Arg, p.nodes[out.Nodes[0]], len(out.Paths[0]))
		}
	}
	return out, nil
}

// Distributed reports whether there are several nodes.
func (t Topology) Distributed() bool { return len(t.Nodes) > 1 }

// Drives are the drives of a node, in the order of the layout.
func (t Topology) Drives(node int) []placement.Drive {
	var out []placement.Drive
	for _, d := range t.Layout.Drives() {
		if d.Node == node {
			out = append(out, d)
		}
	}
	return out
}

// Digest is equal for two nodes that were started with arguments that mean the same:
// nodes, pools, sets and parity. How they are written, and RRS's spelling, don't matter.
func (t Topology) Digest() string { return t.DigestOf(len(t.Layout.Pools)) }

// DigestOf is what Digest would be without the pools after the first n: a node whose
// peer has fewer pools compares the peer's Digest with it, to tell an expansion in
// progress from arguments that differ. n is 1 to the number of pools.
func (t Topology) DigestOf(n int) string {
	h := sha256.New()
	fmt.Fprintf(h, "twofold topology 1\nparity %d %d\n", t.Layout.Standard, t.Layout.RRS)
	for _, p := range t.Layout.Pools[:n] {
		fmt.Fprintf(h, "pool of %d drives, sets of %d\n", len(p.Drives), p.SetSize)
		for _, d := range p.Drives {
			fmt.Fprintf(h, "%q %q\n", t.Nodes[d.Node], d.Path)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Digests are those of the first pool, the first two and so on: what a node needs of
// another one to tell whether one's arguments are equal to the other's or extend them.
func (t Topology) Digests() []string {
	out := make([]string, len(t.Layout.Pools))
	for i := range out {
		out[i] = t.DigestOf(i + 1)
	}
	return out
}

// Extends reports whether t is other and further pools: an expansion in progress.
func (t Topology) Extends(other Topology) bool {
	n := len(other.Layout.Pools)
	return n > 0 && n < len(t.Layout.Pools) && t.DigestOf(n) == other.Digest()
}

// hostLike reports whether an argument begins like HOST:PORT/, as a URL does without
// its scheme.
func hostLike(a string) bool {
	host, _, slash := strings.Cut(a, "/")
	i := strings.LastIndexByte(host, ':')
	if !slash || i <= 0 {
		return false
	}
	port := host[i+1:]
	return port != "" && strings.Trim(port, "0123456789.{}") == "" && strings.ContainsAny(port, "0123456789")
}

func isURL(a string) bool { return strings.Contains(a, "://") }

func invalid(format string, args ...any) error {
	return errs.Newf("", errs.Invalid, format, args...)
}
