package keypath

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"twofold"
	"twofold/internal/errs"
)

func TestValidKey(t *testing.T) {
	for key, kind := range map[string]errs.Kind{
		"": errs.Invalid, "\xff": errs.Invalid, "a\xed\xa0\x80": errs.Invalid,
		strings.Repeat("a", 1025): errs.NameTooLong, strings.Repeat("é", 513): errs.NameTooLong,
	} {
		if err := ValidKey(key); !errs.Is(err, kind) {
			t.Errorf("ValidKey(%q): %v, want %v", key, err, kind)
		}
	}
	for _, key := range []string{"a", "/", "//", "a\x00b", "..", strings.Repeat("é", 512)} {
		if err := ValidKey(key); err != nil {
			t.Errorf("ValidKey(%q): %v", key, err)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		key   string
		dirs  []string
		base  string
		isDir bool
	}{
		{"a", nil, "a", false},
		{"a/b/c", []string{"a", "b"}, "c", false},
		{"a/", nil, "a", true},
		{"a/b/", []string{"a"}, "b", true},
		{"a//b", []string{"a", ""}, "b", false},
		{"a//", []string{"a"}, "", true},
		{"/", nil, "", true},
		{"/a", []string{""}, "a", false},
		{"//", []string{""}, "", true},
	} {
		dirs, base, isDir := Split(c.key)
		if !slices.Equal(dirs, c.dirs) || base != c.base || isDir != c.isDir {
			t.Errorf("Split(%q) = %q %q %v", c.key, dirs, base, isDir)
		}
	}
}

func TestSplitJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[a/.]{1,12}`).Draw(t, "key")
		dirs, base, isDir := Split(key)
		if got := Join(dirs, base, isDir); got != key {
			t.Fatalf("%q -> %q %q %v -> %q", key, dirs, base, isDir, got)
		}
		if base == "" && !isDir {
			t.Fatalf("%q: a file without a name", key)
		}
	})
}

// A long path's key fits, names its inode, and no stored component looks like it.
func TestDeepKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dirs := rapid.SliceOfN(genComp(), 1, 30).Draw(t, "dirs")
		isDir := rapid.Bool().Draw(t, "dir")
		key := Join(dirs, "base", isDir)
		ino := twofold.Ino(rapid.Uint64().Draw(t, "ino"))
		got := DeepKey(key, ino)
		if err := ValidKey(got); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		prefix, gotIno, gotDir, ok := ParseDeepKey(got)
		if len(key) <= twofold.MaxKeyLen {
			if got != key || ok {
				t.Fatalf("%q -> %q", key, got)
			}
			return
		}
		if !ok || gotIno != ino || gotDir != isDir || !ReservedKey(got) {
			t.Fatalf("ParseDeepKey(%q) = %q %v %v %v", got, prefix, gotIno, gotDir, ok)
		}
		if !strings.HasPrefix(key, prefix) || prefix != "" && prefix[len(prefix)-1] != '/' {
			t.Fatalf("%q is no directory of %q", prefix, key)
		}
		next, _, _ := strings.Cut(key[len(prefix):], "/")
		if len(prefix)+len(next)+1 <= maxDeepPrefix {
			t.Fatalf("%q is not the longest directory of %q", prefix, key)
		}
	})
}

func TestReserved(t *testing.T) {
	for comp, want := range map[string]bool{
		"%tf-ino-0000000000000400": true, "%tf-ino-ffffffffffffffff": true, "%tf-ino-FFFFFFFFFFFFFFFF": false,
		"%tf-ino-400": false, "%tf-ino-000000000000040g": false, "x%tf-ino-0000000000000400": false, "": false,
	} {
		if Reserved(comp) != want {
			t.Errorf("Reserved(%q) = %v", comp, !want)
		}
		if ReservedKey("a/"+comp+"/b") != want {
			t.Errorf("ReservedKey with %q = %v", comp, !want)
		}
	}
}

func FuzzParseDeepKey(f *testing.F) {
	f.Add("a/%tf-ino-0000000000000400")
	f.Add("%tf-ino-0000000000000400/")
	f.Fuzz(func(t *testing.T, key string) {
		prefix, ino, isDir, ok := ParseDeepKey(key)
		if !ok || !utf8.ValidString(key) {
			return
		}
		long := prefix + strings.Repeat("x", 1100)
		if isDir {
			long += "/"
		}
		if got := DeepKey(long, ino); got != key {
			t.Fatalf("%q -> %q %v -> %q", key, prefix, ino, got)
		}
	})
}
