package fusefs

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"twofold/internal/errs"
)

// IsMounted reports whether there is a mount of this kind at path, an absolute path
// without symbolic links, by the kernel's table. The mount itself is not asked: a dead
// one would fail, and one whose server is away would not answer.
func IsMounted(path string) bool {
	mounts, err := mountTable()
	if err != nil {
		return false
	}
	m, ok := mounts.at(path)
	return ok && m.ours()
}

// ClearStale unmounts what a mount process that died left at mountpoint ("Transport
// endpoint is not connected"), and reports whether there was something. A mount
// that answers, or is of another kind, is left alone.
func ClearStale(mountpoint string) (cleared bool, err error) {
	path, err := filepath.Abs(mountpoint)
	if err != nil {
		return false, errs.E("fusefs.ClearStale", errs.Invalid, err)
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	for range 16 { // they can be on top of each other
		// Not stat(2): the kernel may know the attributes of one that died a moment ago.
		if err := unix.Statfs(path, new(unix.Statfs_t)); !isDisconnected(err) {
			return cleared, nil
		}
		mounts, err := mountTable()
		if err != nil {
			return cleared, errs.E("fusefs.ClearStale", errs.Other, err)
		}
		if m, ok := mounts.at(path); !ok || !m.ours() {
			return cleared, errs.Newf("fusefs.ClearStale", errs.Busy, "%s is not connected, and not a mount of ours: unmount it by hand", path)
		}
		if err := unmount(path, true); err != nil {
			return cleared, err
		}
		cleared = true
	}
	return cleared, errs.Newf("fusefs.ClearStale", errs.Busy, "%s stays disconnected after 16 unmounts", path)
}
