package fusefs

import (
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// listing is all of a directory, as one answer of the volume had it. It is kept as
// content of the directory: whatever changes a name in it changes its attributes, and
// spoils both.
type listing []listed

type listed struct {
	name, cursor string
	ino          twofold.Ino
	typ          metadata.Type
}

// maxListing is how much of memory a listing that is kept may have, in bytes.
const maxListing = 64 << 10

// putListing keeps a directory's listing that was asked for behind m.
func (c *cache) putListing(dir twofold.Ino, es []api.DirEntry, m uint64) {
	l := make(listing, len(es))
	var size int64
	for i, e := range es {
		l[i] = listed{e.Name, e.Cursor, e.Attr.Ino, e.Attr.Type}
		size += int64(len(e.Name)+len(e.Cursor)) + 64
	}
	if size > maxListing || c.alive(time.Now()) <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.inodes[dir]; in != nil && in.valid && c.marks.untouched(m, key{ino: dir}, key{dir, allNames}) {
		c.setContent(in, content{list: l, size: size})
	}
}

// readDir is api.Files.ReadDir of a listing that is kept, all as of one moment; ok is
// false where it isn't, or not all the attributes are.
func (c *cache) readDir(dir twofold.Ino, cursor string, most int, attrs bool) (es []api.DirEntry, eof, ok bool) {
	now := time.Now()
	if c.alive(now) <= 0 {
		return nil, false, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.get(dir, now)
	if d == nil || d.body == nil || d.attr.Type != metadata.TypeDir {
		return nil, false, false
	}
	c.contents.MoveToFront(d.body)
	l := d.content.list
	if cursor != "" {
		i := 0
		for i < len(l) && l[i].cursor != cursor {
			i++
		}
		if i == len(l) {
			return nil, false, false
		}
		l = l[i+1:]
	}
	eof = len(l) <= most
	l = l[:min(len(l), most)]
	es = make([]api.DirEntry, 0, len(l))
	for _, e := range l {
		a := api.Attr{Ino: e.ino, Type: e.typ}
		if attrs {
			in := c.get(e.ino, now)
			if in == nil {
				return nil, false, false
			}
			a = in.attr
		}
		es = append(es, api.DirEntry{Name: e.name, Cursor: e.cursor, Attr: a})
	}
	return es, eof, true
}
