package disk

import (
	"os"
	"sort"
	"syscall"
	"time"
)

// Entry is one name in a directory.
type Entry struct {
	Name string
	No   uint64
	Mode uint32 // type bits
}

// entered counts a lookup of the kernel's and returns the inode. The caller holds mu.
func entered(i *Inode) (*Inode, Stat) {
	i.lookups++
	return i, i.stat()
}

// Lookup finds a name and counts a reference, as the others that return an inode do.
func (d *Disk) Lookup(dir *Inode, name string) (*Inode, Stat, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !dir.IsDir() {
		return nil, Stat{}, syscall.ENOTDIR
	}
	i := dir.live[name]
	if i == nil {
		return nil, Stat{}, syscall.ENOENT
	}
	i, st := entered(i)
	return i, st, nil
}

// Create makes a file, directory (by its mode) or symbolic link (to target).
func (d *Disk) Create(dir *Inode, name string, a Attr, target string) (*Inode, Stat, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.vacant(dir, name); err != nil {
		return nil, Stat{}, err
	}
	i := d.newInode(a)
	i.target = target
	if i.IsFile() {
		f, err := os.OpenFile(i.path(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			delete(d.inodes, i.No)
			return nil, Stat{}, syscall.EIO
		}
		f.Close()
	}
	d.do(false, change{slot{dir, name}, nil, i})
	dir.changed()
	i, st := entered(i)
	return i, st, nil
}

// Link gives a file another name.
func (d *Disk) Link(i, dir *Inode, name string) (Stat, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i.IsDir() {
		return Stat{}, syscall.EPERM
	}
	if len(i.links) == 0 {
		return Stat{}, syscall.ENOENT
	}
	if err := d.vacant(dir, name); err != nil {
		return Stat{}, err
	}
	d.do(false, change{slot{dir, name}, nil, i})
	dir.changed()
	_, st := entered(i)
	return st, nil
}

// vacant checks that a name can be made in dir. The caller holds mu.
func (d *Disk) vacant(dir *Inode, name string) error {
	switch {
	case !dir.IsDir():
		return syscall.ENOTDIR
	case dir.No != RootNo && len(dir.links) == 0:
		return syscall.ENOENT // removed, but still somebody's working directory
	case len(name) > 255:
		return syscall.ENAMETOOLONG
	case dir.live[name] != nil:
		return syscall.EEXIST
	}
	return nil
}

// Remove is unlink and rmdir.
func (d *Disk) Remove(dir *Inode, name string, isDir bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := dir.live[name]
	switch {
	case i == nil:
		return syscall.ENOENT
	case isDir && !i.IsDir():
		return syscall.ENOTDIR
	case !isDir && i.IsDir():
		return syscall.EISDIR
	case isDir && len(i.live) > 0:
		return syscall.ENOTEMPTY
	}
	d.do(false, change{slot{dir, name}, i, nil})
	dir.changed()
	i.Update(func(a *Attr) { a.Ctime = time.Now() })
	d.collect(i)
	return nil
}

// Rename is renameat2 with noReplace or exchange.
func (d *Disk) Rename(dir *Inode, name string, toDir *Inode, toName string, noReplace, exchange bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, j := dir.live[name], toDir.live[toName]
	if err := renameAllowed(i, j, toDir, toName, noReplace, exchange); err != nil {
		return err
	}
	if exchange && j.IsDir() && (dir == j || dir.under(j)) {
		return syscall.EINVAL
	}
	if i == j {
		return nil // two names of one file: POSIX says to do nothing
	}
	var back *Inode
	if exchange {
		back = j
	}
	moved := dir != toDir && (i.IsDir() || exchange && j.IsDir())
	d.do(moved, change{slot{dir, name}, i, back}, change{slot{toDir, toName}, j, i})
	dir.changed()
	toDir.changed()
	if j != nil && !exchange {
		d.collect(j)
	}
	return nil
}

func renameAllowed(i, j, toDir *Inode, toName string, noReplace, exchange bool) error {
	switch {
	case i == nil, exchange && j == nil:
		return syscall.ENOENT
	case toDir.No != RootNo && len(toDir.links) == 0:
		return syscall.ENOENT
	case noReplace && j != nil:
		return syscall.EEXIST
	case len(toName) > 255:
		return syscall.ENAMETOOLONG
	case i.IsDir() && (toDir == i || toDir.under(i)):
		return syscall.EINVAL
	case j == nil, exchange:
		return nil
	case i.IsDir() && !j.IsDir():
		return syscall.ENOTDIR
	case !i.IsDir() && j.IsDir():
		return syscall.EISDIR
	case j.IsDir() && len(j.live) > 0:
		return syscall.ENOTEMPTY
	}
	return nil
}

// under reports whether dir is somewhere below top. The caller holds Disk.mu.
func (i *Inode) under(top *Inode) bool {
	for p := i.parent; p != nil; p = p.parent {
		if p == top {
			return true
		}
	}
	return false
}

// changed stamps a directory in which a name came or went.
func (i *Inode) changed() {
	i.Update(func(a *Attr) {
		a.Mtime = time.Now()
		a.Ctime = a.Mtime
	})
}

// List returns the entries in order of their names.
func (d *Disk) List(dir *Inode) []Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	es := make([]Entry, 0, len(dir.live))
	for name, i := range dir.live {
		es = append(es, Entry{name, i.No, i.kind()})
	}
	sort.Slice(es, func(a, b int) bool { return es[a].Name < es[b].Name })
	return es
}

// Find walks a slash-separated path from the root, without counting a reference.
func (d *Disk) Find(path string) (*Inode, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.root
	for _, name := range splitPath(path) {
		if !i.IsDir() {
			return nil, syscall.ENOTDIR
		}
		if i = i.live[name]; i == nil {
			return nil, syscall.ENOENT
		}
	}
	return i, nil
}

// Files returns every inode that is known now.
func (d *Disk) Files() []*Inode {
	d.mu.Lock()
	defer d.mu.Unlock()
	is := make([]*Inode, 0, len(d.inodes))
	for _, i := range d.inodes {
		is = append(is, i)
	}
	sort.Slice(is, func(a, b int) bool { return is[a].No < is[b].No })
	return is
}
