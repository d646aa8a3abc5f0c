package fusefs

import (
	"strings"
	"time"

	"twofold"
)

// What the kernel may answer by itself, and until when. It is told a timeout only for
// what is leased and unchanged since it was asked for, of at most a second and never
// longer than the session's lease has left, so that a mount that was stopped or cut off
// shows nothing old. Behind an Invalidate it is told to forget, or, where it can't be
// told, its timeouts are waited for (invalidate.go).
const (
	maxTimeout = time.Second           // of one grant
	minTimeout = 10 * time.Millisecond // less is not worth it
	// The kernel counts in jiffies, rounded up, from when it reads the answer.
	kernelSlack = 50 * time.Millisecond
	coolDown    = 10 * time.Second // a directory of which the kernel could not be told is not cached for so long
)

// uncached reports names that mean something else when other names change: escapes
// ("%tf-..."), which the server may rename behind those.
func uncached(name string) bool { return strings.Contains(name, "%tf-") }

// grant is how long the kernel may be given something from now on; now is what that was
// reckoned from.
func (c *cache) grant() (d time.Duration, now time.Time) {
	now = time.Now()
	if d = min(c.alive(now), maxTimeout); d < minTimeout {
		d = 0
	}
	return d, now
}

// grantAttr returns how long the kernel may keep attributes that were asked for behind the
// moment m. Only an answer to GETATTR may do so, which is about an inode that the kernel
// has: InodeNotify moves the inode's attr_version, and the kernel drops attributes that
// it asked for before (fs/fuse/inode.c, fuse_change_attributes). With LOOKUP and the like
// the notification may come between the answer and the making of the inode, and
// SETATTR's answer is taken unasked.
func (c *cache) grantAttr(ino twofold.Ino, m uint64) time.Duration {
	d, now := c.grant()
	if d == 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[ino]
	if in == nil || !in.valid || !c.marks.untouched(m, key{ino: ino}) {
		return 0
	}
	in.kernel = c.note(in.kernel, now.Add(d+kernelSlack))
	return d
}

// grantName returns how long the kernel may keep that a name stands for an inode, 0 for
// none. What is on its way to the kernel is no matter: EntryNotify waits for the
// directory's lock, which a LOOKUP of a name that the kernel does not have holds; one
// of a name that it has is about a dentry that is gone then.
func (c *cache) grantName(dir twofold.Ino, name string, ino twofold.Ino) time.Duration {
	d, now := c.grant()
	if d == 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[dir]
	if in == nil || now.Before(in.cool) {
		return 0
	}
	n := in.names[name]
	if n == nil || !n.valid || n.ino != ino {
		return 0
	}
	n.kernel = c.note(n.kernel, now.Add(d+kernelSlack))
	in.listed = c.note(in.listed, n.kernel)
	return d
}

// ungrant ends what the kernel was given of an inode's attributes: the caller is to tell it
// if there is something.
func (c *cache) ungrant(ino twofold.Ino) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[ino]
	if in == nil || !in.kernel.After(time.Now()) {
		return false
	}
	in.kernel = time.Time{}
	return true
}

// note is the later of two ends of grants; mu is held.
func (c *cache) note(a, b time.Time) time.Time {
	if b.Before(a) {
		b = a
	}
	if b.After(c.granted) {
		c.granted = b
	}
	return b
}

// moving tells that the kernel is about to move an entry that it has to another name, with
// the time that it may keep it for (or to exchange two).
func (c *cache) moving(oldDir twofold.Ino, oldName string, newDir twofold.Ino, newName string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var end time.Time
	for _, k := range []key{{oldDir, oldName}, {newDir, newName}} {
		if d := c.inodes[k.ino]; d != nil && d.names[k.name] != nil {
			end = c.note(end, d.names[k.name].kernel)
		}
	}
	if !end.After(time.Now()) {
		return
	}
	for _, k := range []key{{oldDir, oldName}, {newDir, newName}} {
		n := c.nameOf(k.ino, k.name, true)
		n.kernel, n.dir.listed = end, c.note(n.dir.listed, end)
	}
}

// moved is how long the kernel must not be told yet that an entry has moved: there is no
// lease of both directories to cover what it keeps of it.
func (c *cache) moved(oldDir, newDir twofold.Ino, newName string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, to := c.inodes[oldDir], c.inodes[newDir]
	if to == nil || to.names[newName] == nil || from != nil && from.leased && to.leased {
		return 0
	}
	return time.Until(to.names[newName].kernel)
}
