package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tidwall/btree"

	"twofold"
	"twofold/metadata/kv"
)

// known is what is remembered of one inode's extents in one state: of ranges of offsets
// all extents that end there, and of the rest nothing. A store steps over what was
// removed and over old versions as it walks (kv's Badger does until a compaction takes
// them away), so that of a file which is overwritten here and there a walk would cost
// more with every overwrite. A range is walked once in the store, then here.
//
// Nothing is ever walked in the store that a walk was not to have: what it comes by is
// what is learnt, so a file of very many extents costs no more than without.
//
//	ends of extents:    100    250    300 ......... 900    950    (last)
//	                     |      |      |             |      |       |
//	all:                yes    yes    yes           no     yes     yes
//
// Here nothing is known of what ends within (300, 900], and all of the rest. A mark is an
// end that has no extent, or none that is known, as 900 may be one: it is kept only where
// a range begins or ends.
//
// Safe for concurrent use as long as nobody changes it; walk changes it where it learns.
type known struct {
	tree      *btree.Map[int64, knownEnd] // by end offset
	bytes     int                         // of memory, about
	dataLimit int                         // bytes up to which long records are kept here, too
}

type knownEnd struct {
	value []byte // the extent's record; nil: it is to be read from the store
	there bool   // an extent ends here, else it is a mark
	// Between the end before this one in the tree, or 0, and this one nothing ends; and where
	// there is false, nothing here.
	all bool
}

const (
	lastEnd       = math.MaxInt64 - 1 // no extent ends there
	knownOverhead = 512               // bytes of an inode's bookkeeping, about
	endOverhead   = 80                // bytes of an end's, about
)

func newKnown(dataLimit int) *known {
	return &known{tree: new(btree.Map[int64, knownEnd]), bytes: knownOverhead, dataLimit: dataLimit}
}

// copy returns what is known now, for good.
func (k *known) copy() *known {
	return &known{tree: k.tree.Copy(), bytes: k.bytes}
}

func (k *known) put(end int64, e knownEnd) {
	k.bytes += endOverhead + len(e.value)
	if was, had := k.tree.Set(end, e); had {
		k.bytes -= endOverhead + len(was.value)
	}
}

func (k *known) remove(end int64) {
	if was, had := k.tree.Delete(end); had {
		k.bytes -= endOverhead + len(was.value)
	}
}

// allAfter tells whether it is known what ends right behind an offset.
func (k *known) allAfter(end int64) bool {
	it := k.tree.Iter()
	return it.Seek(end+1) && it.Value().all
}

// tidy removes a mark that is between two ranges of which nothing is known, or in one of
// which all is.
func (k *known) tidy(end int64) {
	if e, had := k.tree.Get(end); had && !e.there && e.all == k.allAfter(end) {
		k.remove(end)
	}
}

// worth is the record of an extent, or nil where it is too long to be kept in the place of
// so many bytes.
func (k *known) worth(value []byte, instead int) []byte {
	if len(value) >= bulkyFrom && k.bytes-instead+len(value) > k.dataLimit {
		return nil
	}
	return value
}

// change is a change of the state: the record of the extent that ends at an offset, which
// it owns, or nil where it is removed.
func (k *known) change(end int64, value []byte) {
	e, had := k.tree.Get(end)
	switch {
	case value == nil && had:
		k.put(end, knownEnd{all: e.all})
		k.tidy(end)
	case value != nil && had:
		k.put(end, knownEnd{value: k.worth(value, len(e.value)), there: true, all: e.all})
	case value != nil && k.allAfter(end):
		k.put(end, knownEnd{value: k.worth(value, 0), there: true, all: true})
	}
}

// ended is an extent that a walk of the store came by.
type ended struct {
	at    int64
	value []byte
}

// learn notes that of all that ends in [from, to], of which nothing was known, the extents
// found are all. Either the last one ends at to, or to is in the tree, or the last offset.
func (k *known) learn(from int64, found []ended, to int64) {
	if from > 1 {
		if _, had := k.tree.Get(from - 1); !had {
			k.put(from-1, knownEnd{})
		}
	}
	for _, f := range found {
		k.put(f.at, knownEnd{value: k.worth(f.value, 0), there: true, all: true})
	}
	if n := len(found); n == 0 || found[n-1].at != to {
		e, _ := k.tree.Get(to)
		e.all = true
		k.put(to, e)
		k.tidy(to)
	}
	k.tidy(from - 1)
}

// walk is kv.Reader.Scan of the records of an inode's extents that end at an offset or
// behind it. The reader is of the state that k is of. Only the goroutine that applies
// may learn, and not of what it has shown to others.
func (k *known) walk(r kv.Reader, ino twofold.Ino, from int64, learn bool, fn func(key, value []byte) (bool, error)) error {
	key := []byte(extentKey(ino, from))
	for from <= lastEnd {
		it := k.tree.Iter()
		ok := it.Seek(from)
		for ; ok && it.Value().all; ok = it.Next() {
			from = it.Key() + 1
			e := it.Value()
			if !e.there {
				continue
			}
			binary.BigEndian.PutUint64(key[9:], uint64(it.Key()))
			value, err := e.record(r, key)
			if err != nil {
				return err
			}
			if more, err := fn(key, value); err != nil || !more {
				return err
			}
		}
		to := int64(lastEnd)
		if ok {
			to = it.Key()
		}
		if from > to {
			return nil
		}
		if more, err := k.walkStore(r, ino, from, to, learn, fn); err != nil || !more {
			return err
		}
		from = to + 1
	}
	return nil
}

// record is the record of an extent that is there.
func (e *knownEnd) record(r kv.Reader, key []byte) ([]byte, error) {
	if e.value != nil {
		return e.value, nil
	}
	value, err := r.Get(key)
	if err == nil && value == nil {
		err = fmt.Errorf("the extent of key %x is known, but not in the store", key)
	}
	return value, err
}

// walkStore walks what ends in [from, to]; more is false where fn stopped it.
func (k *known) walkStore(r kv.Reader, ino twofold.Ino, from, to int64, learn bool, fn func(key, value []byte) (bool, error)) (more bool, err error) {
	var found []ended
	more = true
	err = r.Scan([]byte(extentKey(ino, from)), []byte(extentKey(ino, to+1)), func(key, value []byte) (bool, error) {
		if learn {
			found = append(found, ended{endOf(key), bytes.Clone(k.worth(value, 0))})
		}
		var err error
		more, err = fn(key, value)
		return more, err
	})
	if err != nil || !learn {
		return more, err
	}
	if !more {
		to = found[len(found)-1].at
	}
	k.learn(from, found, to)
	return more, nil
}

// endOf is where the extent of a key ends.
func endOf(key []byte) int64 { return int64(binary.BigEndian.Uint64(key[9:])) }
