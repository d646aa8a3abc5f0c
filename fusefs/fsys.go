package fusefs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/fusefs/behind"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// fsys is the file system: fuse.RawFileSystem over api.Files. Its methods are in
// ops_*.go; ops.go lists them.
type fsys struct {
	files  api.Files
	leased *leased       // files, where read leases are known of
	behind *behind.Files // below it: what makes changes later; nil: nothing does
	cache  *cache
	opts   Options
	log    *slog.Logger
	kernel notifier // set before the first request is read
	direct bool     // likewise: read(2) and write(2) pass the kernel's pages by
	acl    bool     // likewise: the kernel obeys POSIX ACLs

	setXattrExt bool // likewise: it says when an ACL must clear the set-group-ID bit

	ctx  context.Context // ends with the mount
	stop context.CancelFunc

	budget   budget
	buffers  buffers
	aheads   aheadPool
	handles  handles
	lookups  lookups
	released released
	owners   processOwners

	// mu guards what follows, and refs and forgotten of every node. It may be taken
	// with a node's mu held, never the other way round.
	mu    sync.Mutex
	nodes map[twofold.Ino]*node
	dirty map[*node]struct{} // those with bytes to flush
}

// notifier is what the mount tells the kernel (fuse.Server). It must not be
// called while the kernel may wait for the caller, see DESIGN.md.
type notifier interface {
	// InodeNotify makes the kernel write back and forget the pages of a node from
	// off on, and its attributes; length 0 is all, off -1 attributes only.
	InodeNotify(node uint64, off, length int64) fuse.Status
	// InodeNotifyStoreCache puts bytes into the kernel's pages of a node, which grows
	// with them in the kernel's eyes.
	InodeNotifyStoreCache(node uint64, off int64, data []byte) fuse.Status
	// EntryNotify makes the kernel forget a name. It takes the directory's lock.
	EntryNotify(parent uint64, name string) fuse.Status
}

func newFsys(opts Options, files api.Files) *fsys {
	ctx, stop := context.WithCancel(context.Background())
	f := &fsys{
		cache:  newCache(opts.CachedUntil),
		opts:   opts,
		log:    opts.Log,
		ctx:    ctx,
		stop:   stop,
		budget: budget{max: opts.MaxDirty},
		aheads: aheadPool{max: opts.MaxAhead, last: make(map[*ahead]uint64)},
		nodes:  make(map[twofold.Ino]*node),
		dirty:  make(map[*node]struct{}),
	}
	f.leased = &leased{to: &patient{to: files, log: opts.Log}, c: f.cache, ctx: ctx, tell: f.tellAttrs}
	f.files = f.leased
	f.handles.init()
	f.released.init()
	f.owners.init()
	go f.flushOld()
	if opts.CachedUntil != nil {
		go f.sweepOld()
	}
	return f
}

// ref returns the node of ino, made if there is none, for the caller to unref.
func (f *fsys) ref(ino twofold.Ino) *node {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[ino]
	if n == nil {
		n = newNode(f, ino)
		f.nodes[ino] = n
	}
	n.refs++
	return n
}

// known is ref for a node that is there already, else nil.
func (f *fsys) known(ino twofold.Ino) *node {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[ino]
	if n != nil {
		n.refs++
	}
	return n
}

// again is one more reference for somebody who has one.
func (f *fsys) again(n *node) {
	f.mu.Lock()
	n.refs++
	f.mu.Unlock()
}

// unref ends a use of n. A node that nobody uses is kept while the kernel has the
// inode, because it knows which version the kernel's pages are of.
func (f *fsys) unref(n *node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n.refs--
	if n.refs == 0 && n.forgotten {
		delete(f.nodes, n.ino)
	}
}

// Forget drops what is remembered for the kernel's sake.
func (f *fsys) Forget(nodeid, _ uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[twofold.Ino(nodeid)]
	if n == nil {
		return
	}
	if n.forgotten = true; n.refs == 0 {
		delete(f.nodes, n.ino)
	}
}

// all returns a reference to every node.
func (f *fsys) all() []*node {
	f.mu.Lock()
	defer f.mu.Unlock()
	ns := make([]*node, 0, len(f.nodes))
	for _, n := range f.nodes {
		n.refs++
		ns = append(ns, n)
	}
	return ns
}

// dirtyNodes returns a reference to every node with bytes to flush.
func (f *fsys) dirtyNodes() []*node {
	f.mu.Lock()
	defer f.mu.Unlock()
	ns := make([]*node, 0, len(f.dirty))
	for n := range f.dirty {
		n.refs++
		ns = append(ns, n)
	}
	return ns
}

// setDirty notes whether n has bytes to flush; n.mu is held.
func (f *fsys) setDirty(n *node, dirty bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if dirty {
		f.dirty[n] = struct{}{}
	} else {
		delete(f.dirty, n)
	}
}

// flushOld flushes what has been dirty for long, so that a crash of the mount's
// machine loses seconds, not minutes.
func (f *fsys) flushOld() {
	tick := time.NewTicker(max(f.opts.FlushAge/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return
		case now := <-tick.C:
			f.flushBefore(now.Add(-f.opts.FlushAge))
			f.returnPromise(now.Add(-idlePromise))
			f.buffers.rest(now)
		}
	}
}

// flushBefore starts to flush inodes that have been dirty since t.
func (f *fsys) flushBefore(t time.Time) {
	for _, n := range f.dirtyNodes() {
		n.mu.Lock()
		if len(n.dirty.segs) > 0 && n.dirty.first.Before(t) {
			n.kick()
		}
		n.mu.Unlock()
		f.unref(n)
	}
}

// flushAll commits everything that is dirty, and returns the first error.
func (f *fsys) flushAll(ctx context.Context) (first error) {
	for _, n := range f.dirtyNodes() {
		n.mu.Lock()
		n.kick() // all at once
		n.mu.Unlock()
		f.unref(n)
	}
	for _, n := range f.dirtyNodes() {
		n.mu.Lock()
		before := n.errSeq
		err := n.settle(ctx, n.wseq)
		if err == nil && n.errSeq != before {
			err = n.err
		}
		n.mu.Unlock()
		f.unref(n)
		if first == nil {
			first = err
		}
	}
	if err := f.allDurable(ctx); first == nil {
		first = err
	}
	return first
}

// canceled is the error of a wait that ctx ended.
func canceled(op string, ctx context.Context) error {
	return errs.E("fusefs."+op, errs.Canceled, ctx.Err())
}

// released remembers which write leases went lately, so that an attribute that was
// asked for before, and would lack what was written under the lease, is asked for
// again.
type released struct {
	mu    sync.Mutex
	seq   uint64
	floor uint64 // releases up to this one are not in at any more
	at    map[twofold.Ino]uint64
}

const maxReleased = 4096

func (r *released) init() { r.at = make(map[twofold.Ino]uint64) }

func (r *released) note(ino twofold.Ino) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.at) >= maxReleased {
		clear(r.at)
		r.floor = r.seq
	}
	r.seq++
	r.at[ino] = r.seq
}

// now is a moment to ask since about.
func (r *released) now() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq
}

// since reports whether ino's lease may have gone after the moment.
func (r *released) since(ino twofold.Ino, moment uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at[ino] > moment || moment < r.floor
}
