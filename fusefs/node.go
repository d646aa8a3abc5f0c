package fusefs

import (
	"context"
	"sync"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// node is what the mount knows of an inode that was opened or changed here: open
// files, the write lease, and the bytes written under it.
type node struct {
	fs  *fsys
	ino twofold.Ino

	refs      int  // fs.mu: uses by handles, requests and goroutines, and the lease
	forgotten bool // fs.mu: the kernel has dropped the inode

	mu      sync.Mutex    // guards everything below
	changed chan struct{} // closed by broadcast; nil while nobody waits

	lockers lockers // who may have fcntl(2) locks; guarded by itself

	pin     pinState
	opens   int // open files here: while there are any, the volume keeps the inode
	writers int // those open for writing
	mappers int // those open for reading and writing: a shared mapping stores unseen

	lease    leaseState
	token    uint64 // of the lease; 0 where there is none
	asking   *ask   // while leaseAsking
	grant    *ask   // what the lease was got for, while token != 0
	revoked  uint64 // leases up to this token were recalled before they arrived
	waiting  int    // requests that wait for, or were just given, the lease
	refilled bool   // pages were filled during the current pass of a recall
	op       bool   // a truncate or the like runs: bytes stay as they are
	cutting  bool   // it is a truncate that has forgotten bytes here, and may still fail: size is of no moment
	leaving  bool   // all is committed and the volume is being told that token is free

	allowed int64 // bytes that the file may grow to under this lease, see reserve

	// While decides() what the inode contains is decided here.
	base  api.Attr     // content attributes as the volume has them
	size  int64        // bytes, with what is dirty
	mtime twofold.Time // of the newest write
	ctime twofold.Time // likewise

	dirty    layer  // written, not being flushed
	flushing *layer // in a Write that has not returned; not changed any more
	flusher  bool   // a goroutine runs runFlush
	stream   bool   // the last flush was of a stream's size: expect more
	wseq     uint64 // number of the newest write
	done     uint64 // writes up to this one are committed, or dropped with an error
	want     uint64 // writes up to this one shall be flushed
	demand   uint64 // writes up to this one have somebody who waits for the outcome
	rev      uint64 // moves when what the volume has is about to change under a reader
	sum      digest // of what is committed
	taken    digest // of that and what is dirty, while it is known
	failing  error  // why the flush in flight is being tried again: new writes get it
	failures uint64 // attempts at flushes that are being tried again
	urge     bool   // somebody wants an attempt now
	refusals uint64 // recalls that could not be met
	refusal  error  // why the last one could not

	err    error  // why bytes were lost, for handles that have not heard of it
	errSeq uint64 // how often that happened

	kver   uint64        // the version that the kernel's pages are of; 0: not known
	filled bool          // the kernel may have pages
	stale  *invalidation // pages that have to go before attributes are told
	paging paging        // reads of pages
}

func newNode(f *fsys, ino twofold.Ino) *node { return &node{fs: f, ino: ino} }

// wait lets go of n.mu until something about n changed, or ctx ends.
func (n *node) wait(ctx context.Context) error {
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	ch := n.changed
	n.mu.Unlock()
	defer n.mu.Lock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return canceled("wait", ctx)
	}
}

// broadcast wakes everybody in wait; n.mu is held.
func (n *node) broadcast() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

// pinState is whether the volume keeps the inode for us (api.Files.Open).
type pinState uint8

const (
	pinNone   pinState = iota
	pinMoving          // a call is on its way
	pinHeld
)

// open counts a new open file, and pins the inode if it is the first. fresh tells
// that attr was returned by the volume for this open.
func (n *node) open(ctx context.Context, writer, mapper bool) (attr api.Attr, fresh bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.pin == pinMoving {
		if err := n.wait(ctx); err != nil {
			return attr, false, err
		}
	}
	if n.pin == pinNone {
		n.pin = pinMoving
		n.mu.Unlock()
		attr, err = n.fs.files.Open(ctx, n.ino)
		n.mu.Lock()
		n.pin, fresh = pinHeld, true
		if err != nil {
			n.pin = pinNone
		}
		n.broadcast()
		if err != nil {
			return attr, false, err
		}
	}
	n.opens++
	n.count(1, writer, mapper)
	return attr, fresh, nil
}

func (n *node) count(d int, writer, mapper bool) {
	if writer {
		n.writers += d
	}
	if mapper {
		n.mappers += d
	}
}

// close ends an open file: the last writer's gives the lease back, and the last
// one's lets the volume free an inode without links.
func (n *node) close(ctx context.Context, writer, mapper bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count(-1, writer, mapper)
	if writer && n.writers == 0 {
		n.returnIdle(ctx)
	}
	n.opens--
	for n.pin == pinMoving {
		if n.wait(ctx) != nil {
			return
		}
	}
	if n.opens > 0 || n.pin != pinHeld {
		return
	}
	n.pin = pinMoving
	n.mu.Unlock()
	err := n.fs.files.Release(ctx, n.ino)
	n.mu.Lock()
	n.pin = pinNone
	n.broadcast()
	if err != nil && !errs.Is(err, errs.Stale) {
		n.fs.log.Debug("release of an open file", "ino", n.ino, "err", err)
	}
}

// repin asks for the pin again after the session that had it was lost.
func (n *node) repin(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pin != pinHeld {
		return
	}
	n.pin = pinMoving
	n.mu.Unlock()
	_, err := n.fs.files.Open(ctx, n.ino)
	n.mu.Lock()
	n.pin = pinHeld // or gone for good: requests will say ESTALE
	n.broadcast()
	if err != nil {
		n.fs.log.Warn("an open file is gone with the session", "ino", n.ino, "err", err)
	}
}

// tell returns the error of lost bytes that a handle has not been told of, and
// moves the handle's mark: fsync(2) and close(2) report it once each.
func (n *node) tell(seen *uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if *seen == n.errSeq {
		return nil
	}
	*seen = n.errSeq
	return n.err
}
