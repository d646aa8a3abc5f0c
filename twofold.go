// Package twofold is the vocabulary of the store: the identifiers that every
// layer shares, and nothing else. It imports no other package of the module.
//
// One store, two views: an object of the S3 API and a file of the mount are the
// same inode, reached through the same directory entries.
package twofold

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// UUID is 16 random bytes that identify a cluster, a drive or an upload.
type UUID [16]byte

// NewUUID returns a random (version 4) UUID, RFC 9562 section 5.4.
func NewUUID() UUID {
	var u UUID
	rand.Read(u[:]) // never fails, see crypto/rand
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// String is the canonical 8-4-4-4-12 form, RFC 9562 section 4.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// IsZero reports whether u was never set.
func (u UUID) IsZero() bool { return u == UUID{} }

// ParseUUID reads the canonical form, and nothing else.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("%q is not a UUID", s)
	}
	if _, err := hex.Decode(u[:], []byte(s[0:8]+s[9:13]+s[14:18]+s[19:23]+s[24:36])); err != nil {
		return u, fmt.Errorf("%q is not a UUID", s)
	}
	return u, nil
}

// MarshalText implements encoding.TextMarshaler.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(b []byte) (err error) {
	*u, err = ParseUUID(string(b))
	return err
}

// Distinct types for distinct things, so that the compiler keeps them apart.
type (
	// ClusterID names a store; every drive's format file carries it.
	ClusterID = UUID
	// DriveID names a drive for life, and the metadata replica on it.
	DriveID = UUID
	// UploadID names a multipart upload.
	UploadID = UUID

	// BucketName is a bucket's name as S3 clients write it.
	BucketName string
	// Key is an object's key as S3 clients write it: UTF-8, at most 1,024 bytes.
	Key string

	// BucketID names a bucket for life. It is never reused.
	BucketID uint64
	// Ino names an inode for life. It is never reused; the top 16 bits are kept
	// for the number of the metadata group that allocated it.
	Ino uint64
	// SessionID names a writer (a server process) or a mount. Never reused.
	SessionID uint64
)

// RootIno is the directory of all buckets in a mount (FUSE_ROOT_ID). It is not
// stored; the first stored inode is FirstIno.
const (
	RootIno  Ino = 1
	FirstIno Ino = 1024
)

// SetID names an erasure set: its pool's and its own position.
type SetID struct {
	_    struct{} `cbor:",toarray"`
	Pool uint16
	Set  uint16
}

// String is the form that logs use: pool/set, counted from 1.
func (s SetID) String() string { return fmt.Sprintf("%d/%d", s.Pool+1, s.Set+1) }

// BlobID names an immutable run of bytes. Its first 8 bytes are the writer's
// SessionID and its last 8 a counter of that session (both big-endian): an id is
// never used twice, and what an ended session left behind can be told by name.
type BlobID [16]byte

// MakeBlobID returns the n-th blob of a session.
func MakeBlobID(s SessionID, n uint64) BlobID {
	var b BlobID
	binary.BigEndian.PutUint64(b[:8], uint64(s))
	binary.BigEndian.PutUint64(b[8:], n)
	return b
}

// Session is the writer that made the blob.
func (b BlobID) Session() SessionID { return SessionID(binary.BigEndian.Uint64(b[:8])) }

// String is 32 lower-case hexadecimal digits.
func (b BlobID) String() string { return hex.EncodeToString(b[:]) }

// ParseBlobID reads what String wrote.
func ParseBlobID(s string) (BlobID, error) {
	var b BlobID
	if len(s) != 32 {
		return b, fmt.Errorf("%q is not a blob id", s)
	}
	if _, err := hex.Decode(b[:], []byte(s)); err != nil {
		return b, fmt.Errorf("%q is not a blob id", s)
	}
	return b, nil
}

// Blob is everything needed to read a blob back: it travels in extents.
type Blob struct {
	_      struct{} `cbor:",toarray"`
	ID     BlobID
	Set    SetID
	Data   uint8 // data shards, 1-16
	Parity uint8 // parity shards, 0-8
	Size   int64 // bytes of content
}

// Time is a moment in nanoseconds since the Unix epoch, UTC. Zero means unset.
type Time int64

// Now returns the wall clock's time.
func Now() Time { return Time(time.Now().UnixNano()) }

// TimeOf converts a time.Time.
func TimeOf(t time.Time) Time { return Time(t.UnixNano()) }

// Time converts back to a time.Time in UTC.
func (t Time) Time() time.Time { return time.Unix(0, int64(t)).UTC() }

// Limits that both views share.
const (
	MaxKeyLen    = 1024             // bytes of an S3 key, as AWS documents
	MaxNameLen   = 255              // bytes of a name in the mount, NAME_MAX
	MaxPathLen   = 4096             // bytes of a path in the mount, PATH_MAX
	MaxObjectLen = 5 << 40          // bytes of an object: 5 TiB, as AWS documents
	MaxPartLen   = 5 << 30          // bytes of a part or of one PUT: 5 GiB
	MinPartLen   = 5 << 20          // bytes of any part but the last
	MaxParts     = 10000            // parts of an upload
	MaxInline    = 16 << 10         // bytes up to which data lives in the metadata
	MaxFileLen   = int64(1)<<62 - 1 // bytes of a file in the mount
)
