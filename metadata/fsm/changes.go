package fsm

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"twofold/metadata/kv"
)

// Position is an entry's place in the log. By raft's Log Matching property (Ongaro
// and Ousterhout, "In Search of an Understandable Consensus Algorithm", figure 3)
// two logs of a group that have an entry of the same index and term are the same up
// to it. The zero Position is the beginning.
type Position struct{ Index, Term uint64 }

// Changes are the exact result of applying a run of entries to the state at a
// position of the log: what another machine at that position may write instead of
// applying the same entries. They never change and are safe for concurrent use.
//
// What a machine remembers beside its store is an image of keys (cache, windows of
// sessions, recent), so that the writes are all that has to be handed over. Results
// are not in here: they are for the one who proposed.
type Changes struct {
	base, last Position
	count      int          // of the run's entries
	run        xxh3.Uint128 // of the run's entries, see hashRun
	ops        []kv.Op      // in the order of keys, the applied index among them
	size       int
}

// changeOverhead is what an op takes beside its bytes, about.
const changeOverhead = 64

func newChanges(base, last Position, run []Entry, ops []kv.Op) *Changes {
	c := &Changes{base: base, last: last, count: len(run), run: hashRun(run), ops: ops}
	for i := range ops {
		c.size += len(ops[i].Key) + len(ops[i].Value) + changeOverhead
	}
	return c
}

// Base is the position of the state that the changes are for.
func (c *Changes) Base() Position { return c.base }

// Last is the position of the state that they make of it.
func (c *Changes) Last() Position { return c.last }

// Size is how many bytes they take in memory, about.
func (c *Changes) Size() int { return c.size }

// hashRun identifies entries by place and content. The terms alone would do as long
// as every log in the process is of one history; the content costs a hundredth of
// what applying it does, and holds also where that is wrong.
func hashRun(run []Entry) xxh3.Uint128 {
	b := make([]byte, 0, 33*len(run))
	for _, e := range run {
		b = be64(be64(b, e.Index), e.Term)
		if e.Data == nil {
			b = append(b, 0)
			continue
		}
		sum := xxh3.Hash128(e.Data)
		b = be64(be64(append(b, 1), sum.Hi), sum.Lo)
	}
	return xxh3.Hash128(b)
}

// unapplied are the entries behind an applied index.
func unapplied(entries []Entry, applied uint64) []Entry {
	for len(entries) > 0 && entries[0].Index <= applied {
		entries = entries[1:]
	}
	return entries
}

// OnChanges has publish called with the changes of each run that ApplyBatch
// computes, before they are written; not with those that are taken. It is called by
// the goroutine that applies, or before there is one; so is publish.
func (m *Machine) OnChanges(publish func(*Changes)) { m.publish = publish }

// Position is that of the last entry that was applied. It is for the goroutine that
// applies.
func (m *Machine) Position() Position { return Position{m.Applied(), m.term} }

// Take is ApplyBatch of the first n entries with changes that another machine
// computed, of one run behind the other. Of them as many are taken, in one write, as are
// of exactly these entries, on exactly the state that the machine has: if none is, n is
// 0, and nothing happened. There are no results. An error stops the replica, as one of
// ApplyBatch does.
func (m *Machine) Take(cs []*Changes, entries []Entry) (n int, err error) {
	at := m.Position()
	rest := unapplied(entries, at.Index)
	fit := 0
	for _, c := range cs {
		if !c.of(at, rest) {
			break
		}
		at, rest = c.last, rest[c.count:]
		fit++
	}
	if fit == 0 {
		return 0, nil
	}
	if err := m.commit(merge(cs[:fit]), at, m.remember); err != nil {
		return 0, err // what is remembered is of the store as it was
	}
	return len(entries) - len(rest), nil
}

// of tells whether c is what the first of the entries make of the state at a position.
func (c *Changes) of(at Position, entries []Entry) bool {
	if c.base != at || c.count == 0 || c.count > len(entries) {
		return false
	}
	e := entries[c.count-1]
	return c.last == Position{e.Index, e.Term} && c.run == hashRun(entries[:c.count])
}

// merge is what changes write one after the other, as one write: of each key the last.
func merge(cs []*Changes) []kv.Op {
	if len(cs) == 1 {
		return cs[0].ops
	}
	n := 0
	for _, c := range cs {
		n += len(c.ops)
	}
	ops := make([]kv.Op, 0, n)
	at := make(map[string]int, n)
	for _, c := range cs {
		for _, op := range c.ops {
			if i, ok := at[string(op.Key)]; ok {
				ops[i] = op
				continue
			}
			at[string(op.Key)] = len(ops)
			ops = append(ops, op)
		}
	}
	return ops
}

// remember brings what the machine keeps in memory of its store to after changes
// that it took. Nothing is kept anew: a machine that only takes never reads it.
func (m *Machine) remember(ops []kv.Op) {
	for i := range ops {
		m.cache.update(ops[i].Key, ops[i].Value)
	}
	if len(m.sessions) == 0 {
		return
	}
	for i := range ops {
		m.rememberSession(ops[i].Key, ops[i].Value)
	}
}

// rememberSession keeps the window of a session an image of its keys.
func (m *Machine) rememberSession(key, value []byte) {
	switch key[0] {
	case pSession, pAcked, pKept:
	default:
		return
	}
	id := sessionIn(key)
	w := m.sessions[id]
	switch {
	case w == nil:
	case key[0] == pKept && value != nil:
		w.kept.Insert(binary.BigEndian.Uint64(key[9:]))
	case key[0] == pKept:
		w.kept.Delete(binary.BigEndian.Uint64(key[9:]))
	case key[0] == pAcked && len(value) == 8:
		w.acked = binary.BigEndian.Uint64(value)
	default: // the record, or the session is forgotten: read again at need
		delete(m.sessions, id)
	}
}
