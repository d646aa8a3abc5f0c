package fusefs

import (
	"time"

	"twofold/volume/api"
)

// A directory that the mount has made is empty, and while its read lease is held the mount
// is told of each name that others make in it. So all names in it are known here, as
// far as others have made none: a name without a record is not there (cachedInode.whole).
// The LOOKUP in front of each create then needs no call, where programs unpack, clone or
// copy trees. What is not known any more, since others have changed it, is asked for, as
// a name that the mount itself is about to change is (record).

// putNewDir notes that a directory was made, with the answer a to what was asked for
// behind the moment m.
func (c *cache) putNewDir(a api.Attr, m uint64) {
	// An answer may be one to a call that came twice, the first time long ago: what has
	// happened to the directory since has moved its ctime.
	if !a.Leased || a.Ctime != a.Btime || c.alive(time.Now()) <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.inodes[a.Ino]; in != nil && in.valid && c.marks.untouched(m, key{ino: a.Ino}, key{a.Ino, allNames}) {
		in.whole = true
	}
}

// record makes a record of a name that is about to change in a directory that is known as
// a whole, so that it is not taken for missing meanwhile; mu is held. Where there is no
// room for one, or names depend on each other, spoil ends that the directory is known.
func (c *cache) record(k key) {
	in := c.inodes[k.ino]
	switch {
	case in == nil || !in.whole || k.name == "" || k.name == allNames:
	case uncached(k.name):
		in.whole = false
	default:
		c.nameOf(k.ino, k.name, false)
	}
}
