package placement

import (
	"slices"
	"strings"
	"testing"

	"twofold/internal/errs"
)

func TestExpand(t *testing.T) {
	for arg, want := range map[string][]string{
		"/data":                  {"/data"},
		"/a{b}":                  {"/a{b}"},
		"/a{b,c}d{1...2}":        {"/a{b,c}d1", "/a{b,c}d2"},
		"a.b..c":                 {"a.b..c"},
		"./data{1...4}":          {"./data1", "./data2", "./data3", "./data4"},
		"d{01...03}":             {"d01", "d02", "d03"},
		"d{8...11}":              {"d8", "d9", "d10", "d11"},
		"d{08...11}":             {"d08", "d09", "d10", "d11"},
		"d{1...1}":               {"d1"},
		"d{0...1}":               {"d0", "d1"},
		"c{1...2}/d{1...2}/data": {"c1/d1/data", "c1/d2/data", "c2/d1/data", "c2/d2/data"},
		"{1...2}{1...2}":         {"11", "12", "21", "22"},
		"d{9...b}":               {"d9", "da", "db"},
		"d{0a...0c}":             {"d0a", "d0b", "d0c"},
	} {
		if got, err := Expand(arg); err != nil || !slices.Equal(got, want) {
			t.Errorf("Expand(%q) = %q, %v", arg, got, err)
		}
	}
}

func TestExpandErrors(t *testing.T) {
	for arg, says := range map[string]string{
		"d{1..4}":         `"d{1..4}" has two dots in {1..4}; an ellipsis needs three dots: {1...4}`,
		"d{1....4}":       "too many dots",
		"d{...4}":         "needs a number on both sides",
		"d{1...}":         "needs a number on both sides",
		"d{a...z}":        "needs a number on both sides",
		"d{-1...2}":       "needs a number on both sides",
		"d{4...1}":        "counts down; write the smaller number first: {1...4}",
		"d{1...4":         `a "{" without its "}"`,
		"d1...4}":         `a "}" without its "{"`,
		"d{{1...2}...3}":  "braces within braces",
		"d{1...99999999}": "names more than 65536 drives",
		"{0...fffffffffffffff}{0...fffffffffffffff}": "names more than",
		"d{1...300}{1...300}":                        "names more than",
		"d{1...99999999999999999999}":                "needs a number",
	} {
		if got, err := Expand(arg); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("Expand(%q) = %d names, %v", arg, len(got), err)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"d{1...4}", "{01...02}{a...f}", "{1..4}", "{{", "}{"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		out, err := Expand(arg)
		if err != nil {
			return
		}
		if len(out) == 0 || len(out) > maxExpansion {
			t.Fatalf("%q: %d names", arg, len(out))
		}
		if slices.Sort(out); len(slices.Compact(out)) != len(out) {
			// "{1...2}{11...12}" is 1-11, and "{1...11}{1...2}" has 1-11 and 11-1: refused later, as one directory twice.
			t.Skip()
		}
		if !HasEllipsis(arg) && (len(out) != 1 || out[0] != arg) {
			t.Fatalf("%q without an ellipsis became %q", arg, out)
		}
	})
}
