package keypath

import (
	"strings"
	"unicode/utf8"

	"twofold/internal/errs"
	"twofold/metadata"
)

// maxChunk is the most bytes of a component in one level: what 255 leave behind the
// longest of the three escapes, rounded down. It is part of the mapping: never
// change it. Bytes are counted in the component, which makes the components of one
// level a contiguous run in byte order.
const maxChunk = 240

// cut returns the first chunk of s, which is longer than maxChunk: as many whole
// characters as fit.
func cut(s string) int {
	n := maxChunk
	for n > maxChunk-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}

func longNames(comp string, shadowed bool) []string {
	var names []string
	for len(comp) > maxChunk {
		n := cut(comp)
		names = append(names, escLong+chunk(comp[:n]))
		comp = comp[n:]
	}
	if shadowed {
		return append(names, escLastFile+chunk(comp))
	}
	return append(names, escLast+chunk(comp))
}

// chunk shows a piece of a component as bytes of a name, unchunk reads it back.
func chunk(s string) string { return strings.ReplaceAll(s, "\x00", "\xff") }

func unchunk(s string) (string, bool) {
	s = strings.ReplaceAll(s, "\xff", "\x00")
	return s, s != "" && len(s) <= maxChunk && validComp(s)
}

// LongLevel reads a name inside a synthetic directory. prefix is the Comp that
// FromPosix or LongLevel returned for that directory. The result is the next level
// (its Comp is the longer prefix) or a whole component. errs.Invalid for every
// other name: nothing else can be there, so a lookup answers NotFound.
func LongLevel(prefix, name string) (metadata.Name, Kind, error) {
	bad := func() (metadata.Name, Kind, error) {
		return metadata.Name{}, 0, errs.Newf("keypath.LongLevel", errs.Invalid,
			"only the rest of a long key can be in this directory, not %q", name)
	}
	if err := checkName(name); err != nil {
		return metadata.Name{}, 0, err
	}
	if rest, ok := strings.CutPrefix(name, escLong); ok {
		piece, ok := unchunk(rest)
		if !ok || len(piece) <= maxChunk-utf8.UTFMax || !levelEnds(prefix+piece, len(prefix)) {
			return bad()
		}
		return metadata.Name{Comp: prefix + piece}, Level, nil
	}
	n := metadata.Name{}
	rest, ok := strings.CutPrefix(name, escLast)
	if !ok {
		if rest, n.File = strings.CutPrefix(name, escLastFile); !n.File {
			return bad()
		}
	}
	piece, ok := unchunk(rest)
	if !ok || !levelEnds(prefix+piece, len(prefix)) {
		return bad()
	}
	n.Comp = prefix + piece
	if got := ToPosix(n.Comp, n.File); len(got) < 2 || got[len(got)-1] != name {
		return bad()
	}
	return n, Whole, nil
}

// levelEnds reports whether a level of comp ends at byte at, at > 0.
func levelEnds(comp string, at int) bool {
	pos := 0
	for pos < at && len(comp)-pos > maxChunk {
		pos += cut(comp[pos:])
	}
	return pos == at && at > 0
}

// LongPrefix returns the prefix of the level that is depth levels (from 1) below a
// real directory on the way to a component, and whether there is one. All long
// components of a level are next to each other among the long components of their
// directory (between them may be shorter ones with names of their own), so a walk
// in byte order shows each level once if it remembers the last it has shown.
func LongPrefix(comp string, shadowed bool, depth int) (string, bool) {
	levels := len(ToPosix(comp, shadowed)) - 1
	if depth < 1 || depth > levels {
		return "", false
	}
	pos := 0
	for range depth {
		pos += cut(comp[pos:])
	}
	return comp[:pos], true
}
