package fsm

import (
	"crypto/md5"
	"encoding/hex"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// directory loads a command's directory.
func (a *applier) directory(ino twofold.Ino) (*metadata.Inode, error) {
	d, err := a.load(ino)
	switch {
	case err != nil:
		return nil, err
	case d == nil:
		return nil, refuse(errs.Stale)
	case d.Type != metadata.TypeDir:
		return nil, refuse(errs.NotDir)
	}
	return d, nil
}

// room is directory for commands that add a name: a removed one takes none.
func (a *applier) room(ino twofold.Ino) (*metadata.Inode, error) {
	d, err := a.directory(ino)
	if err == nil && d.Nlink == 0 {
		err = refusef(errs.NotFound, "the directory was removed")
	}
	return d, err
}

// checkName refuses a name that a new entry can't have: the object behind a
// directory needs the directory, and is no directory itself.
func (a *applier) checkName(dir *metadata.Inode, n metadata.Name, isDir bool) error {
	if err := checkComponent(n.Comp); err != nil {
		return err
	}
	if n.Comp == "" && !isDir {
		return refusef(errs.Invalid, "an empty name is a directory's")
	}
	if !n.File {
		return nil
	}
	_, found, err := a.entry(dir.Ino, n.Comp, true)
	if err == nil && (!found || isDir) {
		err = refusef(errs.Invalid, "there is no directory %q to be behind", n.Comp)
	}
	return err
}

// existing loads what a name means in a directory; nil where it means nothing.
func (a *applier) existing(dir *metadata.Inode, n metadata.Name) (*metadata.Inode, error) {
	s, err := a.lookup(dir, n)
	if err != nil || !s.found {
		return nil, err
	}
	return a.mustLoad(s.Ino)
}

func (a *applier) create(c *metadata.Create) (*metadata.Result, error) {
	dir, err := a.room(c.Parent)
	if err != nil {
		return nil, err
	}
	if err := checkCreate(c); err != nil {
		return nil, err
	}
	if err := a.checkName(dir, c.Name, c.Type == metadata.TypeDir); err != nil {
		return nil, err
	}
	old, err := a.existing(dir, c.Name)
	if err != nil {
		return nil, err
	}
	if old != nil {
		return found(c, old)
	}
	i, err := a.newInode(dir.Bucket, c.Type)
	if err != nil {
		return nil, err
	}
	if err := a.setCreated(i, c, dir); err != nil {
		return nil, err
	}
	if i.Size > 0 {
		a.putExtent(i, &metadata.Extent{Len: i.Size, Data: []byte(c.Target)})
	}
	a.name(dir, c.Name.Comp, i)
	a.explicit(dir)
	return &metadata.Result{Inode: i, Parent: dir}, nil
}

func checkCreate(c *metadata.Create) error {
	switch {
	case c.Type < metadata.TypeFile || c.Type > metadata.TypeBlock:
		return refusef(errs.Invalid, "unknown type %d", c.Type)
	case (c.Type == metadata.TypeSymlink) != (c.Target != ""):
		return refusef(errs.Invalid, "a target is a symlink's")
	case len(c.Target) > maxTarget:
		return refuse(errs.NameTooLong)
	}
	return nil
}

// found is create's outcome where the name is taken.
func found(c *metadata.Create, old *metadata.Inode) (*metadata.Result, error) {
	switch {
	case c.Exclusive || c.Type != metadata.TypeFile:
		return nil, refuse(errs.Exists)
	case old.Type == metadata.TypeDir:
		return nil, refuse(errs.IsDir)
	case old.Type != metadata.TypeFile:
		return nil, refuse(errs.Exists)
	}
	return &metadata.Result{Inode: old, ID: 1}, nil
}

// setCreated gives a new inode the attributes of open(O_CREAT), mkdir and so on.
func (a *applier) setCreated(i *metadata.Inode, c *metadata.Create, dir *metadata.Inode) error {
	i.Mode, i.ModeSet = c.Mode&permMask, true
	i.UID, i.UIDSet = c.UID, true
	i.GID, i.GIDSet = c.GID, true
	i.Rdev = c.Rdev
	if dir.ModeSet && dir.Mode&setGID != 0 {
		i.GID = dir.GID
		i.GIDSet = dir.GIDSet
		if c.Type == metadata.TypeDir {
			i.Mode |= setGID
		}
	}
	i.ETag = emptyMD5
	i.Explicit = c.Type == metadata.TypeDir
	if c.Type == metadata.TypeSymlink {
		i.Target, i.Size = c.Target, int64(len(c.Target))
		sum := md5.Sum([]byte(c.Target))
		i.ETag = hex.EncodeToString(sum[:])
	}
	return a.inheritACL(i, dir, c.Mode|c.Asked)
}

func (a *applier) link(c *metadata.Link) (*metadata.Result, error) {
	dir, err := a.room(c.Parent)
	if err != nil {
		return nil, err
	}
	i, err := a.load(c.Ino)
	switch {
	case err != nil:
		return nil, err
	case i == nil || i.Nlink == 0 && !i.Unnamed:
		return nil, refuse(errs.NotFound)
	case i.Type == metadata.TypeDir:
		return nil, refuse(errs.Permission)
	case i.Bucket != dir.Bucket:
		return nil, refuse(errs.CrossBucket)
	case i.Nlink >= maxLinks:
		return nil, refuse(errs.TooManyLinks)
	}
	if err := a.checkName(dir, c.Name, false); err != nil {
		return nil, err
	}
	old, err := a.existing(dir, c.Name)
	if err != nil {
		return nil, err
	}
	if old != nil {
		return nil, refuse(errs.Exists)
	}
	if i.Unnamed {
		i.Unnamed = false // named: it counts as before
		a.del(orphanKey(i.Ino))
	}
	a.name(dir, c.Name.Comp, i)
	i.Ctime = a.cmd.Now
	a.explicit(dir)
	return &metadata.Result{Inode: i, Parent: dir}, nil
}

// tmpfile makes a file that has no name yet, and so is an orphan.
func (a *applier) tmpfile(c *metadata.Tmpfile) (*metadata.Result, error) {
	dir, err := a.room(c.Parent)
	if err != nil {
		return nil, err
	}
	i, err := a.newInode(dir.Bucket, metadata.TypeFile)
	if err != nil {
		return nil, err
	}
	created := metadata.Create{Type: metadata.TypeFile, Mode: c.Mode, UID: c.UID, GID: c.GID, Asked: c.Asked}
	if err := a.setCreated(i, &created, dir); err != nil {
		return nil, err
	}
	i.Unnamed = true
	a.set(orphanKey(i.Ino), []byte{})
	return &metadata.Result{Inode: i}, nil
}

func (a *applier) unlink(c *metadata.Unlink) (*metadata.Result, error) {
	dir, err := a.directory(c.Parent)
	if err != nil {
		return nil, err
	}
	i, err := a.existing(dir, c.Name)
	switch {
	case err != nil:
		return nil, err
	case i == nil:
		return nil, refuse(errs.NotFound)
	case i.Type == metadata.TypeDir:
		return nil, refuse(errs.IsDir)
	}
	a.explicit(dir)
	return &metadata.Result{Inode: i, Parent: dir}, a.release(dir, c.Name.Comp, i)
}

func (a *applier) rmdir(c *metadata.Rmdir) (*metadata.Result, error) {
	dir, err := a.directory(c.Parent)
	if err != nil {
		return nil, err
	}
	i, err := a.existing(dir, c.Name)
	switch {
	case err != nil:
		return nil, err
	case i == nil:
		return nil, refuse(errs.NotFound)
	case i.Type != metadata.TypeDir:
		return nil, refuse(errs.NotDir)
	case i.Children > 0:
		return nil, refuse(errs.NotEmpty)
	}
	a.explicit(dir)
	return &metadata.Result{Inode: i, Parent: dir}, a.release(dir, c.Name.Comp, i)
}
