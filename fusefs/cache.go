package fusefs

import (
	"container/list"
	"sync"
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// cache is what the mount keeps under read leases: attributes, entries (also that a
// name is not there), contents of small files, targets of symbolic links and listings
// of small directories. It also knows how long the kernel may answer from what it was told (grants.go), and what of
// it is about to change (marks.go).
//
// Something is put in only if nothing about it has changed, nor was taken back, since
// the moment before it was asked for; and is used only while the session's lease is
// known to be alive. Safe for concurrent use; mu is held for no call of anybody.
type cache struct {
	until func() time.Time // when the session's leases end; nil: there are none
	max   cacheLimits

	mu       sync.Mutex
	marks    marks
	inodes   map[twofold.Ino]*cachedInode
	order    list.List // of *cachedInode, the one used last in front
	names    list.List // of *cachedName, likewise
	contents list.List // of *cachedInode with content, likewise
	bytes    int64     // of all contents
	granted  time.Time // when the last of all grants to the kernel ends
	grants   uint64    // how many of attributes there were
	restless time.Time // until then the kernel is given no names
	lazies   int       // inodes with a lazy pin

	acls map[twofold.Ino]*keptACL // what the kernel may have: acls.go

	// unwanted are inodes whose lease the next sweep gives back: there was no room for them, or
	// is none any more, or what came with the lease was not to be kept.
	unwanted map[twofold.Ino]struct{}
}

// cacheLimits bound the cache, and with it what the server has to remember of us.
type cacheLimits struct {
	inodes  int           // 64Ki, of about 400 bytes: a quarter of what a session may lease
	names   int           // 128Ki, of about 150 bytes
	content int64         // bytes of contents: 64 MiB
	name    time.Duration // the kernel may keep a name for: maxNameTimeout
	arrival time.Duration // an answer to CREATE is waited for at most: arrivalSlack
}

// maxContent is the longest file whose content is kept.
const maxContent = 64 << 10

// cachedInode is what is known of one inode. It stays while the server may have us as a
// reader, while the kernel may have something of it, and while it has a lazy pin.
type cachedInode struct {
	ino    twofold.Ino
	leased bool      // the server has us as a reader; of a directory also of its names
	owed   bool      // the server may have, but it is not to be relied on
	used   time.Time // last
	at     *list.Element

	valid  bool // attr is what the server has
	attr   api.Attr
	kernel time.Time // until then the kernel may answer with attributes
	grants uint64    // cache.grants of the last time it was given them

	unarrived bool          // CREATE has answered with them, and the kernel may not have the answer yet
	arrival   chan struct{} // closed when it has; nil while nobody waits for that

	content content       // where there is a body: the whole, while valid
	body    *list.Element // in cache.contents

	names  map[string]*cachedName
	whole  bool      // of a directory: a name without a record here is not in it, see fresh.go
	cool   time.Time // until then the kernel is given no names of the directory
	listed time.Time // until then the kernel may have some name of it

	lazy *lazyPin
}

// content is what an inode contains: bytes of a file, the target of a symbolic link, or a
// directory's listing. It is not changed any more.
type content struct {
	data []byte
	list listing
	size int64 // bytes of memory
}

// cachedName is an entry of a directory.
type cachedName struct {
	dir    *cachedInode
	name   string
	at     *list.Element
	valid  bool        // ino is what the name stands for
	ino    twofold.Ino // 0: there is no such name
	kernel time.Time   // until then the kernel may answer with it, whatever it is
}

func newCache(until func() time.Time) *cache {
	c := &cache{
		until:    until,
		max:      cacheLimits{64 << 10, 128 << 10, 64 << 20, maxNameTimeout, arrivalSlack},
		inodes:   make(map[twofold.Ino]*cachedInode),
		unwanted: make(map[twofold.Ino]struct{}),
		acls:     make(map[twofold.Ino]*keptACL),
	}
	c.marks.init()
	return c
}

// alive is for how long the session's leases are good, at least; 0 or less: they are
// not.
func (c *cache) alive(now time.Time) time.Duration {
	if c.until == nil {
		return 0
	}
	return c.until().Sub(now)
}

// now is a moment to put, or to grant, something that is asked for from here on.
func (c *cache) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.marks.seq
}

// still reports whether nothing of the keys has changed since the moment m.
func (c *cache) still(m uint64, keys ...key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.marks.untouched(m, keys...)
}

// get is the inode if its attributes may be used; mu is held.
func (c *cache) get(ino twofold.Ino, now time.Time) *cachedInode {
	in := c.inodes[ino]
	if in == nil || !in.valid {
		return nil
	}
	in.used = now
	c.order.MoveToFront(in.at)
	return in
}

// attr returns an inode's attributes, if they are leased.
func (c *cache) attr(ino twofold.Ino) (api.Attr, bool) {
	now := time.Now()
	if c.alive(now) <= 0 {
		return api.Attr{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.get(ino, now)
	if in == nil {
		return api.Attr{}, false
	}
	return in.attr, true
}

// lookup returns what a name stands for, if that is leased: 0 for nothing.
func (c *cache) lookup(dir twofold.Ino, name string) (ino twofold.Ino, ok bool) {
	now := time.Now()
	if c.alive(now) <= 0 {
		return 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.inodes[dir]
	if d == nil {
		return 0, false
	}
	n := d.names[name]
	if n == nil && d.whole && !uncached(name) {
		d.used = now
		c.order.MoveToFront(d.at)
		return 0, true
	}
	if n == nil || !n.valid {
		return 0, false
	}
	d.used = now
	c.order.MoveToFront(d.at)
	c.names.MoveToFront(n.at)
	return n.ino, true
}

// putAttr keeps attributes that were asked for behind the moment m, if they are leased.
func (c *cache) putAttr(a api.Attr, m uint64) {
	if !a.Leased || c.alive(time.Now()) <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.marks.untouched(m, key{ino: a.Ino}) {
		c.setAttr(a)
	} else if c.inodes[a.Ino] == nil {
		c.unwanted[a.Ino] = struct{}{} // nobody else would give its lease back
	}
}

// setAttr is putAttr of what is known to be so; mu is held.
func (c *cache) setAttr(a api.Attr) {
	in := c.inode(a.Ino)
	if in == nil {
		c.unwanted[a.Ino] = struct{}{}
		return
	}
	if in.attr.Version != a.Version || in.attr.Size != a.Size {
		c.dropContent(in)
	}
	a.NameLeased = false // of the entry that it came with
	in.leased, in.valid, in.attr = true, true, a
}

// putName keeps an entry that was asked for behind m, and whose lease was granted.
func (c *cache) putName(dir twofold.Ino, name string, ino twofold.Ino, m uint64) {
	if c.alive(time.Now()) <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.marks.untouched(m, key{dir, name}, key{dir, allNames}) {
		c.setName(dir, name, ino)
	}
}

// setName is putName of what is known to be so; mu is held.
func (c *cache) setName(dir twofold.Ino, name string, ino twofold.Ino) {
	if uncached(name) {
		return
	}
	if n := c.nameOf(dir, name, false); n != nil {
		n.dir.leased, n.valid, n.ino = true, true, ino
	} else if c.inodes[dir] == nil {
		c.unwanted[dir] = struct{}{}
	}
}

// putContent keeps the whole content of a small file, or where a symbolic link points
// to, read behind m.
func (c *cache) putContent(ino twofold.Ino, data []byte, m uint64) {
	if c.alive(time.Now()) <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[ino]
	if in == nil || !in.valid || in.attr.Size != int64(len(data)) || !c.marks.untouched(m, key{ino: ino}) {
		return
	}
	c.setContent(in, content{data: data, size: int64(len(data))})
}

// putWritten keeps a copy of a small file's whole content, which was written with the
// result a, if that is what the file has now.
func (c *cache) putWritten(a api.Attr, data []byte) {
	if !a.Leased || a.Size > maxContent {
		return
	}
	data = append([]byte(nil), data...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.inodes[a.Ino]; in != nil && in.valid && in.attr.Version == a.Version {
		c.setContent(in, content{data: data, size: a.Size})
	}
}

// setContent keeps an inode's content, in place of what was not used for longest; mu is
// held.
func (c *cache) setContent(in *cachedInode, to content) {
	c.dropContent(in)
	for c.bytes+to.size > c.max.content && c.contents.Len() > 0 {
		c.dropContent(c.contents.Back().Value.(*cachedInode))
	}
	in.content, in.body = to, c.contents.PushFront(in)
	c.bytes += to.size
}

// content returns the whole content of a file or the target of a symbolic link, which
// is not changed any more. Where it is not here, size is how long it is, or -1.
func (c *cache) content(ino twofold.Ino) (data []byte, size int64, ok bool) {
	now := time.Now()
	if c.alive(now) <= 0 {
		return nil, -1, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.get(ino, now)
	if in == nil || in.attr.Type != metadata.TypeFile && in.attr.Type != metadata.TypeSymlink {
		return nil, -1, false
	}
	if in.body != nil {
		c.contents.MoveToFront(in.body)
	}
	return in.content.data, in.attr.Size, in.body != nil
}

// dropContent forgets an inode's content; mu is held.
func (c *cache) dropContent(in *cachedInode) {
	if in.body == nil {
		return
	}
	c.bytes -= in.content.size
	c.contents.Remove(in.body)
	in.content, in.body = content{}, nil
}

// inode returns the record of an inode, made if there is none; nil where there is no
// room for it. mu is held.
func (c *cache) inode(ino twofold.Ino) *cachedInode {
	now := time.Now()
	in := c.inodes[ino]
	if in == nil {
		if len(c.inodes) >= c.max.inodes && !c.evict(now) {
			return nil // until the next sweep
		}
		in = &cachedInode{ino: ino}
		in.at = c.order.PushFront(in)
		c.inodes[ino] = in
	}
	in.used = now
	c.order.MoveToFront(in.at)
	return in
}

// evict removes the inode that was used least lately, whose lease the next sweep gives back:
// so what is listed and looked up right afterwards finds room, however large the directory.
// false: none of those that were not used for longest can go. mu is held.
func (c *cache) evict(now time.Time) bool {
	at := c.order.Back()
	for range evictAmong {
		if at == nil {
			break
		}
		in := at.Value.(*cachedInode)
		at = at.Prev()
		if in.held(now) || len(in.names) > 0 {
			continue
		}
		c.remove(in)
		if in.leased || in.owed {
			c.unwanted[in.ino] = struct{}{}
		}
		return true
	}
	return false
}

// evictAmong is how many inodes evict looks at.
const evictAmong = 8

// held reports whether an inode has to stay: the kernel has something of it, or it is open.
func (in *cachedInode) held(now time.Time) bool {
	return in.lazy != nil || in.kernel.After(now) || in.listed.After(now) || in.cool.After(now)
}

// nameOf returns the record of a name, made if there is none; nil where there is no room
// for it, unless force. mu is held.
func (c *cache) nameOf(dir twofold.Ino, name string, force bool) *cachedName {
	d := c.inode(dir)
	if d == nil {
		if !force {
			return nil
		}
		d = &cachedInode{ino: dir, used: time.Now()}
		d.at = c.order.PushFront(d)
		c.inodes[dir] = d
	}
	if n := d.names[name]; n != nil {
		c.names.MoveToFront(n.at)
		return n
	}
	if c.names.Len() >= c.max.names && !force {
		last := c.names.Back().Value.(*cachedName)
		if time.Now().Before(last.kernel) {
			return nil // the kernel has it, and would have to be told
		}
		c.dropName(last)
	}
	if d.names == nil {
		d.names = make(map[string]*cachedName)
	}
	n := &cachedName{dir: d, name: name}
	n.at = c.names.PushFront(n)
	d.names[name] = n
	return n
}

func (c *cache) dropName(n *cachedName) {
	c.names.Remove(n.at)
	delete(n.dir.names, n.name)
	n.dir.whole = false
}

// remove forgets an inode and the names in it; mu is held.
func (c *cache) remove(in *cachedInode) {
	c.dropContent(in)
	for _, n := range in.names {
		c.dropName(n)
	}
	c.order.Remove(in.at)
	delete(c.inodes, in.ino)
	c.unleaseACL(in.ino)
}

// spoil makes what is kept of a key useless; mu is held.
func (c *cache) spoil(k key) {
	in := c.inodes[k.ino]
	if in == nil {
		return
	}
	switch k.name {
	case "":
		in.valid = false
		c.dropContent(in)
	case allNames:
		for _, n := range in.names {
			n.valid = false
		}
		in.whole = false
	default:
		if n := in.names[k.name]; n != nil {
			n.valid = false
		} else {
			in.whole = false
		}
	}
}

// drop forgets everything: the leases are gone, or may be. It returns when the kernel's
// last grant ends.
func (c *cache) drop() (last time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marks.all()
	for _, in := range c.inodes {
		in.leased, in.owed = false, in.owed || in.leased
		c.spoil(key{ino: in.ino})
		c.spoil(key{in.ino, allNames})
	}
	for ino := range c.acls {
		c.unleaseACL(ino)
	}
	return c.granted
}

// empty reports whether nothing is kept, so that nothing has to be found out for its
// sake.
func (c *cache) empty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.inodes) == 0
}
