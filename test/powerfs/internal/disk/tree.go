package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const genFormat = "gen-%06d"

// newest returns the path of the newest tree at rest, "" when there is none.
func (d *Disk) newest() (string, error) {
	gens, err := filepath.Glob(filepath.Join(d.backing, "gen-*")) // sorted
	if err != nil || len(gens) == 0 {
		return "", err
	}
	return gens[len(gens)-1], nil
}

func splitPath(p string) []string {
	return strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
}

// load takes in the tree at gen; all of it is durable.
func (d *Disk) load(gen string) error {
	d.root = d.newInode(NewAttr(syscall.S_IFDIR|0o755, uint32(os.Getuid()), uint32(os.Getgid())))
	if gen == "" {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(gen, &st); err != nil {
		return err
	}
	d.root.attr = attrOf(&st)
	return d.loadDir(gen, d.root, make(map[uint64]*Inode))
}

// loadDir takes in one directory; linked finds hard-linked files by their inode
// number on the backing file system.
func (d *Disk) loadDir(path string, dir *Inode, linked map[uint64]*Inode) error {
	names, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range names {
		p := filepath.Join(path, e.Name())
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		i := linked[st.Ino]
		if i == nil {
			if i, err = d.loadInode(p, &st); err != nil {
				return err
			}
			linked[st.Ino] = i
		}
		c := change{slot{dir, e.Name()}, nil, i}
		c.putIn()
		c.setDurable()
		if i.IsDir() {
			if err := d.loadDir(p, i, linked); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Disk) loadInode(path string, st *unix.Stat_t) (i *Inode, err error) {
	i = d.newInode(attrOf(st))
	switch i.kind() {
	case syscall.S_IFDIR:
	case syscall.S_IFLNK:
		i.target, err = os.Readlink(path)
	case syscall.S_IFREG:
		i.data.size, i.data.durable = st.Size, st.Size
		err = os.Link(path, i.path())
	default:
		err = fmt.Errorf("%s: neither file, directory nor symbolic link", path)
	}
	return i, err
}

func attrOf(st *unix.Stat_t) Attr {
	t := func(ts unix.Timespec) time.Time { return time.Unix(ts.Unix()) }
	return Attr{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Atime: t(st.Atim), Mtime: t(st.Mtim), Ctime: t(st.Ctim)}
}

// Save puts the live state to rest, as an orderly unmount does, and returns the
// tree's path. The disk can't be used after it.
func (d *Disk) Save() (string, error) {
	d.SyncAll()
	return d.rest()
}

// rest writes the durable names as a tree, whose files are the live ones, and
// ends the use of the disk.
func (d *Disk) rest() (string, error) {
	last, err := d.newest()
	if err != nil {
		return "", err
	}
	n := 0
	if last != "" {
		fmt.Sscanf(filepath.Base(last), genFormat, &n)
	}
	tmp := filepath.Join(d.backing, "tmp")
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := d.restDir(tmp, d.root); err != nil {
		return "", err
	}
	gen := filepath.Join(d.backing, fmt.Sprintf(genFormat, n+1))
	if err := os.Rename(tmp, gen); err != nil {
		return "", err
	}
	return gen, os.RemoveAll(d.liveDir())
}

func (d *Disk) restDir(path string, dir *Inode) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	for name, i := range dir.durable {
		p := filepath.Join(path, name)
		var err error
		switch i.kind() {
		case syscall.S_IFDIR:
			err = d.restDir(p, i)
		case syscall.S_IFLNK:
			if err = os.Symlink(i.target, p); err == nil {
				err = restAttr(p, i)
			}
		default:
			if err = os.Link(i.path(), p); err == nil {
				err = restAttr(p, i)
			}
		}
		if err != nil {
			return err
		}
	}
	return restAttr(path, dir)
}

// restAttr sets what can be set: the owner only as root.
func restAttr(path string, i *Inode) error {
	a := i.attr
	if err := os.Lchown(path, int(a.UID), int(a.GID)); err != nil && os.Geteuid() == 0 {
		return err
	}
	if i.kind() != syscall.S_IFLNK {
		if err := unix.Chmod(path, a.Mode&0o7777); err != nil {
			return err
		}
	}
	ts := []unix.Timespec{unix.NsecToTimespec(a.Atime.UnixNano()), unix.NsecToTimespec(a.Mtime.UnixNano())}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
}
