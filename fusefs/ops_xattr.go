package fusefs

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
)

const (
	xattrNameMax = 255     // XATTR_NAME_MAX
	xattrSizeMax = 1 << 16 // XATTR_SIZE_MAX
	capability   = "security.capability"
)

// refused reports names that mean something to the kernel which the store does not
// do: ACLs, which default_permissions would not obey, and file capabilities, which
// a write would have to clear.
func refused(name string) bool {
	return strings.HasPrefix(name, "system.") || name == capability
}

// GetXAttr is getxattr(2).
func (f *fsys) GetXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if name == capability {
		return 0, fuse.ENODATA
	}
	if refused(name) {
		return 0, fuse.ENOTSUP
	}
	ctx := f.request(cancel, graceWait)
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
	ctx := f.request(cancel, graceWait)
	defer ctx.end()
	names, err := f.files.ListXattr(ctx, twofold.Ino(in.NodeId))
	if err != nil {
		return 0, errno(err)
	}
	var list []byte
	for _, name := range names {
		if !refused(name) {
			list = append(append(list, name...), 0)
		}
	}
	return put(dest, list)
}

// SetXAttr is setxattr(2).
func (f *fsys) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	if refused(name) {
		return fuse.ENOTSUP
	}
	if len(name) > xattrNameMax || len(value) > xattrSizeMax {
		return fuse.ERANGE
	}
	ctx := f.request(cancel, graceChange)
	defer ctx.end()
	value = append([]byte(nil), value...) // the buffer is go-fuse's
	return errno(f.files.SetXattr(ctx, twofold.Ino(in.NodeId), name, value, in.Flags))
}

// RemoveXAttr is removexattr(2).
func (f *fsys) RemoveXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if refused(name) {
		return fuse.ENOTSUP
	}
	ctx := f.request(cancel, graceChange)
	defer ctx.end()
	return errno(f.files.RemoveXattr(ctx, twofold.Ino(in.NodeId), name))
}
