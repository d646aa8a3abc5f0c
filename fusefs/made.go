package fusefs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/volume/api"
)

// A file that was made is written to next, and before a direct write(2) the kernel asks for
// attributes that it may not keep (GETATTR): one of seven requests for a small file. So the
// answer to CREATE lets it keep them, for a moment. The kernel takes them unasked (with an
// attr_version of 0, fs/fuse/dir.c, fuse_create_open), so that a notification that they cross
// does not help. But the first request for the new file tells that they have arrived, and then
// one does. What others are about to change of the file waits for that (awaitArrival); what
// this mount does to it comes in such a request itself, or under the lock of the directory,
// which the kernel keeps until they have.
const (
	madeTimeout = minTimeout
	// arrivalSlack is how long an answer to CREATE is waited for at most, beyond its timeout,
	// where no request comes for the file: it is open, and nothing is done with it.
	arrivalSlack = 250 * time.Millisecond
)

// letKeep gives the kernel attributes with the answer to CREATE, a being the new file's, asked
// for behind the moment m, and fh its number.
func (f *fsys) letKeep(fh uint64, a api.Attr, m uint64, out *fuse.EntryOut) {
	file := f.handles.file(fh)
	if d := f.timeoutBy(f.cache.grantMade, a, m); d > 0 && file != nil {
		file.fresh.Store(true)
		out.SetAttrTimeout(d)
	}
}

// grantMade is grantAttr for an answer to CREATE.
func (c *cache) grantMade(a api.Attr, m uint64) time.Duration {
	d, now := c.grant()
	if d < madeTimeout {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.same(a, m) {
		return 0
	}
	in := c.inodes[a.Ino]
	in.kernel = c.note(in.kernel, now.Add(madeTimeout+c.max.arrival))
	c.grants++
	in.grants, in.unarrived = c.grants, true
	return madeTimeout
}

// arrived notes that a request has come for a file that CREATE has made.
func (c *cache) arrived(ino twofold.Ino) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[ino]
	if in == nil {
		return
	}
	in.unarrived = false
	if in.arrival != nil {
		close(in.arrival)
		in.arrival = nil
	}
}

// arriving is closed when the kernel has what CREATE has answered of an inode; nil: it has. mu
// is held.
func (in *cachedInode) arriving() <-chan struct{} {
	if !in.unarrived {
		return nil
	}
	if in.arrival == nil {
		in.arrival = make(chan struct{})
	}
	return in.arrival
}

// awaitArrival waits until the kernel has what CREATE has answered, until t at most.
func (a *attrNotice) awaitArrival(t time.Time) {
	if a.arrival == nil {
		return
	}
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-a.arrival:
	case <-timer.C:
	}
}
