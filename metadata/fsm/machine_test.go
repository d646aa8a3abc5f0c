package fsm

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// failingStore refuses a write now and then.
type failingStore struct {
	kv.Store
	left int // writes until the next failure; negative: none
}

var errInjected = errors.New("injected")

func (s *failingStore) Write(ops []kv.Op) error {
	if s.left--; s.left == -1 {
		return errInjected
	}
	return s.Store.Write(ops)
}

// TestWriteFails: a batch whose write failed did not happen; the machine knows
// nothing that the store does not, and can go on.
func TestWriteFails(t *testing.T) {
	d := newDuel(t, 7)
	for range 150 {
		d.step()
	}
	want := dump(t, d.store)
	for fail := range 6 {
		s := &failingStore{kv.NewMemory(), 1000}
		m, err := New(s, Options{MaxWrite: 3000})
		if err != nil {
			t.Fatal(err)
		}
		failed := false
		for n := 0; n < len(d.log); {
			if n/20 == fail && !failed {
				s.left = fail % 3
			}
			batch := d.log[n:min(n+20, len(d.log))]
			if _, err := m.ApplyBatch(batch); errors.Is(err, errInjected) {
				s.left, failed = 1000, true
				continue // the same machine, the same entries
			} else if err != nil {
				t.Fatal(err)
			}
			n += len(batch)
		}
		if dump(t, s) != want || !failed {
			t.Fatalf("failure %d (%v): other bytes", fail, failed)
		}
	}
}

func TestStops(t *testing.T) {
	r := newRig(t)
	r.bucket("b")
	before := dump(t, r.store)
	nop, _ := metadata.Encode(&metadata.Command{Op: metadata.OpNop})
	for _, data := range [][]byte{{}, {0}, {metadata.CommandVersion + 1, 0x87}, append([]byte{}, "garbage"...)} {
		if _, err := r.m.ApplyBatch([]Entry{{Index: r.index + 1, Data: nop}, {Index: r.index + 2, Data: data}}); err == nil {
			t.Fatalf("%q was applied", data)
		}
		if dump(t, r.store) != before {
			t.Fatal("something was written")
		}
	}
	// An entry without a command, and one that was applied before.
	if _, err := r.m.ApplyBatch([]Entry{{Index: 1, Data: []byte("garbage")}, {Index: r.index + 5, Term: 3}}); err != nil {
		t.Fatal(err)
	}
	if r.m.Applied() != r.index+5 {
		t.Fatal(r.m.Applied())
	}
	r.reopen()
	r.view(func(v metadata.View) {
		if r.m.Applied() != r.index+5 || v.Applied() != r.index+5 || r.m.term != 3 {
			t.Fatal(r.m.Applied(), v.Applied(), r.m.term)
		}
	})
}

func TestLayoutVersion(t *testing.T) {
	s := kv.NewMemory()
	if err := s.Write([]kv.Op{{Key: []byte(keyFormat), Value: []byte{layoutVersion + 1}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := New(s, Options{}); !errs.Is(err, errs.Unsupported) {
		t.Fatal(err)
	}
}

// TestTxn compares a transaction with a map: reads, scans and rollbacks.
func TestTxn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store, model := kv.NewMemory(), map[string]string{}
		key := rapid.StringMatching(`[is][a-c]{0,3}`)
		var ops []kv.Op
		for k, v := range rapid.MapOf(key, rapid.StringN(1, 3, 3)).Draw(t, "base") {
			ops = append(ops, kv.Op{Key: []byte(k), Value: []byte(v)})
			model[k] = v
		}
		if err := store.Write(ops); err != nil {
			t.Fatal(err)
		}
		err := store.View(func(r kv.Reader) error {
			x := &txn{base: r, cache: newCache(rapid.IntRange(1, 2000).Draw(t, "cache"))}
			saved := copyOf(model)
			t.Repeat(map[string]func(*rapid.T){
				"set": func(t *rapid.T) {
					k, v := key.Draw(t, "k"), rapid.StringN(1, 3, 3).Draw(t, "v")
					x.set(k, []byte(v))
					model[k] = v
				},
				"del": func(t *rapid.T) {
					k := key.Draw(t, "k")
					x.del(k)
					delete(model, k)
				},
				"begin": func(*rapid.T) { x.begin(); saved = copyOf(model) },
				"rollback": func(*rapid.T) {
					x.rollback()
					model = copyOf(saved)
				},
				"": func(t *rapid.T) { compareTxn(t, x, model, key.Draw(t, "from"), key.Draw(t, "to")) },
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func copyOf(m map[string]string) map[string]string {
	c := map[string]string{}
	for k, v := range m {
		c[k] = v
	}
	return c
}

func compareTxn(t *rapid.T, x *txn, model map[string]string, from, to string) {
	if v, err := x.get(from); err != nil || string(v) != model[from] {
		t.Fatalf("%q is %q %v, want %q", from, v, err, model[from])
	}
	n, last, size := 0, "", 0
	err := x.scan(from, to, func(k, v []byte) (bool, error) {
		if string(k) < from || to != "" && string(k) >= to || string(k) <= last || model[string(k)] != string(v) {
			t.Fatalf("scan of [%q, %q): %q=%q after %q", from, to, k, v, last)
		}
		last = string(k)
		n++
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for k := range model {
		if k >= from && (to == "" || k < to) {
			n--
		}
	}
	if n != 0 {
		t.Fatalf("scan of [%q, %q) in %v: %d too many", from, to, model, n)
	}
	x.over.Scan(func(k string, v []byte) bool { size += len(k) + len(v); return true })
	if size != x.bytes {
		t.Fatalf("%d bytes, counted as %d", size, x.bytes)
	}
}

// TestSameOnBadger: the store makes no difference, also when it is closed in between.
func TestSameOnBadger(t *testing.T) {
	d := newDuel(t, 11)
	for range 200 {
		d.step()
	}
	dir := t.TempDir()
	for part := range 3 {
		s, err := kv.Open(dir, kv.Options{Bulky: Bulky})
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(s, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.ApplyBatch(d.log[:len(d.log)*(part+1)/3]); err != nil {
			t.Fatal(err)
		}
		if part == 2 && dump(t, s) != dump(t, d.store) {
			t.Fatal("other bytes")
		}
		if err := m.View(Check); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestViewsMeanwhile: views beside ApplyBatch see whole commands, and the index
// that goes with them.
func TestViewsMeanwhile(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	first := r.index
	stop, done := make(chan struct{}), make(chan error, 2)
	for range 2 {
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				err := r.m.View(func(v metadata.View) error {
					page, err := v.List(b.ID, metadata.ListQuery{Max: 1000})
					if err == nil && uint64(len(page.Items)) != v.Applied()-first {
						err = errors.New("the index does not go with the keys")
					}
					return errors.Join(err, Check(v))
				})
				if err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for n := range 300 {
		r.put(b, string(rune('a'+n%26))+"/"+string(rune('0'+n)), "x")
	}
	close(stop)
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
