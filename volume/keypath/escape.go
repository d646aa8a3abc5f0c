package keypath

import (
	"strings"
	"unicode/utf8"

	"twofold/metadata"
)

// flat is the name of a component without a limit of its length.
func flat(comp string) string {
	switch comp {
	case "":
		return escEmpty
	case ".":
		return escDot
	case "..":
		return escDotDot
	}
	if !strings.HasPrefix(comp, Marker) && strings.IndexByte(comp, 0) < 0 {
		return comp
	}
	if name, ok := strayOf(comp); ok {
		return name
	}
	return escPercent + percent(comp)
}

// parse reads an escape. It accepts exactly what ToPosix returns as the first name
// of a component that is not ordinary.
func parse(name string) (n metadata.Name, k Kind, ok bool) {
	switch name {
	case escEmpty:
		return metadata.Name{}, Whole, true
	case escDot:
		return metadata.Name{Comp: "."}, Whole, true
	case escDotDot:
		return metadata.Name{Comp: ".."}, Whole, true
	}
	if rest, found := strings.CutPrefix(name, escPercent); found {
		comp, canonical := unpercent(rest)
		if !canonical || !validComp(comp) || Reserved(comp) || flat(comp) != name {
			return n, 0, false
		}
		return metadata.Name{Comp: comp}, Whole, true
	}
	if rest, found := strings.CutPrefix(name, escFile); found {
		return parseFile(rest)
	}
	if rest, found := strings.CutPrefix(name, escLong); found {
		chunk, valid := unchunk(rest)
		if !valid || len(chunk) <= maxChunk-utf8.UTFMax {
			return n, 0, false
		}
		return metadata.Name{Comp: chunk}, Level, true
	}
	return parseLast(name)
}

// parseLast reads a component that is too long only for its escapes, and so has no
// level above its last chunk.
func parseLast(name string) (n metadata.Name, k Kind, ok bool) {
	rest, ok := strings.CutPrefix(name, escLast)
	if !ok {
		if rest, n.File = strings.CutPrefix(name, escLastFile); !n.File {
			return n, 0, false
		}
	}
	n.Comp, ok = unchunk(rest)
	if !ok || ToPosix(n.Comp, n.File)[0] != name {
		return metadata.Name{}, 0, false
	}
	return n, Whole, true
}

// parseFile reads what stands behind "%tf-file-": the name that the object would
// have without the directory beside it.
func parseFile(name string) (metadata.Name, Kind, bool) {
	if !posixName(name) {
		return metadata.Name{}, 0, false
	}
	n, k := metadata.Name{Comp: name}, Whole
	if !Ordinary(name) {
		var escaped bool
		if n, k, escaped = parse(name); !escaped {
			n, k = metadata.Name{Comp: strayComp(name)}, Whole
		}
	}
	if k != Whole || n.File || !CanBeFile(n.Comp) || flat(n.Comp) != name {
		return metadata.Name{}, 0, false
	}
	n.File = true
	return n, Whole, true
}

// strayComp is the component of a name that is neither ordinary nor an escape.
func strayComp(name string) string { return escPercent + percent(name) }

// strayOf returns the stray name that a component stands for, if it does.
func strayOf(comp string) (string, bool) {
	rest, found := strings.CutPrefix(comp, escPercent)
	if !found {
		return "", false
	}
	name, canonical := unpercent(rest)
	if !canonical || !posixName(name) {
		return "", false
	}
	if utf8.ValidString(name) && !strings.HasPrefix(name, Marker) {
		return "", false // an ordinary name
	}
	if _, _, escaped := parse(name); escaped {
		return "", false
	}
	return name, true
}

// validComp reports whether s can be stored as a component.
func validComp(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, '/') < 0 }
