package vfs

import (
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"twofold/internal/flock"
)

// OS returns the operating system's file system.
func OS() FS { return osFS{} }

// Keeping is OS with locks that the keeper takes.
func Keeping(k *flock.Keeper) FS { return osFS{k} }

type osFS struct{ locks *flock.Keeper }

var (
	_ FS           = osFS{}
	_ File         = (*osFile)(nil)
	_ VectorReader = (*osFile)(nil)
)

func (osFS) Open(name string) (File, error) {
	return fileOrNil(openOS(name, os.O_RDONLY))
}

func (osFS) Create(name string) (File, error) {
	return fileOrNil(openOS(name, os.O_RDWR|os.O_CREATE|os.O_EXCL))
}

func (osFS) CreateDirect(name string) (File, error) {
	f, err := openOS(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_DIRECT)
	if Errno(err) == unix.EINVAL { // a file system without direct I/O
		return fileOrNil(openOS(name, os.O_RDWR|os.O_CREATE|os.O_EXCL))
	}
	if err == nil {
		f.direct = true
	}
	return fileOrNil(f, err)
}

func openOS(name string, flag int) (*osFile, error) {
	for {
		// os.OpenFile would try to register the file with the poller, which a
		// regular file always refuses; this saves those system calls.
		fd, err := unix.Open(name, flag|unix.O_CLOEXEC, 0o600)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		o := &osFile{f: os.NewFile(uintptr(fd), name)}
		if o.raw, err = o.f.SyscallConn(); err != nil {
			o.f.Close()
			return nil, err
		}
		return o, nil
	}
}

func (osFS) Mkdir(name string) error              { return os.Mkdir(name, 0o700) }
func (osFS) Link(oldname, newname string) error   { return os.Link(oldname, newname) }
func (osFS) Remove(name string) error             { return os.Remove(name) }
func (osFS) Rename(oldname, newname string) error { return renameOS(oldname, newname) }

// renameOS spares the lstat of os.Rename.
func renameOS(oldname, newname string) error {
	for {
		err := unix.Rename(oldname, newname)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
		}
	}
}

func (osFS) List(name string, fn func(Entry) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		batch, err := f.ReadDir(1024)
		for _, e := range batch {
			if err := fn(Entry{Name: e.Name(), Dir: e.IsDir()}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (osFS) Stat(name string) (Info, error) {
	var st unix.Stat_t
	for {
		err := unix.Stat(name, &st)
		if err == nil {
			return infoOf(&st), nil
		}
		if err != unix.EINTR {
			return Info{}, &fs.PathError{Op: "stat", Path: name, Err: err}
		}
	}
}

func infoOf(st *unix.Stat_t) Info {
	return Info{
		Size: st.Size, Dir: st.Mode&unix.S_IFMT == unix.S_IFDIR,
		Dev: st.Dev, Ino: st.Ino, Ctime: st.Ctim.Nano(),
	}
}

func (osFS) SyncDir(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	for {
		// fsync, not fdatasync: ext4 would leave out a change of entries that did
		// not change the directory's size.
		err := unix.Fsync(fd)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &fs.PathError{Op: "fsync", Path: name, Err: err}
		}
	}
}

func (osFS) StatFS(name string) (FSInfo, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(name, &st)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return FSInfo{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
		}
	}
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return FSInfo{
		Total: st.Blocks * unit, Free: st.Bavail * unit,
		ID:   uint64(uint32(st.Fsid.Val[0])) | uint64(uint32(st.Fsid.Val[1]))<<32,
		Type: int64(st.Type), ReadOnly: st.Flags&unix.ST_RDONLY != 0,
	}, nil
}

func (fsys osFS) Lock(name string) (io.Closer, error) {
	l, err := fsys.locks.Lock(name)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// fileOrNil keeps a nil *osFile from becoming a File that is not nil.
func fileOrNil(f *osFile, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// osFile is a file of the operating system.
type osFile struct {
	f      *os.File
	raw    syscall.RawConn // of f
	direct bool            // O_DIRECT is on; only the one writer of such a file looks
}

func (o *osFile) ReadAt(p []byte, off int64) (int, error) { return o.f.ReadAt(p, off) }
func (o *osFile) Close() error                            { return o.f.Close() }

func (o *osFile) WriteAt(p []byte, off int64) (int, error) {
	if !o.direct {
		return o.f.WriteAt(p, off)
	}
	if off%Align == 0 && len(p)%Align == 0 {
		n, err := o.f.WriteAt(p, off)
		if Errno(err) != unix.EINVAL {
			return n, err
		}
		// The device wants a coarser alignment than ours.
	}
	if err := o.buffered(); err != nil {
		return 0, err
	}
	return o.f.WriteAt(p, off)
}

// buffered turns direct I/O off, for the end of the file.
func (o *osFile) buffered() error {
	flags, err := unix.FcntlInt(o.f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(o.f.Fd(), unix.F_SETFL, flags&^unix.O_DIRECT)
	}
	if err != nil {
		return &fs.PathError{Op: "fcntl", Path: o.f.Name(), Err: err}
	}
	o.direct = false
	return nil
}

// Sync is fdatasync(2): it writes all metadata that reading the content back needs,
// the size included.
func (o *osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(o.f.Fd()))
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &fs.PathError{Op: "fsync", Path: o.f.Name(), Err: err}
		}
	}
}

func (o *osFile) Stat() (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(o.f.Fd()), &st); err != nil {
		return Info{}, &fs.PathError{Op: "fstat", Path: o.f.Name(), Err: err}
	}
	return infoOf(&st), nil
}

// Errno returns the system's error number in err's chain, or 0.
func Errno(err error) syscall.Errno {
	for err != nil {
		if e, ok := err.(syscall.Errno); ok {
			return e
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return 0
		}
		err = u.Unwrap()
	}
	return 0
}
