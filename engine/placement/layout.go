package placement

import (
	"fmt"
	"path/filepath"
	"strings"
)

// New plans a store from the command line's arguments and the storage classes.
// Each argument with an ellipsis is a pool; plain directories together are one. An
// error is errs.Invalid and a sentence that says what to do.
func New(args []string, classes Classes) (Layout, error) {
	for _, a := range args {
		if err := checkArg(a); err != nil {
			return Layout{}, err
		}
	}
	groups, err := Groups(args)
	if err != nil {
		return Layout{}, err
	}
	pools := make([]PoolDrives, len(groups))
	for i, g := range groups {
		pools[i] = PoolDrives{Arg: g.Arg, Nodes: []int{0}, Paths: [][]string{g.Drives}}
	}
	return OfNodes(pools, func(int) string { return "" }, classes)
}

// PoolDrives is a pool before it is cut into sets: who has which directories.
type PoolDrives struct {
	Arg   string     // the arguments, for people
	Nodes []int      // the numbers of its nodes
	Paths [][]string // of each of Nodes its directories; equally many of each
}

// OfNodes plans a store over many nodes. host names the machine of a node ("" where
// there is one alone): nodes of one host may not have the same directory, or one
// inside another. The directories of a node are its own: paths are compared as text.
// An error is errs.Invalid and a sentence that says what to do.
func OfNodes(pools []PoolDrives, host func(node int) string, classes Classes) (Layout, error) {
	var l Layout
	for i, g := range pools {
		p, err := newPool(g.Arg, i, g.Paths)
		if err != nil {
			return l, invalid("pool %d (%s): %v", i+1, g.Arg, err)
		}
		if p.Sets() > maxExpansion {
			return l, invalid("pool %d (%s) has more than %d sets", i+1, g.Arg, maxExpansion)
		}
		for d := range p.Drives {
			p.Drives[d].Node = g.Nodes[p.Drives[d].Node]
		}
		if s := surprise(len(g.Nodes), len(g.Paths[0])); s != "" {
			l.Warnings = append(l.Warnings, s)
		}
		l.Pools = append(l.Pools, p)
	}
	if err := distinct(l.Drives(), host); err != nil {
		return l, err
	}
	if err := classes.apply(&l); err != nil {
		return l, err
	}
	l.warnOfNodes()
	return l, nil
}

// Group is a pool as the command line has it.
type Group struct {
	Arg    string   // the arguments, for people
	Drives []string // what it names, ellipses expanded
}

// Groups sorts arguments into pools: each with an ellipsis is one, and plain ones
// together are one. Errors are errs.Invalid and say what to write.
func Groups(args []string) ([]Group, error) {
	if len(args) == 0 {
		return nil, invalid("no drives were given; name the directories to keep data in, as in ./data{1...4}")
	}
	var groups []Group
	var plain []string
	for _, a := range args {
		paths, err := Expand(a)
		if err != nil {
			return nil, err
		}
		if HasEllipsis(a) {
			groups = append(groups, Group{a, paths})
		} else {
			plain = append(plain, a)
		}
	}
	switch {
	case len(plain) == 0:
	case len(groups) > 0:
		return nil, invalid("%q has no ellipsis, but %q has: either every argument has one (each is a pool), or none (together they are one pool); "+
			"a pool of one directory is written as in data{1...1}", plain[0], groups[0].Arg)
	default:
		groups = []Group{{strings.Join(plain, " "), plain}}
	}
	if len(groups) > maxExpansion {
		return nil, invalid("more than %d pools", maxExpansion)
	}
	return groups, nil
}

func checkArg(a string) error {
	switch {
	case a == "":
		return invalid("an argument is empty; a drive is a directory, as in ./data1")
	case strings.Contains(a, "://"):
		return invalid("%q is a URL: a store over many nodes comes in a later release; name directories of this machine, as in /mnt/disk{1...4}", a)
	case strings.IndexByte(a, 0) >= 0:
		return invalid("%q has a NUL byte in it", a)
	}
	return nil
}

// distinct refuses a directory of a host that is given twice, or lies in another.
func distinct(drives []Drive, host func(node int) string) error {
	type place struct{ host, path string }
	seen := make(map[place]string, len(drives))
	on := func(h string) string {
		if h == "" {
			return ""
		}
		return " on " + h
	}
	for _, d := range drives {
		p := place{host(d.Node), filepath.Clean(d.Path)}
		if before, ok := seen[p]; ok {
			return invalid("%q and %q%s are the same directory; each drive is given once", before, d.Path, on(p.host))
		}
		seen[p] = d.Path
	}
	for _, d := range drives {
		p := place{host(d.Node), filepath.Clean(d.Path)}
		for up := filepath.Dir(p.path); up != p.path && filepath.Base(p.path) != ".."; p.path, up = up, filepath.Dir(up) {
			if outer, ok := seen[place{p.host, up}]; ok {
				return invalid("%q lies inside %q%s; each drive is a directory of its own", d.Path, outer, on(p.host))
			}
		}
	}
	return nil
}

// words for Describe and errors.
func (p Pool) words(i int) string {
	return fmt.Sprintf("pool %d (%s)", i+1, p.Arg)
}
