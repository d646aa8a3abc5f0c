package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
)

// What of fuse.RawFileSystem the mount does, by file:
//
//	fsys.go       Forget
//	ops_attr.go   GetAttr SetAttr StatFs
//	ops_name.go   Lookup Mknod Mkdir Unlink Rmdir Rename Link Symlink Readlink
//	ops_dir.go    OpenDir ReadDir ReadDirPlus ReleaseDir FsyncDir
//	ops_file.go   Create Open Release Flush Fsync Fallocate
//	ops_io.go     Read Write Writev
//	ops_xattr.go  GetXAttr ListXAttr SetXAttr RemoveXAttr
//
// What it leaves out is below, each with the reason.
var _ fuse.RawFileSystem = (*fsys)(nil)

// String names the file system in go-fuse's logs.
func (f *fsys) String() string { return fsName }

// SetDebug is an option of the server, not of the file system.
func (f *fsys) SetDebug(bool) {}

// Init has the server, and what the kernel can do, before the first request.
func (f *fsys) Init(s *fuse.Server) {
	f.kernel = s
	f.direct = !f.opts.throughPages && s.KernelSettings().Flags64()&directMmap == directMmap
	f.log.Debug("the kernel's file I/O", "direct", f.direct)
}

// OnUnmount: Server.serve cleans up when the last request is done.
func (f *fsys) OnUnmount() {}

// Access: with default_permissions the kernel decides by itself and never asks.
func (f *fsys) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// Lseek: holes are not told; the kernel then answers SEEK_DATA and SEEK_HOLE as for
// a file without any, from a size that it asks for.
func (f *fsys) Lseek(<-chan struct{}, *fuse.LseekIn, *fuse.LseekOut) fuse.Status {
	return fuse.ENOSYS
}

// CopyFileRange: the kernel copies through reads and writes instead.
func (f *fsys) CopyFileRange(<-chan struct{}, *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// Tmpfile: open(2) with O_TMPFILE says EOPNOTSUPP, and programs fall back.
func (f *fsys) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status {
	return fuse.ENOSYS
}

// Ioctl: there are none.
func (f *fsys) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(enotty)
}

// Statx: the kernel falls back on GetAttr (the birth time is not shown).
func (f *fsys) Statx(<-chan struct{}, *fuse.StatxIn, *fuse.StatxOut) fuse.Status { return fuse.ENOSYS }

// GetLk, SetLk, SetLkw: locks are local to the machine, kept by its kernel, which is
// not told that we could do them.
func (f *fsys) GetLk(<-chan struct{}, *fuse.LkIn, *fuse.LkOut) fuse.Status { return fuse.ENOSYS }

// SetLk: see GetLk.
func (f *fsys) SetLk(<-chan struct{}, *fuse.LkIn) fuse.Status { return fuse.ENOSYS }

// SetLkw: see GetLk.
func (f *fsys) SetLkw(<-chan struct{}, *fuse.LkIn) fuse.Status { return fuse.ENOSYS }
