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
	var l Layout
	groups, err := group(args)
	if err != nil {
		return l, err
	}
	for i, g := range groups {
		p, err := newPool(g.arg, i, [][]string{g.paths})
		if err != nil {
			return l, invalid("pool %d (%s): %v", i+1, g.arg, err)
		}
		if s := surprise(1, len(g.paths)); s != "" {
			l.Warnings = append(l.Warnings, s)
		}
		l.Pools = append(l.Pools, p)
	}
	if err := distinct(l.Drives()); err != nil {
		return l, err
	}
	return l, classes.apply(&l)
}

type argGroup struct {
	arg   string
	paths []string
}

func group(args []string) ([]argGroup, error) {
	if len(args) == 0 {
		return nil, invalid("no drives were given; name the directories to keep data in, as in ./data{1...4}")
	}
	var groups []argGroup
	var plain []string
	for _, a := range args {
		if err := checkArg(a); err != nil {
			return nil, err
		}
		paths, err := Expand(a)
		if err != nil {
			return nil, err
		}
		if HasEllipsis(a) {
			groups = append(groups, argGroup{a, paths})
		} else {
			plain = append(plain, a)
		}
	}
	switch {
	case len(plain) == 0:
	case len(groups) > 0:
		return nil, invalid("%q has no ellipsis, but %q has: either every argument has one (each is a pool), or none (together they are one pool); "+
			"a pool of one directory is written as in data{1...1}", plain[0], groups[0].arg)
	default:
		groups = []argGroup{{strings.Join(plain, " "), plain}}
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

// distinct refuses a directory that is given twice, or lies in another.
func distinct(drives []Drive) error {
	seen := make(map[string]string, len(drives))
	for _, d := range drives {
		clean := filepath.Clean(d.Path)
		if before, ok := seen[clean]; ok {
			return invalid("%q and %q are the same directory; each drive is given once", before, d.Path)
		}
		seen[clean] = d.Path
	}
	for _, d := range drives {
		clean := filepath.Clean(d.Path)
		for up := filepath.Dir(clean); up != clean && filepath.Base(clean) != ".."; clean, up = up, filepath.Dir(up) {
			if outer, ok := seen[up]; ok {
				return invalid("%q lies inside %q; each drive is a directory of its own", d.Path, outer)
			}
		}
	}
	return nil
}

// words for Describe and errors.
func (p Pool) words(i int) string {
	return fmt.Sprintf("pool %d (%s)", i+1, p.Arg)
}
