package fusefs

import (
	"strings"
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// What the kernel may answer by itself, and until when. It is told a timeout only for
// what is leased and unchanged since it was asked for, of at most a second and never
// longer than the session's lease has left, so that a mount that was stopped or cut off
// shows nothing old. Behind an Invalidate it is told to forget, or, where it can't be
// told, its timeouts are waited for (invalidate.go).
const (
	maxTimeout     = time.Second            // of one grant
	maxNameTimeout = 250 * time.Millisecond // of one of a name: rmdir(2) may have to wait for so long
	minTimeout     = 10 * time.Millisecond  // less is not worth it
	restTime       = 2 * time.Second        // after a directory was moved or removed here the kernel gets no names
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
// moment m. An answer that a notification overtakes is no matter for an inode that the
// kernel has: InodeNotify moves its attr_version, and the kernel drops attributes that it
// asked for before (fs/fuse/inode.c, fuse_change_attributes). Where the kernel says
// that it does not have the inode, it may be about to make it with such an answer, and
// the timeout is waited for. Answers to SETATTR and to what makes or links an inode
// are taken unasked: they get none, but for CREATE's (grantMade).
func (c *cache) grantAttr(a api.Attr, m uint64) time.Duration {
	d, now := c.grant()
	if d == 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.same(a, m) {
		return 0
	}
	in := c.inodes[a.Ino]
	in.kernel = c.note(in.kernel, now.Add(d+kernelSlack))
	c.grants++
	in.grants = c.grants
	return d
}

// grantName returns how long the kernel may keep that a name stands for an inode: only of
// directories, which are most of what it looks up. For before the mount itself changes a
// name, it has to wait until the kernel has forgotten it: to tell the kernel takes the
// directory's lock, which the kernel holds for the call, and others may see the
// change before the call has returned. Files are made and removed all the time. What is
// on its way to the kernel is no matter: EntryNotify waits for the directory's lock,
// which a LOOKUP of a name that the kernel does not have holds; one of a name that it
// has is about a dentry that is gone then.
func (c *cache) grantName(dir twofold.Ino, name string, ino twofold.Ino) time.Duration {
	d, now := c.grant()
	if d == 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in, to := c.inodes[dir], c.inodes[ino]
	if in == nil || now.Before(in.cool) || now.Before(c.restless) || to == nil || to.attr.Type != metadata.TypeDir {
		return 0
	}
	n := in.names[name]
	if n == nil || !n.valid || n.ino != ino {
		return 0
	}
	d = min(d, c.max.name)
	n.kernel = c.note(n.kernel, now.Add(d+kernelSlack))
	in.listed = c.note(in.listed, n.kernel)
	return d
}

// disturb tells that an entry of an inode is moved or removed here. While that happens to
// directories the kernel is given no names, so that only the first one has to wait.
func (c *cache) disturb(ino twofold.Ino) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.inodes[ino]; in != nil && in.attr.Type == metadata.TypeDir {
		c.restless = time.Now().Add(restTime)
	}
}

// forgot notes that the kernel has forgotten the attributes it was given by the grant of
// that number and those before: it is not told again. That is more than a saving: what a
// notification overtakes of an answer the kernel drops, the size for its mappings included,
// while fstat(2) shows it (fs/fuse/dir.c, fuse_do_getattr). Whoever maps the file by that
// size then ends with SIGBUS.
func (c *cache) forgot(ino twofold.Ino, grant uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.inodes[ino]; in != nil && in.grants == grant {
		in.kernel = time.Time{}
	}
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
