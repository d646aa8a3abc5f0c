package fsm

import (
	"encoding/binary"
	"sync"

	"twofold"
	"twofold/metadata/kv"
)

// knownExtents keeps in memory what is known of the extents of inodes that are being
// changed: commands look at what they change, and what they see is remembered and kept
// true by the changes of each batch, computed or taken. It is exact: the machine is the
// only writer, and drops all of it when a write fails.
//
// Views see it as it was made by the last change of an inode, or by the one before where
// that is not in their snapshot yet. An older snapshot reads the store.
//
// Two generations of inodes, as cache: one that is not changed any more falls out.
type knownExtents struct {
	limit int // bytes in all, about

	// Of the goroutine that applies:
	young, old map[twofold.Ino]*known
	bytes      int // in young

	mu    sync.RWMutex                  // guards what follows
	shown map[twofold.Ino]*shownExtents // of inodes in young or old
}

// shownExtents is what views may see. now is what all snapshots have whose applied index
// is not below its; before what those below it have, from its own index on.
type shownExtents struct{ now, before knownAt }

type knownAt struct {
	known *known // never changes; nil: there is none
	index uint64
}

// newKnownExtents returns one that holds at most about so many bytes: an inode at most a
// quarter, of inline data beyond bulkyFrom a sixteenth.
func newKnownExtents(limit int) *knownExtents {
	c := &knownExtents{limit: limit}
	c.clear()
	return c
}

// clear forgets everything.
func (c *knownExtents) clear() {
	c.young, c.old, c.bytes = map[twofold.Ino]*known{}, nil, 0
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown = map[twofold.Ino]*shownExtents{}
}

// of returns what is known of an inode, which is young now; nil where nothing is.
func (c *knownExtents) of(ino twofold.Ino) *known {
	if k := c.young[ino]; k != nil {
		return k
	}
	k := c.old[ino]
	if k != nil {
		delete(c.old, ino)
		c.young[ino] = k
		c.bytes += k.bytes
	}
	return k
}

// walk is known.walk of the state of which the machine has applied the last batch. Where
// it learns, what it walks through is remembered.
func (c *knownExtents) walk(r kv.Reader, ino twofold.Ino, from int64, learn bool, fn func(key, value []byte) (bool, error)) error {
	k := c.of(ino)
	if k == nil {
		k = newKnown(c.limit / 16)
		if !learn {
			return k.walk(r, ino, from, false, fn)
		}
		c.young[ino] = k
		c.bytes += k.bytes
	}
	before := k.bytes
	err := k.walk(r, ino, from, learn, fn)
	c.bytes += k.bytes - before
	c.bound(ino, k)
	return err
}

// bound makes room where there is too much. k is young.
func (c *knownExtents) bound(ino twofold.Ino, k *known) {
	if k.bytes > c.limit/4 { // it begins anew
		c.drop(ino)
	}
	if c.bytes <= c.limit/2 {
		return
	}
	c.mu.Lock()
	for ino := range c.old {
		delete(c.shown, ino)
	}
	c.mu.Unlock()
	c.old, c.young, c.bytes = c.young, make(map[twofold.Ino]*known), 0
}

// drop forgets an inode.
func (c *knownExtents) drop(ino twofold.Ino) {
	if k := c.of(ino); k != nil {
		c.bytes -= k.bytes
		delete(c.young, ino)
		c.mu.Lock()
		delete(c.shown, ino)
		c.mu.Unlock()
	}
}

// change brings it to the state after a batch, which ends at index. It is called before
// any snapshot can see that.
func (c *knownExtents) change(ops []kv.Op, index uint64) {
	for len(ops) > 0 {
		key := ops[0].Key
		switch {
		case key[0] == pExtent:
			ops = ops[c.changeInode(ops, index):]
			continue
		case key[0] == pInode && ops[0].Value == nil: // its number does not come again
			c.drop(twofold.Ino(binary.BigEndian.Uint64(key[1:])))
		}
		ops = ops[1:]
	}
}

// changeInode applies the ops of one inode's extents that ops begins with, and returns how
// many they are.
func (c *knownExtents) changeInode(ops []kv.Op, index uint64) (n int) {
	prefix := string(ops[0].Key[:9])
	ino := inoOf(prefix[1:])
	k := c.of(ino)
	before := 0
	if k != nil {
		before = k.bytes
	}
	for ; n < len(ops) && len(ops[n].Key) == 17 && string(ops[n].Key[:9]) == prefix; n++ {
		if k != nil {
			k.change(endOf(ops[n].Key), ops[n].Value)
		}
	}
	if k != nil {
		c.bytes += k.bytes - before
		c.show(ino, k.copy(), index)
		c.bound(ino, k)
	}
	return n
}

// show lets views see what is known of an inode from an applied index on.
func (c *knownExtents) show(ino twofold.Ino, k *known, index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.shown[ino]
	switch {
	case s == nil:
		c.shown[ino] = &shownExtents{now: knownAt{k, index}}
	case s.now.index == index: // of the same batch, of which nobody has seen anything
		s.now.known = k
	default:
		s.before, s.now = s.now, knownAt{k, index}
	}
}

// at is what is known of an inode's extents in the snapshot of an applied index; nil where
// nothing is. Safe for concurrent use.
func (c *knownExtents) at(ino twofold.Ino, applied uint64) *known {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := c.shown[ino]
	switch {
	case s == nil:
		return nil
	case applied >= s.now.index:
		return s.now.known
	case applied >= s.before.index:
		return s.before.known
	}
	return nil
}

// extentScan tells of a range of keys whether it is that of one inode's extents, from
// those on that end at an offset.
func extentScan(start, end string) (ino twofold.Ino, from int64, ok bool) {
	if len(start) != 17 || start[0] != pExtent || end != prefixEnd(start[:9]) {
		return 0, 0, false
	}
	return inoOf(start[1:9]), endOf([]byte(start)), true
}
