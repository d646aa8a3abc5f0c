package api

import (
	"context"

	"twofold"
	"twofold/metadata"
)

// A mount that is alone in a directory decides there itself, under the directory's write
// lease, and commits what it has done later, many operations at a time and in their order.

// Batches is the part of Files with which a mount makes changes behind its programs.
type Batches interface {
	// AcquireDir asks for the write lease of a directory; it waits while others give
	// theirs, and what they have cached, back. A session that has it already gets the same
	// token. errs.Busy: others are changing the directory, or its bucket, just now: go the
	// ordinary way. errs.NotDir, errs.Stale; errs.Unsupported of a server that gives none.
	// ReleaseWrite gives it back.
	AcquireDir(ctx context.Context, dir twofold.Ino) (DirLease, error)
	// Inos gives the session numbers for new inodes: count of them from first on, at most
	// n, and at least 1. They are for Batch only, in ascending order, and end with the
	// session.
	Inos(ctx context.Context, n int) (first twofold.Ino, count int, err error)
	// Batch commits operations durably, in their order, all or nothing. errs.Fenced, and
	// nothing is done, where one of the leases has ended. An error that is one operation's
	// own has its index in the result's Failed, and nothing is done: errs.Conflict where
	// the tree is not what the operation expects.
	Batch(ctx context.Context, b Batch) (BatchResult, error)
}

// Bounds of a Batch.
const (
	MaxBatchOps    = 512
	MaxBatchDirs   = 2 * MaxBatchOps
	MaxBatchInline = 1 << 20 // bytes of segments of up to twofold.MaxInline that go to the metadata: the others go into the blob
	// MaxIO bounds the bytes of all segments. Names and targets, and some 100 bytes for each
	// operation, have to fit a message of 1 MiB. errs.TooLarge where something is beyond.
)

// MaxInos is the most numbers of one Inos.
const MaxInos = 1 << 16

// DirLease is the write lease of a directory: its holder decides alone about the names in it,
// about its attributes, and about links, ctime and place of the inodes whose home it is
// (Attr.Home). While a session has it, nobody else has a read lease of any of these.
type DirLease struct {
	_     struct{} `cbor:",toarray"`
	Token uint64   // as Lease.Token: larger than any given before for the inode
	// Attr of the directory as of the grant. Leased: the session is a reader of it, all
	// names included, as by Lookup; only then is the lease of use.
	Attr Attr
	// Unlimited: the bucket has no quota. Setting one recalls the lease first.
	Unlimited bool
	// DefaultACL: what is made in the directory inherits one.
	DefaultACL bool
}

// Batch is operations that the mount has answered for.
type Batch struct {
	// Dirs are the write leases of all directories whose names, and home inodes, the
	// operations change. Directories that an operation makes are not among them.
	Dirs []HeldWrite
	Ops  []BatchOp
}

// BatchOp is one operation: exactly one of its pointers is set.
type BatchOp struct {
	// Now is the moment at which the mount did it, in place of the server's: it becomes
	// mtime, ctime and btime as that would.
	Now twofold.Time `cbor:"1,keyasint"`

	Create  *BatchCreate  `cbor:"2,keyasint,omitempty"`
	Write   *BatchWrite   `cbor:"3,keyasint,omitempty"`
	SetAttr *BatchSetAttr `cbor:"4,keyasint,omitempty"`
	Unlink  *BatchName    `cbor:"5,keyasint,omitempty"` // of a non-directory
	Rmdir   *BatchName    `cbor:"6,keyasint,omitempty"`
	Rename  *BatchRename  `cbor:"7,keyasint,omitempty"`
}

// BatchCreate makes an inode with a number of the session (Inos), where no name is.
type BatchCreate struct {
	Dir    twofold.Ino   `cbor:"1,keyasint"`
	Name   string        `cbor:"2,keyasint"` // as the mount shows it; of a kind that maps to itself
	Ino    twofold.Ino   `cbor:"3,keyasint"`
	Type   metadata.Type `cbor:"4,keyasint"`
	Mode   uint32        `cbor:"5,keyasint"` // permission bits after umask
	UID    uint32        `cbor:"6,keyasint,omitempty"`
	GID    uint32        `cbor:"7,keyasint,omitempty"`
	Rdev   uint32        `cbor:"8,keyasint,omitempty"`
	Target string        `cbor:"9,keyasint,omitempty"`
	// Lease: the session gets the write lease of the new inode, file or directory, before
	// anybody else can see it. Its token is in the result.
	Lease bool `cbor:"10,keyasint,omitempty"`
}

// BatchWrite is Write of a file that an operation of the session's batches has made. Bytes
// over what was written before are allowed; holes are what lies in no segment.
type BatchWrite struct {
	Ino      twofold.Ino
	Token    uint64 // of the inode's write lease, else 0: nobody has it, or the session
	Segments []Segment
	Size     int64 // the file's size is at least this afterwards
	Mtime    twofold.Time
	Atime    twofold.Time // is set if not 0
	ETag     string       // MD5 of the whole content where the mount knows it, else empty
	KillPriv bool
}

// BatchSetAttr is SetAttr without a size.
type BatchSetAttr struct {
	Ino  twofold.Ino `cbor:"1,keyasint"`
	Attr SetAttr     `cbor:"2,keyasint"`
}

// BatchName is a name that is removed, and what it has to stand for. The lease of a directory
// that is removed is in Batch.Dirs, too, or the batch has made it.
type BatchName struct {
	Dir  twofold.Ino `cbor:"1,keyasint"`
	Name string      `cbor:"2,keyasint"`
	Ino  twofold.Ino `cbor:"3,keyasint"`
}

// BatchRename moves a name. A directory is one that the batch has made, or it is empty and
// its own lease in Batch.Dirs; so is one that is replaced. There is no exchange; renameat2(2)'s RENAME_NOREPLACE is
// Replaced 0.
type BatchRename struct {
	OldDir   twofold.Ino `cbor:"1,keyasint"`
	OldName  string      `cbor:"2,keyasint"`
	NewDir   twofold.Ino `cbor:"3,keyasint"`
	NewName  string      `cbor:"4,keyasint"`
	Ino      twofold.Ino `cbor:"5,keyasint"`           // what OldName has to stand for
	Replaced twofold.Ino `cbor:"6,keyasint,omitempty"` // and NewName; 0: nothing
}

// BatchResult is what became of a batch.
type BatchResult struct {
	// Attrs are those of every inode that the operations made or changed and of the
	// directories in Batch.Dirs, each once, as they are after the commit; without those that
	// are gone. What is not Leased is not to be cached.
	Attrs []Attr
	// Tokens are the write leases of the inodes made with Lease; of a directory as by
	// AcquireDir. One may be missing where the batch came again behind a restart, and others
	// were faster.
	Tokens []HeldWrite
	// Failed is the index of the operation whose error the call returned; -1 where it is not
	// about one of them. It says nothing without an error.
	Failed int
}
