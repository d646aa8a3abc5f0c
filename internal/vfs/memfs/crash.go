package memfs

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

// Crash returns what a disk could show after the power failed now. m stays as it is,
// so that a test can crash it at every step of one run. keep is the probability with
// which something that was not synced survived: 0 forgets all of it, 1 nothing.
// The outcome depends on rnd alone. Locks are gone.
func (m *FS) Crash(rnd *rand.Rand, keep float64) *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &crash{rnd: rnd, keep: keep, done: make(map[*node]*node), old: m}
	c.fs = &FS{ino: m.ino, clock: m.clock, total: m.total, ro: m.ro, locks: make(map[*node]bool)}
	c.fs.root = c.node(m.root)
	return c.fs
}

// crash is one crash under way.
type crash struct {
	rnd  *rand.Rand
	keep float64
	old  *FS
	fs   *FS
	done map[*node]*node // of the old file system, of the new: hard links stay links
}

func (c *crash) survives() bool { return c.rnd.Float64() < c.keep }

func (c *crash) node(n *node) *node {
	if n == nil {
		return nil
	}
	if got := c.done[n]; got != nil {
		return got
	}
	out := &node{dev: n.dev, ino: n.ino, ctime: n.ctime, dir: n.dir, dirty: make(map[int64]bool)}
	c.done[n] = out
	if !n.dir {
		out.data = c.content(n)
		out.synced = bytes.Clone(out.data)
		c.fs.used += uint64(len(out.data))
		return out
	}
	out.entries, out.past = make(map[string]*node), make(map[string][]*node)
	names := slices.Collect(maps.Keys(n.entries))
	for name := range n.past {
		if n.entries[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names) // for rnd's sake: a map's order is another one each time
	for _, name := range names {
		if e := c.node(c.entry(n, name)); e != nil {
			out.entries[name] = e
			e.links++
		}
	}
	out.cover = c.node(n.cover)
	return out
}

// entry picks one of the states that a name had since the last SyncDir.
func (c *crash) entry(dir *node, name string) *node {
	past := dir.past[name]
	if len(past) == 0 || c.survives() {
		return dir.entries[name]
	}
	if c.keep == 0 {
		return past[0]
	}
	return past[c.rnd.IntN(len(past))]
}

// content picks a length, and for each page the old bytes, the new ones, or some
// sectors of either.
func (c *crash) content(n *node) []byte {
	size := len(n.synced)
	if len(n.data) != size && c.survives() {
		size = len(n.data)
	}
	out := make([]byte, size)
	copy(out, n.synced)
	for _, i := range slices.Sorted(maps.Keys(n.dirty)) {
		from := int(min(i*page, int64(len(n.data)), int64(size)))
		to := int(min((i+1)*page, int64(len(n.data)), int64(size)))
		if !c.survives() {
			continue
		}
		if c.keep < 1 && c.rnd.IntN(4) == 0 { // a torn page
			to = min(to, from+sector*c.rnd.IntN(page/sector))
		}
		copy(out[from:to], n.data[from:to])
	}
	return out
}
