package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"twofold/metadata"
)

// naiveList is a listing by its definition, over all keys.
func naiveList(keys []string, q metadata.ListQuery) (items []string, more bool) {
	slices.Sort(keys)
	for _, k := range keys {
		if !strings.HasPrefix(k, q.Prefix) {
			continue
		}
		item := k
		if q.Delimiter != "" {
			if i := strings.Index(k[len(q.Prefix):], q.Delimiter); i >= 0 {
				item = k[:len(q.Prefix)+i+len(q.Delimiter)] + "<"
			}
		}
		if strings.TrimSuffix(item, "<") <= q.After || slices.Contains(items, item) {
			continue
		}
		if len(items) == q.Max {
			return items, true
		}
		items = append(items, item)
	}
	return items, false
}

func machineList(t testing.TB, v metadata.View, b *metadata.Bucket, q metadata.ListQuery) (items []string, more bool) {
	p, err := v.List(b.ID, q)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range p.Items {
		key := it.Key
		if it.Inode == nil {
			key += "<"
		} else if k, err := v.KeyOf(it.Inode.Ino); err != nil || string(k) != key {
			t.Fatalf("the inode of %q is at %q: %v", key, k, err)
		}
		items = append(items, key)
	}
	return items, p.More
}

// TestListExhaustive compares every query over a small alphabet with the
// definition, on trees of random keys of that alphabet.
func TestListExhaustive(t *testing.T) {
	const alphabet = "a/!0"
	pool := []string{""}
	for n := 0; len(pool[n]) < 3; n++ {
		for _, c := range alphabet {
			pool = append(pool, pool[n]+string(c))
		}
	}
	delimiters := []string{"", "/", "a", "!", "//", "a/", "/a"}
	rounds := 6
	if testing.Short() {
		rounds = 1
	}
	for seed := range uint64(rounds) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := newRig(t)
		b := r.bucket("b")
		var keys []string
		for range 5 + rnd.IntN(25) {
			k := pool[1+rnd.IntN(len(pool)-1)]
			if rnd.IntN(2) == 0 {
				k += pool[1+rnd.IntN(len(pool)-1)]
			}
			if !slices.Contains(keys, k) {
				keys = append(keys, k)
				r.put(b, k, "")
			}
		}
		r.check()
		r.view(func(v metadata.View) {
			for _, prefix := range pool {
				for _, d := range delimiters {
					for _, last := range pool {
						q := metadata.ListQuery{Prefix: prefix, Delimiter: d, After: last, Max: 1 + rnd.IntN(4)}
						if rnd.IntN(4) == 0 {
							q.Max = 1000
						}
						compareList(t, v, b, keys, q)
					}
				}
			}
		})
	}
}

func compareList(t *testing.T, v metadata.View, b *metadata.Bucket, keys []string, q metadata.ListQuery) {
	t.Helper()
	want, wantMore := naiveList(keys, q)
	got, gotMore := machineList(t, v, b, q)
	if !slices.Equal(got, want) || gotMore != wantMore {
		t.Fatalf("keys %q\n%+v\ngot  %q %v\nwant %q %v", keys, q, got, gotMore, want, wantMore)
	}
}

// TestListPages walks by pages and must meet each item once.
func TestListPages(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	var keys []string
	rnd := rand.New(rand.NewPCG(5, 5))
	for n := range 300 {
		k := fmt.Sprintf("%c/%c/%d", 'a'+rnd.IntN(3), 'a'+rnd.IntN(20), n)
		if n%3 == 0 {
			k = fmt.Sprintf("%c-%d", 'a'+rnd.IntN(3), n)
		}
		keys = append(keys, k)
		r.put(b, k, "")
	}
	for _, q := range []metadata.ListQuery{{}, {Delimiter: "/"}, {Prefix: "a/", Delimiter: "/"}, {Prefix: "b", Delimiter: "-1"}, {Prefix: "c/c"}, {Prefix: "zz"}} {
		for _, page := range []int{1, 7, 1000} {
			q.Max = 10000
			all, _ := naiveList(keys, q)
			var got []string
			q.Max = page
			r.view(func(v metadata.View) {
				for more := true; more; {
					var items []string
					items, more = machineList(t, v, b, q)
					if got = append(got, items...); len(items) > 0 {
						q.After = strings.TrimSuffix(items[len(items)-1], "<")
					}
				}
			})
			if q.After = ""; !slices.Equal(got, all) {
				t.Fatalf("%+v by %d:\n%q\n%q", q, page, got, all)
			}
		}
	}
}

// TestListReadsWhatItReturns: a listing with a delimiter costs seeks per item, not
// reads of what a common prefix stands for.
func TestListReadsWhatItReturns(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	for n := range 500 {
		r.put(b, fmt.Sprintf("dir/%d", n), "")
		r.put(b, fmt.Sprintf("x-%d", n), "")
		r.put(b, fmt.Sprintf("deep/a/b/c/%d", n), "")
	}
	for _, q := range []metadata.ListQuery{{Delimiter: "/", Prefix: "d"}, {Prefix: "deep/", Delimiter: "/"}, {Prefix: "x", Delimiter: "-"}, {Prefix: "deep/a", Delimiter: "/b"}, {Prefix: "x-49", Max: 5}} {
		counted := &countingStore{Store: r.store}
		m, err := New(counted, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if q.Max == 0 {
			q.Max = 1000
		}
		counted.reads = 0
		var items int
		err = m.View(func(v metadata.View) error {
			p, err := v.List(b.ID, q)
			items = len(p.Items)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if counted.reads > 10+6*items {
			t.Errorf("%+v: %d reads for %d items", q, counted.reads, items)
		}
	}
}
