package placement

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"twofold/internal/errs"
)

// maxExpansion is the most drives that one argument may name.
const maxExpansion = 1 << 16

// span is one {first...last} of an argument.
type span struct {
	first, last uint64
	width       int // zero-padded to this many digits; 0: not padded
	base        int // 10, or 16 where a bound has a-f
}

func (s span) String() string { return fmt.Sprintf("{%s...%s}", s.format(s.first), s.format(s.last)) }

func (s span) format(v uint64) string {
	d := strconv.FormatUint(v, s.base)
	return strings.Repeat("0", max(0, s.width-len(d))) + d
}

// HasEllipsis reports whether an argument has a {a...b} in it, right or wrong.
func HasEllipsis(arg string) bool {
	open := strings.IndexByte(arg, '{')
	return open >= 0 && strings.Contains(arg[open:], "...")
}

// Expand writes out the ellipses of an argument: "d{1...2}" is d1 and d2. {01...16}
// keeps the leading zeros; bounds with the digits a to f are hexadecimal. Of several
// patterns the last varies fastest. An argument without any is returned as it is,
// and braces without dots are part of the name. Errors are errs.Invalid and say
// what to write.
func Expand(arg string) ([]string, error) {
	texts, spans, err := parsePattern(arg)
	if err != nil {
		return nil, err
	}
	total := uint64(1)
	for _, s := range spans {
		n := s.last - s.first + 1
		if n > maxExpansion || total*n > maxExpansion {
			return nil, invalid("%q names more than %d drives", arg, maxExpansion)
		}
		total *= n
	}
	out := []string{texts[0]}
	for i, s := range spans {
		next := make([]string, 0, len(out)*int(s.last-s.first+1))
		for _, head := range out {
			for v := s.first; v <= s.last; v++ {
				next = append(next, head+s.format(v)+texts[i+1])
			}
		}
		out = next
	}
	return out, nil
}

// parsePattern cuts an argument into spans and the texts around them, one more.
func parsePattern(arg string) (texts []string, spans []span, err error) {
	text := ""
	for rest := arg; ; {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			if head, _, closed := strings.Cut(rest, "}"); closed && strings.Contains(head, "...") {
				return nil, nil, invalid("%q has a \"}\" without its \"{\"; write {1...4}", arg)
			}
			return append(texts, text+rest), spans, nil
		}
		end := strings.IndexByte(rest[open:], '}')
		if end < 0 {
			if strings.Contains(rest[open:], "..") {
				return nil, nil, invalid("%q has a \"{\" without its \"}\"; write {1...4}", arg)
			}
			return append(texts, text+rest), spans, nil
		}
		end += open
		inner := rest[open+1 : end]
		if !strings.Contains(inner, "..") { // braces that are part of a name
			text += rest[:end+1]
			rest = rest[end+1:]
			continue
		}
		s, err := parseSpan(arg, inner)
		if err != nil {
			return nil, nil, err
		}
		texts, spans = append(texts, text+rest[:open]), append(spans, s)
		text, rest = "", rest[end+1:]
	}
}

func parseSpan(arg, inner string) (span, error) {
	s := span{base: 10}
	if strings.ContainsAny(inner, "{") {
		return s, invalid("%q has braces within braces; write the patterns one after the other, as in a{1...2}b{1...4}", arg)
	}
	lo, hi, three := strings.Cut(inner, "...")
	if !three {
		return s, invalid("%q has two dots in {%s}; an ellipsis needs three dots: {%s}", arg, inner, strings.Replace(inner, "..", "...", 1))
	}
	if strings.Contains(hi, ".") || strings.Contains(lo, ".") {
		return s, invalid("%q has too many dots in {%s}; an ellipsis has three: {1...4}", arg, inner)
	}
	digits := regexp.MustCompile(`^[0-9a-f]{1,15}$`)
	if !digits.MatchString(lo) || !digits.MatchString(hi) {
		return s, invalid("{%s} in %q needs a number on both sides of the dots, as in {1...4} (or {0a...1f}, hexadecimal)", inner, arg)
	}
	if strings.ContainsAny(lo+hi, "abcdef") {
		s.base = 16
	}
	var err error
	if s.first, err = strconv.ParseUint(lo, s.base, 64); err != nil {
		return s, invalid("{%s} in %q: %v", inner, arg, err)
	}
	if s.last, err = strconv.ParseUint(hi, s.base, 64); err != nil {
		return s, invalid("{%s} in %q: %v", inner, arg, err)
	}
	if s.first > s.last {
		return s, invalid("{%s} in %q counts down; write the smaller number first: %s", inner, arg, span{first: s.last, last: s.first, base: s.base})
	}
	if lo[0] == '0' && len(lo) > 1 || hi[0] == '0' && len(hi) > 1 {
		s.width = max(len(lo), len(hi))
	}
	return s, nil
}

func invalid(format string, args ...any) error {
	return errs.Newf("", errs.Invalid, format, args...)
}
