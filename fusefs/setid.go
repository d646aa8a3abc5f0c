package fusefs

import (
	"context"
	"syscall"
)

// A write by somebody who may not keep set-id bits (without CAP_FSETID) clears them.
// The volume does so with the flush that brings the bytes; until then it is this
// mount that knows, as it is with the size.
// https://docs.kernel.org/filesystems/fuse-io.html, HANDLE_KILLPRIV_V2.

// withoutSetID is a mode without set-user-id, and without set-group-id where that
// is not mandatory locking (no group execute).
func withoutSetID(mode uint32) uint32 {
	mode &^= syscall.S_ISUID
	if mode&syscall.S_IXGRP != 0 {
		mode &^= syscall.S_ISGID
	}
	return mode
}

// kills reports whether bytes that were written here, and that the volume does not
// have yet, clear set-id bits; n.mu is held.
func (n *node) kills() bool {
	return n.dirty.kill || n.flushing != nil && n.flushing.kill
}

// settleKill commits such bytes before a chmod that sets set-id bits, which the flush
// would take away again.
func (n *node) settleKill(ctx context.Context, mode *uint32) error {
	if mode == nil || *mode&(syscall.S_ISUID|syscall.S_ISGID) == 0 {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.kills() {
		return nil
	}
	return n.settle(ctx, n.wseq)
}
