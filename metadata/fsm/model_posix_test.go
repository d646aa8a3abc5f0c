package fsm

import (
	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// lookup is what a name means in a directory.
func (m *model) lookup(dir *mnode, n metadata.Name) *mnode {
	d, f := dir.children[n.Comp+"/"], dir.children[n.Comp]
	switch {
	case n.File && d != nil:
		return f
	case n.File:
		return nil
	case d != nil:
		return d
	}
	return f
}

func (m *model) dir(ino twofold.Ino) (*mnode, outcome) {
	d := m.byIno(ino)
	if d == nil {
		return nil, bad(errs.Stale)
	}
	if d.typ != metadata.TypeDir {
		return nil, bad(errs.NotDir)
	}
	return d, good
}

// room is a directory that takes a new name.
func (m *model) room(ino twofold.Ino) (*mnode, outcome) {
	d, o := m.dir(ino)
	if !o.failed && d.links == 0 {
		o = bad(errs.NotFound)
	}
	return d, o
}

func validName(dir *mnode, n metadata.Name, isDir bool) bool {
	if n.Comp == "" && !isDir {
		return false
	}
	return !n.File || !isDir && dir.children[n.Comp+"/"] != nil
}

func (m *model) create(c metadata.Create) outcome {
	dir, o := m.room(c.Parent)
	if o.failed {
		return o
	}
	isDir := c.Type == metadata.TypeDir
	if !validName(dir, c.Name, isDir) {
		return bad(errs.Invalid)
	}
	if old := m.lookup(dir, c.Name); old != nil {
		switch {
		case c.Exclusive || c.Type != metadata.TypeFile:
			return bad(errs.Exists)
		case old.typ == metadata.TypeDir:
			return bad(errs.IsDir)
		case old.typ != metadata.TypeFile:
			return bad(errs.Exists)
		}
		return good
	}
	n := m.newNode(dir.bucket, c.Type)
	n.attr.Mode, n.attr.UID, n.attr.GID = c.Mode, c.UID, c.GID
	n.attr.ModeSet, n.attr.UIDSet, n.attr.GIDSet = true, true, true
	if dir.attr.Mode&0o2000 != 0 {
		n.attr.GID, n.attr.GIDSet = dir.attr.GID, dir.attr.GIDSet
		if isDir {
			n.attr.Mode |= 0o2000
		}
	}
	if c.Type != metadata.TypeSymlink {
		m.inherit(n, dir, c.Asked|c.Mode)
	}
	n.explicit, n.etag = isDir, emptyMD5
	if c.Type == metadata.TypeSymlink {
		n.data = dataOf(int64(len(c.Target)), []metadata.Extent{{Len: int64(len(c.Target)), Data: []byte(c.Target)}})
		n.etag = md5hex(c.Target)
	}
	m.add(dir, c.Name.Comp, n)
	m.makeExplicit(dir)
	return good
}

func (m *model) link(c metadata.Link) outcome {
	dir, o := m.room(c.Parent)
	if o.failed {
		return o
	}
	n := m.byIno(c.Ino)
	switch {
	case n == nil || n.links == 0:
		return bad(errs.NotFound)
	case n.typ == metadata.TypeDir:
		return bad(errs.Permission)
	case n.bucket != dir.bucket:
		return bad(errs.CrossBucket)
	case !validName(dir, c.Name, false):
		return bad(errs.Invalid)
	case m.lookup(dir, c.Name) != nil:
		return bad(errs.Exists)
	}
	m.add(dir, c.Name.Comp, n)
	n.attr.Ctime = m.now
	m.makeExplicit(dir)
	return good
}

func (m *model) unlink(c metadata.Unlink) outcome {
	dir, o := m.dir(c.Parent)
	if o.failed {
		return o
	}
	n := m.lookup(dir, c.Name)
	if n == nil {
		return bad(errs.NotFound)
	}
	if n.typ == metadata.TypeDir {
		return bad(errs.IsDir)
	}
	m.remove(dir, c.Name.Comp, n)
	m.makeExplicit(dir)
	return good
}

func (m *model) rmdir(c metadata.Rmdir) outcome {
	dir, o := m.dir(c.Parent)
	if o.failed {
		return o
	}
	n := m.lookup(dir, c.Name)
	if n == nil {
		return bad(errs.NotFound)
	}
	if n.typ != metadata.TypeDir {
		return bad(errs.NotDir)
	}
	if len(n.children) > 0 {
		return bad(errs.NotEmpty)
	}
	m.remove(dir, c.Name.Comp, n)
	m.makeExplicit(dir)
	return good
}

func below(dir, top *mnode) bool {
	for ; dir != nil; dir = dir.up {
		if dir == top {
			return true
		}
	}
	return false
}

func (m *model) rename(c metadata.Rename) outcome {
	if c.Flags > 2 {
		return bad(errs.NotSupportedRename)
	}
	from, o := m.dir(c.OldParent)
	if o.failed {
		return o
	}
	to, o := m.room(c.NewParent)
	if o.failed {
		return o
	}
	n, old := m.lookup(from, c.OldName), m.lookup(to, c.NewName)
	switch {
	case n == nil:
		return bad(errs.NotFound)
	case from.bucket != to.bucket:
		return bad(errs.CrossBucket)
	case c.Flags == 1 && old != nil:
		return bad(errs.Exists)
	case c.Flags == 2 && old == nil:
		return bad(errs.NotFound)
	case n == old:
		return good
	}
	isDir := n.typ == metadata.TypeDir
	if c.Flags == 2 {
		return m.exchange(c, from, to, n, old)
	}
	switch {
	case !validName(to, c.NewName, isDir):
		return bad(errs.Invalid)
	case isDir && below(to, n):
		return bad(errs.Loop)
	case old != nil && isDir && old.typ != metadata.TypeDir:
		return bad(errs.NotDir)
	case old != nil && !isDir && old.typ == metadata.TypeDir:
		return bad(errs.IsDir)
	case old != nil && len(old.children) > 0:
		return bad(errs.NotEmpty)
	}
	if old != nil {
		m.remove(to, c.NewName.Comp, old)
	}
	m.remove(from, c.OldName.Comp, n)
	m.add(to, c.NewName.Comp, n)
	for _, x := range []*mnode{from, to, n} {
		m.makeExplicit(x)
	}
	return good
}

func (m *model) exchange(c metadata.Rename, from, to, n, old *mnode) outcome {
	if n.typ == metadata.TypeDir && below(to, n) || old.typ == metadata.TypeDir && below(from, old) {
		return bad(errs.Loop)
	}
	nSlot, oldSlot := suffix(c.NewName.Comp, n.typ == metadata.TypeDir), suffix(c.OldName.Comp, old.typ == metadata.TypeDir)
	if x := to.children[nSlot]; x != nil && x != old && x != n || nSlot == "" {
		return bad(errs.Exists)
	}
	if x := from.children[oldSlot]; x != nil && x != old && x != n || oldSlot == "" {
		return bad(errs.Exists)
	}
	if from == to && nSlot == oldSlot {
		return bad(errs.Exists) // both would have one name
	}
	m.remove(from, c.OldName.Comp, n)
	m.remove(to, c.NewName.Comp, old)
	m.add(to, c.NewName.Comp, n)
	m.add(from, c.OldName.Comp, old)
	for _, x := range []*mnode{from, to, n, old} {
		m.makeExplicit(x)
	}
	return good
}

func (m *model) setAttr(c metadata.SetAttr) outcome {
	n := m.byIno(c.Ino)
	if n == nil {
		return bad(errs.Stale)
	}
	if c.Size != nil {
		if n.typ == metadata.TypeDir {
			return bad(errs.IsDir)
		}
		if n.typ != metadata.TypeFile || *c.Size < 0 {
			return bad(errs.Invalid)
		}
		n.attr.Mtime = m.now
		if *c.Size != n.data.size {
			n.data.punch(*c.Size, 1<<40)
			n.data.size = *c.Size
			m.changed(n, c.ETag)
			if *c.Size == 0 {
				n.etag = emptyMD5
			}
		}
	}
	if c.UID != nil {
		n.attr.UID, n.attr.UIDSet = *c.UID, true
	}
	if c.GID != nil {
		n.attr.GID, n.attr.GIDSet = *c.GID, true
	}
	if c.Mode != nil {
		m.chmod(n, *c.Mode)
	} else if c.KillPriv || c.UID != nil || c.GID != nil {
		m.killPriv(n)
	}
	if c.Mtime != nil {
		n.attr.Mtime = *c.Mtime
	}
	n.attr.Ctime = m.now
	m.makeExplicit(n)
	return good
}

func (m *model) killPriv(n *mnode) {
	if n.typ == metadata.TypeDir {
		return
	}
	n.attr.Mode &^= 0o4000
	if n.attr.Mode&0o010 != 0 {
		n.attr.Mode &^= 0o2000
	}
}

func (m *model) changed(n *mnode, etag string) {
	n.version++
	if n.etag = etag; etag == "" {
		n.etag = "?"
	}
}

func (m *model) write(c metadata.Write) outcome {
	n := m.byIno(c.Ino)
	switch {
	case n == nil:
		return bad(errs.Stale)
	case n.typ == metadata.TypeDir:
		return bad(errs.IsDir)
	case n.typ != metadata.TypeFile:
		return bad(errs.Invalid)
	}
	for _, p := range c.Punch {
		n.data.punch(p.Off, p.Len)
	}
	for _, e := range c.Extents {
		n.data.put(e.Off, extentData(e))
	}
	n.data.size = max(n.data.size, c.Size)
	m.changed(n, c.ETag)
	n.attr.Mtime, n.attr.Ctime = m.now, m.now
	if c.Mtime != 0 {
		n.attr.Mtime = c.Mtime
	}
	if c.Atime != 0 {
		n.attr.Atime = c.Atime
	}
	if c.KillPriv {
		m.killPriv(n)
	}
	return good
}

func (m *model) setXattrs(c metadata.SetXattrs) outcome {
	n := m.byIno(c.Ino)
	if n == nil {
		return bad(errs.Stale)
	}
	x := map[string]string{}
	for k, v := range n.attr.UserMeta { // commands may share maps
		x[k] = v
	}
	_, have := x[c.Name]
	switch {
	case have && !c.Remove && c.Flags == 1:
		return bad(errs.Exists)
	case !have && (c.Remove || c.Flags == 2):
		return bad(errs.NoAttr)
	case c.Remove:
		delete(x, c.Name)
	default:
		x[c.Name] = string(c.Value)
	}
	n.attr.UserMeta = x
	n.attr.Ctime = m.now
	m.makeExplicit(n)
	return good
}

func (m *model) freeInode(c metadata.FreeInode) outcome {
	n := m.byIno(c.Ino)
	if n == nil {
		return good
	}
	if n.links > 0 {
		return bad(errs.Busy)
	}
	delete(m.nodes, n)
	return good
}

func (m *model) replaceExtents(c metadata.ReplaceExtents) outcome {
	n := m.byIno(c.Ino)
	if n == nil || n.version != c.Version {
		return bad(errs.Conflict)
	}
	n.data.punch(c.Off, c.Len)
	for _, e := range c.Extents {
		n.data.put(e.Off, extentData(e))
	}
	return good
}
