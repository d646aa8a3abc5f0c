package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Read fills pages of the kernel, or, in direct I/O, a program's buffer. The kernel
// tells who reads (FUSE_READ_LOCKOWNER) only in the latter.
func (f *fsys) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	file := f.handles.file(in.Fh)
	if file == nil {
		return nil, fuse.EBADF
	}
	cached := in.ReadFlags&fuse.READ_LOCKOWNER == 0
	grace := graceWait
	if cached {
		grace = gracePages
	}
	ctx := f.request(cancel, in.Pid, grace)
	defer ctx.end()
	if cached && file.paged {
		defer file.pageRead()()
	}
	before := file.ahead
	if cached || in.Flags&syscall.O_DIRECT != 0 {
		before = nil
	}
	n, err := file.n.read(ctx, int64(in.Offset), buf[:min(len(buf), int(in.Size))], cached, before)
	if err == nil && !cached {
		err = file.n.agree(ctx)
	}
	if err != nil {
		return nil, errno(err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Writev takes bytes of write(2), or of a mapped page.
func (f *fsys) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	file := f.handles.file(in.Fh)
	if file == nil {
		return 0, fuse.EBADF
	}
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	cached := in.WriteFlags&fuse.WRITE_CACHE != 0
	n, err := file.n.write(ctx, change{
		off:    int64(in.Offset),
		data:   data,
		append: in.Flags&syscall.O_APPEND != 0 && !cached,
		cached: cached,
		direct: file.direct || in.Flags&syscall.O_DIRECT != 0,
		kill:   in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0,
	})
	if err == nil && in.Flags&syscall.O_DSYNC != 0 && !cached {
		if err = file.sync(ctx); err == nil {
			err = f.durable(ctx, file.n.ino)
		}
	}
	return uint32(n), errno(err)
}

// Write is Writev of one piece.
func (f *fsys) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return f.Writev(cancel, in, [][]byte{data})
}
