package disk

import (
	"bytes"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// content is what a file holds, and what it held since the last fsync. Every
// change has a number (seq). A page's history lists the contents it had before the
// one in the live file; its first is what is durable.
type content struct {
	size    int64 // live
	durable int64 // size after a power cut that forgets everything
	seq     uint64
	pages   map[int64]*history
	sizes   []sizeChange // in order of seq
}

type history struct {
	olds    []version
	current uint64 // the change that made the live content
}

// version is a page's content from change seq on. nil is zeros.
type version struct {
	seq  uint64
	data []byte
}

type sizeChange struct {
	seq      uint64
	from, to int64
	journal  uint64 // of a truncation: its place in the journal; 0 of a write, which has none
}

// A page keeps its durable version and the last few after it: the ones between
// are states a drive could also be found in, but they add little. Under memory
// pressure only the durable one is kept.
const (
	maxVersions = 4
	undoLimit   = 256 << 20 // bytes on one disk
)

// ReadAt reads live content; at the end of the file n < len(p).
func (i *Inode) ReadAt(p []byte, off int64) (n int, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	err = i.withFile(func(f *os.File) (err error) {
		n, err = f.ReadAt(p, off)
		if err == io.EOF {
			err = nil
		}
		return err
	})
	return n, err
}

// WriteAt writes; nothing of it is durable.
func (i *Inode) WriteAt(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.withFile(func(f *os.File) error {
		c := &i.data
		c.seq++
		end := off + int64(len(p))
		for pg := off / PageSize; pg*PageSize < end; pg++ {
			if err := i.remember(f, pg); err != nil {
				return err
			}
		}
		if _, err := f.WriteAt(p, off); err != nil {
			return err
		}
		i.grown(end)
		i.touch()
		return nil
	})
}

// Truncate sets the size.
func (i *Inode) Truncate(size int64) error {
	if size < 0 {
		return syscall.EINVAL
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.withFile(func(f *os.File) error {
		c := &i.data
		i.touch()
		if size == c.size {
			return nil
		}
		c.seq++
		if size < c.size {
			if err := i.rememberRange(f, size, c.size); err != nil {
				return err
			}
		}
		if err := f.Truncate(size); err != nil {
			return err
		}
		c.sizes = append(c.sizes, sizeChange{c.seq, c.size, size, i.disk.log.seq.Add(1)})
		c.size = size
		return nil
	})
}

// Fallocate preallocates, punches holes and zeroes (mode as in fallocate(2)).
func (i *Inode) Fallocate(mode uint32, off, length int64) error {
	const known = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE
	if mode&^known != 0 {
		return syscall.EOPNOTSUPP
	}
	if off < 0 || length <= 0 || off+length < 0 {
		return syscall.EINVAL
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.withFile(func(f *os.File) error {
		i.data.seq++
		if mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 {
			if err := i.rememberRange(f, off, min(off+length, i.data.size)); err != nil {
				return err
			}
		}
		if err := unix.Fallocate(int(f.Fd()), mode, off, length); err != nil {
			return err
		}
		if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
			i.grown(off + length)
		}
		i.touch()
		return nil
	})
}

// Seek is lseek(2) with SEEK_DATA or SEEK_HOLE.
func (i *Inode) Seek(off int64, whence int) (pos int64, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	err = i.withFile(func(f *os.File) (err error) {
		pos, err = unix.Seek(int(f.Fd()), off, whence)
		return err
	})
	return pos, err
}

// Corrupt flips the byte at off, silently and durably.
func (i *Inode) Corrupt(off int64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.withFile(func(f *os.File) error {
		var b [1]byte
		if _, err := f.ReadAt(b[:], off); err != nil {
			return err
		}
		b[0] ^= 0xff
		if _, err := f.WriteAt(b[:], off); err != nil {
			return err
		}
		if h := i.data.pages[off/PageSize]; h != nil {
			for n := range h.olds {
				v := &h.olds[n]
				if v.data == nil {
					v.data = make([]byte, PageSize)
					i.disk.undo.Add(PageSize)
				}
				v.data[off%PageSize] ^= 0xff
			}
		}
		return nil
	})
}

// Sync makes the content and the size durable, and with EntryWithFsync the names.
func (i *Inode) Sync() {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	i.mu.Lock()
	i.settle()
	i.mu.Unlock()
	i.disk.settleNames(i)
}

// Dirty reports whether an fsync would have something to do.
func (i *Inode) Dirty() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.data.pages) > 0 || len(i.data.sizes) > 0
}

// settle drops the history. The caller holds mu.
func (i *Inode) settle() {
	c := &i.data
	var freed int64
	for _, h := range c.pages {
		freed += h.bytes()
	}
	i.disk.undo.Add(-freed)
	c.pages, c.sizes, c.durable = nil, nil, c.size
}

// grown notes that the live file reaches to end. The caller holds mu.
func (i *Inode) grown(end int64) {
	c := &i.data
	if end > c.size {
		c.sizes = append(c.sizes, sizeChange{c.seq, c.size, end, 0})
		c.size = end
	}
}

func (i *Inode) touch() {
	i.attr.Mtime = time.Now()
	i.attr.Ctime = i.attr.Mtime
}

// remember puts a page's live content into its history: change c.seq is about to
// replace it. The caller holds mu.
func (i *Inode) remember(f *os.File, pg int64) error {
	c := &i.data
	h := c.pages[pg]
	if h == nil {
		h = &history{}
		if c.pages == nil {
			c.pages = make(map[int64]*history)
		}
		c.pages[pg] = h
	}
	if h.current == c.seq {
		return nil
	}
	keep := maxVersions
	if i.disk.undo.Load() > undoLimit {
		keep = 1
	}
	if keep == 1 && len(h.olds) > 0 {
		h.current = c.seq
		return nil
	}
	data, err := readPage(f, pg, c.size)
	if err != nil {
		return err
	}
	before := h.bytes()
	h.olds = append(h.olds, version{h.current, data})
	h.current = c.seq
	if n := len(h.olds); n > keep {
		h.olds = slices.Delete(h.olds, 1, n-keep+1)
	}
	i.disk.undo.Add(h.bytes() - before)
	return nil
}

// rememberRange remembers the pages of [from, to) that hold data: the others are
// zeros now and will be. The caller holds mu.
func (i *Inode) rememberRange(f *os.File, from, to int64) error {
	for from < to {
		start, err := unix.Seek(int(f.Fd()), from, unix.SEEK_DATA)
		if err == unix.ENXIO || err == nil && start >= to {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		end = min(end, to)
		for pg := start / PageSize; pg*PageSize < end; pg++ {
			if err := i.remember(f, pg); err != nil {
				return err
			}
		}
		from = end
	}
	return nil
}

func (h *history) bytes() (n int64) {
	for _, v := range h.olds {
		n += int64(len(v.data))
	}
	return n
}

// readPage returns a page of a file of a size; nil when it is all zeros.
func readPage(f *os.File, pg, size int64) ([]byte, error) {
	if pg*PageSize >= size {
		return nil, nil
	}
	p := make([]byte, PageSize)
	if _, err := f.ReadAt(p, pg*PageSize); err != nil && err != io.EOF {
		return nil, err
	}
	if len(bytes.TrimLeft(p, "\x00")) == 0 {
		return nil, nil
	}
	return p, nil
}
