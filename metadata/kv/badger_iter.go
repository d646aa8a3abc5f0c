package kv

import (
	"bytes"

	"github.com/dgraph-io/badger/v4"
)

// badgerIter is a cursor of a badgerSnap.
type badgerIter struct {
	it         *badger.Iterator
	start, end []byte
	values     *values
}

var _ Iterator = (*badgerIter)(nil)

// Iter implements Reader.
func (s *badgerSnap) Iter(start, end []byte) Iterator {
	return &badgerIter{
		// What all keys have in common lets Badger leave out tables. More than that:
		// Seek and Next walk on until they have found a value that is alive, behind the
		// end as well unless the prefix stops them, and there may be very many deleted
		// keys and old versions of one key.
		it:    s.txn.NewIterator(badger.IteratorOptions{Prefix: commonPrefix(start, end)}),
		start: start, end: end, values: s.values,
	}
}

// commonPrefix is the longest prefix that is known of every key in [start, end).
func commonPrefix(start, end []byte) []byte {
	n := 0
	for n < len(start) && n < len(end) && start[n] == end[n] {
		n++
	}
	// The end of a prefix's keys is the prefix with its last byte one higher.
	if n == len(end)-1 && n < len(start) && start[n]+1 == end[n] {
		n++
	}
	return start[:n:n]
}

func (i *badgerIter) Seek(key []byte) bool {
	if bytes.Compare(key, i.start) < 0 {
		key = i.start
	}
	if i.end != nil && bytes.Compare(key, i.end) >= 0 {
		return false
	}
	i.it.Seek(key)
	return i.inside()
}

func (i *badgerIter) Next() bool {
	i.it.Next()
	return i.inside()
}

func (i *badgerIter) inside() bool {
	return i.it.Valid() && (i.end == nil || bytes.Compare(i.it.Item().Key(), i.end) < 0)
}

func (i *badgerIter) Key() []byte            { return i.it.Item().Key() }
func (i *badgerIter) Value() ([]byte, error) { return itemValue(i.it.Item(), i.values) }

// Close implements Iterator. Badger's iterators meet errors in Value alone: a block
// that can't be read panics (see DESIGN.md).
func (i *badgerIter) Close() error {
	i.it.Close()
	return nil
}
