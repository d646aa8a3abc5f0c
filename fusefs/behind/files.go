package behind

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// Options are a mount's.
type Options struct {
	// CachedUntil is when the session's leases end unless the server is heard of again:
	// nothing is done here behind it.
	CachedUntil func() time.Time
	Root        twofold.Ino // the directory that is mounted; 0 is the one of all buckets
	Log         *slog.Logger
}

// Files is api.Files that does here what it may. Safe for concurrent use.
type Files struct {
	to    api.Files
	until func() time.Time
	root  twofold.Ino
	log   *slog.Logger

	ctx  context.Context // ends with Stop
	stop context.CancelFunc
	wg   sync.WaitGroup
	kick chan struct{} // the flusher has something to look at

	mu      sync.Mutex
	changed chan struct{} // closed by broadcast; nil while nobody waits
	up      api.Holder    // what Holder was given
	queue   queue
	dirs    map[twofold.Ino]*dir
	inodes  map[twofold.Ino]*inode
	leases  map[twofold.Ino]*lease // write leases of files that the cache above and the volume know by different tokens
	local   uint64                 // the last token given here
	outside map[twofold.Ino]int    // changes under way that go the ordinary way
	heat    map[twofold.Ino]*heat
	buckets map[twofold.Ino]twofold.Ino
	shared  map[twofold.Ino]struct{} // inodes that were given a second name here
	numbers numbers
	errs    map[twofold.Ino]error // of what was lost, for who asks (Sync)
	known   int                   // names in all dirs
	off     time.Time             // until then no directory is leased: the server can't
}

var _ api.Files = (*Files)(nil)

// New returns files in front of to. Holder must be given what is called back in place of
// it, before the first call.
func New(to api.Files, o Options) *Files {
	b := &Files{
		to: to, until: o.CachedUntil, root: o.Root, log: o.Log,
		kick:    make(chan struct{}, 1),
		queue:   newQueue(),
		dirs:    make(map[twofold.Ino]*dir),
		inodes:  make(map[twofold.Ino]*inode),
		leases:  make(map[twofold.Ino]*lease),
		outside: make(map[twofold.Ino]int),
		heat:    make(map[twofold.Ino]*heat),
		buckets: make(map[twofold.Ino]twofold.Ino),
		shared:  make(map[twofold.Ino]struct{}),
		errs:    make(map[twofold.Ino]error),
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.wg.Go(b.flusher)
	b.wg.Go(b.sweeper)
	return b
}

// Close commits everything and gives all leases of directories back, as far as that is
// possible until ctx ends; then nothing is done any more. errs.Canceled with what was not
// committed.
func (b *Files) Close(ctx context.Context) error {
	err := b.SyncAll(ctx)
	b.mu.Lock()
	for _, d := range b.dirs {
		b.close(d)
	}
	for len(b.dirs) > 0 && b.wait(ctx) == nil {
	}
	lost := len(b.queue.ops)
	b.mu.Unlock()
	if lost > 0 {
		b.log.Error("operations that were not committed are lost with the mount", "operations", lost, "err", err)
	}
	b.stop()
	b.wg.Wait()
	return err
}

// alive reports whether the session's leases are known to be good.
func (b *Files) alive() bool { return b.until().After(time.Now()) }

// wait lets go of b.mu until something changed, or ctx ends.
func (b *Files) wait(ctx context.Context) error {
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	ch := b.changed
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return errs.E("behind.wait", errs.Canceled, ctx.Err())
	case <-b.ctx.Done():
		return errs.Newf("behind.wait", errs.Canceled, "the mount is at its end")
	}
}

// broadcast wakes everybody in wait; b.mu is held.
func (b *Files) broadcast() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// Sync makes everything durable that was done to an inode, or in a directory: fsync(2). An
// error is that of what was lost of it, which is told once, or of what can't be committed now.
func (b *Files) Sync(ctx context.Context, ino twofold.Ino) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.settle(ctx, b.queue.touched[ino]); err != nil {
		return err
	}
	err := b.errs[ino]
	delete(b.errs, ino)
	return err
}

// SyncAll makes everything durable that was done.
func (b *Files) SyncAll(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.settle(ctx, b.queue.seq)
}
