package fusefs

import (
	"syscall"

	"twofold"
	"twofold/volume/api"
)

// hold takes a change of attributes that the flush of the file's bytes brings to the
// volume as well: its times, and what it has already (tar, as root, gives each
// file the owner that it has). On its own it would be a flush and a commit more for each
// file that is unpacked. Whoever looks at times takes the write lease, and so gets
// what is held; fsync(2) and close(2) wait for the flush, and tell if it fails: then the
// change is lost with the bytes. hold reports whether it took it.
func (n *node) hold(s api.SetAttr) bool {
	if s.Size != nil || s.Mtime != nil && *s.Mtime == 0 || s.Atime != nil && *s.Atime == 0 { // api.Write's "not given"
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	// Only bytes that no flush has taken yet take it along.
	if n.lease != leaseHeld || n.op || n.failing != nil || len(n.dirty.segs) == 0 || !n.has(s) {
		return false
	}
	if s.Mtime != nil {
		n.mtime = *s.Mtime
	}
	if s.Atime != nil {
		n.dirty.atime = *s.Atime
	}
	n.ctime = max(n.ctime+1, twofold.Now())
	return true
}

// heldAtime is the access time that the next flush, or the one under way, sets; 0: none.
// n.mu is held.
func (n *node) heldAtime() twofold.Time {
	if n.dirty.atime == 0 && n.flushing != nil {
		return n.flushing.atime
	}
	return n.dirty.atime
}

// has reports whether the file is known to have mode and owner as s sets them, now, so
// that only its ctime moves. Others may change them without the write lease: the mount
// must have the read lease. n.mu is held.
func (n *node) has(s api.SetAttr) bool {
	if s.Mode == nil && s.UID == nil && s.GID == nil {
		return true
	}
	a, ok := n.fs.cache.attr(n.ino)
	switch {
	case !ok || n.kills() || !a.ModeSet || a.Mode&(syscall.S_ISUID|syscall.S_ISGID) != 0: // chown(2) clears those
		return false
	case s.Mode != nil && *s.Mode&07777 != a.Mode&07777:
		return false
	case s.UID != nil && (!a.UIDSet || *s.UID != a.UID):
		return false
	}
	return s.GID == nil || a.GIDSet && *s.GID == a.GID
}
