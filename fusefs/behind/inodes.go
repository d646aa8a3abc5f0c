package behind

import (
	"crypto/md5"
	"encoding/hex"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// inode is one that was made here, whose attributes are known because nobody else can
// have changed them: its home is a directory whose lease the mount has had ever since.
type inode struct {
	attr   api.Attr // as the volume has it, or will; Home is the directory
	target string   // of a symbolic link
	born   uint64   // the operation that makes it
	reader bool     // the session is a reader of it, or will be: answers may be cached
}

// maxInodes is how many are remembered, of about 500 bytes.
const maxInodes = 32 << 10

const (
	setUID    = 0o4000
	setGID    = 0o2000
	groupExec = 0o010
	permMask  = 0o7777
	rwxMask   = 0o777
)

var emptyMD5 = sumOf("")

func sumOf(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// made is what an inode has that is made in dir: what metadata/fsm gives it (applier.create,
// applier.newInode, applier.setCreated).
func made(dir *api.Attr, ino twofold.Ino, c *api.Create, now twofold.Time) api.Attr {
	a := api.Attr{
		Ino: ino, Type: c.Type, Mode: c.Mode & permMask, UID: c.UID, GID: c.GID, ModeSet: true, UIDSet: true, GIDSet: true,
		Nlink: 1, Rdev: c.Rdev, Atime: now, Mtime: now, Ctime: now, Btime: now, Version: 1, ETag: emptyMD5, Home: dir.Ino,
	}
	if dir.ModeSet && dir.Mode&setGID != 0 {
		a.GID, a.GIDSet = dir.GID, dir.GIDSet
		if c.Type == metadata.TypeDir {
			a.Mode |= setGID
		}
	}
	switch c.Type {
	case metadata.TypeDir:
		a.Nlink, a.Size, a.Home = 2, 4096, 0
	case metadata.TypeSymlink:
		a.Size, a.Stored, a.ETag = int64(len(c.Target)), int64(len(c.Target)), sumOf(c.Target)
	}
	return a
}

// setAttrs is what a SetAttr without a size makes of attributes (applier.setAttr).
func setAttrs(a *api.Attr, s *api.SetAttr, now twofold.Time) {
	if s.UID != nil {
		a.UID, a.UIDSet = *s.UID, true
	}
	if s.GID != nil {
		a.GID, a.GIDSet = *s.GID, true
	}
	if s.Mode != nil {
		a.Mode, a.ModeSet = *s.Mode&permMask, true
	} else if s.KillPriv || s.UID != nil || s.GID != nil {
		killPriv(a)
	}
	if s.Atime != nil {
		a.Atime = *s.Atime
	}
	if s.Mtime != nil {
		a.Mtime = *s.Mtime
	}
	a.Ctime = now
}

func killPriv(a *api.Attr) {
	if a.Type == metadata.TypeDir {
		return
	}
	a.Mode &^= setUID
	if a.Mode&groupExec != 0 {
		a.Mode &^= setGID
	}
}

// written is what a Write makes of attributes (applier.write).
func written(a *api.Attr, w *api.BatchWrite, now twofold.Time) {
	size := a.Size
	for _, s := range w.Segments {
		end := s.Off + int64(len(s.Data))
		if s.Off >= size { // else some of it is over what is there
			a.Stored += int64(len(s.Data))
		} else {
			a.Stored += max(0, end-size)
		}
		a.Size = max(a.Size, end)
	}
	a.Size = max(a.Size, w.Size)
	a.Version++
	a.ETag = w.ETag
	a.Mtime, a.Ctime = now, now
	if w.Mtime != 0 {
		a.Mtime = w.Mtime
	}
	if w.Atime != 0 {
		a.Atime = w.Atime
	}
	if w.KillPriv {
		killPriv(a)
	}
}

// same reports whether two attributes of an inode show the same in stat(2), and are of the
// same content.
func same(a, b *api.Attr) bool {
	x, y := *a, *b
	x.Leased, x.NameLeased, x.Home, x.ETag = y.Leased, y.NameLeased, y.Home, y.ETag
	return x == y
}

// now is a time for an operation: later than the ctime that an inode shows, so that no two
// states show the same. An mtime may be any, by utimensat(2): what is made behind that is
// of now all the same.
func now(after ...twofold.Time) twofold.Time {
	t := twofold.Now()
	for _, a := range after {
		if t <= a {
			t = a + 1
		}
	}
	return t
}

// show is an inode's attributes for who asks; b.mu is held.
func (b *Files) show(in *inode) api.Attr {
	a := in.attr
	d := b.dirs[a.Home]
	a.Leased = in.reader && a.Nlink > 0
	a.NameLeased = d != nil && d.reader
	return a
}

// showDir is a directory's; b.mu is held.
func (b *Files) showDir(d *dir) api.Attr {
	a := d.attr
	a.Leased, a.NameLeased = d.reader, false
	return a
}

// tell tells a call that wants to know what has become of directories; b.mu is held.
func (b *Files) tell(to *api.Dirs, dirs ...*dir) {
	for i, d := range dirs {
		if d.reader && d.valid && (i == 0 || d != dirs[0]) {
			to.Add(b.showDir(d))
		}
	}
}

// ours returns an inode that was made here and that may be changed here: its home may be;
// b.mu is held.
func (b *Files) ours(ino twofold.Ino) (*inode, *dir) {
	in := b.inodes[ino]
	if in == nil || in.attr.Nlink == 0 {
		return nil, nil
	}
	d := b.dirs[in.attr.Home]
	if !d.usable() {
		return nil, nil
	}
	return in, d
}

// keep remembers an inode; b.mu is held.
func (b *Files) keep(in *inode) {
	b.inodes[in.attr.Ino] = in
	if d := b.dirs[in.attr.Home]; d != nil {
		if d.homes == nil {
			d.homes = make(map[twofold.Ino]struct{})
		}
		d.homes[in.attr.Ino] = struct{}{}
	}
}

// unkeep forgets an inode; b.mu is held.
func (b *Files) unkeep(ino twofold.Ino) {
	in := b.inodes[ino]
	if in == nil {
		return
	}
	delete(b.inodes, ino)
	if d := b.dirs[in.attr.Home]; d != nil {
		delete(d.homes, ino)
	}
}

// unkeepAll forgets the inodes whose home is a directory; b.mu is held.
func (b *Files) unkeepAll(d *dir) {
	for ino := range d.homes {
		delete(b.inodes, ino)
	}
	d.homes = nil
}

// move changes where an inode's home is; b.mu is held.
func (b *Files) move(in *inode, home twofold.Ino) {
	b.unkeep(in.attr.Ino)
	in.attr.Home = home
	b.keep(in)
}

// sweepInodes forgets inodes beyond what is remembered; b.mu is held.
func (b *Files) sweepInodes() {
	over := len(b.inodes) - maxInodes
	for ino, in := range b.inodes {
		if over <= 0 {
			return
		}
		if in.born <= b.queue.done && b.queue.touched[ino] == 0 && b.leases[ino] == nil {
			b.unkeep(ino)
			over--
		}
	}
}
