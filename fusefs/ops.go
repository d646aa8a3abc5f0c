package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
)

// What of fuse.RawFileSystem the mount does, by file:
//
//	fsys.go       Forget
//	ops_attr.go   GetAttr SetAttr StatFs
//	ops_statx.go  Statx
//	ops_name.go   Lookup Mknod Mkdir Unlink Rmdir Rename Link Symlink Readlink
//	ops_dir.go    OpenDir ReadDir ReadDirPlus ReleaseDir FsyncDir
//	ops_file.go   Create Tmpfile Open Release Flush Fsync
//	ops_range.go  Fallocate Lseek CopyFileRange
//	ops_io.go     Read Write Writev
//	ops_lock.go   GetLk SetLk SetLkw
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
	f.kernel = noted{s, f}
	offers := s.KernelSettings().Flags64()
	f.direct = !f.opts.throughPages && offers&directMmap == directMmap
	f.acl = !f.opts.noACL && offers&fuse.CAP_POSIX_ACL != 0
	f.setXattrExt = f.acl && offers&fuse.CAP_SETXATTR_EXT != 0
	f.log.Debug("what the kernel does", "direct I/O", f.direct, "POSIX ACLs", f.acl)
}

// OnUnmount: Server.serve cleans up when the last request is done.
func (f *fsys) OnUnmount() {}

// Access: with default_permissions the kernel decides by itself and never asks.
func (f *fsys) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// Ioctl: there are none.
func (f *fsys) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(enotty)
}
