package serve

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"twofold/test/powerfs/internal/disk"
)

// Lookup implements fuse.RawFileSystem.
func (m *mount) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	r, st := m.begin(in.NodeId, name, operation{class: Meta}, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	_, stat, err := m.disk.Lookup(r.i, name)
	if err != nil {
		return status(err)
	}
	fillEntry(out, stat)
	return fuse.OK
}

// make is what all that make a new inode have in common. With open it stays open.
func (m *mount) make(in *fuse.InHeader, name string, mode uint32, target string, open bool, out *fuse.EntryOut, cancel <-chan struct{}) fuse.Status {
	r, st := m.begin(in.NodeId, name, operation{class: Meta, changes: true, grows: true}, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	i, stat, err := m.disk.Create(r.i, name, disk.NewAttr(mode, in.Uid, in.Gid), target)
	if err != nil {
		return status(err)
	}
	fillEntry(out, stat)
	if open {
		return status(i.Open())
	}
	return fuse.OK
}

// Mknod implements fuse.RawFileSystem: regular files only.
func (m *mount) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if in.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return fuse.EPERM
	}
	return m.make(&in.InHeader, name, in.Mode, "", false, out, cancel)
}

// Mkdir implements fuse.RawFileSystem.
func (m *mount) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return m.make(&in.InHeader, name, in.Mode&0o7777|syscall.S_IFDIR, "", false, out, cancel)
}

// Symlink implements fuse.RawFileSystem.
func (m *mount) Symlink(cancel <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return m.make(in, name, syscall.S_IFLNK|0o777, target, false, out, cancel)
}

// Create implements fuse.RawFileSystem.
func (m *mount) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return m.make(&in.InHeader, name, in.Mode&0o7777|syscall.S_IFREG, "", true, &out.EntryOut, cancel)
}

// Readlink implements fuse.RawFileSystem.
func (m *mount) Readlink(cancel <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	r, st := m.begin(in.NodeId, "", operation{class: Meta}, cancel)
	if !st.Ok() {
		return nil, st
	}
	defer r.end()
	return []byte(r.i.Target()), fuse.OK
}

// Link implements fuse.RawFileSystem.
func (m *mount) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	r, st := m.begin(in.NodeId, name, operation{class: Meta, changes: true, grows: true}, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	i, err := m.disk.Get(in.Oldnodeid)
	if err != nil {
		return status(err)
	}
	stat, err := m.disk.Link(i, r.i, name)
	if err != nil {
		return status(err)
	}
	fillEntry(out, stat)
	return fuse.OK
}

// Unlink implements fuse.RawFileSystem.
func (m *mount) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return m.remove(cancel, in, name, false)
}

// Rmdir implements fuse.RawFileSystem.
func (m *mount) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return m.remove(cancel, in, name, true)
}

func (m *mount) remove(cancel <-chan struct{}, in *fuse.InHeader, name string, isDir bool) fuse.Status {
	r, st := m.begin(in.NodeId, name, operation{class: Meta, changes: true}, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	return status(m.disk.Remove(r.i, name, isDir))
}

// Rename implements fuse.RawFileSystem.
func (m *mount) Rename(cancel <-chan struct{}, in *fuse.RenameIn, name, toName string) fuse.Status {
	const known = unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE
	if in.Flags&^known != 0 {
		return fuse.EINVAL
	}
	op := operation{class: Meta, changes: true}
	r, st := m.begin(in.NodeId, name, op, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	toDir, err := m.disk.Get(in.Newdir)
	if err != nil {
		return status(err)
	}
	return status(m.disk.Rename(r.i, name, toDir, toName, in.Flags&unix.RENAME_NOREPLACE != 0, in.Flags&unix.RENAME_EXCHANGE != 0))
}

// OpenDir implements fuse.RawFileSystem.
func (m *mount) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r, st := m.begin(in.NodeId, "", operation{class: Meta}, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	if err := r.i.Open(); err != nil {
		return status(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastFh++
	out.Fh = m.lastFh
	m.dirs[out.Fh] = nil
	return fuse.OK
}

// ReadDir implements fuse.RawFileSystem. A listing is of the moment its first
// part was read; rewinding takes a new one.
func (m *mount) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	r, st := m.begin(in.NodeId, "", operation{class: Meta}, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	m.mu.Lock()
	defer m.mu.Unlock()
	if in.Offset == 0 {
		dots := []disk.Entry{{Name: ".", No: r.i.No, Mode: syscall.S_IFDIR}, {Name: "..", No: 0, Mode: syscall.S_IFDIR}}
		m.dirs[in.Fh] = append(dots, m.disk.List(r.i)...)
	}
	all := m.dirs[in.Fh]
	for off := in.Offset; off < uint64(len(all)); off++ {
		e := all[off]
		if !out.AddDirEntry(fuse.DirEntry{Name: e.Name, Ino: e.No, Mode: e.Mode, Off: off + 1}) {
			break
		}
	}
	return fuse.OK
}

// ReleaseDir implements fuse.RawFileSystem.
func (m *mount) ReleaseDir(in *fuse.ReleaseIn) {
	m.mu.Lock()
	delete(m.dirs, in.Fh)
	m.mu.Unlock()
	m.release(in.NodeId)
}

// FsyncDir implements fuse.RawFileSystem.
func (m *mount) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	r, st := m.begin(in.NodeId, "", operation{class: Fsync}, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	if !r.lie {
		r.i.SyncDir()
	}
	return fuse.OK
}
