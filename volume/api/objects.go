package api

import (
	"context"
	"io"

	"twofold"
	"twofold/metadata"
)

// Objects is the S3 view of the volume.
//
// Every method is safe for concurrent use and linearizable: it sees everything
// that had returned, in either view, before it was called. Errors are *errs.Error
// (NoBucket, NotFound, NoUpload, Precondition, ...) and are mapped to S3's codes
// in s3/errors.go. An error that a PutInput's Body or Finish returned comes back in
// the chain of the method's error (errors.As finds it).
type Objects interface {
	BucketOps
	ObjectOps
	UploadOps
}

// BucketOps are the operations on buckets.
type BucketOps interface {
	// ListBuckets returns all buckets by name.
	ListBuckets(ctx context.Context) ([]BucketInfo, error)
	// HeadBucket returns one. errs.NoBucket.
	HeadBucket(ctx context.Context, b twofold.BucketName) (BucketInfo, error)
	// CreateBucket makes one. errs.BucketExists, errs.BadBucketName.
	CreateBucket(ctx context.Context, b twofold.BucketName, region string) error
	// DeleteBucket removes an empty one. errs.NoBucket, errs.BucketNotEmpty.
	DeleteBucket(ctx context.Context, b twofold.BucketName) error
}

// ObjectOps are the operations on objects.
type ObjectOps interface {
	// PutObject stores an object and returns when it is durable; see PutInput.
	// errs: NoBucket (before Body is read), Precondition, what Body and Finish fail with.
	PutObject(ctx context.Context, in *PutInput) (ObjectInfo, error)
	// GetObject pins the object's current version: its attributes, and a reader of
	// just that version, which the caller closes. errs: NoBucket, NotFound.
	GetObject(ctx context.Context, b twofold.BucketName, k twofold.Key) (ObjectInfo, ObjectReader, error)
	// HeadObject returns the attributes alone. errs: NoBucket, NotFound.
	HeadObject(ctx context.Context, b twofold.BucketName, k twofold.Key) (ObjectInfo, error)
	// DeleteObject removes the key; one that is not there is a success.
	// errs: NoBucket; with a condition also Precondition, NotFound.
	DeleteObject(ctx context.Context, b twofold.BucketName, k twofold.Key, cond metadata.Conditions) error
	// CopyObject makes a key share another one's content; see CopyInput.
	CopyObject(ctx context.Context, in *CopyInput) (ObjectInfo, error)
	// List returns a page of keys and common prefixes in byte order. errs: NoBucket.
	List(ctx context.Context, b twofold.BucketName, q metadata.ListQuery) (ListPage, error)
}

// UploadOps are the operations on multipart uploads. All return errs.NoUpload for an
// id that is not, or not any more, one of that bucket and key.
type UploadOps interface {
	// CreateUpload starts an upload and returns its id. errs.NoBucket.
	CreateUpload(ctx context.Context, in *UploadInput) (twofold.UploadID, error)
	// GetUpload returns what CreateUpload stored.
	GetUpload(ctx context.Context, ref UploadRef) (UploadInfo, error)
	// PutPart stores (or replaces) a part durably. The same contract as PutObject.
	PutPart(ctx context.Context, in *PartInput) (PartInfo, error)
	// CopyPart makes a part of a range of an object; see PartCopyInput.
	CopyPart(ctx context.Context, in *PartCopyInput) (PartInfo, error)
	// ListParts returns parts with numbers over after, at most max, ascending.
	ListParts(ctx context.Context, ref UploadRef, after, max int) (parts []PartInfo, more bool, err error)
	// ListUploads returns uploads by (key, id) behind (afterKey, afterID),
	// exclusive, whose keys begin with prefix. afterKey need not be UTF-8.
	// errs.NoBucket.
	ListUploads(ctx context.Context, b twofold.BucketName, prefix, afterKey string, afterID twofold.UploadID, max int) (ups []UploadInfo, more bool, err error)
	// CompleteUpload makes the listed parts the object.
	// errs: InvalidPart, InvalidPartOrder, PartTooSmall, Precondition.
	CompleteUpload(ctx context.Context, in *CompleteInput) (ObjectInfo, error)
	// AbortUpload drops the upload and its parts.
	AbortUpload(ctx context.Context, ref UploadRef) error
}

// BucketInfo describes a bucket.
type BucketInfo struct {
	Name    twofold.BucketName
	Created twofold.Time
	Region  string
}

// Attrs are the attributes that a request gives an object, beside its content.
type Attrs struct {
	Headers  map[string]string    // Content-Type and the like, canonical names; nil: none
	UserMeta map[string]string    // lower-case names without x-amz-meta-; nil: none
	Class    string               // storage class; empty is STANDARD
	Posix    *metadata.PosixAttrs // from x-amz-meta-{mode,uid,gid,mtime}; nil: none
}

// Sum is what hashing the content gave.
type Sum struct {
	ETag     string // without quotes
	Checksum *metadata.Checksum
}

// PutInput asks for an object.
//
// The volume finds out about the bucket first (a client that waits for 100
// Continue sends nothing until Body is first read), then reads Body until io.EOF
// (it yields exactly Size bytes before that), then calls Finish once, and commits
// only if both went well. Body fails instead of io.EOF when the content is
// short, long, or not what was signed or announced; nothing may be stored then.
type PutInput struct {
	Bucket twofold.BucketName
	Key    twofold.Key
	Body   io.Reader
	Size   int64 // bytes; never negative
	Finish func() (Sum, error)
	Attrs
	Cond metadata.Conditions
}

// ObjectInfo describes one version of an object. Maps are not to be changed.
type ObjectInfo struct {
	Key      twofold.Key
	Size     int64
	ETag     string       // without quotes
	Modified twofold.Time // Last-Modified: when the content or the metadata was last set
	Headers  map[string]string
	UserMeta map[string]string
	Checksum *metadata.Checksum
	Class    string
	Parts    []int64 // sizes of the parts of a multipart upload
	// Posix has the file's attributes as they are now, the unset ones nil. The
	// values in UserMeta are what a PUT said; a chmod since then shows here.
	Posix metadata.PosixAttrs
}

// ObjectReader reads one pinned version of an object.
type ObjectReader interface {
	// WriteRange writes content [off, off+n) to w, verified. The caller has checked
	// the range against ObjectInfo.Size. Not safe for concurrent use.
	WriteRange(ctx context.Context, w io.Writer, off, n int64) error
	// Close lets the version go.
	Close() error
}

// CopyInput asks for Key to become what SrcKey is.
type CopyInput struct {
	SrcBucket twofold.BucketName
	SrcKey    twofold.Key
	Bucket    twofold.BucketName
	Key       twofold.Key
	// Prepare is given the source version that is about to be copied, and says what
	// attributes, ETag and checksum the copy gets, or why it may not be made. It is
	// called again for each version that the volume tries.
	Prepare func(src ObjectInfo) (Attrs, Sum, error)
	Cond    metadata.Conditions
}

// ListPage is a page of a listing, in byte order.
type ListPage struct {
	Items []ListItem
	More  bool // there is something behind the last item
}

// ListItem is an object, or a common prefix (only Key is set then).
type ListItem struct {
	Key      string
	IsPrefix bool
	Size     int64
	ETag     string
	Modified twofold.Time
	Class    string
	Checksum *metadata.Checksum
}

// UploadRef names an upload: the id, and where the client says that it is.
type UploadRef struct {
	Bucket twofold.BucketName
	Key    twofold.Key
	ID     twofold.UploadID
}

// UploadInput asks for an upload.
type UploadInput struct {
	Bucket twofold.BucketName
	Key    twofold.Key
	Attrs
	Algo     string // checksum algorithm, or empty
	AlgoType string // FULL_OBJECT or COMPOSITE
}

// UploadInfo describes an upload in progress.
type UploadInfo struct {
	Key      twofold.Key
	ID       twofold.UploadID
	Created  twofold.Time
	Class    string
	Algo     string
	AlgoType string
}

// PartInput asks for a part; Body, Size and Finish as in PutInput.
type PartInput struct {
	UploadRef
	Number int // 1-10000
	Body   io.Reader
	Size   int64
	Finish func() (Sum, error)
}

// PartCopyInput asks for a part of a range of an object.
type PartCopyInput struct {
	UploadRef
	Number    int
	SrcBucket twofold.BucketName
	SrcKey    twofold.Key
	// Prepare says which range [off, off+n) of the source version becomes the part
	// and what ETag it gets, or why it may not be. It may be called again.
	Prepare func(src ObjectInfo) (off, n int64, sum Sum, err error)
}

// PartInfo describes a part.
type PartInfo struct {
	Number   int
	Size     int64
	ETag     string
	Modified twofold.Time
	Checksum *metadata.Checksum
}

// CompleteInput asks for an upload to become the object. The ETag is computed by
// the front end, from the parts' ETags that the client listed (the volume refuses
// them where they differ from the stored ones), and so is the checksum.
type CompleteInput struct {
	UploadRef
	Parts []metadata.PartRef
	Sum   Sum
	Cond  metadata.Conditions
}
