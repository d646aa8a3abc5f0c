package fusefs

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/volume/api"
)

// notice is what the kernel has to be told of an Invalidate.
type notice struct {
	attrs []attrNotice
	dirs  []dirNotice
	until time.Time // then its timeouts for the attributes have run out anyway
	acls  []twofold.Ino
}

// attrNotice are attributes that the kernel was given, last by the grant of that number.
type attrNotice struct {
	ino   twofold.Ino
	grant uint64 // 0: not known

	arrival <-chan struct{} // see awaitArrival
}

// dirNotice are names of one directory: to forget them the kernel needs the directory's lock.
type dirNotice struct {
	dir   twofold.Ino
	names []string
	until time.Time
}

// Invalidate takes read leases back: it forgets what is cached, pins what is open, and has
// the kernel forget. That is asked for by goroutines of their own, since each
// notification may have to wait for a request of our kernel that itself waits, by way of
// the server, for this answer: EntryNotify for the directory's lock, which LOOKUP and
// CREATE hold, that of pages for page locks, which READ holds. So they are waited for
// only until the kernel's timeouts have run out: from then on it asks by itself.
func (h holder) Invalidate(ctx context.Context, stale []api.Stale) error {
	f := h.f
	for i := range stale {
		if f.opts.Root != 0 && stale[i].Ino == f.opts.Root {
			stale[i].Ino = twofold.RootIno // as subtree has it
		}
	}
	defer f.shutAll(stale)()
	n := f.cache.invalidate(stale)
	var wg sync.WaitGroup
	failed := make(chan error, len(stale))
	for _, s := range stale {
		if len(s.Names) > 0 {
			continue // a directory
		}
		if f.cache.lazy(s.Ino) != nil {
			wg.Go(func() {
				if err := f.leased.pin(ctx, s.Ino); err != nil {
					failed <- err
				}
			})
		}
		wg.Go(func() { f.dropPages(s.Ino) })
	}
	if len(n.attrs) > 0 {
		wg.Go(func() {
			f.forgetAttrs(n.attrs, n.until)
		})
	}
	if len(n.acls) > 0 {
		wg.Go(func() { f.forgetACLs(n.acls) })
	}
	for _, d := range n.dirs {
		wg.Go(func() {
			lost := false
			if done := within(d.until, func() { lost = f.forgetNames(d) }); done && lost {
				sleep(f.ctx, time.Until(d.until)) // as in forgetAttrs
			} else if !done {
				f.cache.heat(d.dir)
				f.log.Debug("the kernel could not be told to forget names; its timeouts have run out", "dir", d.dir)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// within runs fn, and waits for it until t. It reports whether fn is done.
func within(t time.Time, fn func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// forgetAttrs makes the kernel forget attributes, which it otherwise does at until. It
// takes no lock; but it may give up the last use of an inode, for whose pages the kernel
// then waits. An inode that the kernel does not have it may be about to make, with
// attributes that are on their way to it (see grantAttr): then only time helps. So it
// does where the connection was aborted (umount -f): the kernel goes on with what it has.
func (f *fsys) forgetAttrs(attrs []attrNotice, until time.Time) {
	unknown := false
	done := within(until, func() {
		for _, a := range attrs {
			a.awaitArrival(until)
			if f.kernel.InodeNotify(uint64(a.ino), -1, 0) == fuse.OK {
				f.cache.forgot(a.ino, a.grant)
			} else {
				unknown = true
			}
		}
	})
	if done && unknown {
		sleep(f.ctx, time.Until(until))
	}
}

// tellAttrs is forgetAttrs for a request of the kernel that changes these inodes, of grants
// that may have been given just now. It needs no goroutine of its own: the request itself has
// the inodes in use, so that the notification is not the end of one, and waits for nothing.
func (f *fsys) tellAttrs(inos []twofold.Ino) {
	unknown := false
	for _, ino := range inos {
		if f.kernel.InodeNotify(uint64(ino), -1, 0) != fuse.OK {
			unknown = true
		}
	}
	if unknown {
		sleep(f.ctx, maxTimeout+kernelSlack)
	}
}

// forgetNames makes the kernel forget names. It waits for the directory's lock. lost tells
// that there is no connection to the kernel.
func (f *fsys) forgetNames(d dirNotice) (lost bool) {
	for _, name := range d.names {
		st := f.kernel.EntryNotify(uint64(d.dir), name)
		lost = lost || st == fuse.Status(syscall.ENOTCONN) || st == fuse.ENODEV
	}
	return lost
}

// dropPages makes the kernel forget the pages of a file, if it has any, and waits for that,
// but no longer than for its timeouts.
func (f *fsys) dropPages(ino twofold.Ino) {
	n := f.known(ino)
	if n == nil {
		return
	}
	defer f.unref(n)
	n.mu.Lock()
	if n.filled && !n.decides() {
		n.invalidate()
	}
	inv := n.stale
	n.mu.Unlock()
	if inv == nil {
		return
	}
	timer := time.NewTimer(maxTimeout + kernelSlack)
	defer timer.Stop()
	select {
	case <-inv.done:
	case <-timer.C:
	}
}

// invalidate forgets what is stale, and returns what of it the kernel may have.
func (c *cache) invalidate(stale []api.Stale) (n notice) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range stale {
		in := c.inodes[s.Ino]
		c.take(key{ino: s.Ino})
		if in != nil && in.kernel.After(now) {
			n.attrs = append(n.attrs, attrNotice{s.Ino, in.grants, in.arriving()})
			if in.kernel.After(n.until) {
				n.until = in.kernel
			}
		}
		if c.acls[s.Ino] != nil && len(s.Names) == 0 {
			delete(c.acls, s.Ino)
			n.acls = append(n.acls, s.Ino)
		}
		d := dirNotice{dir: s.Ino}
		if len(s.Names) > 0 && !s.Drop {
			for _, name := range s.Names {
				c.take(key{s.Ino, name})
				if in != nil {
					d.add(in.names[name], now)
				}
			}
		} else {
			c.take(key{s.Ino, allNames})
			if in != nil {
				in.leased, in.owed = false, false
				c.unleaseACL(s.Ino)
				if in.listed.After(now) {
					for _, name := range in.names {
						d.add(name, now)
					}
				}
			}
		}
		if len(d.names) > 0 {
			n.dirs = append(n.dirs, d)
		}
	}
	return n
}

// take marks a key as changed by others; mu is held.
func (c *cache) take(k key) {
	c.marks.set(k, 0)
	c.spoil(k)
}

func (d *dirNotice) add(n *cachedName, now time.Time) {
	if n == nil || !n.kernel.After(now) {
		return
	}
	d.names = append(d.names, n.name)
	if n.kernel.After(d.until) {
		d.until = n.kernel
	}
}

// heat keeps the kernel from caching names of a directory for a while.
func (c *cache) heat(dir twofold.Ino) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.inode(dir); in != nil {
		in.cool = time.Now().Add(coolDown)
	}
}
