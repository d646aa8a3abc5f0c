package fusefs

import (
	"context"

	"twofold"
)

// durable waits until everything is durable that was done to an inode, or in a directory: the
// bytes of a file have been flushed, but what flushed them may make it so later (package
// behind).
func (f *fsys) durable(ctx context.Context, ino twofold.Ino) error {
	if f.behind == nil {
		return nil
	}
	if ino == twofold.RootIno && f.opts.Root != 0 {
		ino = f.opts.Root // as subtree has it
	}
	return f.behind.Sync(ctx, ino)
}

// allDurable is durable for everything.
func (f *fsys) allDurable(ctx context.Context) error {
	if f.behind == nil {
		return nil
	}
	return f.behind.SyncAll(ctx)
}

// closeBehind commits what is left and gives back what is leased for it.
func (f *fsys) closeBehind(ctx context.Context) error {
	if f.behind == nil {
		return nil
	}
	return f.behind.Close(ctx)
}

// stopAll ends what runs for a mount that did not come to be.
func (f *fsys) stopAll() {
	ended, stop := context.WithCancel(context.Background())
	stop()
	f.closeBehind(ended)
	f.stop()
}
