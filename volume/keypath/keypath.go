// Package keypath is the bijection between S3 keys and paths of the mount. It is
// pure: no state, no clock, no I/O; every function is safe for concurrent use.
//
// The tree stores components in the form they have in S3 keys, so that its order
// is S3's byte order. A component is any valid UTF-8 string without '/': it may be
// empty, "." or "..", hold control characters, be longer than a name of the mount.
// A name of the mount is any 1 to 255 bytes without '/' and NUL, but "." and "..".
// Nearly every string is both, and means itself. The rest is escaped, and every
// escape starts with the marker "%tf-":
//
//	component of a key                          name in the mount
//	------------------------------------------  -----------------------------------------
//	photo.jpg (an ordinary one)                 photo.jpg
//	"" (as in "a//b")                           %tf-empty
//	.                                           %tf-dot
//	..                                          %tf-dotdot
//	holds NUL, or begins with the marker        %tf-x-PERCENT, e.g. %tf-x-a%00b
//	%tf-x-PERCENT                               bytes that are not UTF-8 (stray), e.g. %tf-x-%FF is \xFF
//	%tf-x-%25tf-foo                             %tf-foo (stray: no escape that this package makes)
//	an object "a" beside a directory "a/"       %tf-file-NAME, NAME being what "a" alone would have
//	no single name of 255 bytes                 %tf-long-CHUNK/.../%tf-last-CHUNK
//	the same, an object beside a directory      %tf-long-CHUNK/.../%tf-lastfile-CHUNK
//
// PERCENT has %XX, upper case, for '%', '/', NUL and each byte that is no part of
// valid UTF-8, and everything else as it is. CHUNKs are the component itself, cut
// into pieces of at most 240 bytes at the borders of its characters, with NUL shown
// as the byte FF (which UTF-8 never has). A component of up to 240 bytes that only
// its escapes make too long is a single %tf-last-CHUNK. The levels above the last are
// synthetic directories: they are there while a long component below them is. What
// they show is a contiguous run of the real directory, see [LongPrefix].
//
// Why this is a bijection. Components that are no names are injected into the
// names by %tf-x- (and shorter escapes); names that are no components (not UTF-8,
// or with the marker but no escape) into the components by %tf-x- as well. Each
// side strips the other's layers until one is left that the other side cannot have
// made (Schröder-Bernstein); as each layer is shorter, that ends. A form that is
// not what the encoder writes is never accepted as an alias.
//
// Two kinds of strings are kept back. A component of the form of a deep key's
// ("%tf-ino-" and 16 digits, see [DeepKey]) must not be stored: [Reserved]. And the
// name of a synthetic level can't be given to a new file.
package keypath

import (
	"strings"
	"unicode/utf8"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// Marker begins every escape, in both views.
const Marker = "%tf-"

const (
	escEmpty    = Marker + "empty"
	escDot      = Marker + "dot"
	escDotDot   = Marker + "dotdot"
	escPercent  = Marker + "x-"
	escFile     = Marker + "file-"
	escLong     = Marker + "long-"
	escLast     = Marker + "last-"
	escLastFile = Marker + "lastfile-"
	escIno      = Marker + "ino-"
)

// Kind says what a name of the mount stands for.
type Kind uint8

const (
	// Whole is a name that stands for a component: the Name is complete.
	Whole Kind = 1
	// Level is a synthetic directory: Name.Comp is the prefix that every component
	// below it has; go on with LongLevel.
	Level Kind = 2
)

// Ordinary reports whether a component is its own name in the mount.
func Ordinary(comp string) bool {
	return comp != "" && comp != "." && comp != ".." && len(comp) <= twofold.MaxNameLen &&
		!strings.HasPrefix(comp, Marker) && strings.IndexByte(comp, 0) < 0 &&
		strings.IndexByte(comp, '/') < 0 && utf8.ValidString(comp)
}

// CanBeFile reports whether an object or anything but a directory can have the
// component as its name. The empty one cannot: the key "a/" + "" is "a/" itself.
func CanBeFile(comp string) bool { return comp != "" }

// ToPosix returns the name that a component has in the mount: one, or the levels of
// a long one, of which all but the last are synthetic directories. shadowed asks
// for the name of the object beside a directory of the same component. comp must be
// valid UTF-8 without '/', as stored components are.
func ToPosix(comp string, shadowed bool) []string {
	name := flat(comp)
	if shadowed {
		name = escFile + name
	}
	if len(name) <= twofold.MaxNameLen {
		return []string{name}
	}
	return longNames(comp, shadowed)
}

// FromPosix is the inverse of ToPosix for a name in a real directory. Every name
// stands for something. Errors: NameTooLong over 255 bytes; Invalid for what no
// file system has as a name ("", ".", "..", '/', NUL inside).
func FromPosix(name string) (metadata.Name, Kind, error) {
	if err := checkName(name); err != nil {
		return metadata.Name{}, 0, err
	}
	if Ordinary(name) {
		return metadata.Name{Comp: name}, Whole, nil
	}
	if n, k, ok := parse(name); ok {
		return n, k, nil
	}
	return metadata.Name{Comp: strayComp(name)}, Whole, nil
}

func checkName(name string) error {
	const op = "keypath.FromPosix"
	switch {
	case len(name) > twofold.MaxNameLen:
		return errs.Newf(op, errs.NameTooLong, "a name has at most %d bytes, this one %d", twofold.MaxNameLen, len(name))
	case !posixName(name):
		return errs.Newf(op, errs.Invalid, "%q is not a file name", name)
	}
	return nil
}

// posixName reports whether a file system can have the name.
func posixName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= twofold.MaxNameLen &&
		strings.IndexByte(name, '/') < 0 && strings.IndexByte(name, 0) < 0
}
