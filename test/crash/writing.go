package crash

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const errNotEmpty = unix.ENOTEMPTY

func rmdir(path string) error { return unix.Rmdir(path) }

// renameDir is rename(2) without what os.Rename adds for directories.
func renameDir(from, to string) error { return unix.Rename(from, to) }

// durably makes what was done to names durable, where the mount is going to be killed: the
// mount commits later what it does in directories that nobody else looks at, and its death
// takes that along, as a crash takes along what was not synced on any file system. A server's
// death takes nothing along: then it is left to the mount.
func (w *worker) durably(err error, names ...string) error {
	for _, name := range names {
		err = w.durablyAt(err, w.key(name))
	}
	return err
}

// durablyAt is durably of a key.
func (w *worker) durablyAt(err error, key string) error {
	if err != nil || w.r.keepsMount.Load() {
		return err
	}
	d, err := os.Open(filepath.Dir(w.r.path(key)))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// maxWrite is the most bytes of one write(2) here.
const maxWrite = 128 << 10

// open opens a file to write, making it if it is not there.
func (w *worker) open(p string, flags int) (*held, error) {
	x := w.world()
	id, there := x.names[p]
	h := &held{mounts: w.r.mounts.Load()}
	f, err := os.OpenFile(w.r.path(w.key(p)), flags|os.O_RDWR|os.O_CREATE, 0o644)
	if !there && err == nil {
		if err = w.durably(nil, p); err != nil {
			f.Close()
		}
	}
	err = w.step(err, func(x *world) {
		switch {
		case !there:
			id = x.create(p, nil)
		case flags&os.O_TRUNC != 0:
			x.truncate(id, 0, h.mounts)
		}
	}, "open %s with %#x", p, flags)
	if err != nil {
		return nil, err
	}
	h.f, h.id = f, id
	if h.mounts != w.r.mounts.Load() {
		// Perhaps the file of the next mount: what it holds has to be seen first.
		f.Close()
		return nil, errUnsure
	}
	return h, nil
}

// write is one write(2).
func (w *worker) write(h *held, off, n int64, appending bool) error {
	c, tag := w.world().inodes[h.id].now, w.tag()
	if appending {
		off = c.size()
	}
	b := make([]byte, n)
	fill(b, off, tag)
	var err error
	if appending {
		_, err = h.f.Write(b)
	} else {
		_, err = h.f.WriteAt(b, off)
	}
	return w.step(err, func(x *world) { x.write(h.id, off, n, tag, h.mounts) },
		"write %d at %d of inode %d #%d, was %s", n, off, h.id, tag, c)
}

func (w *worker) fsync(h *held) error {
	err := h.f.Sync()
	if err := w.step(err, func(x *world) { x.settle(h.id) }, "fsync inode %d", h.id); err != nil {
		for _, x := range w.worlds {
			x.doubt(h.id)
		}
		return err
	}
	return nil
}

func (w *worker) truncate(h *held) error {
	c := w.world().inodes[h.id].now
	n := w.rng.Int64N(c.size() + 5000)
	err := h.f.Truncate(n)
	return w.step(err, func(x *world) { x.truncate(h.id, n, h.mounts) }, "truncate inode %d to %d, was %s", h.id, n, c)
}

// close closes; an error is one of bytes that could not be written.
func (w *worker) close(h *held) error {
	err := h.f.Close()
	if err := w.step(err, func(*world) {}, "close inode %d", h.id); err != nil {
		for _, x := range w.worlds {
			x.doubt(h.id)
		}
		return err
	}
	return nil
}

// opWrite opens, writes in some way, perhaps syncs, and closes.
func (w *worker) opWrite() error {
	flags, appending, synced := 0, false, false
	switch w.rng.IntN(5) {
	case 0:
		flags = os.O_TRUNC
	case 1:
		flags, appending = os.O_APPEND, true
	case 2:
		flags, synced = unix.O_DSYNC, true
	}
	h, err := w.open(w.somePath(), flags)
	if err != nil {
		return err
	}
	if err := w.fillIn(h, appending, synced); err != nil {
		h.f.Close()
		return err
	}
	if w.rng.IntN(2) == 0 {
		if err := w.fsync(h); err != nil {
			h.f.Close()
			return err
		}
	}
	return w.close(h)
}

// fillIn writes one to a few times.
func (w *worker) fillIn(h *held, appending, synced bool) error {
	left := w.size()
	off := int64(0)
	if w.rng.IntN(2) == 0 {
		off = w.rng.Int64N(w.world().inodes[h.id].now.size() + 1000)
	}
	for left > 0 {
		n := min(left, 1+w.rng.Int64N(maxWrite))
		if left > 1<<20 {
			n = maxWrite
		}
		if err := w.write(h, off, n, appending); err != nil {
			return err
		}
		if synced {
			w.world().settle(h.id)
		}
		off, left = off+n, left-n
	}
	if !appending && w.rng.IntN(6) == 0 {
		return w.truncate(h)
	}
	return nil
}

// maxHeld is how many files a worker keeps open.
const maxHeld = 3

// opHold opens, writes, and keeps it open.
func (w *worker) opHold() error {
	if len(w.held) >= maxHeld {
		return w.opHeld()
	}
	h, err := w.open(w.somePath(), 0)
	if err != nil {
		return err
	}
	w.held = append(w.held, h)
	return w.fillIn(h, false, false)
}

// opHeld does something with a file that is held open.
func (w *worker) opHeld() error {
	if len(w.held) == 0 {
		return nil
	}
	h := w.held[w.rng.IntN(len(w.held))]
	if h.mounts != w.r.mounts.Load() {
		w.unhold(h)
		return nil
	}
	switch w.rng.IntN(4) {
	case 0:
		err := w.fsync(h)
		w.unhold(h)
		return err
	case 1:
		w.unhold(h)
		return nil
	}
	return w.fillIn(h, false, false)
}
