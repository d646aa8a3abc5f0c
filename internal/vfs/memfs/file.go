package memfs

import (
	"io"
	"io/fs"
	"syscall"

	"twofold/internal/vfs"
)

// page is the unit that a crash keeps or forgets, and sector the one that a disk
// writes whole, in bytes.
const (
	page   = 4096
	sector = 512
)

// file is an open file.
type file struct {
	fs     *FS
	n      *node
	name   string
	write  bool
	closed bool // guarded by fs.mu
}

// do runs fn under the file system's lock, while the file is open.
func (f *file) do(op string, fn func() error) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := error(fs.ErrClosed)
	if !f.closed {
		err = fn()
	}
	if err != nil && err != io.EOF {
		return &fs.PathError{Op: op, Path: f.name, Err: err}
	}
	return err
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.do("read", func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		if off < int64(len(f.n.data)) {
			n = copy(p, f.n.data[off:])
		}
		if n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

// WriteAt implements io.WriterAt. Where the space does not suffice, what fits is
// written.
func (f *file) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.do("write", func() error {
		m := f.fs
		switch {
		case !f.write:
			return syscall.EBADF
		case m.ro:
			return syscall.EROFS
		case off < 0:
			return syscall.EINVAL
		}
		end := off + int64(len(p))
		full := false
		if grow := end - int64(len(f.n.data)); grow > 0 {
			if room := int64(m.total - min(m.used, m.total)); grow > room {
				full = true
				p = p[:max(0, int64(len(p))-(grow-room))]
				end = off + int64(len(p))
				grow = max(0, end-int64(len(f.n.data)))
			}
			if len(p) > 0 {
				f.n.data = append(f.n.data, make([]byte, grow)...)
				if f.n.links > 0 {
					m.used += uint64(grow)
				}
			}
		}
		if len(p) > 0 {
			n = copy(f.n.data[off:], p)
			for i := off / page; i*page < end; i++ {
				f.n.dirty[i] = true
			}
			m.touch(f.n)
		}
		if full {
			return syscall.ENOSPC
		}
		return nil
	})
	return n, err
}

// Sync makes the content durable.
func (f *file) Sync() error {
	return f.do("fsync", func() error {
		n := f.n
		n.synced = append(n.synced, make([]byte, max(0, len(n.data)-len(n.synced)))...)[:len(n.data)]
		for i := range n.dirty {
			from, to := min(i*page, int64(len(n.data))), min((i+1)*page, int64(len(n.data)))
			copy(n.synced[from:to], n.data[from:to])
		}
		clear(n.dirty)
		return nil
	})
}

// Stat describes the file.
func (f *file) Stat() (i vfs.Info, err error) {
	err = f.do("fstat", func() error { i = f.n.info(); return nil })
	return i, err
}

// Close closes the file.
func (f *file) Close() error {
	return f.do("close", func() error { f.closed = true; return nil })
}
