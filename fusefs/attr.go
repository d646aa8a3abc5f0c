package fusefs

import (
	"math"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// blockSize is the st_blksize that programs take as a hint for their buffers.
const blockSize = 128 << 10

// entryOut answers with what a name stands for. The kernel may keep the entry while it is
// leased, but not the attributes, unless others say so (lookedUp, letKeep).
func (f *fsys) entryOut(dir twofold.Ino, name string, a api.Attr, out *fuse.EntryOut) {
	out.NodeId = uint64(a.Ino)
	out.SetEntryTimeout(f.cache.grantName(dir, name, a.Ino))
	f.opts.stat(a, &out.Attr)
}

// lookedUp is entryOut for an answer to LOOKUP, or of READDIRPLUS, whose attributes were
// asked for behind the moment m.
func (f *fsys) lookedUp(dir twofold.Ino, name string, a api.Attr, m uint64, out *fuse.EntryOut) {
	f.entryOut(dir, name, a, out)
	out.SetAttrTimeout(f.attrTimeout(a, m))
}

// attrTimeout is how long the kernel may keep attributes that were asked for behind the
// moment m: not at all while this mount decides about size and times, while the content is
// about to change, while the kernel may have pages or an ACL of before.
func (f *fsys) attrTimeout(a api.Attr, m uint64) time.Duration {
	return f.timeoutBy(f.cache.grantAttr, a, m)
}

func (f *fsys) timeoutBy(grant func(api.Attr, uint64) time.Duration, a api.Attr, m uint64) time.Duration {
	n := f.known(a.Ino)
	if n != nil {
		defer f.unref(n)
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.lease != leaseNone || n.mappers > 0 || n.stale != nil || n.paging.gates > 0 {
			return 0
		}
		// With n.mu: a write(2) that begins now finds that the kernel was told.
	}
	if f.cache.mayBeOldACL(a.Ino) {
		go f.tellACL(a.Ino)
		return 0
	}
	d := grant(a, m)
	if n != nil && d > 0 {
		n.paging.given(d)
	}
	return d
}

// stat fills in what stat(2) shows, with the mount's defaults for what was never
// set.
func (o *Options) stat(a api.Attr, out *fuse.Attr) {
	mode := a.Mode & 07777
	if !a.ModeSet {
		mode = o.defaultMode(a.Type)
	}
	*out = fuse.Attr{
		Ino:     uint64(a.Ino),
		Size:    uint64(a.Size),
		Blocks:  uint64(a.Stored+511) / 512,
		Mode:    mode | typeBits(a.Type),
		Nlink:   a.Nlink,
		Owner:   fuse.Owner{Uid: o.UID, Gid: o.GID},
		Rdev:    a.Rdev,
		Blksize: blockSize,
	}
	if a.UIDSet {
		out.Uid = a.UID
	}
	if a.GIDSet {
		out.Gid = a.GID
	}
	out.Atime, out.Atimensec = split(a.Atime)
	out.Mtime, out.Mtimensec = split(a.Mtime)
	out.Ctime, out.Ctimensec = split(a.Ctime)
}

func (o *Options) defaultMode(t metadata.Type) uint32 {
	switch t {
	case metadata.TypeDir:
		return 0777 &^ o.Umask
	case metadata.TypeSymlink:
		return 0777
	}
	return 0666 &^ o.Umask
}

func typeBits(t metadata.Type) uint32 {
	switch t {
	case metadata.TypeDir:
		return syscall.S_IFDIR
	case metadata.TypeSymlink:
		return syscall.S_IFLNK
	case metadata.TypeFIFO:
		return syscall.S_IFIFO
	case metadata.TypeSocket:
		return syscall.S_IFSOCK
	case metadata.TypeChar:
		return syscall.S_IFCHR
	case metadata.TypeBlock:
		return syscall.S_IFBLK
	}
	return syscall.S_IFREG
}

// typeOf is the type in a mode of mknod(2); ok is false for what it can't make.
func typeOf(mode uint32) (t metadata.Type, ok bool) {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG, 0:
		return metadata.TypeFile, true
	case syscall.S_IFIFO:
		return metadata.TypeFIFO, true
	case syscall.S_IFSOCK:
		return metadata.TypeSocket, true
	case syscall.S_IFCHR:
		return metadata.TypeChar, true
	case syscall.S_IFBLK:
		return metadata.TypeBlock, true
	}
	return 0, false
}

const second = int64(time.Second)

// split is a time as FUSE wants it: seconds, rounded down, and nanoseconds.
func split(t twofold.Time) (sec uint64, nsec uint32) {
	s, ns := int64(t)/second, int64(t)%second
	if ns < 0 {
		s, ns = s-1, ns+second
	}
	return uint64(s), uint32(ns)
}

// join is the reverse of split. Times that nanoseconds in 64 bits can't tell (before
// 1678, after 2261) become the nearest that they can.
func join(sec uint64, nsec uint32) twofold.Time {
	s := int64(sec)
	switch {
	case s >= math.MaxInt64/second:
		return math.MaxInt64
	case s <= math.MinInt64/second:
		return math.MinInt64
	}
	return twofold.Time(s*second + int64(nsec))
}
