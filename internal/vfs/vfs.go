// Package vfs is the small file-system interface through which drives do all of
// their disk I/O, so that a test can put a file system under a drive that forgets
// what was not fsynced (memfs), or that fails, fills up or hangs (errorfs).
//
// Errors are *fs.PathError or *os.LinkError around a syscall.Errno, in every
// implementation: errors.Is with fs.ErrNotExist, syscall.ENOSPC and so on works.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"syscall"
	"unsafe"
)

// FS is a file system. Names are paths with slashes; files are made with mode 0600
// and directories with 0700. Safe for concurrent use. Nothing is durable before
// File.Sync (content and size) or SyncDir (names) has returned nil.
type FS interface {
	// Open opens a file for reading.
	Open(name string) (File, error)
	// Create makes a new file and opens it for reading and writing; it never opens
	// one that is there (O_EXCL, fs.ErrExist).
	Create(name string) (File, error)
	// CreateDirect is Create for a long file that one goroutine writes from start
	// to end: writes of whole Align units, from memory that AlignedBuf made, go
	// past the page cache where the file system can do that. Other writes work too.
	CreateDirect(name string) (File, error)
	// Mkdir makes a directory; its parent must exist.
	Mkdir(name string) error
	// Rename moves a file, over an existing one if need be, in one step.
	Rename(oldname, newname string) error
	// Link gives a file another name, which must not exist.
	Link(oldname, newname string) error
	// Remove removes a file or an empty directory. Open files stay readable.
	Remove(name string) error
	// List calls fn for each entry of a directory, in no order, until it returns
	// an error, which List returns.
	List(name string, fn func(Entry) error) error
	// Stat follows symbolic links.
	Stat(name string) (Info, error)
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
	// StatFS describes the file system that name is on.
	StatFS(name string) (FSInfo, error)
	// Lock takes an exclusive lock on a file, which it makes if need be, until the
	// closer is closed or the process ends. syscall.EWOULDBLOCK where another
	// process, or another Lock of this one, has it.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Safe for concurrent use, except for Close.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes content and size durable; not the name.
	Sync() error
	Stat() (Info, error)
	Close() error
}

// Align is what offset, length and memory of a direct write are multiples of, in
// bytes.
const Align = 4096

// AlignedBuf returns an empty slice with room for exactly n bytes that begins at a
// multiple of Align.
func AlignedBuf(n int) []byte {
	b := make([]byte, n+Align)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Align - 1))
	return b[skip : skip : skip+n]
}

// Entry is a directory entry.
type Entry struct {
	Name string
	Dir  bool
}

// Info describes a file or directory. Dev and Ino together tell one file from
// another while both exist; an inode number is reused, so Ctime is compared too
// where that matters.
type Info struct {
	Size  int64 // bytes
	Dir   bool
	Dev   uint64
	Ino   uint64
	Ctime int64 // change of content or attributes, nanoseconds since the Unix epoch
}

// FSInfo describes a file system.
type FSInfo struct {
	Total    uint64 // bytes
	Free     uint64 // bytes available to this process
	ID       uint64 // f_fsid; 0 where the kernel does not tell
	Type     int64  // f_type, see statfs(2)
	ReadOnly bool
}

// ReadFile returns the content of a file of at most limit bytes; a longer one is
// syscall.EFBIG.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = &fs.PathError{Op: "read", Path: name, Err: syscall.EFBIG}
	}
	return b, err
}

// WriteFile replaces a file in one durable step: after a crash the name has either
// the old content or the new. It writes name+".tmp" beside it, so one writer of a
// name at a time.
func WriteFile(fsys FS, name string, data []byte) error {
	tmp := name + ".tmp"
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		fsys.Remove(tmp) // best effort: the next writer removes it too
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}
