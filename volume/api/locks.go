package api

import (
	"context"

	"twofold"
)

// LockKind tells apart locks that do not know of each other, as on Linux (flock(2),
// "Interaction between the two types of locks").
type LockKind uint8

const (
	LockRecord LockKind = 0 // fcntl(2): of a process (POSIX) or of an open file description (OFD); these conflict
	LockFlock  LockKind = 1 // flock(2): always the whole file
)

// LockType is what a lock lets others do.
type LockType uint8

const (
	LockNone      LockType = 0 // no lock: asking for it unlocks
	LockShared    LockType = 1 // F_RDLCK, LOCK_SH
	LockExclusive LockType = 2 // F_WRLCK, LOCK_EX
)

// MaxLockEnd is the last byte that can be locked: the lock reaches to the end of the
// file, however long it becomes (off_t's last value; fcntl(2), l_len 0).
const MaxLockEnd = 1<<63 - 1

// MaxLocks is how many ranges one session may have locked, ENOLCK beyond. What a mount
// says it holds after a server's restart fits into one request by it.
const MaxLocks = 16384

// MaxLockWaits is how many requests of one session may wait for locks, ENOLCK beyond:
// each takes one of the connection's slots.
const MaxLockWaits = 512

// Lock is an advisory lock of a range of an inode's bytes, or a request for one.
type Lock struct {
	_       struct{} `cbor:",toarray"`
	Kind    LockKind
	Type    LockType
	Owner   uint64 // the kernel's lock owner: a process's files, or an open file; unique within the mount
	Start   uint64 // first byte
	End     uint64 // last byte, inclusive; at most MaxLockEnd
	Pid     uint32 // process that asked, in the mount's numbering; 0: none that the reader could know
	Process bool   // Owner is known to be a process: a wait of it can be part of a deadlock (fcntl(2), EDEADLK)
}

// HeldLocks are a session's locks on one inode.
type HeldLocks struct {
	_     struct{} `cbor:",toarray"`
	Ino   twofold.Ino
	Token uint64 // of the delegation under which they were granted; 0: the server granted each
	Locks []Lock
}

// LockGrant is the answer to a request for a lock.
type LockGrant struct {
	_ struct{} `cbor:",toarray"`
	// Token, when not 0, delegates the inode's locks: the session, being alone with
	// them, has Held and nothing else, and grants and drops locks by itself until it
	// is asked to return them. It must not while the server can't hear of it.
	Token uint64
	Held  []Lock // with Token: what the session has, with what it asked for
}

// Locks is the lock service as one session sees it; remote.Client makes of it what
// Files offers. Locks live in the server's memory, so none of it is durable: a mount
// says what it holds when it comes back to a server that restarted. Safe for
// concurrent use, but for one inode a session sends one Set or Return at a time.
//
// errs.Fenced: locks of this session on the inode were taken away, as it was silent
// for longer than the lease term; it has none on it, and gets none until it has
// closed the file.
type Locks interface {
	// Get returns a lock that keeps l from being granted; found is false where there
	// is none. Its Pid is 0 when another session has it.
	Get(ctx context.Context, ino twofold.Ino, l Lock) (blocker Lock, found bool, err error)
	// Set grants l at once or fails with errs.Locked; LockNone drops what the owner
	// has of the range. Of flock(2) locks the owner's old one is dropped first, and
	// stays so when the new one is refused (flock(2): the conversion is not atomic).
	// errs.NoLocks.
	Set(ctx context.Context, ino twofold.Ino, l Lock) (LockGrant, error)
	// Await grants l in its turn. It may be repeated. errs.Deadlock, errs.NoLocks;
	// errs.Canceled when ctx ended: then EndAwait tells whether it was granted
	// before. errs.Busy: the session must return the inode's locks first.
	Await(ctx context.Context, ino twofold.Ino, l Lock, ticket uint64) error
	// EndAwait ends the wait with that ticket, and reports whether l is held.
	EndAwait(ctx context.Context, ino twofold.Ino, l Lock, ticket uint64) (bool, error)
	// Return ends a delegation; what is held now is the server's to keep.
	Return(ctx context.Context, h HeldLocks) error
}

// LockHolder is a Holder that can be delegated the locks of inodes.
type LockHolder interface {
	// RecallLocks asks for Locks.Return of an inode's locks. It returns when that
	// was done, or when the holder has no such delegation.
	RecallLocks(ctx context.Context, ino twofold.Ino, token uint64) error
}
