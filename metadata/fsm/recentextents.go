package fsm

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// recentExtents keeps extents that views read lately and that are of blobs: those of a
// large file that is read here and there are asked for with each read, and an iterator over
// the store costs a twentieth of it. It is exact for every snapshot, in the way that
// recent is: here an inode is what belongs to a slot, and a change of one of its extents is
// one of all. Safe for concurrent use.
type recentExtents struct {
	shards [recentShards]extentShard
}

// extentRoom is how many extents a generation of a shard keeps, about: 112 bytes each,
// so 7 MiB in all.
const extentRoom = 512

type extentShard struct {
	mu         sync.Mutex                        // guards what follows
	young, old map[twofold.Ino][]metadata.Extent // by Off, and not overlapping; an inode is in one of them
	n          int                               // extents in young
	changed    [recentSlots]uint64
}

func newRecentExtents() *recentExtents {
	c := new(recentExtents)
	for i := range c.shards {
		c.shards[i].young = map[twofold.Ino][]metadata.Extent{}
	}
	return c
}

// place spreads inodes, whose numbers are given out one after the other.
func (c *recentExtents) place(ino twofold.Ino) (*extentShard, *uint64) {
	s := &c.shards[ino%recentShards]
	return s, &s.changed[ino/recentShards%recentSlots]
}

// find returns the extent of a snapshot of an applied index that has all of [off, end),
// where it is kept.
func (c *recentExtents) find(ino twofold.Ino, off, end int64, applied uint64) (e metadata.Extent, ok bool) {
	s, changed := c.place(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if *changed > applied {
		return e, false
	}
	list := s.list(ino)
	i, at := slices.BinarySearchFunc(list, off, func(e metadata.Extent, off int64) int { return cmp.Compare(e.Off, off) })
	if !at {
		i--
	}
	if i < 0 || list[i].Off+list[i].Len < end {
		return e, false
	}
	return list[i], true
}

// put keeps an extent that a snapshot of an applied index read, unless it may be outdated.
func (c *recentExtents) put(ino twofold.Ino, e metadata.Extent, applied uint64) {
	s, changed := c.place(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if *changed > applied {
		return
	}
	list := s.list(ino)
	i, there := slices.BinarySearchFunc(list, e.Off, func(e metadata.Extent, off int64) int { return cmp.Compare(e.Off, off) })
	if there {
		return // it was read twice at once
	}
	s.drop(ino)
	if len(list) >= extentRoom { // a file of very many: it begins anew
		list, i = nil, 0
	}
	s.keep(ino, slices.Insert(list, i, e))
}

// list returns the extents of an inode, which are young now; mu is held.
func (s *extentShard) list(ino twofold.Ino) []metadata.Extent {
	if list, ok := s.old[ino]; ok {
		s.drop(ino)
		s.keep(ino, list)
		return list
	}
	return s.young[ino]
}

// keep puts an inode's list, which is nowhere, into young, and begins a new one when that
// is full; mu is held.
func (s *extentShard) keep(ino twofold.Ino, list []metadata.Extent) {
	s.young[ino] = list
	if s.n += len(list); s.n > extentRoom {
		s.old, s.young, s.n = s.young, make(map[twofold.Ino][]metadata.Extent), 0
	}
}

// drop forgets an inode; mu is held.
func (s *extentShard) drop(ino twofold.Ino) {
	s.n -= len(s.young[ino])
	delete(s.young, ino)
	delete(s.old, ino)
}

// change is recent.change.
func (c *recentExtents) change(ops []kv.Op, index uint64) {
	for i := range ops {
		key := ops[i].Key
		if key[0] != pExtent {
			continue
		}
		ino := twofold.Ino(binary.BigEndian.Uint64(key[1:]))
		s, changed := c.place(ino)
		s.mu.Lock()
		*changed = index
		s.drop(ino)
		s.mu.Unlock()
	}
}
