package disk

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Inode is a file, directory or symbolic link.
type Inode struct {
	No   uint64
	disk *Disk

	// Guarded by Disk.mu.
	links        map[slot]struct{} // live names
	durableLinks int               // durable names
	pins         int               // pending directory operations that speak of it
	lookups      uint64            // references of the kernel
	parent       *Inode            // of a directory: where it is, live
	live         map[string]*Inode // of a directory: its entries
	durable      map[string]*Inode // of a directory: its entries, were the power cut now and all pending forgotten
	pending      []*dirOp          // of a directory: operations in it; some may be done already
	naming       []*dirOp          // with EntryWithFsync: operations that gave it a name; some may be done already
	subdirs      int

	mu     sync.Mutex // guards what follows; taken after Disk.mu
	attr   Attr
	target string // of a symbolic link
	opens  int
	fd     *os.File // while opens > 0
	data   content
}

// Stat is what stat(2) tells.
type Stat struct {
	Attr
	No    uint64
	Size  int64
	Nlink uint32
}

func (i *Inode) kind() uint32 { return i.attr.Mode & syscall.S_IFMT }

// IsDir reports whether i is a directory. The type of an inode never changes.
func (i *Inode) IsDir() bool { return i.kind() == syscall.S_IFDIR }

// IsFile reports whether i is a regular file.
func (i *Inode) IsFile() bool { return i.kind() == syscall.S_IFREG }

// path is where a file's live content is.
func (i *Inode) path() string {
	return filepath.Join(i.disk.liveDir(), strconv.FormatUint(i.No, 10))
}

// Stat returns the attributes.
func (i *Inode) Stat() Stat {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	return i.stat()
}

// stat is Stat for callers that hold Disk.mu.
func (i *Inode) stat() Stat {
	nlink := len(i.links)
	if i.IsDir() && (nlink > 0 || i.No == RootNo) {
		nlink = 2 + i.subdirs
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return Stat{Attr: i.attr, No: i.No, Size: i.data.size + int64(len(i.target)), Nlink: uint32(nlink)}
}

// Update changes attributes; fn must not change the type.
func (i *Inode) Update(fn func(*Attr)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	fn(&i.attr)
}

// Target is where a symbolic link points.
func (i *Inode) Target() string { return i.target }

// Open keeps the content reachable and its file open until Release.
func (i *Inode) Open() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.IsFile() && i.fd == nil {
		f, err := os.OpenFile(i.path(), os.O_RDWR, 0)
		if err != nil {
			return syscall.EIO
		}
		i.fd = f
	}
	i.opens++
	return nil
}

// Release undoes one Open.
func (i *Inode) Release() {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	i.mu.Lock()
	i.opens--
	if i.opens == 0 && i.fd != nil {
		i.fd.Close()
		i.fd = nil
	}
	i.mu.Unlock()
	i.disk.collect(i)
}

// withFile calls fn with the live content. The caller holds mu.
func (i *Inode) withFile(fn func(*os.File) error) error {
	if !i.IsFile() {
		return syscall.EINVAL
	}
	if i.fd != nil {
		return fn(i.fd)
	}
	f, err := os.OpenFile(i.path(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return fn(f)
}

// Paths are the live names of i from the root, without a leading slash; none for
// a file that was unlinked. The root is "".
func (i *Inode) Paths() []string {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	if i.No == RootNo {
		return []string{""}
	}
	var ps []string
	for s := range i.links {
		ps = append(ps, filepath.Join(s.dir.dirPath(), s.name))
	}
	return ps
}

// dirPath is a directory's path from the root. The caller holds Disk.mu.
func (i *Inode) dirPath() string {
	if i.parent == nil {
		return ""
	}
	for s := range i.links {
		return filepath.Join(i.parent.dirPath(), s.name)
	}
	return "" // removed: there is no path any more
}
