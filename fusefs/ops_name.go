package fusefs

import (
	"context"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// Lookup finds a name in a directory.
func (f *fsys) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	dir := twofold.Ino(in.NodeId)
	f.lookups.add(dir)
	m := f.cache.now()
	a, err := f.lookup(ctx, dir, name)
	switch {
	case err != nil:
		return errno(err)
	case a.Ino == 0:
		return fuse.ENOENT // known here; the kernel is not to know it: see grantName
	}
	f.lookedUp(dir, name, a, m, out)
	return fuse.OK
}

func (f *fsys) lookup(ctx context.Context, dir twofold.Ino, name string) (api.Attr, error) {
	if len(name) > twofold.MaxNameLen {
		return api.Attr{}, errs.Newf("fusefs.lookup", errs.NameTooLong, "a name has at most %d bytes", twofold.MaxNameLen)
	}
	for {
		moment := f.released.now()
		a, err := f.files.Lookup(ctx, dir, name)
		if err != nil || a.Ino == 0 {
			return a, err
		}
		if ok, err := f.current(ctx, &a, moment, true); err != nil || ok {
			return a, err
		}
	}
}

// made answers a request that made or linked an inode. It may hold no page locks,
// but a parent's lock, so it waits for nothing.
func (f *fsys) made(ctx context.Context, dir uint64, name string, a api.Attr, moment uint64, out *fuse.EntryOut) fuse.Status {
	ok, err := f.current(ctx, &a, moment, false)
	if err == nil && !ok {
		a, err = f.attrs(ctx, a.Ino, false)
	}
	if err != nil {
		return errno(err)
	}
	f.entryOut(twofold.Ino(dir), name, a, out)
	return fuse.OK
}

// create makes an inode of the caller's under a name that must not exist.
func (f *fsys) create(cancel <-chan struct{}, in *fuse.InHeader, name string, c api.Create, umask uint32, out *fuse.EntryOut) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	c.Exclusive = true
	c.Mode, c.Asked = modes(c.Mode, umask)
	c.UID, c.GID = in.Uid, in.Gid
	moment := f.released.now()
	a, _, err := f.files.Create(ctx, twofold.Ino(in.NodeId), name, c)
	if err != nil {
		return errno(err)
	}
	return f.made(ctx, in.NodeId, name, a, moment, out)
}

// modes are a new inode's: after umask, and what was asked for, for a directory with a
// default ACL. The kernel leaves the umask to us (FUSE_DONT_MASK); one that doesn't has
// applied it already.
func modes(mode, umask uint32) (masked, asked uint32) {
	return mode & 07777 &^ (umask & 0777), mode & 0777
}

// Mknod is mknod(2).
func (f *fsys) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	t, ok := typeOf(in.Mode)
	if !ok {
		return fuse.EINVAL
	}
	return f.create(cancel, &in.InHeader, name, api.Create{Type: t, Mode: in.Mode, Rdev: in.Rdev}, in.Umask, out)
}

// Mkdir is mkdir(2); in the root it makes a bucket.
func (f *fsys) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.create(cancel, &in.InHeader, name, api.Create{Type: metadata.TypeDir, Mode: in.Mode}, in.Umask, out)
}

// Symlink is symlink(2).
func (f *fsys) Symlink(cancel <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return f.create(cancel, in, name, api.Create{Type: metadata.TypeSymlink, Mode: 0777, Target: target}, 0, out)
}

// Readlink is readlink(2).
func (f *fsys) Readlink(cancel <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	s, err := f.files.Readlink(ctx, twofold.Ino(in.NodeId))
	return []byte(s), errno(err)
}

// Link is link(2).
func (f *fsys) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	moment := f.released.now()
	a, err := f.files.Link(ctx, twofold.Ino(in.Oldnodeid), twofold.Ino(in.NodeId), name)
	if err != nil {
		return errno(err)
	}
	return f.made(ctx, in.NodeId, name, a, moment, out)
}

// Unlink is unlink(2).
func (f *fsys) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	return errno(f.files.Unlink(ctx, twofold.Ino(in.NodeId), name))
}

// Rmdir is rmdir(2).
func (f *fsys) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	return errno(f.files.Rmdir(ctx, twofold.Ino(in.NodeId), name))
}

// Rename is renameat2(2).
func (f *fsys) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	return errno(f.files.Rename(ctx, twofold.Ino(in.NodeId), oldName, twofold.Ino(in.Newdir), newName, in.Flags))
}
