package fusefs

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// Fallocate is fallocate(2). Nothing is reserved: there is nothing between an extent
// and a hole, and what is written later takes space then. So mode 0 grows the file,
// FALLOC_FL_KEEP_SIZE alone changes nothing, and both zeroing modes make a hole.
// Collapsing, inserting and unsharing ranges is EOPNOTSUPP, of the kernel already.
func (f *fsys) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	file := f.handles.file(in.Fh)
	if file == nil || !file.writer {
		return fuse.EBADF
	}
	keep, zero := in.Mode&unix.FALLOC_FL_KEEP_SIZE != 0, false
	switch in.Mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case 0:
	case unix.FALLOC_FL_PUNCH_HOLE:
		if zero = true; !keep {
			return fuse.ENOTSUP // as Linux has it
		}
	case unix.FALLOC_FL_ZERO_RANGE:
		zero = true
	default:
		return fuse.ENOTSUP
	}
	off, length := int64(in.Offset), int64(in.Length)
	if off < 0 || length <= 0 || off > twofold.MaxFileLen-length {
		return fuse.Status(syscall.EFBIG)
	}
	if keep && !zero {
		return fuse.OK
	}
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	n := file.n
	reopen, err := n.changing(ctx)
	if err != nil {
		return errno(err)
	}
	defer reopen()
	_, err = n.exclusive(ctx, true, -1, func(ctx context.Context, token uint64) (api.Attr, error) {
		n.mu.Lock()
		base, size := n.base, n.size
		n.mu.Unlock()
		w := api.Write{Token: token, Size: size, Mtime: twofold.Now(), KillPriv: in.Uid != 0}
		if !keep {
			w.Size = max(size, off+length)
		}
		if zero && off < size {
			w.Punch = []metadata.Range{{Off: off, Len: min(length, size-off)}}
		}
		if w.Size == size && w.Punch == nil {
			return base, nil
		}
		if w.Size > size {
			if _, err := f.files.Reserve(ctx, n.ino, token, w.Size, 0); err != nil {
				return api.Attr{}, err
			}
		}
		return f.files.Write(ctx, n.ino, w)
	})
	return errno(err)
}

// Lseek is lseek(2) with SEEK_DATA and SEEK_HOLE; the kernel does the others.
func (f *fsys) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	file := f.handles.file(in.Fh)
	if file == nil {
		return fuse.EBADF
	}
	if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
		return fuse.EINVAL
	}
	if int64(in.Offset) < 0 {
		return fuse.Status(syscall.ENXIO)
	}
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	pos, err := file.n.seek(ctx, int64(in.Offset), in.Whence == unix.SEEK_HOLE)
	if err != nil {
		return errno(err)
	}
	if pos < 0 {
		return fuse.Status(syscall.ENXIO)
	}
	out.Offset = uint64(pos)
	return fuse.OK
}

// seek asks the volume, which knows the extents, when it has what was written here.
func (n *node) seek(ctx context.Context, off int64, hole bool) (int64, error) {
	n.writeBack()
	for {
		n.mu.Lock()
		for n.op {
			if err := n.wait(ctx); err != nil {
				n.mu.Unlock()
				return 0, err
			}
		}
		if n.token != 0 {
			if err := n.settle(ctx, n.wseq); err != nil {
				n.mu.Unlock()
				return 0, err
			}
		}
		rev := n.rev
		n.mu.Unlock()
		pos, err := n.fs.files.Seek(ctx, n.ino, off, hole)
		n.mu.Lock()
		same := n.rev == rev
		n.mu.Unlock()
		if err != nil || same {
			return pos, err
		} // a truncate may have begun to forget bytes that the volume never had
	}
}

// writeBack has the kernel send the bytes that mappings have stored in its pages. The
// caller serves a request for which the kernel holds no page lock.
func (n *node) writeBack() {
	n.mu.Lock()
	mapped := n.mappers > 0
	n.mu.Unlock()
	if mapped {
		n.fs.kernel.InodeNotify(uint64(n.ino), 0, 0)
	}
}

// maxCopy is the most bytes of one copy_file_range: the answer has 32 bits for it.
const maxCopy = 1 << 30

// CopyFileRange is copy_file_range(2): the copy shares the blobs of its source, and no
// byte moves.
func (f *fsys) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	src, dst := f.handles.file(in.FhIn), f.handles.file(in.FhOut)
	if src == nil || dst == nil || !dst.writer {
		return 0, fuse.EBADF
	}
	c := api.CopyRange{
		Src: src.n.ino, SrcOff: int64(in.OffIn), Dst: dst.n.ino, DstOff: int64(in.OffOut), Len: int64(min(in.Len, maxCopy)),
		Mtime: twofold.Now(), KillPriv: in.Uid != 0,
	}
	if in.Flags != 0 || c.SrcOff < 0 || c.DstOff < 0 {
		return 0, fuse.EINVAL
	}
	if c.DstOff > twofold.MaxFileLen-c.Len {
		return 0, fuse.Status(syscall.EFBIG)
	}
	if c.SrcOff >= twofold.MaxFileLen {
		return 0, fuse.OK
	}
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	src.n.writeBack()
	reopen, err := dst.n.changing(ctx)
	if err != nil {
		return 0, errno(err)
	}
	defer reopen()
	n, err := f.copyRange(ctx, src.n, dst.n, c)
	return uint32(n), errno(err)
}

// patience is how long a copy that keeps one file at rest waits for the other one.
const patience = time.Second

// copyRange copies while neither file changes here, with what was written before
// committed. Of two files the one with the lower inode number comes first, so that
// two copies the other way round don't wait for each other. And what the second one
// waits for may wait for a recall of the first (S3 copies keep leases away in an
// order of their own): after a while it lets go of the first and begins again.
func (f *fsys) copyRange(ctx context.Context, src, dst *node, c api.CopyRange) (copied int64, err error) {
	if src == dst {
		_, err := dst.exclusive(ctx, false, -1, func(ctx context.Context, token uint64) (a api.Attr, err error) {
			c.SrcToken, c.DstToken = token, token
			a, copied, err = f.files.CopyRange(ctx, c)
			return a, err
		})
		return copied, err
	}
	var out api.Attr // dst's, of the copy
	var failed error // of the copy
	keep := func(n *node, token uint64) {
		if n == dst {
			c.DstToken = token
		} else {
			c.SrcToken = token
		}
	}
	// after is what exclusive is to know of n: dst has changed, src has not.
	after := func(n *node) (api.Attr, error) {
		if n == dst {
			return out, failed
		}
		return n.unchanged(), nil
	}
	first, second := src, dst
	if dst.ino < src.ino {
		first, second = dst, src
	}
	for tried := false; !tried; {
		tried = true
		_, err = first.exclusive(ctx, false, -1, func(ctx context.Context, token uint64) (api.Attr, error) {
			keep(first, token)
			short, stop := context.WithTimeout(ctx, patience)
			defer stop()
			reached := false
			_, err := second.exclusive(short, false, -1, func(_ context.Context, token uint64) (api.Attr, error) {
				reached = true
				keep(second, token)
				out, copied, failed = f.files.CopyRange(ctx, c)
				return after(second)
			})
			if !reached {
				tried = ctx.Err() != nil || short.Err() == nil
				out, failed = first.unchanged(), err
			}
			return after(first)
		})
	}
	if err == nil {
		err = failed
	}
	return copied, err
}

// unchanged are the content attributes that the volume has of n under our lease.
func (n *node) unchanged() api.Attr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.base
}
