package serve

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Open implements fuse.RawFileSystem. Handles have no state of their own.
func (m *mount) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	op := operation{class: Meta, changes: in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY}
	r, st := m.begin(in.NodeId, "", op, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	if err := r.i.Open(); err != nil {
		return status(err)
	}
	if in.Flags&syscall.O_TRUNC != 0 {
		if err := r.i.Truncate(0); err != nil {
			r.i.Release()
			return status(err)
		}
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// Release implements fuse.RawFileSystem.
func (m *mount) Release(_ <-chan struct{}, in *fuse.ReleaseIn) { m.release(in.NodeId) }

func (m *mount) release(node uint64) {
	m.power.mu.RLock()
	defer m.power.mu.RUnlock()
	if !m.power.on() {
		return
	}
	if i, err := m.disk.Get(node); err == nil {
		i.Release()
	}
}

// Flush implements fuse.RawFileSystem: close makes nothing durable.
func (m *mount) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Read implements fuse.RawFileSystem.
func (m *mount) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	r, st := m.begin(in.NodeId, "", operation{class: Read}, cancel)
	if !st.Ok() {
		return nil, st
	}
	defer r.end()
	n, err := r.i.ReadAt(buf, int64(in.Offset))
	if err != nil {
		return nil, status(err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write implements fuse.RawFileSystem.
func (m *mount) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	r, st := m.begin(in.NodeId, "", operation{class: Write, changes: true, grows: true}, cancel)
	if !st.Ok() {
		return 0, st
	}
	defer r.end()
	if err := r.i.WriteAt(data, int64(in.Offset)); err != nil {
		return 0, status(err)
	}
	// The kernel sends an fsync of its own after a write under O_SYNC, except when
	// it writes through without its cache.
	if in.WriteFlags&fuse.WRITE_CACHE == 0 && in.Flags&unix.O_DSYNC != 0 {
		lie, err := m.faults.meet(operation{class: Fsync, drive: m.drive, paths: r.i.Paths}, cancel, m.power.dead)
		if err != nil {
			return 0, status(err)
		}
		if !lie {
			r.i.Sync()
		}
	}
	return uint32(len(data)), fuse.OK
}

// Fsync implements fuse.RawFileSystem. fdatasync makes the size durable as well:
// without it the data could not be read back.
func (m *mount) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	op := operation{class: Fsync}
	if i, err := m.disk.Get(in.NodeId); err == nil {
		op.changes = i.Dirty() // a read-only drive has no objection when there is nothing to do
	}
	r, st := m.begin(in.NodeId, "", op, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	if !r.lie {
		r.i.Sync()
	}
	return fuse.OK
}

// Fallocate implements fuse.RawFileSystem.
func (m *mount) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	op := operation{class: Write, changes: true, grows: in.Mode&unix.FALLOC_FL_PUNCH_HOLE == 0}
	r, st := m.begin(in.NodeId, "", op, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	return status(r.i.Fallocate(in.Mode, int64(in.Offset), int64(in.Length)))
}

// Lseek implements fuse.RawFileSystem.
func (m *mount) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	r, st := m.begin(in.NodeId, "", operation{class: Read}, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	pos, err := r.i.Seek(int64(in.Offset), int(in.Whence))
	out.Offset = uint64(pos)
	return status(err)
}
