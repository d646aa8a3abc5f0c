package fsm

import (
	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

func (a *applier) mustBe(ino twofold.Ino) (*metadata.Inode, error) {
	i, err := a.load(ino)
	if i == nil && err == nil {
		err = refuse(errs.Stale)
	}
	return i, err
}

func (a *applier) setAttr(c *metadata.SetAttr) (*metadata.Result, error) {
	i, err := a.mustBe(c.Ino)
	if err != nil {
		return nil, err
	}
	more := false
	if c.Size != nil {
		if more, err = a.truncate(i, *c.Size, c.ETag); err != nil {
			return nil, err
		}
	}
	if c.UID != nil {
		i.UID, i.UIDSet = *c.UID, true
	}
	if c.GID != nil {
		i.GID, i.GIDSet = *c.GID, true
	}
	if c.Mode != nil {
		if err := a.chmod(i, *c.Mode&permMask); err != nil {
			return nil, err
		}
	} else if c.KillPriv || c.UID != nil || c.GID != nil {
		killPriv(i)
	}
	if c.Atime != nil {
		i.Atime = *c.Atime
	}
	if c.Mtime != nil {
		i.Mtime = *c.Mtime
	}
	i.Ctime = a.cmd.Now
	a.touch(i)
	a.explicit(i)
	return &metadata.Result{Inode: i, More: more}, nil
}

// killPriv clears set-id bits, as chown and write do, of all but directories: set-gid
// without group execution is no privilege.
func killPriv(i *metadata.Inode) {
	if i.Type == metadata.TypeDir {
		return
	}
	i.Mode &^= setUID
	if i.Mode&groupExec != 0 {
		i.Mode &^= setGID
	}
}

// truncate sets a file's size. More is left to do where it had to stop early.
func (a *applier) truncate(i *metadata.Inode, size int64, etag string) (more bool, err error) {
	switch {
	case i.Type == metadata.TypeDir:
		return false, refuse(errs.IsDir)
	case i.Type != metadata.TypeFile || size < 0:
		return false, refuse(errs.Invalid)
	case size > maxFileLen:
		return false, refuse(errs.TooLarge)
	}
	i.Mtime = a.cmd.Now
	if size == i.Size {
		return false, nil
	}
	if size < i.Size && i.Stored > 0 {
		cut, err := a.tailCut(i, size)
		if err != nil {
			return false, err
		}
		if _, _, err := a.punch(i, cut, maxFileLen, maxDrop+1); err != nil {
			return false, err
		}
		if more = cut > size; more {
			size, etag = cut, ""
		}
	}
	i.Size = size
	if size == 0 {
		etag = emptyMD5
	}
	a.contentChanged(i, etag)
	return more, nil
}

// tailCut is the smallest size not below size that at most maxDrop extents reach
// over.
func (a *applier) tailCut(i *metadata.Inode, size int64) (int64, error) {
	few := func(off int64) (bool, error) {
		n := 0
		err := a.extents(i.Ino, off, maxFileLen, func(metadata.Extent) (bool, error) {
			n++
			return n <= maxDrop, nil
		})
		return n <= maxDrop, err
	}
	ok, err := few(size)
	if ok || err != nil {
		return size, err
	}
	lo, hi := size, i.Size // few(lo) is false, few(hi) true
	for hi-lo > 1 {
		mid := lo + (hi-lo)/2
		if ok, err = few(mid); err != nil {
			return 0, err
		}
		if ok {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi, nil
}

// contentChanged marks new data or a new size: what described the old content goes.
func (a *applier) contentChanged(i *metadata.Inode, etag string) {
	i.Version++
	i.ETag = etag
	if etag == "" {
		i.ETag = opaqueETag(i.Ino, i.Version)
	}
	i.Checksum, i.Parts = nil, nil
	a.touch(i)
}

func (a *applier) setXattrs(c *metadata.SetXattrs) (*metadata.Result, error) {
	i, err := a.mustBe(c.Ino)
	if err != nil {
		return nil, err
	}
	if c.Name == "" || len(c.Name) > maxXattrName {
		return nil, refuse(errs.Invalid)
	}
	if len(c.Value) > maxXattrValue {
		return nil, refuse(errs.TooLarge)
	}
	switch c.Space {
	case metadata.SpaceXattr:
		v := c.Value
		if v == nil {
			v = []byte{}
		}
		err = edit(&i.Xattrs, c, v)
	case metadata.SpaceUserMeta:
		err = edit(&i.UserMeta, c, string(c.Value))
	case metadata.SpaceHeader:
		err = edit(&i.Headers, c, string(c.Value))
	default:
		err = refuse(errs.Invalid)
	}
	if err != nil {
		return nil, err
	}
	if attrBytes(i) > maxXattrs {
		return nil, refuse(errs.NoSpace)
	}
	i.Ctime = a.cmd.Now
	a.touch(i)
	a.explicit(i)
	return &metadata.Result{Inode: i}, nil
}

// Flags of setxattr(2).
const (
	xattrCreate  = 1
	xattrReplace = 2
)

// edit changes one attribute in one of an inode's maps.
func edit[V any](m *map[string]V, c *metadata.SetXattrs, v V) error {
	_, have := (*m)[c.Name]
	switch {
	case have && !c.Remove && c.Flags&xattrCreate != 0:
		return refuse(errs.Exists)
	case !have && (c.Remove || c.Flags&xattrReplace != 0):
		return refuse(errs.NoAttr)
	case c.Remove:
		delete(*m, c.Name)
		return nil
	case *m == nil:
		*m = map[string]V{}
	}
	(*m)[c.Name] = v
	return nil
}

func attrBytes(i *metadata.Inode) (n int) {
	n = len(i.ACL) + len(i.DefaultACL)
	for k, v := range i.Xattrs {
		n += len(k) + len(v)
	}
	for k, v := range i.UserMeta {
		n += len(k) + len(v)
	}
	for k, v := range i.Headers {
		n += len(k) + len(v)
	}
	return n
}
