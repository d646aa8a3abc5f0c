// Package disk is a drive with a volatile cache: a tree of files that knows, for
// every page and every directory entry, what has been made durable and what only
// seems to be there. PowerCut turns it into one of the states a real drive could
// be found in afterwards.
//
// Live content is in flat files (BACKING/live/NUMBER), the live names are in
// memory. What a power cut may undo is kept in memory as well: the earlier
// versions of pages written since the last fsync (data.go), and the directory
// operations since the last fsync of their directories (dirlog.go). Nothing here
// knows FUSE. Errors are syscall.Errno, for they go to a kernel.
//
//	BACKING/gen-000004/   a tree at rest: what the next Open starts from
//	BACKING/live/17       content of inode 17 while the disk is in use
package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// PageSize is the unit that a power cut keeps or forgets, in bytes.
const PageSize = 4096

// SectorSize is the unit that a drive writes atomically, in bytes.
const SectorSize = 512

// RootNo is the number of the root directory (FUSE_ROOT_ID).
const RootNo = 1

// Options choose how forgetful the disk is.
type Options struct {
	// EntryWithFsync makes the fsync of a file make its directory entries durable
	// too, and those of the directories above, as ext4 and XFS do. Otherwise only
	// the fsync of the directory counts.
	EntryWithFsync bool
	// Ordered makes directory operations and truncations survive as a prefix of
	// their order, as in a journal, never as an arbitrary subset; an fsync of any
	// directory makes all before it durable, with EntryWithFsync that of any file.
	Ordered bool
	// Index tells apart the disks that lose power under one seed.
	Index int
}

// Disk is one drive. Safe for concurrent use, but for PowerCut and Save, which
// the caller calls alone.
type Disk struct {
	backing string
	opts    Options
	undo    atomic.Int64 // bytes of earlier page versions in memory

	// mu guards the names, the directory log and the table. It is taken before any
	// Inode.mu.
	mu     sync.Mutex
	root   *Inode
	inodes map[uint64]*Inode
	lastNo uint64
	log    dirLog
}

// Stats count what is not durable.
type Stats struct {
	Inodes    int   `json:"inodes"`
	DirOps    int   `json:"dir_ops"`
	UndoBytes int64 `json:"undo_bytes"`
}

// Open loads the newest tree at rest in backing, or an empty one. The tree is
// consumed: there is one again after Save or PowerCut.
func Open(backing string, opts Options) (*Disk, error) {
	d := &Disk{backing: backing, opts: opts, inodes: make(map[uint64]*Inode)}
	d.log.slots = make(map[slot]*dirOp)
	if err := os.MkdirAll(backing, 0o755); err != nil {
		return nil, err
	}
	gen, err := d.newest()
	if err != nil {
		return nil, err
	}
	_, err = os.Lstat(d.liveDir())
	switch {
	case err == nil && gen == "":
		return nil, fmt.Errorf("%s: the last run ended with neither a power cut nor a save, there is no state to start from", backing)
	case err == nil:
		if err := os.RemoveAll(d.liveDir()); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(d.liveDir(), 0o755); err != nil {
		return nil, err
	}
	if err := d.load(gen); err != nil {
		return nil, err
	}
	if gen != "" {
		return d, os.RemoveAll(gen)
	}
	return d, nil
}

// Stats returns what is pending now.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Stats{Inodes: len(d.inodes), DirOps: len(d.log.live()), UndoBytes: d.undo.Load()}
}

// Statfs is the backing file system's.
func (d *Disk) Statfs() (st syscall.Statfs_t, err error) {
	err = syscall.Statfs(d.backing, &st)
	return st, err
}

// SyncAll makes everything durable that has reached the disk.
func (d *Disk) SyncAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.makeDurable(d.log.live())
	for _, i := range d.inodes {
		i.mu.Lock()
		i.settle()
		i.mu.Unlock()
		d.collect(i)
	}
}

func (d *Disk) liveDir() string { return filepath.Join(d.backing, "live") }

// newInode adds an inode to the table. The caller holds mu and gives it a name.
func (d *Disk) newInode(a Attr) *Inode {
	d.lastNo++
	i := &Inode{No: d.lastNo, disk: d, attr: a, links: make(map[slot]struct{})}
	if i.IsDir() {
		i.live, i.durable = make(map[string]*Inode), make(map[string]*Inode)
	}
	d.inodes[i.No] = i
	return i
}

// collect frees an inode that no name, durable or not, no pending operation and
// no user of the kernel's refers to. The caller holds mu.
func (d *Disk) collect(i *Inode) {
	if i.No == RootNo || len(i.links) > 0 || i.durableLinks > 0 || i.pins > 0 || i.lookups > 0 {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.opens > 0 {
		return
	}
	i.settle()
	delete(d.inodes, i.No)
	if i.IsFile() {
		os.Remove(i.path())
	}
}

// Get returns the inode of a number the kernel was told, or ESTALE.
func (d *Disk) Get(no uint64) (*Inode, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.inodes[no]; i != nil {
		return i, nil
	}
	return nil, syscall.ESTALE
}

// Forget takes back n lookups.
func (d *Disk) Forget(no, n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.inodes[no]; i != nil {
		i.lookups -= min(n, i.lookups)
		d.collect(i)
	}
}

// Attr is what an inode has besides content and names. A power cut doesn't take
// it back: modes and times are as they were last.
type Attr struct {
	Mode                uint32 // type and permissions
	UID, GID            uint32
	Atime, Mtime, Ctime time.Time
}

// NewAttr is the attributes of something made now.
func NewAttr(mode, uid, gid uint32) Attr {
	now := time.Now()
	return Attr{Mode: mode, UID: uid, GID: gid, Atime: now, Mtime: now, Ctime: now}
}
