package keypath

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"twofold/internal/errs"
	"twofold/metadata"
)

// The mapping is an on-disk format: what these rows say must never change.
func TestTable(t *testing.T) {
	a240, e240 := strings.Repeat("a", 240), strings.Repeat("é", 120)
	for _, c := range []struct {
		comp     string
		shadowed bool
		names    []string
	}{
		{"photo.jpg", false, []string{"photo.jpg"}},
		{"100%", false, []string{"100%"}},
		{"line\nbreak", false, []string{"line\nbreak"}},
		{"...", false, []string{"..."}},
		{"%TF-x", false, []string{"%TF-x"}},
		{"", false, []string{"%tf-empty"}},
		{".", false, []string{"%tf-dot"}},
		{"..", false, []string{"%tf-dotdot"}},
		{"a\x00b", false, []string{"%tf-x-a%00b"}},
		{"a%\x00", false, []string{"%tf-x-a%25%00"}},
		{"%tf-foo", false, []string{"%tf-x-%25tf-foo"}},
		{"%tf-empty", false, []string{"%tf-x-%25tf-empty"}},
		{"%tf-x-%FF", false, []string{"\xff"}},
		{"%tf-x-caf%E9", false, []string{"caf\xe9"}},
		{"%tf-x-%ff", false, []string{"%tf-x-%25tf-x-%25ff"}},
		{"%tf-x-a", false, []string{"%tf-x-%25tf-x-a"}},
		{"%tf-x-%25tf-foo", false, []string{"%tf-foo"}},
		{"%tf-x-%25tf-empty", false, []string{"%tf-x-%25tf-x-%2525tf-empty"}},
		{"a", true, []string{"%tf-file-a"}},
		{".", true, []string{"%tf-file-%tf-dot"}},
		{"%tf-x-%FF", true, []string{"%tf-file-\xff"}},
		{strings.Repeat("a", 255), false, []string{strings.Repeat("a", 255)}},
		{strings.Repeat("a", 256), false, []string{"%tf-long-" + a240, "%tf-last-" + strings.Repeat("a", 16)}},
		{strings.Repeat("a", 250), true, []string{"%tf-long-" + a240, "%tf-lastfile-" + strings.Repeat("a", 10)}},
		{strings.Repeat("é", 200), false, []string{"%tf-long-" + e240, "%tf-last-" + strings.Repeat("é", 80)}},
		{"x" + strings.Repeat("é", 200), false, []string{"%tf-long-x" + strings.Repeat("é", 119), "%tf-last-" + strings.Repeat("é", 81)}},
		{strings.Repeat("\x00", 100), false, []string{"%tf-last-" + strings.Repeat("\xff", 100)}},
		{strings.Repeat("\x00", 81), true, []string{"%tf-lastfile-" + strings.Repeat("\xff", 81)}},
		{strings.Repeat("a", 480), false, []string{"%tf-long-" + a240, "%tf-last-" + a240}},
		{strings.Repeat("a", 481), false, []string{"%tf-long-" + a240, "%tf-long-" + a240, "%tf-last-a"}},
	} {
		got := ToPosix(c.comp, c.shadowed)
		if strings.Join(got, "/") != strings.Join(c.names, "/") {
			t.Errorf("ToPosix(%q, %v) = %q, want %q", c.comp, c.shadowed, got, c.names)
		}
		checkBack(t, c.comp, c.shadowed)
	}
}

// Names that look like escapes but are none stand for themselves.
func TestStrayNames(t *testing.T) {
	for _, name := range []string{
		"%tf-", "%tf-foo", "%tf-x-", "%tf-x-a", "%tf-x-%ff", "%tf-x-%FF", "%tf-x-%2", "%tf-x-%2F", "%tf-x-%25tf-x-%25tf-foo",
		"%tf-file-", "%tf-file-.", "%tf-file-%tf-empty", "%tf-file-%tf-file-a", "%tf-long-short", "%tf-last-a", "%tf-last-",
		"%tf-lastfile-x", "%tf-ino-0000000000000400", "%tf-x-%25tf-ino-0000000000000400", "\xff", "a\xed\xa0\x80", "%tf-empty\xff",
	} {
		n, k, err := FromPosix(name)
		if err != nil || k != Whole || n.File || !strings.HasPrefix(n.Comp, "%tf-x-") {
			t.Errorf("FromPosix(%q) = %+q %v %v", name, n.Comp, k, err)
		}
		if got := ToPosix(n.Comp, false); len(got) != 1 || got[0] != name {
			t.Errorf("ToPosix(FromPosix(%q)) = %q", name, got)
		}
	}
}

func TestImpossibleNames(t *testing.T) {
	for name, kind := range map[string]errs.Kind{
		"": errs.Invalid, ".": errs.Invalid, "..": errs.Invalid, "a/b": errs.Invalid, "a\x00": errs.Invalid,
		strings.Repeat("a", 256): errs.NameTooLong,
	} {
		if _, _, err := FromPosix(name); !errs.Is(err, kind) {
			t.Errorf("FromPosix(%q): %v, want %v", name, err, kind)
		}
	}
}

func TestLevelsRefuseOthers(t *testing.T) {
	p := strings.Repeat("a", 240)
	for _, name := range []string{
		"a", "%tf-empty", "%tf-last-", "%tf-last-b" /* 241 bytes have a name of their own */, "%tf-long-bb",
		"%tf-lastfile-b", "%tf-file-a", "\xff",
	} {
		if n, _, err := LongLevel(p, name); !errs.Is(err, errs.Invalid) {
			t.Errorf("LongLevel(%q) = %q, %v", name, n.Comp, err)
		}
	}
	// The first chunk could have held one more character.
	short := strings.Repeat("a", 239)
	if _, _, err := LongLevel(short, "%tf-last-"+strings.Repeat("a", 100)); !errs.Is(err, errs.Invalid) {
		t.Error("a chunk that is too short was accepted")
	}
	if n, _, err := LongLevel(short, "%tf-last-"+strings.Repeat("é", 50)); err != nil || n.Comp != short+strings.Repeat("é", 50) {
		t.Error(n, err)
	}
}

// checkBack follows a component's names down and wants the component back.
func checkBack(t interface {
	Helper()
	Fatalf(string, ...any)
}, comp string, shadowed bool) {
	t.Helper()
	names := ToPosix(comp, shadowed)
	n, k, err := FromPosix(names[0])
	for i, name := range names {
		if !posixName(name) {
			t.Fatalf("ToPosix(%q, %v): %q is no name", comp, shadowed, name)
		}
		if i > 0 {
			n, k, err = LongLevel(n.Comp, name)
		}
		if err != nil {
			t.Fatalf("%q, %v: level %d: %v", comp, shadowed, i, err)
		}
		if last := i == len(names)-1; last != (k == Whole) {
			t.Fatalf("%q, %v: level %d of %q has kind %v", comp, shadowed, i, names, k)
		}
		if p, ok := LongPrefix(comp, shadowed, i+1); ok != (k == Level) || ok && p != n.Comp {
			t.Fatalf("LongPrefix(%q, %v, %d) = %q, %v; the level says %q", comp, shadowed, i+1, p, ok, n.Comp)
		}
	}
	if want := (metadata.Name{Comp: comp, File: shadowed}); n != want {
		t.Fatalf("%q, %v -> %q -> %q %v", comp, shadowed, names, n.Comp, n.File)
	}
}

// genComp draws components of every class: escapes within escapes, of names that
// are no UTF-8, of all lengths.
func genComp() *rapid.Generator[string] {
	atom := rapid.SampledFrom([]string{
		"a", "%", "%25", "%00", "%FF", "%ff", "%2", "-", ".", "\x00", "\n", "é", "€", "😀", "\u200b", "\ufffd", "%tf-", "%25tf-",
		"%tf-x-", "%25tf-x-", "%tf-file-", "%tf-long-", "%tf-last-", "%tf-lastfile-", "%tf-empty", "%tf-dot", "%tf-ino-0000000000000400", "tf",
	})
	return rapid.Custom(func(t *rapid.T) string {
		s := strings.Join(rapid.SliceOfN(atom, 0, 8).Draw(t, "atoms"), "")
		if rapid.IntRange(0, 3).Draw(t, "long") == 0 {
			pad := rapid.SampledFrom([]string{"a", "é", "€", "😀", "\x00", "%"}).Draw(t, "pad")
			at := rapid.IntRange(0, 1).Draw(t, "front")
			fill := strings.Repeat(pad, rapid.IntRange(50, 500).Draw(t, "n"))
			s = s[:len(s)*at] + fill + s[len(s)*at:]
		}
		for range rapid.IntRange(0, 3).Draw(t, "escapes") {
			s = escPercent + percent(s)
		}
		return s
	}).Filter(func(s string) bool { return validComp(s) && !Reserved(s) })
}

// Every component is reachable in the mount, shadowed or not, and no two share names.
func TestComponentToNameAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		comp := genComp().Draw(t, "comp")
		checkBack(t, comp, false)
		if CanBeFile(comp) {
			checkBack(t, comp, true)
		}
	})
}

func genName() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := genComp().Draw(t, "comp")
		for range rapid.IntRange(0, 3).Draw(t, "bytes") {
			at := rapid.IntRange(0, len(s)).Draw(t, "at")
			s = s[:at] + string([]byte{rapid.Byte().Draw(t, "byte")}) + s[at:]
		}
		return s[:min(len(s), 255)]
	}).Filter(posixName)
}

// Every name is a key's component, or a level above some, and its own only name.
func TestNameToComponentAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { nameAndBack(t, genName().Draw(t, "name")) })
}

func nameAndBack(t interface {
	Helper()
	Fatalf(string, ...any)
}, name string) {
	t.Helper()
	n, k, err := FromPosix(name)
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	if !validComp(n.Comp) || Reserved(n.Comp) {
		t.Fatalf("%q -> %q, which is no component", name, n.Comp)
	}
	names := ToPosix(n.Comp, n.File)
	if k == Level {
		names = ToPosix(n.Comp+strings.Repeat("😀", 9), false) // some component below it
	}
	if names[0] != name || (len(names) == 1) != (k == Whole) {
		t.Fatalf("%q -> %q %v -> %q", name, n.Comp, k, names)
	}
}

// Names within a level: whatever LongLevel accepts is what ToPosix writes.
func TestLevelIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fill := rapid.SampledFrom([]string{"a", "é", "€", "😀"})
		prefix := strings.Repeat(fill.Draw(t, "f"), 250)[:rapid.IntRange(230, 245).Draw(t, "cut")]
		piece := strings.Repeat(fill.Draw(t, "g"), rapid.IntRange(0, 245).Draw(t, "n"))
		name := rapid.SampledFrom([]string{escLong, escLast, escLastFile, escFile, ""}).Draw(t, "esc") + piece
		if !posixName(name) || !utf8.ValidString(prefix) {
			t.Skip()
		}
		first, k, err := FromPosix(escLong + prefix)
		if err != nil || k != Level {
			return
		}
		n, k, err := LongLevel(first.Comp, name)
		if err != nil {
			return
		}
		comp := n.Comp
		if k == Level {
			comp += strings.Repeat("😀", 70)
		}
		got := ToPosix(comp, n.File)
		if len(got) < 2 || got[0] != escLong+prefix || got[1] != name {
			t.Fatalf("%q/%q -> %q -> %q", escLong+prefix, name, comp, got)
		}
	})
}

func FuzzFromPosix(f *testing.F) {
	for _, s := range []string{"a", "%tf-x-%FF", "\xff", "%tf-file-%tf-x-%25tf-x-%2525tf-a", "%tf-long-" + strings.Repeat("a", 240), "%tf-last-\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if posixName(name) {
			nameAndBack(t, name)
		} else if _, _, err := FromPosix(name); err == nil {
			t.Fatalf("%q was accepted", name)
		}
	})
}

func FuzzToPosix(f *testing.F) {
	for _, s := range []string{"", "..", "a\x00", "%tf-x-%FF", "%tf-x-%25tf-x-%2525tf-a", strings.Repeat("é", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, comp string) {
		if !validComp(comp) || Reserved(comp) {
			return
		}
		checkBack(t, comp, false)
		if CanBeFile(comp) {
			checkBack(t, comp, true)
		}
	})
}

func FuzzLongLevel(f *testing.F) {
	f.Add(strings.Repeat("a", 240), "%tf-last-aaaaaaaaaaaaaaaaaaaa")
	f.Add("", "%tf-last-a")
	f.Fuzz(func(t *testing.T, prefix, name string) {
		n, k, err := LongLevel(prefix, name)
		if err == nil && k == Whole && validComp(prefix) {
			checkBack(t, n.Comp, n.File)
		}
	})
}

// A walk in byte order that remembers the last level shows each level once: the
// long components of a level are next to each other among the long ones.
func TestLevelsAreContiguous(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		atom := rapid.SampledFrom([]string{"a", "b", "%", "\x00", "é", "€", "😀"})
		var comps []string
		for range rapid.IntRange(2, 30).Draw(t, "comps") {
			s := strings.Repeat("a", rapid.IntRange(236, 241).Draw(t, "head")) + strings.Join(rapid.SliceOfN(atom, 0, 5).Draw(t, "next"), "") +
				strings.Repeat("a", rapid.SampledFrom([]int{0, 30, 230, 240}).Draw(t, "tail"))
			comps = append(comps, s)
		}
		slices.Sort(comps)
		for depth := 1; depth <= 2; depth++ {
			seen, last := map[string]bool{}, ""
			for _, c := range comps {
				p, ok := LongPrefix(c, false, depth)
				if !ok || p == last {
					continue
				}
				if seen[p] {
					t.Fatalf("level %q comes twice in %q", p, comps)
				}
				seen[p], last = true, p
			}
		}
	})
}
