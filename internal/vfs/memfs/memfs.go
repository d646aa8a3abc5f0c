// Package memfs is a file system in memory that can lose power. What was not synced
// is then forgotten in part, as a disk could: each page and each directory entry
// that changed since its last sync shows, independently of the others, a state that
// it had since then. That is harsher than any journaling file system (a rename
// between directories may leave both names, or none).
package memfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"twofold/internal/vfs"
)

// FS is a file system in memory. Directories can be covered by others with Mount.
type FS struct {
	mu    sync.Mutex
	root  *node
	ino   uint64 // the last one given
	clock int64  // ctime: grows with each change
	total uint64 // bytes of capacity
	used  uint64 // bytes of files that have a name
	ro    bool
	locks map[*node]bool
}

// node is a file or a directory. Its fields are guarded by FS.mu.
type node struct {
	dev, ino uint64
	ctime    int64
	dir      bool
	cover    *node // mounted on this directory

	// Files.
	data   []byte
	synced []byte // as of the last Sync
	dirty  map[int64]bool
	links  int

	// Directories. past has, for a name that changed since the last SyncDir, what it
	// was: every state but the present one, nil for absent.
	entries map[string]*node
	past    map[string][]*node
}

var (
	_ vfs.FS   = (*FS)(nil)
	_ vfs.File = (*file)(nil)
)

// New returns an empty file system of 1 GiB.
func New() *FS {
	m := &FS{total: 1 << 30, locks: make(map[*node]bool)}
	m.root = m.newNode(1, true)
	return m
}

// SetCapacity sets the size in bytes: writes beyond it get ENOSPC.
func (m *FS) SetCapacity(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total = n
}

// SetReadOnly makes every change fail with EROFS.
func (m *FS) SetReadOnly(ro bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ro = ro
}

// Disk is a file system that can be mounted on a directory of an FS.
type Disk struct{ root *node }

// NewDisk makes an empty one, with an identity of its own.
func (m *FS) NewDisk() *Disk {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Disk{m.newNode(m.ino+1000, true)}
}

// Mount covers a directory with a disk.
func (m *FS) Mount(name string, d *Disk) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, base := path.Split(path.Clean(name))
	n, err := m.find(parent)
	if err == nil {
		n = n.entries[base]
		if n == nil || !n.dir {
			err = syscall.ENOTDIR
		}
	}
	if err != nil {
		return &fs.PathError{Op: "mount", Path: name, Err: err}
	}
	n.cover = d.root
	return nil
}

// Unmount uncovers it.
func (m *FS) Unmount(name string) error { return m.Mount(name, &Disk{}) }

func (m *FS) newNode(dev uint64, dir bool) *node {
	m.ino++
	n := &node{dev: dev, ino: m.ino, dir: dir, dirty: make(map[int64]bool)}
	if dir {
		n.entries, n.past = make(map[string]*node), make(map[string][]*node)
	}
	m.touch(n)
	return n
}

func (m *FS) touch(n *node) {
	m.clock++
	n.ctime = m.clock
}

// find returns what is at a path. m.mu is held.
func (m *FS) find(name string) (*node, error) {
	n := m.root
	for _, part := range strings.Split(path.Clean("/"+name), "/") {
		if part == "" {
			continue
		}
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		next := n.entries[part]
		if next == nil {
			return nil, syscall.ENOENT
		}
		if next.cover != nil {
			next = next.cover
		}
		n = next
	}
	return n, nil
}

// parent returns the directory that name is, or would be, in. m.mu is held.
func (m *FS) parent(name string) (*node, string, error) {
	dir, base := path.Split(path.Clean("/" + name))
	n, err := m.find(dir)
	switch {
	case err != nil:
		return nil, "", err
	case !n.dir:
		return nil, "", syscall.ENOTDIR
	case base == "":
		return nil, "", syscall.EBUSY
	}
	return n, base, nil
}

// set changes an entry, nil to remove it, and remembers what was. m.mu is held.
func (m *FS) set(dir *node, name string, n *node) {
	dir.past[name] = append(dir.past[name], dir.entries[name])
	if n == nil {
		delete(dir.entries, name)
	} else {
		dir.entries[name] = n
	}
	m.touch(dir)
}

// unlink takes a name from a file. m.mu is held.
func (m *FS) unlink(n *node) {
	if n.links--; n.links == 0 {
		m.used -= uint64(len(n.data))
	}
	m.touch(n)
}

// do runs fn under the lock, and makes its errno a *fs.PathError.
func (m *FS) do(op, name string, change bool, fn func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := error(syscall.EROFS)
	if !change || !m.ro {
		err = fn()
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// Open opens a file for reading.
func (m *FS) Open(name string) (vfs.File, error) {
	var f *file
	err := m.do("open", name, false, func() error {
		n, err := m.find(name)
		if err == nil && n.dir {
			err = syscall.EISDIR
		}
		f = &file{fs: m, n: n, name: name}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Create makes a new file.
func (m *FS) Create(name string) (vfs.File, error) {
	var f *file
	err := m.do("open", name, true, func() error {
		dir, base, err := m.parent(name)
		if err != nil {
			return err
		}
		if dir.entries[base] != nil {
			return syscall.EEXIST
		}
		n := m.newNode(dir.dev, false)
		n.links = 1
		m.set(dir, base, n)
		f = &file{fs: m, n: n, name: name, write: true}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// CreateDirect is Create: there is no page cache to go past.
func (m *FS) CreateDirect(name string) (vfs.File, error) { return m.Create(name) }

// Mkdir makes a directory.
func (m *FS) Mkdir(name string) error {
	return m.do("mkdir", name, false, func() error {
		dir, base, err := m.parent(name)
		if err == syscall.EBUSY {
			return syscall.EEXIST
		}
		if err != nil {
			return err
		}
		if dir.entries[base] != nil {
			return syscall.EEXIST
		}
		if m.ro {
			return syscall.EROFS
		}
		m.set(dir, base, m.newNode(dir.dev, true))
		return nil
	})
}

// Rename moves a file or directory over what may be there.
func (m *FS) Rename(oldname, newname string) error {
	err := m.do("rename", oldname, true, func() error {
		from, a, err := m.parent(oldname)
		if err != nil {
			return err
		}
		to, b, err := m.parent(newname)
		if err != nil {
			return err
		}
		n, over := from.entries[a], to.entries[b]
		switch {
		case n == nil:
			return syscall.ENOENT
		case from.dev != to.dev:
			return syscall.EXDEV
		case n == over:
			return nil
		case over != nil && over.dir && (!n.dir || len(over.entries) > 0):
			return syscall.EISDIR
		case over != nil && !over.dir && n.dir:
			return syscall.ENOTDIR
		}
		m.set(to, b, n)
		m.set(from, a, nil)
		m.touch(n)
		if over != nil && !over.dir {
			m.unlink(over)
		}
		return nil
	})
	return linkError("rename", oldname, newname, err)
}

// Link gives a file another name.
func (m *FS) Link(oldname, newname string) error {
	err := m.do("link", oldname, true, func() error {
		n, err := m.find(oldname)
		if err != nil {
			return err
		}
		to, b, err := m.parent(newname)
		switch {
		case err != nil:
			return err
		case n.dir:
			return syscall.EPERM
		case to.entries[b] != nil:
			return syscall.EEXIST
		case to.dev != n.dev:
			return syscall.EXDEV
		}
		n.links++
		m.touch(n)
		m.set(to, b, n)
		return nil
	})
	return linkError("link", oldname, newname, err)
}

func linkError(op, oldname, newname string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return &os.LinkError{Op: op, Old: oldname, New: newname, Err: p.Err}
	}
	return err
}

// Remove removes a file or an empty directory.
func (m *FS) Remove(name string) error {
	return m.do("remove", name, true, func() error {
		dir, base, err := m.parent(name)
		if err != nil {
			return err
		}
		n := dir.entries[base]
		switch {
		case n == nil:
			return syscall.ENOENT
		case n.cover != nil:
			return syscall.EBUSY
		case n.dir && len(n.entries) > 0:
			return syscall.ENOTEMPTY
		}
		m.set(dir, base, nil)
		if !n.dir {
			m.unlink(n)
		}
		return nil
	})
}

// List calls fn for each entry. fn may call the file system.
func (m *FS) List(name string, fn func(vfs.Entry) error) error {
	var list []vfs.Entry
	err := m.do("open", name, false, func() error {
		n, err := m.find(name)
		if err == nil && !n.dir {
			err = syscall.ENOTDIR
		}
		if err != nil {
			return err
		}
		for name, e := range n.entries { // a map: in no order, as promised
			list = append(list, vfs.Entry{Name: name, Dir: e.dir})
		}
		return nil
	})
	for _, e := range list {
		if err == nil {
			err = fn(e)
		}
	}
	return err
}

// Stat describes what is at a path.
func (m *FS) Stat(name string) (i vfs.Info, err error) {
	err = m.do("stat", name, false, func() error {
		n, err := m.find(name)
		if err == nil {
			i = n.info()
		}
		return err
	})
	return i, err
}

func (n *node) info() vfs.Info {
	return vfs.Info{Size: int64(len(n.data)), Dir: n.dir, Dev: n.dev, Ino: n.ino, Ctime: n.ctime}
}

// SyncDir makes a directory's entries durable.
func (m *FS) SyncDir(name string) error {
	return m.do("fsync", name, false, func() error {
		n, err := m.find(name)
		if err == nil && !n.dir {
			err = syscall.ENOTDIR
		}
		if err == nil {
			clear(n.past)
		}
		return err
	})
}

// StatFS describes the file system; all disks share the capacity.
func (m *FS) StatFS(name string) (i vfs.FSInfo, err error) {
	err = m.do("statfs", name, false, func() error {
		n, err := m.find(name)
		if err != nil {
			return err
		}
		i = vfs.FSInfo{Total: m.total, Free: m.total - min(m.used, m.total), ID: n.dev, ReadOnly: m.ro}
		return nil
	})
	return i, err
}

// Lock locks a file, which it makes if need be.
func (m *FS) Lock(name string) (io.Closer, error) {
	f, err := m.Create(name)
	if errors.Is(err, fs.ErrExist) {
		f, err = m.Open(name)
	}
	if err != nil {
		return nil, err
	}
	n := f.(*file).n
	err = m.do("lock", name, false, func() error {
		if m.locks[n] {
			return syscall.EWOULDBLOCK
		}
		m.locks[n] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return closer(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locks, n)
	}), nil
}

type closer func()

func (c closer) Close() error { c(); return nil }
