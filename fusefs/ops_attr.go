package fusefs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/volume/api"
)

const enotty = syscall.ENOTTY

// attrs asks for an inode's attributes and puts what is dirty here over them. Both are of
// one moment: where something was written here while the volume was asked, the number of
// links, or the mode, of before could come with the size of after.
func (f *fsys) attrs(ctx context.Context, ino twofold.Ino, pages bool) (api.Attr, error) {
	for try := 0; ; try++ {
		was := f.state(ino)
		if was.cutting {
			if err := f.awaitCut(ctx, ino); err != nil {
				return api.Attr{}, err
			}
			continue
		}
		if was.token != 0 && try >= stillAfter {
			if a, ok, err := f.stillAttrs(ctx, ino, pages); err != nil || ok {
				return a, err
			}
		}
		moment := f.released.now()
		a, err := f.files.GetAttr(ctx, ino)
		if err != nil {
			return a, err
		}
		ok, err := f.current(ctx, &a, moment, pages)
		if err != nil || ok && f.state(ino) == was {
			return a, err
		}
	}
}

// current makes attributes that the volume was asked for after moment those of
// now: with what was written here since. It reports whether it could; else they
// have to be asked for again. pages waits until the kernel has none of an older
// version; a request that may hold page locks must not ask for that.
func (f *fsys) current(ctx context.Context, a *api.Attr, moment uint64, pages bool) (bool, error) {
	n := f.known(a.Ino)
	if n == nil {
		return !f.released.since(a.Ino, moment), nil
	}
	defer f.unref(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.overlay(a) {
		if !pages || n.stale == nil {
			return true, nil
		}
		if err := n.awaitPages(ctx); err != nil {
			return false, err
		}
		return n.overlay(a), nil
	}
	if f.released.since(a.Ino, moment) {
		return false, nil
	}
	n.see(a.Version)
	if !pages {
		return true, nil
	}
	return true, n.awaitPages(ctx)
}

// GetAttr is stat(2) and fstat(2), and what the kernel asks before it reads from
// its pages.
func (f *fsys) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	a, m, err := f.kernelAttrs(ctx, twofold.Ino(in.NodeId))
	if err != nil {
		return errno(err)
	}
	out.SetTimeout(f.attrTimeout(a, m))
	f.opts.stat(before(a), &out.Attr)
	return fuse.OK
}

// SetAttr is chmod(2), chown(2), utimensat(2), truncate(2) and ftruncate(2).
func (f *fsys) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	ino := twofold.Ino(in.NodeId)
	s := setAttr(in)
	moment := f.released.now()
	a, err := f.setAttr(ctx, ino, s)
	if err != nil {
		return errno(err)
	}
	ok, err := f.current(ctx, &a, moment, false)
	if err == nil && !ok {
		a, err = f.attrs(ctx, ino, false)
	}
	if err != nil {
		return errno(err)
	}
	f.opts.stat(a, &out.Attr) // without a timeout: see grantAttr
	return fuse.OK
}

// setAttr takes from a request what it sets.
func setAttr(in *fuse.SetAttrIn) (s api.SetAttr) {
	if m, ok := in.GetMode(); ok {
		s.Mode = &m
	}
	if u, ok := in.GetUID(); ok {
		s.UID = &u
	}
	if g, ok := in.GetGID(); ok {
		s.GID = &g
	}
	if v, ok := in.GetSize(); ok {
		size := int64(v)
		s.Size = &size
	}
	// The kernel leaves set-id bits to us (HANDLE_KILLPRIV_V2). They go with a truncate by
	// somebody who may not keep them, and with a change of owner, which the volume knows.
	s.KillPriv = s.Size != nil && in.Valid&fuse.FATTR_KILL_SUIDGID != 0
	now := twofold.Now()
	if in.Valid&fuse.FATTR_ATIME != 0 {
		t := join(in.Atime, in.Atimensec)
		if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
			t = now
		}
		s.Atime = &t
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		t := join(in.Mtime, in.Mtimensec)
		if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
			t = now
		}
		s.Mtime = &t
	}
	return s
}

// setAttr changes attributes. Size and times of a file that is dirty here go under
// its lease, behind what was written before.
func (f *fsys) setAttr(ctx context.Context, ino twofold.Ino, s api.SetAttr) (api.Attr, error) {
	n := f.ref(ino)
	defer f.unref(n)
	if n.hold(s) {
		return f.attrs(ctx, ino, false)
	}
	if s.Size == nil && s.Mtime == nil && s.Atime == nil {
		if err := n.settleKill(ctx, s.Mode); err != nil {
			return api.Attr{}, err
		}
		return f.files.SetAttr(ctx, ino, s)
	}
	cut := int64(-1)
	if s.Size != nil {
		cut = *s.Size
		reopen, err := n.changing(ctx)
		if err != nil {
			return api.Attr{}, err
		}
		defer reopen()
	}
	return n.exclusive(ctx, false, cut, func(ctx context.Context, token uint64) (api.Attr, error) {
		s.Token = token
		return f.files.SetAttr(ctx, ino, s)
	})
}

// StatFs is statfs(2).
func (f *fsys) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	s, err := f.files.StatFS(ctx, twofold.Ino(in.NodeId))
	if err != nil {
		return errno(err)
	}
	const block = 4096
	*out = fuse.StatfsOut{
		Blocks:  s.Total / block,
		Bfree:   s.Free / block,
		Bavail:  s.Free / block,
		Files:   s.Files + s.Free/block, // inodes are made of free space
		Ffree:   s.Free / block,
		Bsize:   block,
		Frsize:  block,
		NameLen: twofold.MaxNameLen,
	}
	return fuse.OK
}
