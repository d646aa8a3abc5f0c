package fusefs

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"

	"twofold"
)

// file is an open file. It has a reference to its node.
type file struct {
	n      *node
	writer bool   // open for writing
	mapper bool   // for reading and writing
	direct bool   // read(2) and write(2) pass the kernel's pages by
	paged  bool   // they don't, though they could: see paged.go
	ahead  *ahead // what was read ahead; nil where the kernel does that
	seen   uint64 // n.mu: lost bytes that were reported here, see node.tell

	fresh atomic.Bool // no request has come for it since CREATE answered with attributes: see letKeep
}

func newFile(n *node, flags uint32) *file {
	acc := flags & syscall.O_ACCMODE
	f := &file{n: n, writer: acc != syscall.O_RDONLY, mapper: acc == syscall.O_RDWR, direct: n.fs.direct}
	if f.direct && acc != syscall.O_WRONLY {
		f.ahead = &ahead{f: n.fs, ino: n.ino}
	}
	return f
}

// close ends the open file, but for its reference to the node.
func (f *file) close(ctx context.Context) {
	f.ahead.close()
	if f.paged {
		f.n.pagesUnused()
	}
	f.n.close(ctx, f.writer, f.mapper)
}

// handles are what the kernel has open, by the numbers it was given.
type handles struct {
	mu    sync.RWMutex
	last  uint64
	files map[uint64]*file
	dirs  map[uint64]*dir
}

func (h *handles) init() {
	h.files = make(map[uint64]*file)
	h.dirs = make(map[uint64]*dir)
}

func (h *handles) addFile(f *file) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	h.files[h.last] = f
	return h.last
}

func (h *handles) addDir(ino twofold.Ino) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	h.dirs[h.last] = &dir{ino: ino}
	return h.last
}

func (h *handles) file(fh uint64) *file {
	h.mu.RLock()
	f := h.files[fh]
	h.mu.RUnlock()
	f.used()
	return f
}

// used notes a request for the file, if there is one.
func (f *file) used() {
	if f != nil && f.fresh.Load() {
		f.fresh.Store(false)
		f.n.fs.cache.arrived(f.n.ino)
	}
}

func (h *handles) dir(fh uint64) *dir {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.dirs[fh]
}

func (h *handles) dropFile(fh uint64) *file {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.files[fh]
	delete(h.files, fh)
	f.used()
	return f
}

func (h *handles) dropDir(fh uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.dirs, fh)
}

// rest takes all files that are still open.
func (h *handles) rest() []*file {
	h.mu.Lock()
	defer h.mu.Unlock()
	fs := make([]*file, 0, len(h.files))
	for fh, f := range h.files {
		fs = append(fs, f)
		delete(h.files, fh)
	}
	return fs
}
