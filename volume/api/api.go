// Package api is the contract between a mount and the volume: the operations of
// the POSIX view as requests of plain values, so that the same interface is served
// in the server's process (volume.Session) and across a connection
// (volume/remote).
//
// Names are bytes as the kernel gives them, not yet keys: the volume maps them.
// Errors are *errs.Error. Every call may be retried by the transport under its
// (session, sequence), and has its effect once.
package api

import (
	"context"

	"twofold"
	"twofold/metadata"
)

// Attr are an inode's attributes, as stat(2) wants them, before the mount's
// defaults for what was never set.
type Attr struct {
	_       struct{} `cbor:",toarray"`
	Ino     twofold.Ino
	Type    metadata.Type
	Mode    uint32 // permission bits
	UID     uint32
	GID     uint32
	ModeSet bool // false: the mount's umask and type decide
	UIDSet  bool // false: the mount's owner
	GIDSet  bool // false: the mount's group
	Nlink   uint32
	Rdev    uint32
	Size    int64
	Stored  int64 // bytes in extents
	Atime   twofold.Time
	Mtime   twofold.Time
	Ctime   twofold.Time
	Btime   twofold.Time
	Version uint64 // changes whenever content does
	ETag    string

	// Leased: the session is a reader of the inode, so that these attributes and what
	// they are of (content; of a directory the names) may be cached until
	// Holder.Invalidate says otherwise. NameLeased, of Lookup: the session is a reader of
	// the directory, so that the entry may be cached likewise. See Holder.Invalidate for
	// what is to be kept in mind. On the wire they are there for sessions that asked
	// for them (attrwire.go).
	Leased     bool
	NameLeased bool

	// Home is the directory whose write lease decides about the inode's links and ctime: its
	// parent, where it has one name and is no directory. 0: none has, or the session has
	// not asked for homes.
	Home twofold.Ino
}

// SetAttr changes attributes; nil fields stay. The volume decides ctime.
type SetAttr struct {
	Mode  *uint32       `cbor:"1,keyasint,omitempty"`
	UID   *uint32       `cbor:"2,keyasint,omitempty"`
	GID   *uint32       `cbor:"3,keyasint,omitempty"`
	Size  *int64        `cbor:"4,keyasint,omitempty"`
	Atime *twofold.Time `cbor:"5,keyasint,omitempty"`
	Mtime *twofold.Time `cbor:"6,keyasint,omitempty"`
	// Token of the write lease this is sent under; 0: none (the volume recalls
	// other holders of the lease when Size or times change).
	Token uint64 `cbor:"7,keyasint,omitempty"`
	// KillPriv clears set-id bits, of all but directories, if Mode is not set. A change
	// of UID or GID always does.
	KillPriv bool `cbor:"8,keyasint,omitempty"`
}

// Create asks for a new inode.
type Create struct {
	Type      metadata.Type `cbor:"1,keyasint"`
	Mode      uint32        `cbor:"2,keyasint"` // permission bits after umask
	UID       uint32        `cbor:"3,keyasint"`
	GID       uint32        `cbor:"4,keyasint"`
	Rdev      uint32        `cbor:"5,keyasint,omitempty"`
	Target    string        `cbor:"6,keyasint,omitempty"`
	Exclusive bool          `cbor:"7,keyasint,omitempty"`
	// Asked are the permission bits before umask (0777): what counts in a directory
	// with a default ACL. Bits that Mode has are always asked for.
	Asked uint32 `cbor:"8,keyasint,omitempty"`
}

// DirEntry is one entry of a listing.
type DirEntry struct {
	_      struct{} `cbor:",toarray"`
	Name   string   // as the mount shows it
	Cursor string   // give it to ReadDir to go on behind this entry
	Attr   Attr     // Ino and Type always; the rest where attributes were asked for
}

// Segment is written bytes at an offset.
type Segment struct {
	Off  int64
	Data []byte
}

// Write is what a mount flushes: everything that write(2) gave it since the last
// flush, as one change of the inode. Segments do not overlap.
type Write struct {
	Token    uint64           // the write lease it is sent under; errs.Fenced when that has ended
	Segments []Segment        // the volume makes them inline extents or blobs
	Punch    []metadata.Range // ranges that become holes, before Segments
	Size     int64            // the file's size is at least this afterwards
	Mtime    twofold.Time
	Atime    twofold.Time // is set if not 0
	ETag     string       // MD5 of the whole content where the mount knows it, else empty
	KillPriv bool         // clear set-id bits
}

// CopyRange asks for copy_file_range(2): Dst's content in [DstOff, DstOff+Len) becomes
// Src's from SrcOff on.
type CopyRange struct {
	Src      twofold.Ino  `cbor:"1,keyasint"`
	SrcOff   int64        `cbor:"2,keyasint,omitempty"`
	SrcToken uint64       `cbor:"3,keyasint,omitempty"` // of the caller's write lease of Src; 0: it has none
	Dst      twofold.Ino  `cbor:"4,keyasint"`
	DstOff   int64        `cbor:"5,keyasint,omitempty"`
	DstToken uint64       `cbor:"6,keyasint,omitempty"` // likewise of Dst
	Len      int64        `cbor:"7,keyasint"`
	Mtime    twofold.Time `cbor:"8,keyasint,omitempty"`
	KillPriv bool         `cbor:"9,keyasint,omitempty"` // clear Dst's set-id bits
}

// Lease is the right to hold unwritten bytes of an inode, or to cache it.
type Lease struct {
	_     struct{} `cbor:",toarray"`
	Token uint64   // the fencing token: larger than any token given before for the inode
	Attr  Attr     // as of the grant

	// Allowed is the size that the file may grow to without a Reserve:
	// twofold.MaxFileLen where the bucket has no quota. It travels beside the rest, which
	// older servers and mounts have without.
	Allowed int64 `cbor:"-"`
}

// Quota is how much is in a bucket, and how much may be, in bytes of content.
type Quota struct {
	Bucket   twofold.BucketName `cbor:"1,keyasint"`
	Used     int64              `cbor:"2,keyasint,omitempty"` // files, objects, parts of uploads
	Reserved int64              `cbor:"3,keyasint,omitempty"` // what open files may grow by
	Limit    int64              `cbor:"4,keyasint,omitempty"` // 0: none
}

// StatFS is statvfs(3): bytes that the store, or a bucket, can still take, and has.
type StatFS struct {
	_     struct{} `cbor:",toarray"`
	Total uint64
	Free  uint64
	Files uint64 // inodes in use, where known
}

// Files is the POSIX view of the volume for one mount's session. RootIno is the
// directory of buckets: Create there makes a bucket, Rmdir removes an empty one.
// Safe for concurrent use.
type Files interface {
	Batches

	// Lookup finds a name. errs.NotFound where it isn't there; or, where the session may
	// cache that it isn't, no error and an Attr with Ino 0 and NameLeased.
	Lookup(ctx context.Context, dir twofold.Ino, name string) (Attr, error)
	GetAttr(ctx context.Context, ino twofold.Ino) (Attr, error)
	SetAttr(ctx context.Context, ino twofold.Ino, a SetAttr) (Attr, error)
	// Create makes an inode. Without Exclusive an existing regular file is
	// returned, with existed true.
	Create(ctx context.Context, dir twofold.Ino, name string, c Create) (a Attr, existed bool, err error)
	Link(ctx context.Context, ino, dir twofold.Ino, name string) (Attr, error)
	Unlink(ctx context.Context, dir twofold.Ino, name string) error
	Rmdir(ctx context.Context, dir twofold.Ino, name string) error
	Rename(ctx context.Context, oldDir twofold.Ino, oldName string, newDir twofold.Ino, newName string, flags uint32) error
	Readlink(ctx context.Context, ino twofold.Ino) (string, error)
	// Tmpfile makes a regular file without a name in dir's bucket (O_TMPFILE): of c,
	// Mode, UID and GID count. Link may name it. It is not pinned: an Open within a
	// second finds it, a later one may be told errs.Stale.
	Tmpfile(ctx context.Context, dir twofold.Ino, c Create) (Attr, error)
	// ReadDir lists entries behind cursor ("" from the start), at most max; eof
	// tells that none are left. Without "." and "..".
	ReadDir(ctx context.Context, dir twofold.Ino, cursor string, max int, attrs bool) (entries []DirEntry, eof bool, err error)

	// Open pins the inode: its content stays after the last unlink, until as many
	// Releases. errs.Stale where it is gone. It waits for nobody in a session that takes
	// read leases: the attributes are current where they are Leased.
	Open(ctx context.Context, ino twofold.Ino) (Attr, error)
	Release(ctx context.Context, ino twofold.Ino) error
	// Read fills p from off and returns how many bytes there were (short only at
	// the end of the file), as one atomic version. Up to MaxIO bytes. It recalls
	// other sessions' write leases, not the caller's own.
	Read(ctx context.Context, ino twofold.Ino, off int64, p []byte) (int, error)
	// Write commits durably what was flushed, and returns the new attributes.
	Write(ctx context.Context, ino twofold.Ino, w Write) (Attr, error)
	// Seek is lseek(2) with SEEK_DATA or, with hole, SEEK_HOLE, in what the volume
	// has: the first byte at or behind off that is in an extent, or in none; the
	// end of the file is a hole. -1 where there is none (ENXIO). It recalls
	// other sessions' write leases, not the caller's own.
	Seek(ctx context.Context, ino twofold.Ino, off int64, hole bool) (int64, error)
	// CopyRange lets a range of one file share the blobs of another one's, durably
	// and as one change, and returns Dst's attributes and how many bytes that were:
	// fewer than asked for at Src's end, and where one command can't do more. It
	// recalls write leases of both that are not the caller's; the caller has
	// flushed its own. errs.Fenced is about DstToken, errs.Conflict about SrcToken.
	CopyRange(ctx context.Context, c CopyRange) (Attr, int64, error)

	// AcquireWrite asks for the write lease; it waits while others give theirs
	// back. A session that has it already gets the same token.
	AcquireWrite(ctx context.Context, ino twofold.Ino) (Lease, error)
	// ReleaseWrite gives it back. What was written must have been flushed.
	ReleaseWrite(ctx context.Context, ino twofold.Ino, token uint64) error

	// GetXattr and friends: xattr(7). errs.NoAttr, errs.Exists, errs.Unsupported.
	// POSIX ACLs are the attributes that internal/acl names: with their rules, and
	// with the mode in step. Flags are setxattr(2)'s and XattrKillSetGID.
	GetXattr(ctx context.Context, ino twofold.Ino, name string) ([]byte, error)
	SetXattr(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) error
	ListXattr(ctx context.Context, ino twofold.Ino) ([]string, error)
	RemoveXattr(ctx context.Context, ino twofold.Ino, name string) error

	// Promise asks that the store keep n more bytes free for what this session will
	// Write, and returns how many it does: at least 1, and fewer than n when little is
	// free or the session has MaxPromise; errs.NoSpace where nothing is. A Write that
	// succeeds uses the promise up; 0 gives all of it back, as the session's end does.
	Promise(ctx context.Context, n int64) (int64, error)

	// Forget gives back the read leases of inodes, at most MaxForget. What of them was
	// asked for before Forget returned is not cached: the answer's lease may be
	// among those given back. Nothing is waited for.
	Forget(ctx context.Context, inos []twofold.Ino) error

	// Reserve lets a file grow to size without being refused by its bucket's quota, and
	// returns the size that it may grow to: up to slack more where much is left,
	// twofold.MaxFileLen where there is no quota. It needs the write lease, and goes with
	// it; a Write within it is never errs.Quota. errs.Quota, errs.Fenced. It may come
	// twice.
	Reserve(ctx context.Context, ino twofold.Ino, token uint64, size, slack int64) (int64, error)

	// StatFS is of the store, or of the bucket that ino is in, where that has a quota.
	StatFS(ctx context.Context, ino twofold.Ino) (StatFS, error)

	// GetLock returns a lock that conflicts with l, fcntl(2)'s F_GETLK; found is
	// false where l could be had. Pid is 0 for a lock of another mount.
	GetLock(ctx context.Context, ino twofold.Ino, l Lock) (blocker Lock, found bool, err error)
	// SetLock takes the lock l, converts what its owner has of the range, or drops it
	// (LockNone). Without wait it fails with errs.Locked when somebody else's lock is
	// in the way. errs.Deadlock, errs.NoLocks; errs.Canceled when ctx ended while it
	// waited: then nothing has changed. Locks end with the last open of the inode.
	SetLock(ctx context.Context, ino twofold.Ino, l Lock, wait bool) error
}

// XattrKillSetGID is a flag of SetXattr of an access ACL: the caller is neither in the
// file's group nor privileged, so the set-group-ID bit goes.
const XattrKillSetGID = 1 << 8

// MaxForget is the most inodes of one Forget.
const MaxForget = 4096

// MaxStale and MaxStaleText are the most inodes and names of one Invalidate, and the most bytes
// of its names: it has to fit a message.
const (
	MaxStale     = 1 << 14
	MaxStaleText = 512 << 10
)

// MaxPromise is the most bytes that a session is promised at a time.
const MaxPromise = 1 << 30

// MaxIO is the most bytes of one Read, and of all Segments of one Write.
const MaxIO = 16 << 20

// Holder is the mount's side of leases: what the volume calls back.
type Holder interface {
	// Recall asks for the write lease back: flush what is held (with Write, under
	// the token) and ReleaseWrite, or just ReleaseWrite. It returns when that is
	// done. It must make progress without waiting for any FUSE request in flight.
	// A token that the holder does not have is answered with nil at once. errs.Unwritten
	// says that what is held can't be written now (no space, too few drives): it is
	// kept, and the lease with it; whoever asked for the inode is refused.
	Recall(ctx context.Context, ino twofold.Ino, token uint64) error
	// Invalidate takes read leases back, before what they are of changes: it returns when
	// nobody on this machine is served any of it from a cache any more (or when the
	// kernel's timeouts have run out), and the change waits for that, unless the session
	// was silent for the lease term. It must depend on no FUSE request in flight. An answer
	// that was asked for before an Invalidate of what it is about, and comes
	// after it began, is not to be cached, whatever it says of leases. It may come
	// more than once, at the same time as others, and for what was never leased.
	// An error has it sent again. It has at most MaxStale inodes and names.
	Invalidate(ctx context.Context, stale []Stale) error
	// Held lists the leases and open files the holder believes to have, for a
	// server that came back without memory of them.
	Held() Held
	// Lost tells that the session ended on the server's side: every lease is gone,
	// and unflushed bytes can not be saved any more (EIO at fsync and close).
	Lost(err error)
}

// Stale is what is not to be cached any more: without Names the whole lease of Ino, that
// is attributes, content and all names. With Names it is these names and the
// attributes of the directory, and the lease on other names stays, unless Drop: then
// all of it goes, as without Names (a directory that others change and nobody looks at).
type Stale struct {
	_     struct{}    `cbor:",toarray"`
	Ino   twofold.Ino // never 0
	Names []string    // as Lookup is given them
	Drop  bool
}

// Held is a session's leases and pins.
type Held struct {
	_      struct{} `cbor:",toarray"`
	Writes []HeldWrite
	Opens  []HeldOpen

	// Promised is what is left of what Promise gave, in bytes. The connection counts
	// it, and it travels beside the rest, which older servers and mounts have without.
	Promised int64 `cbor:"-"`
	// Locks are flock(2) and fcntl(2) locks; likewise.
	Locks []HeldLocks `cbor:"-"`
}

// HeldWrite is a write lease that a mount had before the connection broke.
type HeldWrite struct {
	_     struct{} `cbor:",toarray"`
	Ino   twofold.Ino
	Token uint64
}

// HeldOpen is an open file: Count opens of Ino.
type HeldOpen struct {
	_     struct{} `cbor:",toarray"`
	Ino   twofold.Ino
	Count int
}
