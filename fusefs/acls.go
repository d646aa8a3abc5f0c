package fusefs

import (
	"time"

	"twofold"
)

// The kernel keeps the ACLs that it was answered GETXATTR with. It forgets them when it
// asks for attributes (GETATTR, a LOOKUP of a name that it has) and at InodeNotify, but
// not when the LOOKUP of another name of the inode gives it new attributes
// (fs/fuse/inode.c, fuse_iget): it would then check permissions by the old ACL for as
// long as those attributes are good. So the cache remembers what the kernel may have:
//
//   - An Invalidate of the inode has the kernel told, whether or not it has attributes.
//   - Where no Invalidate need come, as there was no lease all the time since the kernel
//     asked, attributes get no timeout before the kernel was told.

// maxACLs is of how many inodes the kernel may have an ACL unless it was just told.
const maxACLs = 1 << 16

// keptACL is an ACL that the kernel may have; cache.mu guards it.
type keptACL struct {
	leased  bool // whoever changes it has us told first
	telling bool // the kernel is being told to forget it
}

// keepsACL notes that the kernel may keep an inode's ACL that the volume is asked for from
// here on. evict is another inode of which the kernel is to be told, or 0.
func (c *cache) keepsACL(ino twofold.Ino) (evict twofold.Ino) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[ino]
	if len(c.acls) >= maxACLs {
		for evict = range c.acls {
			break
		}
	}
	c.acls[ino] = &keptACL{leased: in != nil && in.leased}
	return evict
}

// unleaseACL notes that nobody will tell of a change any more; mu is held.
func (c *cache) unleaseACL(ino twofold.Ino) {
	if k := c.acls[ino]; k != nil {
		k.leased = false
	}
}

// mayBeOldACL reports whether the kernel may have an ACL that was changed unheard.
func (c *cache) mayBeOldACL(ino twofold.Ino) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.acls[ino]
	return k != nil && !k.leased
}

// tellACL makes the kernel forget an inode's ACL. It is not called by a request.
func (f *fsys) tellACL(ino twofold.Ino) {
	c := f.cache
	c.mu.Lock()
	k := c.acls[ino]
	if k == nil || k.telling {
		c.mu.Unlock()
		return
	}
	k.telling = true
	c.mu.Unlock()
	f.kernel.InodeNotify(uint64(ino), -1, 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acls[ino] == k { // else it has asked again
		delete(c.acls, ino)
	}
}

// forgetACLs makes the kernel forget ACLs that are about to change. It has once
// InodeNotify has got to where it may wait for pages (see forgetAttrs).
func (f *fsys) forgetACLs(inos []twofold.Ino) {
	within(time.Now().Add(maxTimeout), func() {
		for _, ino := range inos {
			f.kernel.InodeNotify(uint64(ino), -1, 0)
		}
	})
}
