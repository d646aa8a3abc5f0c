package fusefs

import (
	"time"

	"twofold"
	"twofold/volume/api"
)

// key is something that may be cached: the attributes (and content) of an inode, an
// entry of a directory, or all entries of one.
type key struct {
	ino  twofold.Ino
	name string // empty: the inode itself
}

const allNames = "/" // no name has that

// marks remember what changed, or was taken back, and when: so that what was asked for
// before, and may be from before it, is not kept. Guarded by cache.mu.
type marks struct {
	seq   uint64 // of the last mark
	floor uint64 // marks up to this one are not in at any more
	at    map[key]mark
}

type mark struct {
	seq      uint64
	changers int // changes of our own under way
}

const maxMarks = 1 << 14

func (m *marks) init() { m.at = make(map[key]mark) }

// set marks k, with d more changes under way, and returns the mark's number.
func (m *marks) set(k key, d int) uint64 {
	if len(m.at) >= maxMarks {
		for o, v := range m.at {
			if v.changers == 0 {
				delete(m.at, o)
			}
		}
		m.floor = m.seq
	}
	m.seq++
	m.at[k] = mark{m.seq, m.at[k].changers + d}
	return m.seq
}

// all marks everything.
func (m *marks) all() {
	m.seq++
	m.floor = m.seq
}

// untouched reports whether none of the keys was marked behind the moment, nor is
// changing.
func (m *marks) untouched(moment uint64, keys ...key) bool {
	if moment < m.floor {
		return false
	}
	for _, k := range keys {
		if v, ok := m.at[k]; ok && (v.seq > moment || v.changers > 0) {
			return false
		}
	}
	return true
}

// ownChange is a change that this mount asks the volume for. What it is of is not cached
// from its begin to its end.
type ownChange struct {
	c    *cache
	keys []key
	seqs []uint64
}

// begin starts a change. told are the inodes whose attributes the kernel may have: it is
// to be told to forget them before the change is sent, as others may see it before the
// call has returned, and there is no grant until its end. until is when the kernel has
// forgotten the names, of which it can't be told.
func (c *cache) begin(keys ...key) (ch *ownChange, told []twofold.Ino, until time.Time) {
	ch = &ownChange{c: c, keys: keys, seqs: make([]uint64, len(keys))}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for i, k := range keys {
		ch.seqs[i] = c.marks.set(k, 1)
		c.record(k)
		c.spoil(k)
		in := c.inodes[k.ino]
		if in == nil {
			continue
		}
		if k.name == "" && in.kernel.After(now) {
			told = append(told, k.ino)
		}
		if n := in.names[k.name]; n != nil && n.kernel.After(until) {
			until = n.kernel
		}
	}
	return ch, told, until
}

// end ends it. result, if not nil, is what the change has answered with: these attributes,
// and the entry that it has made if the change is of one, are kept if nothing else
// happened to them meanwhile. Likewise dirs, attributes of directories that it has changed.
func (ch *ownChange) end(result *api.Attr, dirs ...api.Attr) {
	c := ch.c
	keep := c.alive(time.Now()) > 0
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, k := range ch.keys {
		alone := keep && c.marks.at[k] == mark{ch.seqs[i], 1} && ch.seqs[i] > c.marks.floor
		c.marks.set(k, -1)
		switch {
		case !alone:
		case k.name != "":
			if result != nil && result.NameLeased && c.marks.untouched(ch.seqs[i], key{k.ino, allNames}) {
				c.setName(k.ino, k.name, result.Ino)
			}
		case result != nil && result.Leased && k.ino == result.Ino:
			c.setAttr(*result)
		default:
			for _, d := range dirs {
				if d.Leased && d.Ino == k.ino {
					c.setAttr(d)
				}
			}
		}
	}
}
