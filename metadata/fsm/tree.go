package fsm

import (
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// changed moves a directory's times on, because an entry came or went.
func (a *applier) changed(dir *metadata.Inode) {
	dir.Mtime, dir.Ctime = a.cmd.Now, a.cmd.Now
	a.touch(dir)
}

// explicit makes a directory one that stays when it is empty: a POSIX change was
// made in it or to it.
func (a *applier) explicit(dir *metadata.Inode) {
	if dir.Type != metadata.TypeDir || dir.Explicit {
		return
	}
	dir.Explicit = true
	dir.ETag = emptyMD5
	a.touch(dir)
}

// name enters an inode into a directory, under a slot that is free.
func (a *applier) name(dir *metadata.Inode, comp string, i *metadata.Inode) {
	isDir := i.Type == metadata.TypeDir
	e := metadata.Entry{Ino: i.Ino, Type: i.Type}
	a.set(entryKey(dir.Ino, entrySuffix(comp, isDir)), metadata.EncodeEntry(&e))
	a.note(dir, comp)
	dir.Children++
	if isDir {
		dir.Subdirs++
		dir.Nlink++
	} else {
		if i.Nlink == 1 {
			a.set(linkKey(i.Ino, i.Parent, i.Name), []byte{})
		}
		if i.Nlink > 0 {
			a.set(linkKey(i.Ino, dir.Ino, comp), []byte{})
		}
		i.Nlink++
	}
	i.Parent, i.Name = dir.Ino, comp
	a.changed(dir)
	a.touch(i)
}

// unname takes an inode out of a directory.
func (a *applier) unname(dir *metadata.Inode, comp string, i *metadata.Inode) error {
	isDir := i.Type == metadata.TypeDir
	a.del(entryKey(dir.Ino, entrySuffix(comp, isDir)))
	a.note(dir, comp)
	dir.Children--
	a.changed(dir)
	a.touch(i)
	if isDir {
		dir.Subdirs--
		dir.Nlink--
		return nil
	}
	i.Nlink--
	if i.Nlink == 0 {
		return nil
	}
	a.del(linkKey(i.Ino, dir.Ino, comp))
	return a.renamePrimary(i)
}

// renamePrimary points an inode that lost one of several links at one that it has.
func (a *applier) renamePrimary(i *metadata.Inode) error {
	prefix := num(pLink, uint64(i.Ino))
	keys, _, err := a.someKeys(prefix, 1)
	if err != nil {
		return err
	}
	if len(keys) == 0 || len(keys[0]) < len(prefix)+8 {
		return errLinks
	}
	dir, comp := keys[0][len(prefix):len(prefix)+8], keys[0][len(prefix)+8:]
	i.Parent, i.Name = inoOf(dir), comp
	if i.Nlink == 1 {
		a.del(keys[0])
	}
	return nil
}

// removed is called when an inode lost its last link: it waits for FreeInode,
// because it may be open somewhere.
func (a *applier) removed(i *metadata.Inode) {
	i.Nlink, i.Parent, i.Name, i.Ctime = 0, 0, "", a.cmd.Now
	a.touch(i)
	h := a.inodes[i.Ino]
	h.size = i.Size // it may have grown within the command: see charge
	a.inodes[i.Ino] = h
	a.set(orphanKey(i.Ino), []byte{})
}

// release removes a name and, with the last one, the inode.
func (a *applier) release(dir *metadata.Inode, comp string, i *metadata.Inode) error {
	if err := a.unname(dir, comp, i); err != nil {
		return err
	}
	if i.Type == metadata.TypeDir || i.Nlink == 0 {
		a.removed(i)
	}
	i.Ctime = a.cmd.Now
	return nil
}

// prune removes a directory that is empty and only implied, and its ancestors that
// become so.
func (a *applier) prune(dir *metadata.Inode) error {
	for !dir.Explicit && dir.Children == 0 && dir.Parent != twofold.RootIno {
		parent, err := a.mustLoad(dir.Parent)
		if err != nil {
			return err
		}
		if err := a.release(parent, dir.Name, dir); err != nil {
			return err
		}
		dir = parent
	}
	return nil
}

// checkComponent refuses names that no key can have.
func checkComponent(comp string) error {
	if len(comp) > maxComponent {
		return refuse(errs.NameTooLong)
	}
	if strings.IndexByte(comp, '/') >= 0 {
		return refusef(errs.Invalid, "a name with a slash")
	}
	return nil
}

// mustBucket is the bucket of a command.
func (a *applier) mustBucket(id twofold.BucketID) (*metadata.Bucket, error) {
	b, err := a.bucketByID(id)
	if b == nil && err == nil {
		err = refuse(errs.NoBucket)
	}
	return b, err
}

// walk goes down a key's directories: to the last one that is there, returning
// what is left of the key below it ("" or without "/" when all are there).
func (s state) walk(root twofold.Ino, key string) (dir twofold.Ino, rest string, err error) {
	dir, rest = root, key
	for {
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			return dir, rest, nil
		}
		if i > maxComponent {
			return dir, rest, nil
		}
		e, found, err := s.entry(dir, rest[:i], true)
		if err != nil || !found {
			return dir, rest, err
		}
		dir, rest = e.Ino, rest[i+1:]
	}
}

// target is what a key names, for the commands of the S3 view.
type target struct {
	dir  *metadata.Inode // the key's directory; nil where it is not there
	base string          // name in it; "": the key ends in "/" and means dir itself
	old  *metadata.Inode // what is there now, as S3 sees it; nil: nothing
}

// find looks a key up. With mkdir its missing directories are made, implied.
func (a *applier) find(b twofold.BucketID, key twofold.Key, mkdir bool) (target, error) {
	bucket, err := a.mustBucket(b)
	if err != nil {
		return target{}, err
	}
	if key == "" {
		return target{}, refusef(errs.Invalid, "an empty key")
	}
	if len(key) > maxKey {
		return target{}, refuse(errs.NameTooLong)
	}
	ino, rest, err := a.walk(bucket.Root, string(key))
	if err != nil {
		return target{}, err
	}
	missing := strings.IndexByte(rest, '/') >= 0
	if missing && !mkdir {
		return target{}, nil
	}
	dir, err := a.mustLoad(ino)
	if err != nil {
		return target{}, err
	}
	if missing {
		if dir, rest, err = a.mkdirs(dir, rest); err != nil {
			return target{}, err
		}
	}
	t := target{dir: dir, base: rest}
	if rest == "" {
		if dir.Explicit {
			t.old = dir
		}
		return t, nil
	}
	if err := checkComponent(rest); err != nil {
		return target{}, err
	}
	if missing || dir.Children == uint64(dir.Subdirs) {
		return t, nil
	}
	e, found, err := a.entry(dir.Ino, rest, false)
	if err == nil && found {
		t.old, err = a.mustLoad(e.Ino)
	}
	return t, err
}

// mkdirs makes the directories of rest below dir.
func (a *applier) mkdirs(dir *metadata.Inode, rest string) (*metadata.Inode, string, error) {
	for {
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			return dir, rest, nil
		}
		if err := checkComponent(rest[:i]); err != nil {
			return nil, "", err
		}
		child, err := a.newInode(dir.Bucket, metadata.TypeDir)
		if err != nil {
			return nil, "", err
		}
		if err := a.inheritACL(child, dir, 0o777); err != nil {
			return nil, "", err
		}
		a.name(dir, rest[:i], child)
		dir, rest = child, rest[i+1:]
	}
}
