package kv

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"twofold/internal/errs"
)

// stores are the implementations that pass the conformance suite.
var stores = map[string]func(t testing.TB) Store{
	"memory": func(testing.TB) Store { return NewMemory() },
	"badger": func(t testing.TB) Store { return openTest(t, t.TempDir(), Options{}) },
	"values": func(t testing.TB) Store {
		return openTest(t, t.TempDir(), Options{Bulky: bulkyFrom(2), valueFileSize: 64 << 10})
	},
}

func openTest(t testing.TB, base string, o Options) *Badger {
	t.Helper()
	b, err := Open(base, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func conform(t *testing.T, name string, test func(*testing.T, Store)) {
	for impl, open := range stores {
		t.Run(name+"/"+impl, func(t *testing.T) {
			s := open(t)
			defer s.Close()
			test(t, s)
		})
	}
}

func put(t testing.TB, s Store, pairs ...string) {
	t.Helper()
	var ops []Op
	for i := 0; i < len(pairs); i += 2 {
		ops = append(ops, Op{[]byte(pairs[i]), []byte(pairs[i+1])})
	}
	if err := s.Write(ops); err != nil {
		t.Fatal(err)
	}
}

// dump lists [start, end) as "k=v" pairs.
func dump(t testing.TB, r Reader, start, end string) string {
	t.Helper()
	var b bytes.Buffer
	var e []byte
	if end != "" {
		e = []byte(end)
	}
	err := r.Scan([]byte(start), e, func(k, v []byte) (bool, error) {
		fmt.Fprintf(&b, "%s=%s ", k, v)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func dumpAll(t testing.TB, s Store) (out string) {
	t.Helper()
	if err := s.View(func(r Reader) error { out = dump(t, r, "", ""); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConformance(t *testing.T) {
	conform(t, "get", func(t *testing.T, s Store) {
		put(t, s, "a", "1", "empty", "")
		s.View(func(r Reader) error {
			for k, want := range map[string][]byte{"a": []byte("1"), "empty": {}, "none": nil} {
				v, err := r.Get([]byte(k))
				if err != nil || !bytes.Equal(v, want) || (v == nil) != (want == nil) {
					t.Errorf("get %s: %q, %v", k, v, err)
				}
			}
			return nil
		})
		if err := s.Write([]Op{{Key: []byte("a")}, {Key: []byte("none")}}); err != nil {
			t.Fatal(err)
		}
		if got := dumpAll(t, s); got != "empty= " {
			t.Errorf("after deletes: %s", got)
		}
	})
	conform(t, "scan", func(t *testing.T, s Store) {
		put(t, s, "b", "2", "a", "1", "ab", "12", "c", "3", "ba", "21")
		s.View(func(r Reader) error {
			for _, c := range [][3]string{
				{"", "", "a=1 ab=12 b=2 ba=21 c=3 "}, {"a", "b", "a=1 ab=12 "}, {"aa", "ab", ""},
				{"b", "bb", "b=2 ba=21 "}, {"d", "", ""}, {"b", "a", ""}, {"ba", "", "ba=21 c=3 "},
			} {
				if got := dump(t, r, c[0], c[1]); got != c[2] {
					t.Errorf("scan [%s, %s): %s, not %s", c[0], c[1], got, c[2])
				}
			}
			stop := errors.New("stop")
			n := 0
			err := r.Scan(nil, nil, func(k, v []byte) (bool, error) { n++; return n < 2, nil })
			if n != 2 || err != nil {
				t.Errorf("a scan that is stopped: %d, %v", n, err)
			}
			if err := r.Scan(nil, nil, func(k, v []byte) (bool, error) { return true, stop }); err != stop {
				t.Errorf("an error in a scan: %v", err)
			}
			return nil
		})
	})
	conform(t, "iterators", func(t *testing.T, s Store) {
		put(t, s, "a", "1", "b", "2", "c", "3", "d", "4")
		s.View(func(r Reader) error {
			i, j := r.Iter([]byte("b"), []byte("d")), r.Iter(nil, nil)
			defer i.Close()
			defer j.Close()
			if !i.Seek(nil) || string(i.Key()) != "b" || !j.Seek([]byte("bb")) || string(j.Key()) != "c" {
				t.Error("seek")
			}
			if !i.Next() || string(i.Key()) != "c" || i.Next() || i.Seek([]byte("d")) || i.Seek([]byte("z")) {
				t.Error("bounds")
			}
			if !i.Seek([]byte("a")) || string(i.Key()) != "b" || !j.Next() || string(j.Key()) != "d" || j.Next() {
				t.Error("seek back")
			}
			return nil
		})
	})
	conform(t, "snapshots", func(t *testing.T, s Store) {
		put(t, s, "a", "1")
		s.View(func(r Reader) error {
			for i := range 300 {
				put(t, s, "a", fmt.Sprint(i), "b", "2")
			}
			if got := dump(t, r, "", ""); got != "a=1 " {
				t.Errorf("an older snapshot: %s", got)
			}
			s.View(func(r Reader) error {
				if got := dump(t, r, "", ""); got != "a=299 b=2 " {
					t.Errorf("a newer snapshot: %s", got)
				}
				return nil
			})
			return nil
		})
	})
	conform(t, "limits", func(t *testing.T, s Store) {
		big := bytes.Repeat([]byte("x"), MaxValueLen)
		if err := s.Write([]Op{{[]byte("big"), big}, {bytes.Repeat([]byte("k"), MaxKeyLen), []byte("v")}}); err != nil {
			t.Fatal(err)
		}
		s.View(func(r Reader) error {
			if v, _ := r.Get([]byte("big")); !bytes.Equal(v, big) {
				t.Error("a large value")
			}
			return nil
		})
		for _, ops := range [][]Op{
			{{[]byte("big"), append(big, 'x')}}, {{bytes.Repeat([]byte("k"), MaxKeyLen+1), []byte("v")}}, make([]Op, MaxBatchOps+1),
		} {
			if err := s.Write(ops); !errs.Is(err, errs.TooLarge) {
				t.Errorf("over a limit: %v", err)
			}
		}
		if err := s.Write([]Op{{nil, []byte("v")}}); !errs.Is(err, errs.Invalid) {
			t.Errorf("an empty key: %v", err)
		}
		put(t, s, "after", "1") // a refused batch is not a failed store
	})
	conform(t, "large batches are whole", func(t *testing.T, s Store) {
		const n = 120_000
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				s.View(func(r Reader) error {
					first, _ := r.Get([]byte("k000000"))
					last, _ := r.Get(fmt.Appendf(nil, "k%06d", n-1))
					if !bytes.Equal(first, last) {
						t.Errorf("a torn batch: %q, %q", first, last)
					}
					return nil
				})
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		for round := range 3 {
			ops := make([]Op, n)
			for i := range ops {
				ops[i] = Op{fmt.Appendf(nil, "k%06d", i), fmt.Appendf(nil, "%d-%080d", round, round)}
			}
			if err := s.Write(ops); err != nil {
				t.Fatal(err)
			}
		}
		close(stop)
		wg.Wait()
	})
	conform(t, "closed", func(t *testing.T, s Store) {
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if err := s.View(func(Reader) error { return nil }); !errs.Is(err, errs.Unavailable) {
			t.Errorf("view: %v", err)
		}
		if err := s.Write([]Op{{[]byte("a"), []byte("b")}}); !errs.Is(err, errs.Unavailable) {
			t.Errorf("write: %v", err)
		}
	})
}

// TestModel runs random batches, snapshots, restarts and checkpoints against a map.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base := filepath.Join(t.TempDir(), "kv")
		mem := NewMemory()
		// Value files, and their cleaning, come and go with an Open.
		options := func(checkpoint string, fresh bool) Options {
			o := Options{Checkpoint: checkpoint, Fresh: fresh, valueFileSize: 256}
			if least := rapid.IntRange(0, 3).Draw(rt, "bulky from"); least > 0 {
				o.Bulky = bulkyFrom(least)
			}
			return o
		}
		b, err := Open(base, options("", false))
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { b.Close() }()
		model := map[string]string{}
		var checkpoint string
		var saved map[string]string
		n := 0
		check := func() {
			checkLive(rt, b)
			want := render(model)
			for name, s := range map[string]Store{"memory": mem, "badger": b} {
				if got := dumpAll(t, s); got != want {
					rt.Fatalf("%s: %s\nwant %s", name, got, want)
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				batch := rapid.MapOf(rapid.StringMatching(`[ab]{1,3}`), rapid.StringMatching(`-|[xy]{0,3}`)).Draw(rt, "batch")
				var ops, copies []Op
				for k, v := range batch {
					op := Op{Key: []byte(k), Value: []byte(v)}
					if v == "-" {
						op.Value = nil
						delete(model, k)
					} else {
						model[k] = v
					}
					ops, copies = append(ops, op), append(copies, op)
				}
				if err := errors.Join(mem.Write(ops), b.Write(copies)); err != nil {
					rt.Fatal(err)
				}
			},
			"reopen": func(rt *rapid.T) {
				if err := b.Close(); err != nil {
					rt.Fatal(err)
				}
				if b, err = Open(base, options("/nonexistent", false)); err != nil {
					rt.Fatal(err)
				}
			},
			"checkpoint": func(rt *rapid.T) {
				n++
				checkpoint, saved = fmt.Sprintf("%s-cp%d", base, n), map[string]string{}
				for k, v := range model {
					saved[k] = v
				}
				if err := b.Checkpoint(checkpoint); err != nil {
					rt.Fatal(err)
				}
			},
			"restore": func(rt *rapid.T) {
				if checkpoint == "" {
					rt.Skip("no checkpoint")
				}
				b.Close()
				if b, err = Open(base, options(checkpoint, true)); err != nil {
					rt.Fatal(err)
				}
				model = map[string]string{}
				mem = NewMemory()
				for k, v := range saved {
					model[k] = v
					put(t, mem, k, v)
				}
			},
			"": func(*rapid.T) { check() },
		})
	})
}

func render(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b bytes.Buffer
	for _, k := range keys {
		fmt.Fprintf(&b, "%s=%s ", k, m[k])
	}
	return b.String()
}
