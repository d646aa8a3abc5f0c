package fsm

import (
	"bytes"

	"github.com/tidwall/btree"

	"twofold/metadata/kv"
)

// reader is what both the machine's transaction and a snapshot offer. Returned
// slices must not be changed nor kept beyond the transaction or snapshot.
type reader interface {
	get(key string) ([]byte, error)
	// scan walks [start, end), at least one of which is set; an empty end is no bound.
	scan(start, end string, fn func(key, value []byte) (bool, error)) error
}

// txn is the state as the commands of a batch see it: their own changes, over a
// cache, over a snapshot. Not safe for concurrent use.
type txn struct {
	base  kv.Reader
	cache *cache
	known *knownExtents             // of base
	learn bool                      // what is scanned of extents is to be remembered
	over  btree.Map[string, []byte] // nil: deleted
	bytes int                       // of keys and values in over, about
	undo  []change                  // of the command under way, newest last
	large bool                      // the command under way wrote a value that no record may have
}

type change struct {
	key  string
	prev []byte
	had  bool // the key was in over
}

var (
	_ reader = (*txn)(nil)
	_ reader = snapshot{}
)

func (t *txn) get(key string) ([]byte, error) {
	if v, ok := t.over.Get(key); ok {
		return v, nil
	}
	if v, ok := t.cache.get(key); ok {
		return v, nil
	}
	v, err := t.base.Get([]byte(key))
	if err != nil {
		return nil, err
	}
	if v != nil {
		v = bytes.Clone(v)
	}
	t.cache.put(key, v)
	return v, nil
}

// set writes a value, which the transaction owns from now on; nil deletes.
func (t *txn) set(key string, value []byte) {
	t.large = t.large || len(value) > maxRecord
	prev, had := t.over.Set(key, value)
	t.undo = append(t.undo, change{key, prev, had})
	t.bytes += len(value) - len(prev)
	if !had {
		t.bytes += len(key)
	}
}

func (t *txn) del(key string) { t.set(key, nil) }

// begin starts a command; rollback takes back what was written since.
func (t *txn) begin() { t.undo, t.large = t.undo[:0], false }

func (t *txn) rollback() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		c := t.undo[i]
		cur, _ := t.over.Get(c.key)
		t.bytes += len(c.prev) - len(cur)
		if c.had {
			t.over.Set(c.key, c.prev)
			continue
		}
		t.over.Delete(c.key)
		t.bytes -= len(c.key)
	}
	t.undo = t.undo[:0]
}

// ops is the batch as one write, in the order of keys.
func (t *txn) ops() []kv.Op {
	ops := make([]kv.Op, 0, t.over.Len())
	t.over.Scan(func(k string, v []byte) bool {
		ops = append(ops, kv.Op{Key: []byte(k), Value: v})
		return true
	})
	return ops
}

// scan merges the changes with the snapshot. fn may not write.
func (t *txn) scan(start, end string, fn func(key, value []byte) (bool, error)) error {
	over := t.over.Iter()
	have := over.Seek(start)
	inRange := func() bool { return have && (end == "" || over.Key() < end) }
	stopped := false
	emit := func(k, v []byte) (bool, error) {
		ok, err := fn(k, v)
		stopped = !ok || err != nil
		return ok, err
	}
	// upTo emits the changes before key, and reports whether key itself is changed.
	upTo := func(key string) (bool, error) {
		for inRange() && over.Key() < key {
			if v := over.Value(); v != nil {
				if ok, err := emit([]byte(over.Key()), v); !ok || err != nil {
					return false, err
				}
			}
			have = over.Next()
		}
		return inRange() && over.Key() == key, nil
	}
	err := t.scanBase(start, end, func(k, v []byte) (bool, error) {
		changed, err := upTo(string(k))
		if err != nil || stopped {
			return false, err
		}
		if !changed {
			return emit(k, v)
		}
		w := over.Value()
		have = over.Next()
		if w == nil {
			return true, nil
		}
		return emit(k, w)
	})
	if err != nil || stopped {
		return err
	}
	for inRange() {
		if v := over.Value(); v != nil {
			if ok, err := emit([]byte(over.Key()), v); !ok || err != nil {
				return err
			}
		}
		have = over.Next()
	}
	return nil
}

// scanBase scans the snapshot.
func (t *txn) scanBase(start, end string, fn func(key, value []byte) (bool, error)) error {
	if ino, from, ok := extentScan(start, end); ok {
		return t.known.walk(t.base, ino, from, t.learn, fn)
	}
	return t.base.Scan([]byte(start), bound(end), fn)
}

// snapshot is a reader of a store's snapshot.
type snapshot struct{ r kv.Reader }

func (s snapshot) get(key string) ([]byte, error) { return s.r.Get([]byte(key)) }

func (s snapshot) scan(start, end string, fn func(key, value []byte) (bool, error)) error {
	return s.r.Scan([]byte(start), bound(end), fn)
}

func bound(end string) []byte {
	if end == "" {
		return nil
	}
	return []byte(end)
}
