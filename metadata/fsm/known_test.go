package fsm

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"twofold"
	"twofold/metadata/kv"
)

// endsOf is a store that has one inode's extents, by end.
type endsOf struct {
	ino     twofold.Ino
	records map[int64][]byte
	visited *int // keys that Scan came by
}

func (s endsOf) Get(key []byte) ([]byte, error) { return s.records[endOf(key)], nil }

func (s endsOf) Scan(start, end []byte, fn func(key, value []byte) (bool, error)) error {
	for _, at := range slices.Sorted(maps.Keys(s.records)) {
		key := []byte(extentKey(s.ino, at))
		if bytes.Compare(key, start) < 0 || bytes.Compare(key, end) >= 0 {
			continue
		}
		*s.visited++
		if more, err := fn(key, s.records[at]); err != nil || !more {
			return err
		}
	}
	return nil
}

func (s endsOf) Iter(start, end []byte) kv.Iterator { panic("nobody does") }

// check fails where k says what is not so, or more than it has to.
func (s endsOf) check(t *rapid.T, k *known) {
	last, sum, mark, markAll := int64(0), knownOverhead, false, false
	k.tree.Scan(func(end int64, e knownEnd) bool {
		sum += endOverhead + len(e.value)
		record, there := s.records[end]
		if there != e.there && (e.all || e.there) || e.value != nil && !bytes.Equal(e.value, record) {
			t.Fatalf("at %d: %+v, and in the store %q, %v", end, e, record, there)
		}
		if e.value == nil && e.there && len(record) < bulkyFrom {
			t.Fatalf("the short record at %d is not kept", end)
		}
		for at := range s.records {
			if e.all && at > last && at < end {
				t.Fatalf("%d is between %d and %d, where all is known", at, last, end)
			}
		}
		if mark && markAll == e.all {
			t.Fatalf("the mark at %d is for nothing", last)
		}
		last, mark, markAll = end, !e.there, e.all
		return true
	})
	if mark && !markAll {
		t.Fatalf("the last mark, at %d, is for nothing", last)
	}
	if sum != k.bytes {
		t.Fatalf("%d bytes, counted as %d", sum, k.bytes)
	}
}

// TestKnownIsTrue: whatever is changed, and walked to wherever, what is known is what the
// state has; a walk is that of the store; a copy stays what it was; what was walked is not
// walked again.
func TestKnownIsTrue(t *testing.T) {
	fromMemory := 0
	rapid.Check(t, func(t *rapid.T) {
		const room = 400
		visited := 0
		s := endsOf{ino: 7, records: map[int64][]byte{}, visited: &visited}
		record := rapid.Custom(func(t *rapid.T) []byte {
			n := rapid.SampledFrom([]int{1, 2, 3, bulkyFrom - 1, bulkyFrom, 900}).Draw(t, "length")
			return bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, n)
		})
		end := rapid.Int64Range(1, room)
		for _, at := range rapid.SliceOfN(end, 0, 60).Draw(t, "at first") {
			s.records[at] = record.Draw(t, "record")
		}
		k := newKnown(rapid.SampledFrom([]int{0, 20_000, 1 << 20}).Draw(t, "limit of data"))
		type version struct {
			k *known
			s endsOf
		}
		var old []version

		walk := func(t *rapid.T, k *known, s endsOf, learn bool) {
			from := end.Draw(t, "from")
			stop := rapid.SampledFrom([]int{1, 2, 5, 1000}).Draw(t, "stop")
			var want, got []ended
			for _, at := range slices.SortedFunc(maps.Keys(s.records), cmp.Compare) {
				if at >= from && len(want) < stop {
					want = append(want, ended{at, s.records[at]})
				}
			}
			err := k.walk(s, s.ino, from, learn, func(key, value []byte) (bool, error) {
				if twofold.Ino(inoOf(string(key[1:9]))) != s.ino || key[0] != pExtent {
					t.Fatalf("key %x", key)
				}
				got = append(got, ended{endOf(key), bytes.Clone(value)})
				return len(got) < stop, nil
			})
			same := slices.EqualFunc(got, want, func(a, b ended) bool { return a.at == b.at && bytes.Equal(a.value, b.value) })
			if err != nil || !same {
				t.Fatalf("from %d, at most %d: %v, want %v; %v", from, stop, got, want, err)
			}
			if !learn {
				return
			}
			visited = 0
			n := 0
			k.walk(s, s.ino, from, false, func(_, _ []byte) (bool, error) { n++; return n < stop, nil })
			if visited > 0 {
				t.Fatalf("from %d, at most %d: walked in the store again", from, stop)
			}
			fromMemory += n
		}
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				old = append(old, version{k.copy(), endsOf{s.ino, maps.Clone(s.records), s.visited}})
				for _, at := range rapid.SliceOfN(end, 1, 10).Draw(t, "changed") {
					if rapid.Bool().Draw(t, "remove") {
						delete(s.records, at)
						k.change(at, nil)
					} else {
						s.records[at] = record.Draw(t, "record")
						k.change(at, s.records[at])
					}
				}
			},
			"walk": func(t *rapid.T) { walk(t, k, s, rapid.Bool().Draw(t, "learn")) },
			"walk an old one": func(t *rapid.T) {
				if len(old) > 0 {
					v := rapid.SampledFrom(old).Draw(t, "version")
					walk(t, v.k, v.s, false)
				}
			},
			"": func(t *rapid.T) { s.check(t, k) },
		})
	})
	if fromMemory == 0 {
		t.Error("nothing was ever known: the test looks at nothing")
	}
}
