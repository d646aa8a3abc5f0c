package fsm

import (
	"maps"
	"testing"

	"pgregory.net/rapid"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// TestRecentExtentsAreExact: as TestRecentIsExact, for what has a range of an inode.
func TestRecentExtentsAreExact(t *testing.T) {
	const inos, room = 200, 2000 // an inode has [0, room), or less
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		c := newRecentExtents()
		states := []map[twofold.Ino][]metadata.Extent{{}} // by applied index
		ino := rapid.Custom(func(t *rapid.T) twofold.Ino { return twofold.Ino(rapid.IntRange(1, inos).Draw(t, "ino")) })
		covering := func(at int, i twofold.Ino, off, end int64) *metadata.Extent {
			for _, e := range states[at][i] {
				if e.Off <= off && e.Off+e.Len >= end {
					return &e
				}
			}
			return nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				index := len(states)
				next := maps.Clone(states[index-1])
				var ops []kv.Op
				for _, i := range rapid.SliceOfNDistinct(ino, 1, 5, rapid.ID).Draw(t, "inos") {
					var exts []metadata.Extent
					for off := int64(0); off < room; {
						n := rapid.Int64Range(1, min(300, room-off)).Draw(t, "length")
						e := metadata.Extent{Off: off, Len: n, Blob: &twofold.Blob{ID: twofold.MakeBlobID(1, uint64(index)), Size: n}}
						if rapid.IntRange(0, 3).Draw(t, "hole") > 0 {
							exts = append(exts, e)
						}
						off += n
						ops = append(ops, kv.Op{Key: []byte(extentKey(i, off))}) // whatever it was
					}
					next[i] = exts
				}
				c.change(ops, uint64(index))
				if rapid.Bool().Draw(t, "seen") {
					states = append(states, next)
				} else { // the store failed, or a snapshot comes before the write
					states = append(states, states[index-1])
					c.change(ops, uint64(index))
				}
			},
			"read": func(t *rapid.T) {
				newest := len(states) - 1
				at := max(0, newest-rapid.IntRange(0, 5).Draw(t, "age"))
				for range 20 {
					i := ino.Draw(t, "of")
					off := rapid.Int64Range(0, room-1).Draw(t, "off")
					end := rapid.Int64Range(off+1, min(room, off+10)).Draw(t, "end")
					want := covering(at, i, off, end)
					got, ok := c.find(i, off, end, uint64(at))
					switch {
					case ok && (want == nil || got.Off != want.Off || got.Len != want.Len || *got.Blob != *want.Blob):
						t.Fatalf("[%d, %d) of %d at %d: %+v, want %+v", off, end, i, at, got, want)
					case ok:
						found++
					case want != nil:
						c.put(i, *want, uint64(at))
					}
				}
			},
		})
		for i := range c.shards {
			s, n := &c.shards[i], 0
			for ino, list := range s.young {
				n += len(list)
				if s.old[ino] != nil {
					t.Fatalf("inode %d is kept twice", ino)
				}
			}
			if s.n != n || n > extentRoom {
				t.Fatalf("shard %d counts %d extents, and has %d", i, s.n, n)
			}
		}
	})
	if found == 0 {
		t.Error("nothing was ever found: the test looks at nothing")
	}
}

// TestRecentExtentsAreBounded: many inodes, and an inode of many extents.
func TestRecentExtentsAreBounded(t *testing.T) {
	c := newRecentExtents()
	for i := range twofold.Ino(1000) {
		for off := range int64(1000) {
			c.put(i, metadata.Extent{Off: 2 * off, Len: 1, Blob: new(twofold.Blob)}, 1)
		}
	}
	for i := range c.shards {
		s, n := &c.shards[i], 0
		for _, m := range []map[twofold.Ino][]metadata.Extent{s.young, s.old} {
			for _, list := range m {
				n += len(list)
			}
		}
		if n == 0 || n > 2*(extentRoom+1) {
			t.Fatalf("shard %d keeps %d extents", i, n)
		}
	}
	if _, ok := c.find(999, 1998, 1999, 1); !ok {
		t.Error("what was read last is not kept")
	}
}
