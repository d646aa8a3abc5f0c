package fusefs

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/internal/acl"
	"twofold/volume/api"
)

const (
	xattrNameMax = 255     // XATTR_NAME_MAX
	xattrSizeMax = 1 << 16 // XATTR_SIZE_MAX
	capability   = "security.capability"
)

// refused reports names that mean something to the kernel which the store does not
// do: ACLs where the kernel would not obey them (before Linux 4.9), and file
// capabilities, which a write would have to clear.
func (f *fsys) refused(name string) bool {
	if acl.IsName(name) {
		return !f.acl
	}
	return strings.HasPrefix(name, "system.") || name == capability
}

// GetXAttr is getxattr(2).
func (f *fsys) GetXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if name == capability {
		return 0, fuse.ENODATA
	}
	if f.refused(name) {
		return 0, fuse.ENOTSUP
	}
	if acl.IsName(name) && f.cache.until != nil {
		if evict := f.cache.keepsACL(twofold.Ino(in.NodeId)); evict != 0 {
			go f.tellACL(evict)
		}
	}
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	v, err := f.files.GetXattr(ctx, twofold.Ino(in.NodeId), name)
	if err != nil {
		return 0, errno(err)
	}
	return put(dest, v)
}

// put copies v for a caller that may ask for its size only.
func put(dest, v []byte) (uint32, fuse.Status) {
	if len(dest) == 0 {
		return uint32(len(v)), fuse.OK
	}
	if len(dest) < len(v) {
		return uint32(len(v)), fuse.ERANGE
	}
	return uint32(copy(dest, v)), fuse.OK
}

// ListXAttr is listxattr(2).
func (f *fsys) ListXAttr(cancel <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	names, err := f.files.ListXattr(ctx, twofold.Ino(in.NodeId))
	if err != nil {
		return 0, errno(err)
	}
	var list []byte
	for _, name := range names {
		if !f.refused(name) {
			list = append(append(list, name...), 0)
		}
	}
	return put(dest, list)
}

// SetXAttr is setxattr(2).
func (f *fsys) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	if f.refused(name) {
		return fuse.ENOTSUP
	}
	if len(name) > xattrNameMax || len(value) > xattrSizeMax {
		return fuse.ERANGE
	}
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	value = append([]byte(nil), value...) // the buffer is go-fuse's
	flags := in.Flags
	if f.killSetGID(in) {
		flags |= api.XattrKillSetGID
	}
	return errno(f.files.SetXattr(ctx, twofold.Ino(in.NodeId), name, value, flags))
}

// killSetGID reports whether an ACL that the caller sets is to clear the set-group-ID
// bit, as chmod(2) would. The kernel knows who is in the file's group, and says so where
// it can (FUSE_SETXATTR_EXT, Linux 5.14); else only root's bit stays.
func (f *fsys) killSetGID(in *fuse.SetXAttrIn) bool {
	if f.setXattrExt {
		return in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0
	}
	return in.Uid != 0
}

// RemoveXAttr is removexattr(2).
func (f *fsys) RemoveXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if f.refused(name) {
		return fuse.ENOTSUP
	}
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	return errno(f.files.RemoveXattr(ctx, twofold.Ino(in.NodeId), name))
}
