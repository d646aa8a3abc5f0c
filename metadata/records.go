// Package metadata has the records that the metadata store keeps and the commands
// that change them. It knows names and nothing of bytes: data is an extent that
// points into a blob of the engine, or a few inline bytes.
//
// Records and commands are CBOR (RFC 8949) behind one version byte. Fields are
// numbered: add fields with new numbers, never renumber, never reuse.
package metadata

import (
	"slices"

	"twofold"
)

// Type is what an inode is.
type Type uint8

const (
	TypeFile    Type = 1
	TypeDir     Type = 2
	TypeSymlink Type = 3
	TypeFIFO    Type = 4
	TypeSocket  Type = 5
	TypeChar    Type = 6
	TypeBlock   Type = 7
)

// Bucket is a bucket's record.
type Bucket struct {
	ID      twofold.BucketID   `cbor:"1,keyasint"`
	Name    twofold.BucketName `cbor:"2,keyasint"`
	Root    twofold.Ino        `cbor:"3,keyasint"` // its root directory
	Created twofold.Time       `cbor:"4,keyasint"`
	Region  string             `cbor:"5,keyasint,omitempty"`
	// 10-29 are kept for versioning, object lock, policy, owner.
}

// Usage is how much is in a bucket, and may be.
type Usage struct {
	Used     int64 `cbor:"1,keyasint,omitempty"` // bytes of files, objects and parts of uploads
	Reserved int64 `cbor:"2,keyasint,omitempty"` // bytes that files may grow by, see Inode.Reserve
	Limit    int64 `cbor:"3,keyasint,omitempty"` // bytes, the quota; 0: none
}

// Inode is the identity and the attributes of one object, file, directory or link.
// An object of the S3 view and a file of the mount are the same inode.
type Inode struct {
	Ino    twofold.Ino      `cbor:"1,keyasint"`
	Bucket twofold.BucketID `cbor:"2,keyasint"`
	Type   Type             `cbor:"3,keyasint"`

	Mode    uint32 `cbor:"4,keyasint,omitempty"` // permission bits 07777; meaningful where ModeSet
	UID     uint32 `cbor:"5,keyasint,omitempty"` // meaningful where UIDSet
	GID     uint32 `cbor:"6,keyasint,omitempty"` // meaningful where GIDSet
	ModeSet bool   `cbor:"7,keyasint,omitempty"` // unset: the mount's defaults show
	UIDSet  bool   `cbor:"8,keyasint,omitempty"`
	GIDSet  bool   `cbor:"9,keyasint,omitempty"`
	Nlink   uint32 `cbor:"10,keyasint"` // files: directory entries; directories: 2 + Subdirs
	Rdev    uint32 `cbor:"11,keyasint,omitempty"`

	Size   int64 `cbor:"12,keyasint,omitempty"` // bytes of content
	Stored int64 `cbor:"13,keyasint,omitempty"` // bytes in extents (st_blocks * 512, about)

	Atime twofold.Time `cbor:"14,keyasint,omitempty"`
	Mtime twofold.Time `cbor:"15,keyasint,omitempty"`
	Ctime twofold.Time `cbor:"16,keyasint,omitempty"`
	Btime twofold.Time `cbor:"17,keyasint,omitempty"`

	// Parent and Name are where the inode is (one of the places, with several hard
	// links). Name is a component of an S3 key, see volume/keypath.
	Parent twofold.Ino `cbor:"18,keyasint,omitempty"`
	Name   string      `cbor:"19,keyasint,omitempty"`

	// Directories only.
	Children uint64 `cbor:"20,keyasint,omitempty"` // entries in it
	Subdirs  uint32 `cbor:"21,keyasint,omitempty"` // directories among them
	Explicit bool   `cbor:"22,keyasint,omitempty"` // made by mkdir or by PUT "dir/"; shows as key "dir/"

	Target string `cbor:"23,keyasint,omitempty"` // symlinks

	// Version counts changes of content (data or size). It starts at 1.
	Version  uint64            `cbor:"24,keyasint,omitempty"`
	ETag     string            `cbor:"25,keyasint,omitempty"` // without quotes
	Headers  map[string]string `cbor:"26,keyasint,omitempty"` // Content-Type and the like, canonical names
	UserMeta map[string]string `cbor:"27,keyasint,omitempty"` // lower-case names without x-amz-meta-
	Xattrs   map[string][]byte `cbor:"28,keyasint,omitempty"` // what UserMeta and Headers cannot carry, full names
	Checksum *Checksum         `cbor:"29,keyasint,omitempty"`
	Class    string            `cbor:"30,keyasint,omitempty"` // storage class; empty is STANDARD
	Parts    []int64           `cbor:"31,keyasint,omitempty"` // sizes of the parts of a multipart upload

	// Unnamed: made by Tmpfile and never linked. Unlike an inode that lost its last
	// name it may be given one.
	Unnamed bool `cbor:"32,keyasint,omitempty"`

	// POSIX ACLs as valid attributes of internal/acl; nil: none. Mode is always in
	// step with ACL, its group's bits being the mask.
	ACL        []byte `cbor:"33,keyasint,omitempty"` // never one that Mode says all of
	DefaultACL []byte `cbor:"34,keyasint,omitempty"` // directories only: what is made in them inherits it
	// Reserve is the size up to which the file may grow without being refused by the
	// bucket's quota: it counts as that much at least. 0: none is reserved.
	Reserve int64 `cbor:"35,keyasint,omitempty"`
	// Charged: it grew after it lost its last name, so that it counts.
	Charged bool `cbor:"36,keyasint,omitempty"`
	// 40-59 are kept for object versions, delete markers, tags, retention, owner.
}

// Home is the directory whose write lease decides about the inode's links, ctime and place:
// the parent of what has one name and is no directory. 0: no directory's does.
func (i *Inode) Home() twofold.Ino {
	if i.Type == TypeDir || i.Nlink != 1 {
		return 0
	}
	return i.Parent
}

// Checksum is a flexible checksum of S3.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
type Checksum struct {
	Algorithm string `cbor:"1,keyasint"` // CRC32, CRC32C, CRC64NVME, SHA1, SHA256
	Value     string `cbor:"2,keyasint"` // base64, "-n" behind it for a composite one
	Type      string `cbor:"3,keyasint"` // FULL_OBJECT or COMPOSITE
}

// Extent maps Len bytes of an object at Off to a blob, or to inline Data
// (len(Data) == Len). Bytes in no extent are zeros. An inode's extents never overlap.
type Extent struct {
	Off     int64         `cbor:"1,keyasint,omitempty"`
	Len     int64         `cbor:"2,keyasint"`
	Blob    *twofold.Blob `cbor:"3,keyasint,omitempty"`
	BlobOff int64         `cbor:"4,keyasint,omitempty"`
	Data    []byte        `cbor:"5,keyasint,omitempty"`
}

// Entry is a directory entry's value.
type Entry struct {
	Ino  twofold.Ino `cbor:"1,keyasint"`
	Type Type        `cbor:"2,keyasint"`
}

// Name is a name in a directory: a component of an S3 key. Where both an object
// "a" and a directory "a/" exist the directory has the plain name; File asks for
// the object under it.
type Name struct {
	Comp string `cbor:"1,keyasint"`
	File bool   `cbor:"2,keyasint,omitempty"`
}

// Upload is a multipart upload in progress. It is bound to the bucket's id and the
// key's string; the key is resolved at Complete.
type Upload struct {
	ID       twofold.UploadID  `cbor:"1,keyasint"`
	Bucket   twofold.BucketID  `cbor:"2,keyasint"`
	Key      twofold.Key       `cbor:"3,keyasint"`
	Created  twofold.Time      `cbor:"4,keyasint"`
	Headers  map[string]string `cbor:"5,keyasint,omitempty"`
	UserMeta map[string]string `cbor:"6,keyasint,omitempty"`
	Class    string            `cbor:"7,keyasint,omitempty"`
	Posix    *PosixAttrs       `cbor:"8,keyasint,omitempty"`
	Algo     string            `cbor:"9,keyasint,omitempty"`  // checksum algorithm asked for
	AlgoType string            `cbor:"10,keyasint,omitempty"` // FULL_OBJECT or COMPOSITE
}

// Part is an uploaded part.
type Part struct {
	Number   int          `cbor:"1,keyasint"` // 1-10000
	Size     int64        `cbor:"2,keyasint"`
	ETag     string       `cbor:"3,keyasint"`
	Mtime    twofold.Time `cbor:"4,keyasint"`
	Checksum *Checksum    `cbor:"5,keyasint,omitempty"`
	Extents  []Extent     `cbor:"6,keyasint,omitempty"` // offsets within the part
}

// SessionKind says what a session is.
type SessionKind uint8

const (
	SessionServer SessionKind = 1 // a server process: it writes blobs
	SessionMount  SessionKind = 2 // a mount: it holds leases and open files
)

// Session is a writer or a mount that the store knows.
type Session struct {
	ID      twofold.SessionID `cbor:"1,keyasint"`
	Kind    SessionKind       `cbor:"2,keyasint"`
	Node    string            `cbor:"3,keyasint,omitempty"` // host name and pid, for people
	Secret  []byte            `cbor:"4,keyasint,omitempty"` // what a resuming mount must prove to know
	Created twofold.Time      `cbor:"5,keyasint"`
	Ended   bool              `cbor:"6,keyasint,omitempty"`
	Nonce   twofold.UUID      `cbor:"7,keyasint"` // of the BeginSession that made it

	// Of a mount, what was taken from it because it was silent (Revoke): tokens of write
	// leases, in order, and all up to NoTokens; and inodes of which it had locks, in order, or,
	// where they were too many, all that it has locked.
	Revoked  []uint64      `cbor:"8,keyasint,omitempty"`
	NoTokens uint64        `cbor:"9,keyasint,omitempty"`
	Unlocked []twofold.Ino `cbor:"10,keyasint,omitempty"`
	NoLocks  bool          `cbor:"11,keyasint,omitempty"`
}

// Lost reports whether the write lease of a token was taken from the session.
func (s *Session) Lost(token uint64) bool {
	_, found := slices.BinarySearch(s.Revoked, token)
	return found || token <= s.NoTokens
}

// LostLocks reports whether locks of an inode were taken from the session.
func (s *Session) LostLocks(ino twofold.Ino) bool {
	_, found := slices.BinarySearch(s.Unlocked, ino)
	return found || s.NoLocks
}

// TrashBlob is a blob that nothing refers to any more. Its shards go when no
// reader has it pinned.
type TrashBlob struct {
	Blob  twofold.Blob `cbor:"1,keyasint"`
	Since twofold.Time `cbor:"2,keyasint"`
}
