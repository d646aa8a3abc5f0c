package fsm

import (
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"twofold/metadata/kv"
)

// TestRecentIsExact: whatever the order of batches, snapshots old and new, and what
// was dropped for lack of room, a value that is kept is the snapshot's own.
func TestRecentIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newRecent(rapid.SampledFrom([]int{0, 40_000, 1 << 20}).Draw(t, "room"))
		const keys = 200
		states := []map[string]string{{}} // by applied index
		hits := 0
		key := rapid.Custom(func(t *rapid.T) string {
			return num(pInode, uint64(rapid.IntRange(1, keys).Draw(t, "ino")))
		})
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				index := len(states)
				next := maps.Clone(states[index-1])
				var ops []kv.Op
				for _, k := range rapid.SliceOfNDistinct(key, 1, 5, rapid.ID).Draw(t, "keys") {
					op := kv.Op{Key: []byte(k), Value: fmt.Appendf(nil, "%d", index)}
					next[k] = string(op.Value)
					if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
						op.Value = nil
						delete(next, k)
					}
					ops = append(ops, op)
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
					k := key.Draw(t, "key")
					want, there := states[at][k]
					got, ok := c.get(k, uint64(at))
					if ok && (!there || string(got) != want) {
						t.Fatalf("%x at %d: %q, want %q, %v", k, at, got, want, there)
					}
					if ok {
						hits++
					} else if there {
						c.put(k, []byte(want), uint64(at))
					}
				}
			},
		})
		for i := range c.shards {
			s := &c.shards[i]
			if used := s.bytes; used < 0 || used > s.limit+1000 {
				t.Fatalf("shard %d counts %d bytes of %d", i, used, s.limit)
			}
		}
	})
}
