package fsm

import (
	"cmp"
	"errors"
	"slices"

	"twofold"
	"twofold/metadata"
)

// tree checks inodes, entries and the counts that spare commands a scan.
func (c *checker) tree() {
	for ino, i := range c.inodes {
		if i == nil {
			c.badf("inode %d is named but not there", ino)
			continue
		}
		if i.Ino != ino || uint64(ino) >= c.numbers[keyNextIno] {
			c.badf("inode %d is at the key of %d, and %d is next", i.Ino, ino, c.numbers[keyNextIno])
		}
		c.acls(i)
		if c.orphans[ino] != (i.Nlink == 0) {
			c.badf("inode %d has %d links; listed as an orphan: %v", ino, i.Nlink, c.orphans[ino])
		}
		for _, n := range c.names[ino] {
			if d := c.inodes[n.dir]; d == nil || d.Type != metadata.TypeDir || d.Nlink == 0 || d.Bucket != i.Bucket {
				c.badf("inode %d is in %d, which is no directory of its bucket", ino, n.dir)
			}
		}
		if i.Type == metadata.TypeDir {
			c.directory(i)
		} else {
			c.file(i)
		}
	}
	for ino := range c.orphans {
		if c.inodes[ino] == nil {
			c.badf("orphan %d is not there", ino)
		}
	}
	for ino := range c.links {
		if i := c.inodes[ino]; i == nil || i.Nlink < 2 {
			c.badf("inode %d has not several links, but is in the index of links", ino)
		}
	}
}

// acls checks that ACLs are valid and in step with the mode.
func (c *checker) acls(i *metadata.Inode) {
	access, err := kept(i, i.ACL)
	if err == nil && access != nil {
		perm, equivalent := access.Mode()
		if equivalent || !i.ModeSet || perm != i.Mode&permBits || i.Type == metadata.TypeSymlink {
			c.badf("inode %d of type %d, mode %#o has the ACL %v", i.Ino, i.Type, i.Mode, access)
		}
	}
	def, errDefault := kept(i, i.DefaultACL)
	if err = errors.Join(err, errDefault); err != nil {
		c.badf("%v", err)
	}
	if def != nil && i.Type != metadata.TypeDir {
		c.badf("inode %d has a default ACL, and is no directory", i.Ino)
	}
}

func (c *checker) directory(i *metadata.Inode) {
	if i.Children != c.children[i.Ino] || i.Subdirs != c.subdirs[i.Ino] {
		c.badf("directory %d counts %d entries, %d directories; it has %d, %d", i.Ino, i.Children, i.Subdirs, c.children[i.Ino], c.subdirs[i.Ino])
	}
	names := c.names[i.Ino]
	switch {
	case i.Parent == twofold.RootIno:
		b := c.buckets[i.Bucket]
		if b == nil || b.Root != i.Ino || string(b.Name) != i.Name || !i.Explicit || len(names) != 0 {
			c.badf("directory %d is the root of no bucket", i.Ino)
		}
	case i.Nlink == 0:
		if len(names) != 0 || i.Children != 0 {
			c.badf("directory %d was removed, but has %d names, %d entries", i.Ino, len(names), i.Children)
		}
		return
	case len(names) != 1 || names[0] != edge{i.Parent, i.Name + "/"}:
		c.badf("directory %d says it is %d/%q; it is %v", i.Ino, i.Parent, i.Name, names)
	case !i.Explicit && i.Children == 0:
		c.badf("directory %d is empty, and only implied", i.Ino)
	}
	if i.Nlink != 2+i.Subdirs {
		c.badf("directory %d with %d directories has %d links", i.Ino, i.Subdirs, i.Nlink)
	}
	c.rooted(i)
}

// rooted checks that a directory's ancestors end at a root.
func (c *checker) rooted(i *metadata.Inode) {
	for range len(c.inodes) {
		if i.Parent == twofold.RootIno {
			return
		}
		if i = c.inodes[i.Parent]; i == nil {
			return // reported with its entry
		}
	}
	c.badf("directory %d is its own ancestor", i.Ino)
}

func (c *checker) file(i *metadata.Inode) {
	names := c.names[i.Ino]
	if int(i.Nlink) != len(names) {
		c.badf("inode %d has %d links, and %d names", i.Ino, i.Nlink, len(names))
	}
	primary, index := i.Nlink == 0 && i.Parent == 0, c.links[i.Ino]
	for _, n := range names {
		if n == (edge{i.Parent, i.Name}) {
			primary = true
		}
		if len(names) > 1 && !index[string(be64(nil, uint64(n.dir)))+n.suffix] {
			c.badf("inode %d: the index of links misses %v", i.Ino, n)
		}
	}
	if len(names) > 1 && len(index) != len(names) {
		c.badf("inode %d has %d names, and %d in the index of links", i.Ino, len(names), len(index))
	}
	if !primary {
		c.badf("inode %d says it is %d/%q; it is %v", i.Ino, i.Parent, i.Name, names)
	}
	if i.Version == 0 || i.ETag == "" {
		c.badf("inode %d has version %d, ETag %q", i.Ino, i.Version, i.ETag)
	}
}

// blobs checks extents, claims and the trash.
func (c *checker) blobs() {
	for ino, s := range c.extents {
		i := c.inodes[ino]
		if i == nil {
			c.badf("extents of inode %d, which is not there", ino)
		} else if s.end > i.Size || s.bytes != i.Stored {
			c.badf("inode %d: extents up to %d of %d bytes, %d stored of %d", ino, s.end, i.Size, s.bytes, i.Stored)
		}
	}
	for ino, i := range c.inodes {
		if i != nil && i.Stored != 0 && c.extents[ino] == nil {
			c.badf("inode %d has %d bytes stored in no extent", ino, i.Stored)
		}
	}
	for key, n := range c.wanted {
		if c.claims[key] != n {
			c.badf("claim %x: %d live bytes, should be %d", key, c.claims[key], n)
		}
		if c.trash[twofold.BlobID([]byte(key[1:17]))] {
			c.badf("blob %x is referred to, and in the trash", key[1:17])
		}
	}
	for key, n := range c.claims {
		if _, ok := c.wanted[key]; !ok {
			c.badf("claim %x of %d bytes, of nothing", key, n)
		}
	}
}

// rest checks buckets, uploads and sessions.
func (c *checker) rest() {
	for id, b := range c.buckets {
		if c.ids[id] != string(b.Name) || uint64(id) >= c.numbers[keyNextBucket] {
			c.badf("bucket %d %q is %q by its number; %d is next", id, b.Name, c.ids[id], c.numbers[keyNextBucket])
		}
		if root := c.inodes[b.Root]; root == nil || root.Parent != twofold.RootIno {
			c.badf("bucket %q has no root", b.Name)
		}
	}
	if len(c.ids) != len(c.buckets) {
		c.badf("%d buckets by number, %d by name", len(c.ids), len(c.buckets))
	}
	for id, u := range c.uploads {
		if c.buckets[u.Bucket] == nil || !c.byKey[uploadByKey(u.Bucket, u.Key, id)] {
			c.badf("upload %v has no bucket, or is not listed by key", id)
		}
	}
	if len(c.byKey) != len(c.uploads) {
		c.badf("%d uploads, %d by key", len(c.uploads), len(c.byKey))
	}
	for _, u := range c.parts {
		if c.uploads[u] == nil {
			c.badf("a part of upload %v, which is not there", u)
		}
	}
	for _, s := range c.kept {
		if c.sessions[s] == nil {
			c.badf("something is kept of session %d, which is not there", s)
		}
	}
	for id, s := range c.sessions {
		if s == nil || c.nonces[s.Nonce] != id || uint64(id) >= c.numbers[keyNextSession] {
			c.badf("session %d can't be found by its nonce, or is not given out yet", id)
		}
	}
	if len(c.nonces) != len(c.sessions) {
		c.badf("%d nonces of %d sessions", len(c.nonces), len(c.sessions))
	}
}

// ranges checks the inode numbers that sessions have left.
func (c *checker) ranges() {
	var all []inoRange
	for id, rs := range c.inos {
		if c.sessions[id] == nil || len(rs) == 0 || len(rs) > maxInoRanges {
			c.badf("%d ranges of inode numbers of session %d, which may not be there", len(rs), id)
		}
		all = append(all, rs...)
	}
	slices.SortFunc(all, func(x, y inoRange) int { return cmp.Compare(x.next, y.next) })
	for i, r := range all {
		if r.next >= r.end || r.end > c.numbers[keyNextIno] || i > 0 && r.next < all[i-1].end {
			c.badf("inode numbers [%d, %d) are left to a session; %d is next", r.next, r.end, c.numbers[keyNextIno])
		}
	}
	for ino := range c.inodes {
		i, found := slices.BinarySearchFunc(all, uint64(ino), func(r inoRange, n uint64) int { return cmp.Compare(r.next, n) })
		if found || i > 0 && uint64(ino) < all[i-1].end {
			c.badf("inode %d is there, and its number is left to a session", ino)
		}
	}
}

// counts checks what is counted of each bucket, as far as counting has got.
func (c *checker) counts(p progress) {
	want := map[twofold.BucketID]share{}
	add := func(b twofold.BucketID, key string, s share) {
		if p.counts(key) && c.buckets[b] != nil {
			want[b] = share{want[b].used + s.used, want[b].reserved + s.reserved}
		}
	}
	for ino, i := range c.inodes {
		if i == nil {
			continue
		}
		add(i.Bucket, inodeKey(ino), shareOf(i))
		if c.reserved[ino] != (i.Reserve > 0) {
			c.badf("inode %d has a reserve of %d; listed: %v", ino, i.Reserve, c.reserved[ino])
		}
		delete(c.reserved, ino)
	}
	for ino := range c.reserved {
		c.badf("inode %d is listed as one with a reserve, and not there", ino)
	}
	for key, size := range c.partSizes {
		if u := c.uploads[twofold.UploadID([]byte(key[1:17]))]; u != nil {
			add(u.Bucket, key, share{used: size})
		}
	}
	for b, u := range c.usage {
		if c.buckets[b] == nil {
			c.badf("a count of bucket %d, which is not there", b)
		}
		if got := (share{u.Used, u.Reserved}); got != want[b] {
			c.badf("bucket %d counts %+v, and has %+v", b, got, want[b])
		}
		delete(want, b)
	}
	for b, s := range want {
		if s != (share{}) {
			c.badf("bucket %d counts nothing, and has %+v", b, s)
		}
	}
}
