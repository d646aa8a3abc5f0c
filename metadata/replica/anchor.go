package replica

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"twofold/internal/errs"
	"twofold/internal/flock"
)

// anchor tells whether a replica's directory is still the one that was opened. It
// holds a file in it open: while it does, no other file can have its inode number,
// so a path that leads elsewhere, or nowhere, shows.
type anchor struct {
	file *flock.Lock
	path string
	dev  uint64
	ino  uint64
}

const anchorName = "LOCK"

// dropAnchor makes or opens the anchor in dir and locks it against other processes.
func dropAnchor(dir string, locks *flock.Keeper) (*anchor, error) {
	const op = "replica.anchor"
	path := filepath.Join(dir, anchorName)
	f, err := locks.Lock(path)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errs.Newf(op, errs.Busy, "%s is in use by another process", dir)
	}
	if err != nil {
		return nil, errs.E(op, errs.Other, err)
	}
	if err := syncDir(dir); err != nil {
		f.Close()
		return nil, errs.E(op, errs.Other, err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, errs.E(op, errs.Other, err)
	}
	return &anchor{file: f, path: path, dev: uint64(st.Dev), ino: st.Ino}, nil
}

// holds fails when the path no longer leads to the anchor: the directory was
// removed or replaced, or its file system is not mounted any more.
func (a *anchor) holds() error {
	var st syscall.Stat_t
	for {
		switch err := syscall.Stat(a.path, &st); {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return errs.E("replica.anchor", errs.Unavailable, &os.PathError{Op: "stat", Path: a.path, Err: err})
		case uint64(st.Dev) != a.dev || st.Ino != a.ino:
			return errs.Newf("replica.anchor", errs.Unavailable, "%s is not the replica's any more", a.path)
		}
		return nil
	}
}

func (a *anchor) close() error { return a.file.Close() }
