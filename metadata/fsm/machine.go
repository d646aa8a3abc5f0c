package fsm

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// layoutVersion is the version of the key space in doc.go.
const layoutVersion = 1

// Options tune a Machine. Zero values are the defaults. They do not change what
// the machine computes.
type Options struct {
	MaxWrite   int // bytes of changes after which a batch is split into several writes (4 MiB)
	CacheBytes int // bytes that the cache may hold, about (16 MiB)
	ViewBytes  int // bytes that what views read lately may hold, about (48 MiB)

	// ExtentBytes is how many bytes the extents of files that are being changed may
	// hold, about (32 MiB).
	ExtentBytes int
}

// Entry is a command of the raft log. Data nil: an entry that has no command (it
// only moves the applied index on).
type Entry struct {
	Index, Term uint64
	Data        []byte
}

// Machine applies commands to a store. ApplyBatch is for one goroutine at a time;
// View and Applied are safe for concurrent use, also with ApplyBatch.
type Machine struct {
	store    kv.Store
	maxWrite int
	recent   *recent
	extents  *recentExtents
	known    *knownExtents

	// Of the goroutine that applies:
	publish  func(*Changes) // nil: nobody asked
	cache    *cache
	sessions map[twofold.SessionID]*window
	term     uint64

	applied atomic.Uint64
}

// New opens the machine on its store, which may be empty. errs.Unsupported where
// the store was written in a layout that this program does not know.
func New(store kv.Store, o Options) (*Machine, error) {
	if o.MaxWrite == 0 {
		o.MaxWrite = 4 << 20
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 16 << 20
	}
	if o.ViewBytes == 0 {
		o.ViewBytes = 48 << 20
	}
	if o.ExtentBytes == 0 {
		o.ExtentBytes = 32 << 20
	}
	m := &Machine{store: store, maxWrite: o.MaxWrite, recent: newRecent(o.ViewBytes), extents: newRecentExtents()}
	m.known = newKnownExtents(o.ExtentBytes)
	m.cache = newCache(o.CacheBytes / 2)
	m.sessions = map[twofold.SessionID]*window{}
	var format []byte
	err := store.View(func(r kv.Reader) (err error) {
		if format, err = r.Get([]byte(keyFormat)); err != nil {
			return err
		}
		format = append([]byte(nil), format...)
		index, term, err := appliedIn(snapshot{r})
		m.applied.Store(index)
		m.term = term
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(format) == 0 {
		return m, store.Write([]kv.Op{{Key: []byte(keyFormat), Value: []byte{layoutVersion}}})
	}
	if len(format) != 1 || format[0] != layoutVersion {
		return nil, errs.Newf("fsm.New", errs.Unsupported, "metadata of layout %v, this program knows %d", format, layoutVersion)
	}
	return m, nil
}

// appliedIn reads the index and the term of the last command in the store.
func appliedIn(r reader) (index, term uint64, err error) {
	v, err := r.get(keyApplied)
	if err != nil || v == nil {
		return 0, 0, err
	}
	if len(v) != 16 {
		return 0, 0, errNumber
	}
	return binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:]), nil
}

// Applied is the index of the last command that views can see.
func (m *Machine) Applied() uint64 { return m.applied.Load() }

// ApplyBatch applies committed entries in order and returns a result for each (a
// zero Result for those that were applied before). The changes, with the applied
// index, reach the store in one write, or in several between commands when they
// are many. An error stops the replica: the store failed, or an entry can't be
// understood. What was written before it stays, and is skipped when the same
// entries come again.
func (m *Machine) ApplyBatch(entries []Entry) ([]metadata.Result, error) {
	cmds := make([]*metadata.Command, len(entries))
	for i, e := range entries {
		if e.Data == nil || e.Index <= m.Applied() {
			continue
		}
		c, err := metadata.Decode(e.Data)
		if err != nil {
			return nil, fmt.Errorf("fsm: entry %d of the log: %w", e.Index, err)
		}
		cmds[i] = c
	}
	results := make([]metadata.Result, len(entries))
	for done := 0; done < len(entries); {
		n, err := m.applySome(entries[done:], cmds[done:], results[done:])
		if err != nil {
			m.forget()
			return nil, err
		}
		done += n
	}
	return results, nil
}

// applySome applies entries until their changes fill one write, and writes them.
func (m *Machine) applySome(entries []Entry, cmds []*metadata.Command, results []metadata.Result) (n int, err error) {
	base := m.Position()
	last, term := base.Index, base.Term
	var t *txn
	err = m.store.View(func(r kv.Reader) error {
		t = &txn{base: r, cache: m.cache, known: m.known}
		a := &applier{state: state{t}, txn: t, machine: m, inodes: map[twofold.Ino]held{}}
		for n < len(entries) && t.bytes < m.maxWrite {
			e := entries[n]
			if e.Index > last {
				if cmds[n] != nil {
					res, err := a.apply(cmds[n])
					if err != nil {
						return fmt.Errorf("fsm: entry %d of the log: %w", e.Index, err)
					}
					results[n] = *res
				}
				last, term = e.Index, e.Term
			}
			n++
		}
		t.begin()
		t.set(keyApplied, be64(be64(make([]byte, 0, 16), last), term))
		return nil
	})
	if err != nil || last == base.Index {
		return n, err
	}
	ops, end := t.ops(), Position{last, term}
	if m.publish != nil {
		m.publish(newChanges(base, end, unapplied(entries[:n], base.Index), ops))
	}
	return n, m.commit(ops, end, m.keep)
}

// commit writes what makes the state the one at a position. remember is called with
// what was written before anybody can ask for the position.
func (m *Machine) commit(ops []kv.Op, last Position, remember func([]kv.Op)) error {
	m.recent.change(ops, last.Index)
	m.extents.change(ops, last.Index)
	m.known.change(ops, last.Index)
	if err := m.store.Write(ops); err != nil {
		m.known.clear()
		return err
	}
	remember(ops)
	m.term = last.Term
	m.applied.Store(last.Index)
	return nil
}

// keep keeps what commands wrote: the next ones are likely to read it.
func (m *Machine) keep(ops []kv.Op) {
	for _, op := range ops {
		m.cache.put(string(op.Key), op.Value)
	}
}

// forget drops what the machine remembers of its store, after an error.
func (m *Machine) forget() {
	m.cache.clear()
	m.known.clear()
	clear(m.sessions)
}
