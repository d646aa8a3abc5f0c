package metadata

import (
	"twofold"
	"twofold/internal/errs"
)

// CommandVersion is written into every command. A state machine refuses versions
// it does not know, loudly, rather than diverge from its peers.
const CommandVersion = 1

// guardedVersion is that of commands with a Guard. Those without stay what programs of
// before know.
const guardedVersion = 2

// Op is a command's operation. Numbers are on disk: append, never renumber.
type Op uint16

const (
	OpBeginSession   Op = 1
	OpEndSession     Op = 2
	OpCreateBucket   Op = 3
	OpDeleteBucket   Op = 4
	OpPutObject      Op = 5
	OpDeleteObject   Op = 6
	OpCopyObject     Op = 7
	OpCreateUpload   Op = 8
	OpPutPart        Op = 9
	OpCompleteUpload Op = 10
	OpAbortUpload    Op = 11
	OpCreate         Op = 12
	OpLink           Op = 13
	OpUnlink         Op = 14
	OpRmdir          Op = 15
	OpRename         Op = 16
	OpSetAttr        Op = 17
	OpWrite          Op = 18
	OpSetXattrs      Op = 19
	OpFreeInode      Op = 20
	OpTrashDone      Op = 21
	OpReplaceExtents Op = 22
	OpSetConfig      Op = 23
	OpNop            Op = 24
	OpForgetSession  Op = 25
	OpCompacted      Op = 26
	OpTmpfile        Op = 27
	OpCopyRange      Op = 28
	OpSetACL         Op = 29
	OpCountUsage     Op = 30
	OpSetQuota       Op = 31
	OpReserve        Op = 32
	OpReserveInos    Op = 33
	OpBatch          Op = 34
	OpFreeInodes     Op = 35
	OpRevoke         Op = 36
)

// Command is one entry of the raft log. Everything that is not a function of the
// state (time, random ids, request data) is in it, so that every replica computes
// the same.
//
// Session, Seq: the result is kept under (Session, Seq) and a command that comes
// again gets the kept result and changes nothing. Acked: results with Seq < Acked
// will not be asked for again. A command of an ended or unknown session fails with
// errs.Fenced (BeginSession has Session 0 and is the exception: it is idempotent by
// its Nonce).
type Command struct {
	_       struct{} `cbor:",toarray"`
	Op      Op
	Session twofold.SessionID
	Seq     uint64
	Acked   uint64
	Writer  twofold.SessionID // server session that wrote the blobs in Body; must not have ended; 0: no blobs
	Now     twofold.Time
	Body    any // one of the structs below, by Op

	// Guard, where not nil, is all that the command may change visibly of what there was
	// before: whoever caches any of it was told. A command that would change more
	// (the tree is not what its sender saw) has no effect, and its result, which is not
	// kept, says in Unguarded what is missing. New inodes need no guard. Nil: not checked.
	Guard []Target
}

// Target is what a command changes visibly: the attributes and content of an inode and,
// of a directory, the entries of Names; without Names any of its entries.
type Target struct {
	_     struct{} `cbor:",toarray"`
	Ino   twofold.Ino
	Names []string // components; a directory and an object of one name are one
}

// Result is what a command returns. Kind is meaningful where Failed.
type Result struct {
	_      struct{} `cbor:",toarray"`
	Failed bool
	Kind   errs.Kind
	Msg    string
	Inode  *Inode // the inode made, changed or removed (after the change)
	Parent *Inode // its directory, where that changed
	Bucket *Bucket
	ID     uint64 // a session's id, or a count
	More   bool   // the command did a bounded part of its work: send it again

	// Unguarded is what the command would change and its Guard does not have, by inode,
	// names in order; Failed with errs.Conflict then, and nothing changed. It is never
	// kept: the same command, under the same number and a better guard, runs.
	Unguarded []Target `cbor:"-"`
}

// Conditions of S3 requests, evaluated when the command is applied. Empty: none.
// ETags without quotes; "*" as S3 has it.
type Conditions struct {
	IfMatch     string `cbor:"1,keyasint,omitempty"`
	IfNoneMatch string `cbor:"2,keyasint,omitempty"`
}

// PosixAttrs are attributes given on a PUT (x-amz-meta-mode, -uid, -gid, -mtime).
type PosixAttrs struct {
	Mode  *uint32       `cbor:"1,keyasint,omitempty"` // 0777
	UID   *uint32       `cbor:"2,keyasint,omitempty"`
	GID   *uint32       `cbor:"3,keyasint,omitempty"`
	Mtime *twofold.Time `cbor:"4,keyasint,omitempty"`
}

// Content is what a PUT, a copy or a Complete gives an object.
type Content struct {
	Size     int64             `cbor:"1,keyasint"`
	ETag     string            `cbor:"2,keyasint"`
	Headers  map[string]string `cbor:"3,keyasint,omitempty"`
	UserMeta map[string]string `cbor:"4,keyasint,omitempty"`
	Checksum *Checksum         `cbor:"5,keyasint,omitempty"`
	Class    string            `cbor:"6,keyasint,omitempty"`
	Posix    *PosixAttrs       `cbor:"7,keyasint,omitempty"`
	Parts    []int64           `cbor:"8,keyasint,omitempty"`
}

type (
	// BeginSession returns the new session's id in Result.ID. With a Nonce seen
	// before it returns the same id again.
	BeginSession struct {
		Kind   SessionKind  `cbor:"1,keyasint"`
		Node   string       `cbor:"2,keyasint"`
		Secret []byte       `cbor:"3,keyasint,omitempty"`
		Nonce  twofold.UUID `cbor:"4,keyasint"`
	}
	// EndSession ends session ID: from now on its commands, and those that name it
	// as their Writer, fail with errs.Fenced. Idempotent.
	EndSession struct {
		ID twofold.SessionID `cbor:"1,keyasint"`
	}
	// ForgetSession removes an ended session's record and kept results (bounded,
	// More), once nothing of it is left.
	ForgetSession struct {
		ID twofold.SessionID `cbor:"1,keyasint"`
	}
	// CreateBucket returns Result.Bucket and its root in Inode. errs.BucketExists.
	CreateBucket struct {
		Name   twofold.BucketName `cbor:"1,keyasint"`
		Region string             `cbor:"2,keyasint,omitempty"`
		Posix  *PosixAttrs        `cbor:"3,keyasint,omitempty"`
	}
	// DeleteBucket: errs.NoBucket; errs.BucketNotEmpty while its root has entries.
	// Uploads in progress are aborted (bounded, More).
	DeleteBucket struct {
		Name twofold.BucketName `cbor:"1,keyasint"`
	}
	// PutObject makes Key a new inode with the content given: like rename(2) of a
	// new file over it. Missing directories are made implied. Mode, owner, group and
	// ACL of a replaced file are kept unless Content.Posix sets them; a new object
	// inherits its directory's default ACL, as if made with mode 0666, and implied
	// directories with 0777. The replaced inode loses a link. A Key ending in "/" makes the directory explicit and
	// gives it the content. Result: Inode. errs: NoBucket, Precondition, Fenced.
	PutObject struct {
		Bucket  twofold.BucketID `cbor:"1,keyasint"`
		Key     twofold.Key      `cbor:"2,keyasint"`
		Content Content          `cbor:"3,keyasint"`
		Extents []Extent         `cbor:"4,keyasint,omitempty"`
		Cond    Conditions       `cbor:"5,keyasint,omitempty"`
	}
	// DeleteObject removes Key's entry; implied directories that it leaves empty go
	// too. Deleting "dir/" makes the directory implied, and removes it if it is
	// empty. A key that is not there is a success without Inode (S3); with
	// Cond.IfMatch it is errs.Precondition... see the S3 API page of DeleteObject.
	DeleteObject struct {
		Bucket twofold.BucketID `cbor:"1,keyasint"`
		Key    twofold.Key      `cbor:"2,keyasint"`
		Cond   Conditions       `cbor:"3,keyasint,omitempty"`
	}
	// CopyObject makes Key an object that shares Src's blobs. Src must still have
	// SrcVersion and, with SrcBucket set, SrcCtime, and SrcKey must still name it, else
	// errs.Conflict (read it again and retry): a PUT over SrcKey, its rename or its
	// deletion leave the inode as it was. Onto itself (the entry's inode is Src) only
	// the metadata changes and the inode stays.
	// Over 20,000 extents: errs.TooLarge (the caller copies the bytes).
	CopyObject struct {
		Src        twofold.Ino      `cbor:"1,keyasint"`
		SrcVersion uint64           `cbor:"2,keyasint"`
		Bucket     twofold.BucketID `cbor:"3,keyasint"`
		Key        twofold.Key      `cbor:"4,keyasint"`
		Content    Content          `cbor:"5,keyasint"` // Size is ignored: the source's
		Cond       Conditions       `cbor:"6,keyasint,omitempty"`
		SrcBucket  twofold.BucketID `cbor:"7,keyasint,omitempty"`
		SrcKey     twofold.Key      `cbor:"8,keyasint,omitempty"`
		SrcCtime   twofold.Time     `cbor:"9,keyasint,omitempty"`
		Crowd      *Crowd           `cbor:"10,keyasint,omitempty"`
	}
	// CreateUpload stores the upload. errs.NoBucket.
	CreateUpload struct {
		Upload Upload `cbor:"1,keyasint"`
	}
	// PutPart stores or replaces a part. Its extents are either blobs of Writer
	// or, with Src set, are taken from inode Src (at SrcVersion) at
	// [SrcOff, SrcOff+Part.Size) (UploadPartCopy). errs.NoUpload, errs.Conflict.
	PutPart struct {
		Upload     twofold.UploadID `cbor:"1,keyasint"`
		Part       Part             `cbor:"2,keyasint"`
		Src        twofold.Ino      `cbor:"3,keyasint,omitempty"`
		SrcVersion uint64           `cbor:"4,keyasint,omitempty"`
		SrcOff     int64            `cbor:"5,keyasint,omitempty"`
	}
	// CompleteUpload makes the listed parts the object's content, in one command.
	// Parts carry number and ETag; sizes and the rest come from the store. Content
	// brings ETag and Checksum (Size and Parts are computed). Unlisted parts are
	// dropped. errs: NoUpload, InvalidPart, InvalidPartOrder, PartTooSmall,
	// Precondition, NoBucket.
	CompleteUpload struct {
		Upload  twofold.UploadID `cbor:"1,keyasint"`
		Parts   []PartRef        `cbor:"2,keyasint"`
		Content Content          `cbor:"3,keyasint"`
		Cond    Conditions       `cbor:"4,keyasint,omitempty"`
		Crowd   *Crowd           `cbor:"5,keyasint,omitempty"`
	}
	// PartRef names a part in CompleteUpload.
	PartRef struct {
		_      struct{} `cbor:",toarray"`
		Number int
		ETag   string
	}
	// AbortUpload drops the upload and its parts. errs.NoUpload.
	AbortUpload struct {
		Upload twofold.UploadID `cbor:"1,keyasint"`
	}

	// Create makes a file, directory, symlink or special file: open(O_CREAT),
	// mkdir(2), symlink(2), mknod(2). Without Exclusive an existing regular file is
	// returned as it is (Result.ID 1 when it was there, 0 when made). Parents
	// become explicit, their mtime and ctime move. Directories made here are
	// explicit. A setgid parent gives its group (and the bit, to directories). A
	// parent's default ACL is inherited, by all but symlinks; then Asked, the
	// permission bits that no umask was applied to, counts in Mode's place.
	// errs: Stale (no parent), NotDir, Exists, IsDir.
	Create struct {
		Parent    twofold.Ino `cbor:"1,keyasint"`
		Name      Name        `cbor:"2,keyasint"`
		Type      Type        `cbor:"3,keyasint"`
		Mode      uint32      `cbor:"4,keyasint"`
		UID       uint32      `cbor:"5,keyasint"`
		GID       uint32      `cbor:"6,keyasint"`
		Rdev      uint32      `cbor:"7,keyasint,omitempty"`
		Target    string      `cbor:"8,keyasint,omitempty"`
		Exclusive bool        `cbor:"9,keyasint,omitempty"`
		Asked     uint32      `cbor:"10,keyasint,omitempty"`
	}
	// Link is link(2): errs NotFound (also of an inode that lost its last name),
	// Exists, Permission (directories), CrossBucket, TooManyLinks (65,000).
	Link struct {
		Ino    twofold.Ino `cbor:"1,keyasint"`
		Parent twofold.Ino `cbor:"2,keyasint"`
		Name   Name        `cbor:"3,keyasint"`
	}
	// Unlink is unlink(2). The inode stays, unlinked, until FreeInode.
	Unlink struct {
		Parent twofold.Ino `cbor:"1,keyasint"`
		Name   Name        `cbor:"2,keyasint"`
	}
	// Rmdir is rmdir(2): errs NotEmpty, NotDir, NotFound.
	Rmdir struct {
		Parent twofold.Ino `cbor:"1,keyasint"`
		Name   Name        `cbor:"2,keyasint"`
	}
	// Rename is renameat2(2): one command, whatever is below. Flags as in Linux:
	// 1 RENAME_NOREPLACE, 2 RENAME_EXCHANGE. errs: NotFound, Exists, NotEmpty,
	// IsDir, NotDir, Loop (into itself), CrossBucket. Result.Inode is the moved
	// one; Result.Parent the new directory.
	Rename struct {
		OldParent twofold.Ino `cbor:"1,keyasint"`
		OldName   Name        `cbor:"2,keyasint"`
		NewParent twofold.Ino `cbor:"3,keyasint"`
		NewName   Name        `cbor:"4,keyasint"`
		Flags     uint32      `cbor:"5,keyasint,omitempty"`
	}
	// SetAttr is chmod, chown, utimensat and truncate. Nil fields stay. ETag comes
	// with Size where it is known; else an opaque one is made. Shrinking a file by
	// more than 10,000 extents is done in parts, from its end (More). Without Mode, a
	// change of owner or group clears set-id bits (not of directories), and so does
	// KillPriv.
	SetAttr struct {
		Ino   twofold.Ino   `cbor:"1,keyasint"`
		Mode  *uint32       `cbor:"2,keyasint,omitempty"`
		UID   *uint32       `cbor:"3,keyasint,omitempty"`
		GID   *uint32       `cbor:"4,keyasint,omitempty"`
		Size  *int64        `cbor:"5,keyasint,omitempty"`
		Atime *twofold.Time `cbor:"6,keyasint,omitempty"`
		Mtime *twofold.Time `cbor:"7,keyasint,omitempty"`
		ETag  string        `cbor:"8,keyasint,omitempty"`

		KillPriv bool `cbor:"9,keyasint,omitempty"`
	}
	// Write puts extents over an inode's content: what they cover is replaced, the
	// size grows to Size if that is larger. Punch lists ranges to become holes
	// first. Set-id bits are cleared where KillPriv. ETag where it is known (the
	// whole content's MD5), else empty and an opaque one is made.
	// errs: Stale, IsDir, Fenced.
	Write struct {
		Ino      twofold.Ino  `cbor:"1,keyasint"`
		Extents  []Extent     `cbor:"2,keyasint,omitempty"`
		Punch    []Range      `cbor:"3,keyasint,omitempty"`
		Size     int64        `cbor:"4,keyasint,omitempty"`
		Mtime    twofold.Time `cbor:"5,keyasint,omitempty"`
		ETag     string       `cbor:"6,keyasint,omitempty"`
		KillPriv bool         `cbor:"7,keyasint,omitempty"`
		// Unbounded: let in before the bucket's quota was set, which does not refuse it.
		Unbounded bool `cbor:"8,keyasint,omitempty"`
		// Atime is set where it is not 0: by a utimensat(2) that the bytes were flushed with.
		Atime twofold.Time `cbor:"9,keyasint,omitempty"`
		Crowd *Crowd       `cbor:"10,keyasint,omitempty"`
	}
	// Tmpfile is open(2) with O_TMPFILE: a regular file in Parent's bucket without a
	// name, which Link may give it one. It waits for FreeInode like an unlinked one.
	// A setgid parent gives its group, a default ACL is inherited as by Create.
	// errs: Stale, NotFound (a removed Parent), NotDir.
	Tmpfile struct {
		Parent twofold.Ino `cbor:"1,keyasint"`
		Mode   uint32      `cbor:"2,keyasint"`
		UID    uint32      `cbor:"3,keyasint"`
		GID    uint32      `cbor:"4,keyasint"`
		Asked  uint32      `cbor:"5,keyasint,omitempty"`
	}
	// CopyRange is copy_file_range(2): Dst's content in [DstOff, DstOff+n) becomes
	// Src's in [SrcOff, SrcOff+n), holes as holes, by reference to the same blobs.
	// Result.ID is n: less than Len at the source's end, and where that would be too
	// many extents for one command. Set-id bits are cleared where KillPriv.
	// errs: Stale, IsDir, Invalid (overlapping ranges of one inode), TooLarge.
	CopyRange struct {
		Src      twofold.Ino  `cbor:"1,keyasint"`
		SrcOff   int64        `cbor:"2,keyasint,omitempty"`
		Dst      twofold.Ino  `cbor:"3,keyasint"`
		DstOff   int64        `cbor:"4,keyasint,omitempty"`
		Len      int64        `cbor:"5,keyasint"`
		Mtime    twofold.Time `cbor:"6,keyasint,omitempty"`
		KillPriv bool         `cbor:"7,keyasint,omitempty"`
		Crowd    *Crowd       `cbor:"8,keyasint,omitempty"`
	}
	// Crowd has a file marked for compaction where the command gives it so many extents
	// within so many bytes. Without one, as commands were before, only what adds to a
	// file's content marks it, whatever it adds.
	Crowd struct {
		_       struct{} `cbor:",toarray"`
		Extents int
		Bytes   int64
	}
	// Range is [Off, Off+Len).
	Range struct {
		_   struct{} `cbor:",toarray"`
		Off int64
		Len int64
	}
	// SetXattrs sets and removes extended attributes. The volume has mapped
	// user.k to UserMeta and Headers already. Flags: 1 XATTR_CREATE (errs.Exists),
	// 2 XATTR_REPLACE (errs.NoAttr), for the single attribute a call changes.
	SetXattrs struct {
		Ino    twofold.Ino `cbor:"1,keyasint"`
		Space  XattrSpace  `cbor:"2,keyasint"`
		Name   string      `cbor:"3,keyasint"`
		Value  []byte      `cbor:"4,keyasint,omitempty"`
		Remove bool        `cbor:"5,keyasint,omitempty"` // errs.NoAttr where there is none
		Flags  uint32      `cbor:"6,keyasint,omitempty"`
	}
	// SetACL sets the access ACL, or with Default a directory's default ACL, to an
	// attribute's value (internal/acl). Without Value, or with no entries in it, it is
	// removed, whether there was one or not. An access ACL changes the mode with it, and is not kept where the mode
	// says it all; KillSetGID clears the set-group-ID bit, for callers who are not in
	// the group.
	// errs: Stale, Unsupported (symlinks), Access (a default ACL of no directory),
	// Invalid, TooLarge, NoSpace (with all attributes).
	SetACL struct {
		Ino        twofold.Ino `cbor:"1,keyasint"`
		Default    bool        `cbor:"2,keyasint,omitempty"`
		Value      []byte      `cbor:"3,keyasint,omitempty"`
		KillSetGID bool        `cbor:"4,keyasint,omitempty"`
	}
	// FreeInode drops up to Max extents of an inode without links, and then the
	// inode (More until it is gone). errs.Busy where it has links. Idempotent.
	FreeInode struct {
		Ino twofold.Ino `cbor:"1,keyasint"`
		Max int         `cbor:"2,keyasint"`
	}
	// FreeInodes is FreeInode of each of Inos, at most 1,000, that has no links; those that
	// have some, or are gone, are left as they are. Max is for all together. errs.TooLarge.
	FreeInodes struct {
		Inos []twofold.Ino `cbor:"1,keyasint"`
		Max  int           `cbor:"2,keyasint"`
	}
	// TrashDone forgets blobs whose shards are gone.
	TrashDone struct {
		Blobs []twofold.BlobID `cbor:"1,keyasint"`
	}
	// ReplaceExtents puts Extents in the place of what an inode has in [Off,
	// Off+Len), if the inode still has Version. If it has another one, only what is
	// still as Was says is replaced; where that is nothing: errs.Conflict. The content
	// is the same bytes (compaction, a move between pools): no attribute changes.
	ReplaceExtents struct {
		Ino     twofold.Ino `cbor:"1,keyasint"`
		Version uint64      `cbor:"2,keyasint"`
		Off     int64       `cbor:"3,keyasint"`
		Len     int64       `cbor:"4,keyasint"`
		Extents []Extent    `cbor:"5,keyasint,omitempty"`
		// Was is what was in [Off, Off+Len) at Version, in order and disjoint.
		Was []ExtentSource `cbor:"6,keyasint,omitempty"`
	}
	// ExtentSource says where an extent's bytes come from, so that a later state can
	// be compared with it: an extent of the same source has the same bytes, as blobs
	// never change.
	ExtentSource struct {
		Off     int64           `cbor:"1,keyasint,omitempty"`
		Len     int64           `cbor:"2,keyasint"`
		Blob    *twofold.BlobID `cbor:"3,keyasint,omitempty"`
		BlobOff int64           `cbor:"4,keyasint,omitempty"`
		Sum     []byte          `cbor:"5,keyasint,omitempty"` // SHA-256 of inline bytes
	}
	// Compacted takes the marks of files that compaction has looked at (see
	// CompactionMark). A file that got another mark meanwhile keeps it.
	Compacted struct {
		Marks []CompactionMark `cbor:"1,keyasint"`
	}
	// CountUsage counts what is in each bucket, up to Max inodes or parts in one
	// command (More until all is counted; then the commands keep the counts).
	CountUsage struct {
		Max int `cbor:"1,keyasint"`
	}
	// SetQuota limits what is in a bucket to so many bytes; 0 ends that. Whatever adds
	// to a bucket then fails with errs.Quota where more would be in it; what is in it
	// already stays. errs: NoBucket; Busy while CountUsage has more to do.
	SetQuota struct {
		Bucket twofold.BucketName `cbor:"1,keyasint"`
		Limit  int64              `cbor:"2,keyasint,omitempty"`
	}
	// Reserve lets a file grow to Size without being refused by the quota, and to up
	// to Slack more where much is left. Result.ID is the size that it may grow to; a very
	// large one where there is no quota, and where Size is 0, which gives the reserve
	// back. errs: Stale, Quota, Invalid (not a regular file).
	Reserve struct {
		Ino   twofold.Ino `cbor:"1,keyasint"`
		Size  int64       `cbor:"2,keyasint,omitempty"`
		Slack int64       `cbor:"3,keyasint,omitempty"`
	}
	// ReserveInos gives a session numbers for the inodes that its Batches make: N of
	// them, from Result.ID on. They end with the session, used or not: no number is
	// ever given twice. errs: Fenced (the session has ended), Invalid (N), Busy (it has
	// many ranges that it does not use).
	ReserveInos struct {
		Session twofold.SessionID `cbor:"1,keyasint"`
		N       uint64            `cbor:"2,keyasint"`
	}
	// Revoke notes in a mount's session what was taken from the mount for silence, before
	// anybody else is given it: the server that the mount resumes with next does not
	// believe it. Tokens are of write leases, Locks inodes of which it had locks; Closed are
	// inodes that it has closed since, so that locks of them are new ones. A session that has
	// ended, or is unknown, holds nothing: nothing is noted then, and it is no failure.
	Revoke struct {
		ID     twofold.SessionID `cbor:"1,keyasint"`
		Tokens []uint64          `cbor:"2,keyasint,omitempty"`
		Locks  []twofold.Ino     `cbor:"3,keyasint,omitempty"`
		Closed []twofold.Ino     `cbor:"4,keyasint,omitempty"`
	}
	// Batch is what a mount, alone in some directories, has done there: the operations in
	// their order, all or nothing, each as a command of its own would do it at its Now. It
	// has no guard: what it changes nobody caches. Where an operation finds the tree other than
	// it expects, or is refused for any reason but the ones that follow, it is
	// errs.Conflict; Result.ID is then the operation's index + 1 (0: it is about none). errs:
	// Fenced (the session has ended), TooLarge, Quota. The body has a codec of its
	// own (codec_batch.go).
	Batch struct {
		Session twofold.SessionID // whose numbers Creates take
		Ops     []BatchOp
	}
	// BatchOp is one of them: Body is a *Create, *Write, *SetAttr (without Size), *Unlink,
	// *Rmdir or *Rename (without Flags). Ino is what the name stands for; of a Create the
	// number that the inode gets, which is larger than any that was taken before of its
	// range. A directory that is moved is empty, or made by the batch. Replaced is what a Rename's new name stands for (0: nothing); a Create's name
	// stands for nothing.
	BatchOp struct {
		Now      twofold.Time
		Ino      twofold.Ino
		Replaced twofold.Ino
		Body     any
	}
	// SetConfig stores a named cluster-wide value; a nil Value removes it.
	SetConfig struct {
		Name  string `cbor:"1,keyasint"`
		Value []byte `cbor:"2,keyasint,omitempty"`
	}
	// Nop changes nothing.
	Nop struct{}
)

// CompactionMark says that compaction should look at a file. Session and Seq name the
// command that made the mark.
type CompactionMark struct {
	Ino     twofold.Ino       `cbor:"1,keyasint"`
	Session twofold.SessionID `cbor:"2,keyasint"`
	Seq     uint64            `cbor:"3,keyasint"`
}

// XattrSpace says which of an inode's maps an attribute lives in.
type XattrSpace uint8

const (
	SpaceXattr    XattrSpace = 0 // Inode.Xattrs, by full name
	SpaceUserMeta XattrSpace = 1 // Inode.UserMeta, by lower-case name
	SpaceHeader   XattrSpace = 2 // Inode.Headers, by canonical header name
)
