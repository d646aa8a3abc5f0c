// Package kv is the ordered key-value store under a metadata replica: Badger on a
// drive, or a B-tree in memory for tests, behind one interface and one
// conformance suite.
package kv

// Reader is a consistent snapshot. It is not safe for concurrent use.
type Reader interface {
	// Get returns the value of key, or nil and no error where there is none. The
	// slice is valid until the snapshot ends and must not be changed.
	Get(key []byte) ([]byte, error)
	// Scan calls fn for each key in [start, end) in ascending byte order, until fn
	// returns false or an error. A nil end means no bound. Slices are valid only
	// during the call.
	Scan(start, end []byte, fn func(key, value []byte) (bool, error)) error
	// Iter returns a cursor over [start, end). It must be closed before the
	// snapshot ends. Several may be open at once.
	Iter(start, end []byte) Iterator
}

// Iterator walks keys in ascending byte order.
//
//	for ok := it.Seek(start); ok; ok = it.Next() { it.Key(); it.Value() }
//	err := it.Close()
type Iterator interface {
	// Seek moves to the first key >= key within the bounds, and reports whether there is one.
	Seek(key []byte) bool
	// Next moves on by one and reports whether there is a key.
	Next() bool
	// Key and Value are valid until the next move.
	Key() []byte
	Value() ([]byte, error)
	// Close releases the cursor and returns the first error it met.
	Close() error
}

// Op is one change of a batch: a set, or a delete where Value is nil. An empty,
// non-nil Value is a value.
type Op struct {
	Key   []byte
	Value []byte
}

// Store is an ordered key-value store.
type Store interface {
	// View calls fn with a snapshot of everything written before the call. Safe
	// for concurrent use, also with Write.
	View(fn func(Reader) error) error
	// Write applies ops in order, all or nothing, visible to every View that
	// starts afterwards. Keys are unique within ops. It may keep the slices and
	// never changes them, nor may the caller: the same ops may be written to several
	// stores. It is atomic but not durable on its own: the raft log is, and
	// Checkpoint makes it so. One writer at a time.
	Write(ops []Op) error
	// Close makes everything durable and releases the files.
	Close() error
}
