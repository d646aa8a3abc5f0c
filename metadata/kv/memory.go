package kv

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"twofold/internal/errs"
)

// Memory is a Store without files: a B-tree whose snapshots share what did not
// change. Everything is lost with the process.
type Memory struct {
	mu     sync.Mutex              // serialises Write and Close
	tree   *btree.BTreeG[Op]       // guarded by mu; readers never touch it
	snap   atomic.Pointer[memSnap] // what Views see; nil when closed
	closed bool                    // guarded by mu
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	m := &Memory{tree: btree.NewBTreeGOptions(func(a, b Op) bool {
		return bytes.Compare(a.Key, b.Key) < 0
	}, btree.Options{NoLocks: true})}
	m.publish()
	return m
}

// publish makes the tree's present content what Views see. The copy is taken here,
// by the writer, so that readers share an immutable tree without any lock.
func (m *Memory) publish() { m.snap.Store(&memSnap{tree: m.tree.Copy()}) }

// View implements Store.
func (m *Memory) View(fn func(Reader) error) error {
	s := m.snap.Load()
	if s == nil {
		return errs.Newf("kv.View", errs.Unavailable, "the store is closed")
	}
	return fn(s)
}

// Write implements Store.
func (m *Memory) Write(ops []Op) error {
	if err := checkBatch(ops); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errs.Newf("kv.Write", errs.Unavailable, "the store is closed")
	}
	for _, op := range ops {
		if op.Value == nil {
			m.tree.Delete(op)
		} else {
			m.tree.Set(op)
		}
	}
	m.publish()
	return nil
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.snap.Store(nil)
	return nil
}

// memSnap is an immutable tree.
type memSnap struct{ tree *btree.BTreeG[Op] }

var _ Reader = (*memSnap)(nil)

func (s *memSnap) Get(key []byte) ([]byte, error) {
	op, ok := s.tree.Get(Op{Key: key})
	if !ok {
		return nil, nil
	}
	return op.Value, nil
}

func (s *memSnap) Scan(start, end []byte, fn func(key, value []byte) (bool, error)) error {
	return scan(s.Iter(start, end), start, fn)
}

func (s *memSnap) Iter(start, end []byte) Iterator {
	return &memIter{it: s.tree.Iter(), start: start, end: end}
}

// memIter is a cursor of a memSnap.
type memIter struct {
	it         btree.IterG[Op]
	start, end []byte
}

var _ Iterator = (*memIter)(nil)

func (i *memIter) Seek(key []byte) bool {
	if bytes.Compare(key, i.start) < 0 {
		key = i.start
	}
	return i.it.Seek(Op{Key: key}) && i.inside()
}

func (i *memIter) Next() bool { return i.it.Next() && i.inside() }

func (i *memIter) inside() bool {
	return i.end == nil || bytes.Compare(i.it.Item().Key, i.end) < 0
}

func (i *memIter) Key() []byte            { return i.it.Item().Key }
func (i *memIter) Value() ([]byte, error) { return i.it.Item().Value, nil }

func (i *memIter) Close() error {
	i.it.Release()
	return nil
}

// scan is Reader.Scan in terms of an iterator, which it closes.
func scan(it Iterator, start []byte, fn func(key, value []byte) (bool, error)) (err error) {
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}()
	for ok := it.Seek(start); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil {
			return err
		}
		if more, err := fn(it.Key(), v); err != nil || !more {
			return err
		}
	}
	return nil
}
