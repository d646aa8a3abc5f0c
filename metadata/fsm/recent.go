package fsm

import (
	"bytes"
	"hash/maphash"
	"sync"

	"twofold/metadata/kv"
)

// recent keeps values that views read lately: the directories on every path, and the
// inodes of what is listed or read again, which lie all over the store where keys
// were not made in their order. A value from here costs a fiftieth of one from the
// store's blocks.
//
// It is exact for every snapshot. A key belongs to a slot, and a slot knows the
// applied index of the last batch that changed any of its keys. That is set, and
// what is kept of a changed key dropped, before the batch can be seen. So a value
// that a snapshot of index s read is the newest where s >= the slot's index, and
// only then is it kept; and what is kept is what a snapshot of index s would read
// where, again, s >= the slot's index. All others read the store.
//
// Shards have two generations each, as cache. Safe for concurrent use.
type recent struct {
	seed   maphash.Seed
	shards [recentShards]recentShard
}

const (
	recentShards = 64
	recentSlots  = 64 // of a shard
)

type recentShard struct {
	mu         sync.Mutex // guards what follows
	young, old map[string][]byte
	bytes      int // in young
	limit      int // bytes of a generation
	changed    [recentSlots]uint64
}

// newRecent returns one that holds at most about so many bytes.
func newRecent(bytes int) *recent {
	c := &recent{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].limit = bytes / 2 / recentShards
		c.shards[i].young = map[string][]byte{}
	}
	return c
}

// lasting tells whether a view's value is likely to be read again by another one.
func lasting(key string) bool { return lastingKind(key[0]) }

func lastingKind(prefix byte) bool {
	switch prefix {
	case pInode, pEntry, pBucket, pBucketID:
		return true
	}
	return false
}

func (c *recent) place(key string) (*recentShard, int) {
	h := maphash.String(c.seed, key)
	return &c.shards[h%recentShards], int(h / recentShards % recentSlots)
}

// get returns what a snapshot of an applied index has for a key, where that is kept.
func (c *recent) get(key string, applied uint64) ([]byte, bool) {
	s, slot := c.place(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed[slot] > applied {
		return nil, false
	}
	if v, ok := s.young[key]; ok {
		return v, true
	}
	v, ok := s.old[key]
	if ok {
		s.put(key, v)
	}
	return v, ok
}

// put keeps what a snapshot of an applied index read, unless it may be outdated. It
// owns value.
func (c *recent) put(key string, value []byte, applied uint64) {
	if len(value) > maxCachedValue {
		return
	}
	s, slot := c.place(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed[slot] <= applied {
		s.put(key, value)
	}
}

// put is called with mu held.
func (s *recentShard) put(key string, value []byte) {
	if _, ok := s.young[key]; ok {
		return // the same value: it was read twice at once
	}
	s.young[key] = value
	if s.bytes += len(key) + len(value) + cacheOverhead; s.bytes > s.limit {
		s.old, s.young, s.bytes = s.young, make(map[string][]byte, len(s.young)), 0
	}
}

// change says that a batch, which ends at index, will change the keys of ops. It is
// called before any snapshot can see them.
func (c *recent) change(ops []kv.Op, index uint64) {
	for i := range ops {
		if !lastingKind(ops[i].Key[0]) {
			continue
		}
		key := string(ops[i].Key)
		s, slot := c.place(key)
		s.mu.Lock()
		s.changed[slot] = index
		if v, ok := s.young[key]; ok {
			s.bytes -= len(key) + len(v) + cacheOverhead
			delete(s.young, key)
		}
		delete(s.old, key)
		s.mu.Unlock()
	}
}

// recentSnapshot is a snapshot that reads through recent and knownExtents.
type recentSnapshot struct {
	snapshot
	recent  *recent
	known   *knownExtents
	applied uint64
}

var _ reader = recentSnapshot{}

func (s recentSnapshot) get(key string) ([]byte, error) {
	if !lasting(key) {
		return s.snapshot.get(key)
	}
	if v, ok := s.kept(key); ok {
		return v, nil
	}
	v, err := s.snapshot.get(key)
	if v != nil && err == nil {
		s.keep(key, bytes.Clone(v))
	}
	return v, err
}

// kept is get of a lasting value that need not be read.
func (s recentSnapshot) kept(key string) ([]byte, bool) { return s.recent.get(key, s.applied) }

// keep keeps a lasting value that was read from the snapshot. It owns value.
func (s recentSnapshot) keep(key string, value []byte) { s.recent.put(key, value, s.applied) }

func (s recentSnapshot) scan(start, end string, fn func(key, value []byte) (bool, error)) error {
	if ino, from, ok := extentScan(start, end); ok {
		if k := s.known.at(ino, s.applied); k != nil {
			return k.walk(s.r, ino, from, false, fn)
		}
	}
	return s.snapshot.scan(start, end, fn)
}
