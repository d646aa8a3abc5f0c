package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"twofold/engine/placement"
	"twofold/internal/errs"
)

func parse(t *testing.T, args string) Topology {
	t.Helper()
	top, err := Parse(strings.Fields(args), placement.Classes{})
	if err != nil {
		t.Fatalf("%s: %v", args, err)
	}
	return top
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args  string
		nodes string
		size  int   // of the first pool's sets
		pools []int // drives
	}{
		{"http://node{1...4}/data{1...4}", "http://node1:9000 http://node2:9000 http://node3:9000 http://node4:9000", 16, []int{16}},
		{"HTTPS://Node{01...02}.Example.COM.:443/d{1...2}/x", "https://node01.example.com:443 https://node02.example.com:443", 4, []int{4}},
		{"http://10.0.0.{1...3}/d", "http://10.0.0.1:9000 http://10.0.0.2:9000 http://10.0.0.3:9000", 3, []int{3}},
		{"http://[FD00:0::{1...2}]/d{1...1} http://[fd00::2]:9000/e{1...4}", "http://[fd00::1]:9000 http://[fd00::2]:9000", 2, []int{2, 4}},
		{"http://127.0.0.1:9001/1/a http://127.0.0.1:9001/1/b http://127.0.0.1:9002/2/a http://127.0.0.1:9002/2/b", "http://127.0.0.1:9001 http://127.0.0.1:9002", 4, []int{4}},
		{"http://node{1...4}/d{1...2} http://node{3...6}:9000/e{1...2}", "http://node1:9000 http://node2:9000 http://node3:9000 http://node4:9000 http://node5:9000 http://node6:9000", 8, []int{8, 8}},
		{"http://one/d{1...4}", "http://one:9000", 4, []int{4}},
		{"http://a_1//x//y/../d", "http://a_1:9000", 1, []int{1}},
		{"./d{1...4}", "this machine", 4, []int{4}},
		{"./a:9000/d{1...4} x:y/d{1...4}", "this machine", 4, []int{4, 4}},
	} {
		top := parse(t, c.args)
		var names []string
		for _, n := range top.Nodes {
			names = append(names, n.String())
		}
		var pools []int
		for _, p := range top.Layout.Pools {
			pools = append(pools, len(p.Drives))
		}
		if got := strings.Join(names, " "); got != c.nodes || top.Layout.Pools[0].SetSize != c.size || !slices.Equal(pools, c.pools) {
			t.Errorf("%s: nodes %s, sets of %d, pools of %v", c.args, got, top.Layout.Pools[0].SetSize, pools)
		}
		if top.Distributed() != (len(names) > 1) {
			t.Errorf("%s: distributed %v", c.args, top.Distributed())
		}
	}
}

// Drive.Node is a position in Nodes also in further pools, and paths are the node's.
func TestDrivesOfNodes(t *testing.T) {
	top := parse(t, "http://node{1...2}/d{1...2} http://node{2...3}//e{1...2}/")
	for n, want := range []string{"/d1 /d2", "/d1 /d2 /e1 /e2", "/e1 /e2"} {
		var paths []string
		for _, d := range top.Drives(n) {
			if d.Node != n {
				t.Fatalf("%+v of node %d", d, n)
			}
			paths = append(paths, d.Path)
		}
		if slices.Sort(paths); strings.Join(paths, " ") != want {
			t.Errorf("node %d has %q, want %s", n, paths, want)
		}
	}
	if n := top.Layout.Nodes(); n != 3 {
		t.Errorf("%d nodes", n)
	}
	if set := top.Layout.Pools[1].Set(0); set[0].Node != 1 || set[1].Node != 2 {
		t.Errorf("a set's neighbours are on different nodes: %+v", set)
	}
}

// TestPoolOfEachNode: what a shell makes of two dots in the host is warned of; pools of one
// node that were meant are not.
func TestPoolOfEachNode(t *testing.T) {
	for args, warned := range map[string]bool{
		"http://node1/d{1...4} http://node2/d{1...4} http://node3/d{1...4}": true,
		"http://node{1...3}/d{1...4}":                                       false,
		"http://node1/d{1...4} http://node1/e{1...4}":                       false,
		"http://node{1...2}/d{1...4} http://node{3...4}/d{1...4}":           false,
	} {
		top := parse(t, args)
		if got := strings.Contains(strings.Join(top.Layout.Warnings, "\n"), "is a pool on one node; sets over all nodes"); got != warned {
			t.Errorf("%s: warned %v: %q", args, got, top.Layout.Warnings)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"", "no drives were given"},
		{"http://node{1...4}/d ./d{1...4}", `"./d{1...4}" is no URL, but other arguments are`},
		{"node{1...4}:9000/d{1...4}", `"node{1...4}:9000/d{1...4}" looks like a directory of another node: that is written http://node{1...4}:9000/d{1...4}`},
		{"10.0.0.1:900{1...4}/d", "looks like a directory of another node"},
		{"http://a/d https://b/d", "https://b:9000 is https, but http://a:9000 is http: all nodes speak the same"},
		{"ftp://a/d", "nodes speak http:// or https://, not ftp://"},
		{"http://a", "names no directory"},
		{"http://a/", "names no directory"},
		{"http://a/x/..", "names no directory"},
		{"http:///d", "names no host"},
		{"http://:9000/d", "names no host"},
		{"http://a:/d", "no port after the colon"},
		{"http://a:0/d", `the port "0" is no number from 1 to 65535`},
		{"http://a:65536/d", "no number from 1 to 65535"},
		{"http://a:http/d", "no number from 1 to 65535"},
		{"http://fd00::1/d", "an IPv6 address is written in brackets"},
		{"http://[fd00::1/d", "no IPv6 address in brackets"},
		{"http://[10.0.0.1]/d", "no IPv6 address in brackets"},
		{"http://[fd00::1]9000/d", `what follows the "]" is a colon and a port`},
		{"http://[fe80::1%25eth0]/d", `has a '%' in it`},
		{"http://a/d%20e", "taken as it is, without escapes"},
		{"http://a/d?x=1", `has a '?' in it`},
		{"http://user:secret@a/d", "no user or password in it"},
		{"http://0.0.0.0/d", "not the address of one machine"},
		{"http://[::]/d", "not the address of one machine"},
		{"http://10.0.0.{255...256}/d", `"10.0.0.256" is no IPv4 address`},
		{"http://-a/d", `"-a" is no host name`},
		{"http://a..b/d", `"a..b" is no host name`},
		{"http://a*b/d", `no '*'`},
		{"http://node{1..4}/d{1..4}", "three dots"},
		{"http://node{1...4}/d http://other/e", `"http://other/e" has no ellipsis, but "http://node{1...4}/d" has`},
		{"http://a/d1 http://a/d2 http://b/d1", "http://b:9000 has 1 of the drives of http://a/d1 http://a/d2 http://b/d1, but http://a:9000 has 2: each node of a pool has equally many"},
		{"http://a/d http://A:9000/d", `"/d" and "/d" on a are the same directory`},
		{"http://node{1...4}/d{1...4} http://node{4...7}/d{4...7}", `"/d4" and "/d4" on node4 are the same directory`},
		{"http://[fd00::1]/d http://[FD00:0:0::1]/d", "on fd00::1 are the same directory"},
		{"http://127.0.0.1:900{1...4}/d{1...4}", `"/d1" and "/d1" on 127.0.0.1 are the same directory`},
		{"http://node{1...2}/d http://node{1...2}/d/e", `"/d/e" lies inside "/d" on node1`},
		{"http://node{1...17}/d", "17 nodes with 1 drive can't form sets of 2 to 16 drives that take equally many from each node; what works: 16 nodes"},
		{"http://node{1...8}/d http://node{9...10}/d", "can't keep the parity of pool 1"},
		{"http://node{1...300}/d{1...300}", "names more than 65536 drives"},
	} {
		_, err := Parse(strings.Fields(c.args), placement.Classes{})
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want: %s", c.args, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a password is repeated: %v", err)
		}
	}
}

func TestDigest(t *testing.T) {
	digest := func(args string, c placement.Classes) string {
		top, err := Parse(strings.Fields(args), c)
		if err != nil {
			t.Fatal(err)
		}
		return top.Digest()
	}
	base := digest("http://node{1...4}/d{1...4}", placement.Classes{})
	plain := "" // one pool, without ellipses
	for n := range 4 {
		for d := range 4 {
			plain += fmt.Sprintf("http://node%d/d%d ", n+1, d+1)
		}
	}
	for _, same := range []string{"http://NODE{1...4}:9000/d{1...4}/", plain} {
		if digest(same, placement.Classes{}) != base {
			t.Errorf("%s means the same", same)
		}
	}
	if digest("http://node{1...4}/d{1...4}", placement.Classes{Standard: "EC:4"}) != base {
		t.Error("EC:4 is the default here")
	}
	for other, c := range map[string]placement.Classes{
		"http://node{1...4}/e{1...4}":                             {},
		"http://node{2...5}/d{1...4}":                             {},
		"https://node{1...4}/d{1...4}":                            {},
		"http://node{1...4}:9001/d{1...4}":                        {},
		"http://node{1...4}/d{1...4} http://node{5...8}/d{1...4}": {},
		"http://node{1...4}/d{1...2} http://node{1...4}/d{3...4}": {},
		"http://node{1...4}/d{1...4}  ":                           {Standard: "EC:3"},
		"http://node{1...4}/d{1...4} ":                            {RRS: "EC:2"},
	} {
		if digest(other, c) == base {
			t.Errorf("%s %+v has the same digest", other, c)
		}
	}
}

func TestExtends(t *testing.T) {
	one := parse(t, "http://node{1...4}/d{1...4}")
	two := parse(t, "http://node{1...4}/d{1...4} http://node{3...6}/e{1...4}")
	swapped := parse(t, "http://node{3...6}/e{1...4} http://node{1...4}/d{1...4}")
	if !two.Extends(one) || one.Extends(two) || one.Extends(one) || swapped.Extends(one) {
		t.Error(two.Extends(one), one.Extends(two), one.Extends(one), swapped.Extends(one))
	}
	if d := two.Digests(); len(d) != 2 || d[1] != two.Digest() || !slices.Equal(d[:1], one.Digests()) || d[0] != one.Digest() {
		t.Error("the digest of the first pool is that of a store of it alone")
	}
	for i, n := range one.Nodes {
		if two.Nodes[i] != n {
			t.Errorf("node %d is another one in the larger store: %s, %s", i, n, two.Nodes[i])
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"http://node{1...4}/data{1...4}", "https://[fd00::{1...2}]:443/d{1...2} https://[fd00::1]/x{1...1}",
		"http://a/d http://b:1/d", "./d{1...4}", "http://a:9/%", "http://[::1]x/", "http://1.2.3.4./d", "http://@/", "http://a./d http://A/e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		top, err := Parse(args, placement.Classes{})
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("%q: %v", args, err)
			}
			return
		}
		if again, err := Parse(args, placement.Classes{}); err != nil || again.Digest() != top.Digest() {
			t.Fatalf("%q is not the same twice: %v", args, err)
		}
		counts := map[[2]int]int{} // drives by pool and node
		seen := map[string]bool{}
		for _, d := range top.Layout.Drives() {
			key := fmt.Sprint(top.Nodes[d.Node].Host, " ", d.Path)
			if top.Distributed() && seen[key] {
				t.Fatalf("%q has %s twice", args, key)
			}
			seen[key] = true
			counts[[2]int{int(d.Set.Pool), d.Node}]++
		}
		for k, n := range counts {
			if p := top.Layout.Pools[k[0]]; n*p.Nodes != len(p.Drives) {
				t.Fatalf("%q: node %d has %d of %d drives of %d nodes", args, k[1], n, len(p.Drives), p.Nodes)
			}
		}
		for i, n := range top.Nodes { // the canonical form is one
			if n.Scheme == "" {
				continue
			}
			if back, _, err := parseURL(n.String() + "/d"); err != nil || back != n {
				t.Fatalf("%q: %v is read as %v, %v", args, n, back, err)
			}
			if got, err := top.Named(n.String()); err != nil || got != i {
				t.Fatalf("%q: %v is node %d, %v", args, n, got, err)
			}
		}
	})
}
