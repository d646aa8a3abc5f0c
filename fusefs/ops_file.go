package fusefs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// Create is open(2) with O_CREAT of a name that the kernel has not found.
func (f *fsys) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	mode, asked := modes(in.Mode, in.Umask)
	moment, m := f.released.now(), f.cache.now()
	a, _, err := f.files.Create(ctx, twofold.Ino(in.NodeId), name, api.Create{
		Type:      metadata.TypeFile,
		Mode:      mode,
		Asked:     asked,
		UID:       in.Uid,
		GID:       in.Gid,
		Exclusive: true,
	})
	if errs.Is(err, errs.Exists) && in.Flags&syscall.O_EXCL == 0 {
		// Somebody else made it meanwhile. The kernel has not checked whether the
		// caller may open that file; told that what it knew is stale it will.
		return fuse.Status(syscall.ESTALE)
	}
	if err != nil {
		return errno(err)
	}
	// The kernel leaves O_TRUNC in: there is nothing to cut off a new file, and it would
	// be a commit.
	if st := f.open(ctx, a.Ino, in.Flags&^syscall.O_TRUNC, false, &out.OpenOut); !st.Ok() {
		return st
	}
	st := f.made(ctx, in.NodeId, name, a, moment, &out.EntryOut)
	if !st.Ok() {
		f.release(out.Fh)
		return st
	}
	f.letKeep(out.Fh, a, m, &out.EntryOut)
	return fuse.OK
}

// Tmpfile is open(2) with O_TMPFILE: a file without a name, that link(2) may give one
// (the kernel forbids that where O_EXCL was given) and that goes with its last
// descriptor otherwise.
func (f *fsys) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	mode, asked := modes(in.Mode, in.Umask)
	for range tmpfileTries {
		moment := f.released.now()
		a, err := f.files.Tmpfile(ctx, twofold.Ino(in.NodeId), api.Create{
			Type: metadata.TypeFile, Mode: mode, Asked: asked, UID: in.Uid, GID: in.Gid,
		})
		if err != nil {
			return errno(err)
		}
		st := f.open(ctx, a.Ino, in.Flags&^syscall.O_TRUNC, false, &out.OpenOut)
		if st == fuse.Status(syscall.ESTALE) {
			continue // a second has passed, and it was collected as nobody had it open
		}
		if !st.Ok() {
			return st
		}
		if st = f.made(ctx, in.NodeId, "", a, moment, &out.EntryOut); !st.Ok() {
			f.release(out.Fh)
		}
		return st
	}
	return fuse.Status(syscall.EBUSY)
}

// tmpfileTries bounds how often a file is made that is gone when it is to be opened.
const tmpfileTries = 5

// Open is open(2) of an inode that the kernel has looked up.
func (f *fsys) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	grace := graceWait
	if in.Flags&syscall.O_TRUNC != 0 {
		grace = graceChange
	}
	ctx := f.request(cancel, in.Pid, grace)
	defer ctx.end()
	return f.open(ctx, twofold.Ino(in.NodeId), in.Flags, in.Mode&fuse.OPEN_KILL_SUIDGID != 0, out)
}

func (f *fsys) open(ctx context.Context, ino twofold.Ino, flags uint32, kill bool, out *fuse.OpenOut) fuse.Status {
	n := f.ref(ino)
	file := newFile(n, flags)
	a, fresh, err := n.open(ctx, file.writer, file.mapper)
	if err != nil {
		f.unref(n)
		return errno(err)
	}
	if flags&syscall.O_TRUNC != 0 {
		if err := f.truncate(ctx, n, kill); err != nil {
			n.close(f.ctx, file.writer, file.mapper)
			f.unref(n)
			return errno(err)
		}
		fresh = false
	}
	n.mu.Lock()
	n.forgottenNot()
	file.seen = n.errSeq
	if n.keepPages(a, fresh, file.mapper) {
		out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	}
	if fresh && !n.decides() {
		n.see(a.Version)
	}
	if f.mayPage(flags) {
		n.usePages(file)
	}
	n.mu.Unlock()
	// Without FOPEN_NOFLUSH, also for readers: close(2) drops the process's locks.
	if file.direct {
		// Without FOPEN_PARALLEL_DIRECT_WRITES: an append's or a growing file's writes
		// are to be one behind the other.
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO
	}
	out.Fh = f.handles.addFile(file)
	return fuse.OK
}

// forgottenNot notes that the kernel has the inode (again); n.mu is held.
func (n *node) forgottenNot() {
	n.fs.mu.Lock()
	n.forgotten = false
	n.fs.mu.Unlock()
}

// keepPages decides whether the pages that the kernel has of the inode survive an
// open: they must be of the present version, and where the file may be mapped for
// writing, under the lease, so that every store is preceded by a READ that has it
// or a recall that drops the page. n.mu is held.
func (n *node) keepPages(a api.Attr, fresh, mapper bool) bool {
	if mapper && n.lease != leaseHeld || n.stale != nil || n.kver == 0 {
		return false
	}
	return !fresh || n.decides() || a.Version <= n.kver
}

// truncate is what O_TRUNC asks for.
func (f *fsys) truncate(ctx context.Context, n *node, kill bool) error {
	var size int64
	_, err := f.setAttr(ctx, n.ino, api.SetAttr{Size: &size, KillPriv: kill})
	return err
}

// Release is the end of an open file: its last descriptor and mapping are gone.
func (f *fsys) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	f.releaseLocks(in)
	f.release(in.Fh)
}

func (f *fsys) release(fh uint64) {
	file := f.handles.dropFile(fh)
	if file == nil {
		return
	}
	file.close(f.ctx)
	f.unref(file.n)
}

// Flush is close(2): what was written is committed, and an error is told. Then the
// process's locks go.
func (f *fsys) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	file := f.handles.file(in.Fh)
	if file == nil {
		return fuse.EBADF
	}
	st := fuse.OK
	if file.writer {
		st = f.sync(cancel, in.Pid, in.Fh)
	}
	f.flushLocks(file.n, in.LockOwner)
	return st
}

// Fsync is fsync(2) and fdatasync(2).
func (f *fsys) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if st := f.sync(cancel, in.Pid, in.Fh); !st.Ok() {
		return st
	}
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	return errno(f.durable(ctx, twofold.Ino(in.NodeId)))
}

func (f *fsys) sync(cancel <-chan struct{}, pid uint32, fh uint64) fuse.Status {
	ctx := f.request(cancel, pid, graceChange)
	defer ctx.end()
	file := f.handles.file(fh)
	if file == nil {
		return fuse.EBADF
	}
	return errno(file.sync(ctx))
}

// sync commits what was written to the file so far, through whatever handle.
func (h *file) sync(ctx context.Context) error {
	n := h.n
	n.mu.Lock()
	err := n.settle(ctx, n.wseq)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	return n.tell(&h.seen)
}
