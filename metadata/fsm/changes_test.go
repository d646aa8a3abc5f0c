package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// TestTake applies random logs on several machines that take each other's changes or
// compute, as chance has it, with restarts and copies of the store in between. Every
// result that is computed, every store in the end, and every value that views read
// must be those of a machine that computed all of it, one entry at a time.
func TestTake(t *testing.T) {
	seeds := 24
	if testing.Short() {
		seeds = 4
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			d := newDuel(t, 1000+seed)
			for range 120 {
				d.step()
			}
			h := newHerd(t, d)
			for range 4 {
				h.run()
			}
			if h.took < 50 {
				t.Errorf("%d runs were taken", h.took)
			}
		})
	}
}

// herd are machines on one log.
type herd struct {
	t    *testing.T
	rnd  *rand.Rand
	log  []Entry
	want []metadata.Result // of each entry
	dump string            // of the store in the end
	took int

	members []*member
	runs    []*Changes
}

type member struct {
	store kv.Store
	m     *Machine
	o     Options
	at    int // entries of the log that were applied
}

// newHerd makes a log of the duel's commands: with gaps and terms as in a log of raft,
// with commands that come again, and sessions that come and go.
func newHerd(t *testing.T, d *duel) *herd {
	h := &herd{t: t, rnd: d.rnd}
	index, term := uint64(0), uint64(1)
	add := func(c *metadata.Command) {
		data, err := metadata.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		index++
		for d.rnd.IntN(8) == 0 {
			index++
		}
		if d.rnd.IntN(20) == 0 {
			term++
		}
		h.log = append(h.log, Entry{Index: index, Term: term, Data: data})
		if d.rnd.IntN(60) == 0 {
			index++
			h.log = append(h.log, Entry{Index: index, Term: term}) // without a command
		}
	}
	for i, e := range d.log {
		c, err := metadata.Decode(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		c.Acked = c.Seq - min(c.Seq, uint64(d.rnd.IntN(12)))
		add(c)
		if i > 0 && d.rnd.IntN(5) == 0 {
			c, err := metadata.Decode(d.log[max(1, i-d.rnd.IntN(15))].Data)
			if err != nil {
				t.Fatal(err)
			}
			add(c)
		}
		if i > 0 && d.rnd.IntN(5) == 0 {
			add(d.sessionCommand())
		}
	}
	alone := &member{store: kv.NewMemory()}
	h.open(alone)
	for _, e := range h.log {
		res, err := alone.m.ApplyBatch([]Entry{e})
		if err != nil {
			t.Fatal(err)
		}
		h.want = append(h.want, res[0])
	}
	h.dump = dump(t, alone.store)
	return h
}

// sessionCommand is about one of a few sessions, or of one of them.
func (d *duel) sessionCommand() *metadata.Command {
	id := d.session + 1 + twofold.SessionID(d.rnd.IntN(4))
	switch d.rnd.IntN(8) {
	case 0, 1, 2:
		return &metadata.Command{Op: metadata.OpBeginSession, Now: 3, Body: &metadata.BeginSession{Kind: metadata.SessionMount, Nonce: twofold.UUID{2, byte(d.rnd.IntN(6))}}}
	case 3:
		return &metadata.Command{Op: metadata.OpEndSession, Now: 4, Session: d.session, Seq: 1<<40 + d.rnd.Uint64N(1<<30), Body: &metadata.EndSession{ID: id}}
	case 4:
		return &metadata.Command{Op: metadata.OpForgetSession, Now: 5, Session: d.session, Seq: 1<<40 + d.rnd.Uint64N(1<<30), Body: &metadata.ForgetSession{ID: id}}
	}
	seq := d.rnd.Uint64N(40)
	return &metadata.Command{Op: metadata.OpSetConfig, Now: 6, Session: id, Seq: seq, Acked: seq - min(seq, d.rnd.Uint64N(6)),
		Body: &metadata.SetConfig{Name: pick(d, "x", "y"), Value: []byte{byte(d.rnd.IntN(9))}}}
}

// open starts a member's machine on its store.
func (h *herd) open(m *member) {
	var err error
	if m.m, err = New(m.store, m.o); err != nil {
		h.t.Fatal(err)
	}
	m.m.OnChanges(func(c *Changes) { h.runs = append(h.runs, c) })
}

// run applies the log on three machines.
func (h *herd) run() {
	h.members, h.runs = nil, nil
	for range 3 {
		m := &member{store: kv.NewMemory(), o: Options{
			MaxWrite: []int{1, 2000, 1 << 20}[h.rnd.IntN(3)], CacheBytes: []int{1, 10_000, 1 << 20}[h.rnd.IntN(3)], ViewBytes: 1 << 20,
		}}
		h.open(m)
		h.members = append(h.members, m)
	}
	for {
		m := h.members[h.rnd.IntN(len(h.members))]
		h.step(m)
		if !slices.ContainsFunc(h.members, func(m *member) bool { return m.at < len(h.log) }) {
			break
		}
	}
	for _, m := range h.members {
		if got := dump(h.t, m.store); got != h.dump {
			h.t.Fatalf("the same log, other bytes:\n%s\n%s", got, h.dump)
		}
		h.checkView(m)
	}
}

// chain is a run and, behind it, up to five that begin where the one before ends.
func (h *herd) chain(i int) []*Changes {
	cs := []*Changes{h.runs[i]}
	for range h.rnd.IntN(6) {
		next := slices.IndexFunc(h.runs, func(c *Changes) bool { return c.Base() == cs[len(cs)-1].Last() })
		if next < 0 {
			break
		}
		cs = append(cs, h.runs[next])
	}
	return cs
}

// step has a member apply the next entries, or start again.
func (h *herd) step(m *member) {
	switch h.rnd.IntN(40) {
	case 0: // it starts again
		h.open(m)
		return
	case 1: // it is made again, from the snapshot of another one
		from := h.members[h.rnd.IntN(len(h.members))]
		m.store, m.at = storeCopy(h.t, from.store), from.at
		h.open(m)
		return
	case 2, 3:
		h.checkView(m)
		return
	}
	from := max(0, m.at-h.rnd.IntN(3)) // some come again
	batch := h.log[from:min(len(h.log), m.at+20)]
	if len(batch) == 0 {
		return
	}
	if h.rnd.IntN(3) > 0 {
		for _, i := range h.rnd.Perm(len(h.runs)) { // those that do not fit, too
			before := m.m.Position()
			n, err := m.m.Take(h.chain(i), batch)
			if err != nil {
				h.t.Fatal(err)
			}
			if n > 0 {
				m.at = from + n
				h.took++
				return
			}
			if m.m.Position() != before {
				h.t.Fatal("nothing was taken, and the machine moved")
			}
		}
	}
	batch = h.log[from:min(len(h.log), m.at+1+h.rnd.IntN(8))]
	results, err := m.m.ApplyBatch(batch)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := range batch {
		if from+i >= m.at && !sameResult(h.t, &results[i], &h.want[from+i]) {
			h.t.Fatalf("entry %d: %+v, want %+v", batch[i].Index, results[i], h.want[from+i])
		}
	}
	m.at = from + len(batch)
}

// checkView compares what views read, from what they keep, with the store.
func (h *herd) checkView(m *member) {
	h.t.Helper()
	if err := m.m.View(Check); err != nil {
		h.t.Fatal(err)
	}
	for range 2 { // the second time from what the first one kept
		err := m.m.View(func(v metadata.View) error {
			v2 := v.(*view)
			return v2.r.Scan(nil, nil, func(k, want []byte) (bool, error) {
				got, err := v2.get(string(k))
				if err == nil && !bytes.Equal(got, want) {
					err = fmt.Errorf("key %x: a view has %x, the store %x", k, got, want)
				}
				return err == nil, err
			})
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

func sameResult(t *testing.T, a, b *metadata.Result) bool {
	x, err := metadata.EncodeResult(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := metadata.EncodeResult(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

func storeCopy(t *testing.T, s kv.Store) kv.Store {
	var ops []kv.Op
	err := s.View(func(r kv.Reader) error {
		return r.Scan(nil, nil, func(k, v []byte) (bool, error) {
			ops = append(ops, kv.Op{Key: bytes.Clone(k), Value: append([]byte{}, v...)})
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	m := kv.NewMemory()
	if err := m.Write(ops); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTakeOnlyExact: changes are taken of exactly the entries that they are of, on
// exactly the state that they are for.
func TestTakeOnlyExact(t *testing.T) {
	config := func(value string) []byte {
		data, err := metadata.Encode(&metadata.Command{Op: metadata.OpNop, Body: &metadata.Nop{}, Now: twofold.Time(len(value))})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	log := []Entry{{Index: 1, Term: 1, Data: config("a")}, {Index: 2, Term: 2, Data: config("ab")}, {Index: 4, Term: 2, Data: config("abc")}, {Index: 5, Term: 2, Data: config("abcd")}}
	open := func(applied int) (*Machine, kv.Store) {
		store := kv.NewMemory()
		m, err := New(store, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.ApplyBatch(log[:applied]); err != nil {
			t.Fatal(err)
		}
		return m, store
	}
	var c *Changes
	m, _ := open(1)
	m.OnChanges(func(got *Changes) { c = got })
	if _, err := m.ApplyBatch(log[1:3]); err != nil {
		t.Fatal(err)
	}
	if c.Base() != (Position{1, 1}) || c.Last() != (Position{4, 2}) {
		t.Fatalf("changes from %v to %v", c.Base(), c.Last())
	}
	with := func(i int, e Entry) []Entry {
		l := slices.Clone(log[1:])
		l[i] = e
		return l
	}
	for _, test := range []struct {
		name    string
		applied int
		entries []Entry
		want    int
	}{
		{"the same", 1, log[1:3], 2},
		{"more behind", 1, log[1:], 2},
		{"some come again", 1, log, 3},
		{"a shorter batch", 1, log[1:2], 0},
		{"no entries", 1, nil, 0},
		{"a state before", 0, log, 0},
		{"a state behind", 2, log[2:], 0},
		{"another first term", 1, with(0, Entry{2, 3, log[1].Data}), 0},
		{"another last term", 1, with(1, Entry{4, 3, log[2].Data}), 0},
		{"another index", 1, with(0, Entry{3, 2, log[1].Data}), 0},
		{"another last index", 1, with(1, Entry{5, 2, log[2].Data}), 0},
		{"another command", 1, with(0, Entry{2, 2, config("other")}), 0},
		{"another last command", 1, with(1, Entry{4, 2, config("other")}), 0},
		{"no command", 1, with(0, Entry{2, 2, nil}), 0},
	} {
		m, store := open(test.applied)
		before := dump(t, store)
		n, err := m.Take([]*Changes{c}, test.entries)
		if err != nil || n != test.want {
			t.Errorf("%s: took %d (%v), want %d", test.name, n, err, test.want)
		}
		if n == 0 && (dump(t, store) != before || m.Applied() != log[max(0, test.applied-1)].Index*uint64(min(test.applied, 1))) {
			t.Errorf("%s: nothing was taken, and the state changed", test.name)
		}
	}
	other := []Entry{{Index: 1, Term: 7, Data: log[0].Data}} // another history, which ends at the same index
	m2, err := New(kv.NewMemory(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m2.ApplyBatch(other); err != nil {
		t.Fatal(err)
	}
	if n, err := m2.Take([]*Changes{c}, log[1:]); n != 0 || err != nil {
		t.Errorf("another history: took %d (%v)", n, err)
	}
}

// TestTakeFails: a machine whose store fails remembers nothing that is not there.
func TestTakeFails(t *testing.T) {
	r := newRig(t)
	var c *Changes
	r.bucket("one")
	behind := storeCopy(t, r.store)
	r.m.OnChanges(func(got *Changes) { c = got })
	r.bucket("two")
	bad := &brokenStore{Store: behind}
	m, err := New(bad, Options{})
	if err != nil {
		t.Fatal(err)
	}
	last := r.log[len(r.log)-1:]
	bad.err = errs.Newf("test", errs.Other, "a failed write")
	if n, err := m.Take([]*Changes{c}, last); n != 0 || err == nil {
		t.Fatalf("took %d, %v", n, err)
	}
	bad.err = nil
	if n, err := m.Take([]*Changes{c}, last); n != 1 || err != nil {
		t.Fatalf("took %d, %v", n, err)
	}
	if dump(t, behind) != dump(t, r.store) {
		t.Error("other bytes")
	}
}

type brokenStore struct {
	kv.Store
	err error
}

func (s *brokenStore) Write(ops []kv.Op) error {
	if s.err != nil {
		return s.err
	}
	return s.Store.Write(ops)
}
