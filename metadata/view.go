package metadata

import (
	"context"

	"twofold"
)

// Store is the replicated metadata: what the volume layer talks to.
// Implemented by metadata/replica.
type Store interface {
	// Apply commits cmd on a majority of replicas (durably: their raft logs are
	// fsynced) and returns its result. A failed Result comes back as an *errs.Error
	// of its Kind, with the Result beside it. Safe for concurrent use; concurrent
	// commands share fsyncs. While the outcome is unknown (a leader was lost) it
	// retries the same command under the same (Session, Seq) until ctx ends; then
	// the error is errs.UnknownOutcome. errs.Unavailable: certainly not done.
	Apply(ctx context.Context, cmd *Command) (*Result, error)
	// View runs fn on a linearizable snapshot: it sees every command whose Apply
	// had returned, anywhere, before View was called. fn must not keep the View,
	// nor call the Store. errs.Unavailable where leadership can't be confirmed.
	View(ctx context.Context, fn func(View) error) error
}

// View is a read-only snapshot of the state. Not safe for concurrent use; what it
// returns is the caller's to keep.
type View interface {
	Bucket(name twofold.BucketName) (*Bucket, error) // errs.NoBucket
	BucketByID(id twofold.BucketID) (*Bucket, error) // errs.NoBucket
	Buckets() ([]Bucket, error)                      // by name
	Inode(ino twofold.Ino) (*Inode, error)           // errs.Stale where there is none
	Lookup(dir twofold.Ino, n Name) (*Inode, error)  // errs.NotFound; Stale or NotDir for dir
	// Resolve finds what Key names; "dir/" only where the directory is explicit.
	Resolve(b twofold.BucketID, k twofold.Key) (*Inode, error) // errs.NotFound
	// KeyOf is the key (a directory's with "/" behind it) at which ino is, of one
	// of its links; "" for a bucket's root. errs.Stale where it has none.
	KeyOf(ino twofold.Ino) (twofold.Key, error)
	// Extents returns those that overlap [off, off+n), clipped to it, in order, at
	// most max of them (0: all). Gaps are holes.
	Extents(ino twofold.Ino, off, n int64, max int) ([]Extent, error)
	// List walks keys in byte order.
	List(b twofold.BucketID, q ListQuery) (*ListPage, error)
	// ReadDir lists a directory in byte order after the cursor ("" from the start),
	// at most max entries; more tells whether any are left. With attrs each item
	// has its inode.
	ReadDir(dir twofold.Ino, cursor string, max int, attrs bool) (items []DirItem, more bool, err error)
	Upload(id twofold.UploadID) (*Upload, error) // errs.NoUpload
	// Uploads lists by key, then by upload id, after (key, id) exclusively.
	Uploads(b twofold.BucketID, prefix, afterKey twofold.Key, afterID twofold.UploadID, max int) (ups []Upload, more bool, err error)
	Parts(id twofold.UploadID, after, max int) (parts []Part, more bool, err error)
	Session(id twofold.SessionID) (*Session, error) // errs.Fenced where unknown
	Sessions() ([]Session, error)
	// Orphans lists inodes without links that FreeInode has not finished with.
	Orphans(after twofold.Ino, max int) ([]twofold.Ino, error)
	Trash(after twofold.BlobID, max int) ([]TrashBlob, error)
	// Claimed reports whether anything refers to the blob, the trash included.
	Claimed(b twofold.BlobID) (bool, error)
	// Claims lists the inodes that refer to the blob, and their live bytes in it.
	Claims(b twofold.BlobID) (map[twofold.Ino]int64, error)
	// CompactionDue lists files that are marked for compaction, behind one of them, at
	// most max.
	CompactionDue(after twofold.Ino, max int) ([]CompactionMark, error)
	// Usage is how much is in a bucket. counted is false before CountUsage was through
	// once: then nothing is known, and there is no quota.
	Usage(b twofold.BucketID) (u Usage, counted bool, err error)
	// Reserved lists inodes that have a reserve, behind one of them, at most max.
	Reserved(after twofold.Ino, max int) ([]twofold.Ino, error)
	Config(name string) ([]byte, error) // nil where there is none
	Applied() uint64                    // index of the last command in the snapshot

	// Looked has fn called from now on, also more than once, for each directory whose
	// write lease decides about something that the View's answers tell: one in which a
	// name was found, or not found, or listed, or whose attributes were read; and the
	// Home of each inode that was read. It is not called for a directory in which only
	// another directory was found: that one decides, for a holder moves and removes
	// directories only whose own lease it has, and when they are empty.
	Looked(fn func(dir twofold.Ino))
}

// ListQuery asks for a page of keys.
type ListQuery struct {
	Prefix    string
	Delimiter string // any string, or empty
	After     string // exclusive: keys, and common prefixes, > After
	Max       int
}

// ListPage is a page: items in byte order.
type ListPage struct {
	Items []ListItem
	More  bool
}

// ListItem is a key with its inode, or a common prefix (Inode nil).
type ListItem struct {
	Key   string
	Inode *Inode
}

// DirItem is a directory's entry. A directory and an object of one name are two
// items, the object's with Name.File set.
type DirItem struct {
	Name   Name
	Cursor string // pass it to ReadDir to go on behind this item
	Ino    twofold.Ino
	Type   Type
	Inode  *Inode
}
