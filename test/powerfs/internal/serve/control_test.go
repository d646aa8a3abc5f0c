package serve

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                          nil,
		"  powercut\t7 ":            {"powercut", "7"},
		`corrupt 0 "a b\n\"c" 0x10`: {"corrupt", "0", "a b\n\"c", "0x10"},
	} {
		if got, err := splitWords(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
	if _, err := splitWords(`a "b`); err == nil {
		t.Error("an open quote was accepted")
	}
}

// FuzzCommandLine: no line crashes the parsers, and quoted words come back.
func FuzzCommandLine(f *testing.F) {
	f.Add(`fault eio write path=*.vlog drive=0 count=1`)
	f.Add(`fault hang "path=a b/**"`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitWords(line)
		if err != nil {
			return
		}
		if len(words) > 0 {
			if fault, err := parseFault(words[1:], 2); err == nil && (fault.Drive >= 2 || fault.Count < 0) {
				t.Fatalf("%q was accepted", line)
			}
		}
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, strconv.Quote(w))
		}
		again, err := splitWords(strings.Join(quoted, " "))
		for n := range words {
			words[n] = strings.ToValidUTF8(words[n], "\uFFFD")
		}
		for n := range again {
			again[n] = strings.ToValidUTF8(again[n], "\uFFFD")
		}
		if err != nil || !slices.Equal(words, again) {
			t.Fatalf("%q became %q (%v)", words, again, err)
		}
	})
}

func TestMatchPath(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"*.vlog", "meta/000001.vlog", true},
		{"*.vlog", "meta/000001.sst", false},
		{"meta/*.vlog", "meta/000001.vlog", true},
		{"meta/*.vlog", "other/000001.vlog", false},
		{"meta/**", "meta/a/b", true},
		{"meta/**", "meta", true},
		{"meta/**", "metal/a", false},
		{"/top", "top", true},
	} {
		if got := matchPath(c.pattern, c.path); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.path, got)
		}
	}
}
