package kv

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// All keys of a prefix have the whole prefix in common: a scan of it never walks over
// what lies behind.
func TestCommonPrefixOfAPrefix(t *testing.T) {
	for _, c := range []struct{ start, end, want string }{
		{"k", "l", "k"},
		{"k\x00\x00\x07\x00", "l", "k"},
		{"x\x00\x05", "x\x00\x06", "x\x00\x05"},
		{"x\x00\x05\x09", "x\x00\x06", "x\x00\x05"},
		{"ab", "ad", "a"},
		{"ab", "acx", "a"},
		{"", "b", ""},
		{"a", "", ""},
	} {
		if got := commonPrefix([]byte(c.start), []byte(c.end)); string(got) != c.want {
			t.Errorf("[%q, %q): %q, want %q", c.start, c.end, got, c.want)
		}
	}
}

// No key between the bounds is without the prefix.
func TestCommonPrefixHoldsForAllKeys(t *testing.T) {
	key := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 254, 255}), 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		start, end, k := key.Draw(t, "start"), key.Draw(t, "end"), key.Draw(t, "key")
		if bytes.Compare(k, start) < 0 || bytes.Compare(k, end) >= 0 {
			return
		}
		if p := commonPrefix(start, end); !bytes.HasPrefix(k, p) {
			t.Fatalf("[%q, %q): %q has not the prefix %q", start, end, k, p)
		}
	})
}
