// Package errs has the one structured error of the store. Every layer returns
// *Error; its Kind crosses processes and becomes an S3 code, an errno or an exit
// status in exactly one place each (s3, fusefs, cmd/twofold).
package errs

import (
	"context"
	"errors"
	"fmt"
)

// Kind classifies an error by what the caller can do about it. Numbers are part
// of the node-to-node protocol: append, never renumber.
type Kind uint8

const (
	Other              Kind = 0  // unclassified: a bug or an I/O error without a better name (EIO, InternalError)
	NotFound           Kind = 1  // no such entry, key or file (ENOENT, NoSuchKey)
	Exists             Kind = 2  // the entry is there already (EEXIST)
	NotDir             Kind = 3  // a component is not a directory (ENOTDIR)
	IsDir              Kind = 4  // a directory where a file is needed (EISDIR)
	NotEmpty           Kind = 5  // a directory with entries (ENOTEMPTY)
	Invalid            Kind = 6  // bad argument (EINVAL, InvalidArgument)
	Permission         Kind = 7  // operation not permitted (EPERM)
	Access             Kind = 8  // access denied (EACCES, AccessDenied)
	NameTooLong        Kind = 9  // ENAMETOOLONG, KeyTooLongError
	CrossBucket        Kind = 10 // rename or link across buckets (EXDEV)
	TooLarge           Kind = 11 // size over a limit (EFBIG, EntityTooLarge)
	NoSpace            Kind = 12 // drives are full (ENOSPC)
	Quota              Kind = 13 // bucket quota (EDQUOT, QuotaExceeded)
	ReadOnly           Kind = 14 // the store takes no writes now (EROFS)
	WriteQuorum        Kind = 15 // too few drives for a write; retry later (EIO, SlowDown 503)
	ReadQuorum         Kind = 16 // too few good shards for a read (EIO, SlowDown 503)
	Unavailable        Kind = 17 // no metadata leader, starting, draining; retry later (EAGAIN inside, 503)
	Corrupt            Kind = 18 // data failed its hash and could not be rebuilt (EIO)
	Stale              Kind = 19 // an inode or handle that is gone (ESTALE)
	Fenced             Kind = 20 // the session or lease that this was sent under has ended
	UnknownOutcome     Kind = 21 // it may or may not have happened
	Precondition       Kind = 22 // an If-* condition failed (PreconditionFailed 412)
	NotModified        Kind = 23 // If-None-Match / If-Modified-Since on a read (304)
	NoBucket           Kind = 24 // NoSuchBucket, ENOENT
	BucketExists       Kind = 25 // BucketAlreadyOwnedByYou, EEXIST
	BucketNotEmpty     Kind = 26 // BucketNotEmpty, ENOTEMPTY
	BadBucketName      Kind = 27 // InvalidBucketName, EINVAL
	NoUpload           Kind = 28 // NoSuchUpload
	InvalidPart        Kind = 29 // a listed part is missing or its ETag differs
	InvalidPartOrder   Kind = 30 // parts not ascending
	PartTooSmall       Kind = 31 // EntityTooSmall
	NoAttr             Kind = 32 // no such xattr (ENODATA)
	Unsupported        Kind = 33 // EOPNOTSUPP, NotImplemented 501
	TooManyLinks       Kind = 34 // EMLINK
	Loop               Kind = 35 // a directory moved into itself (EINVAL), ELOOP
	Busy               Kind = 36 // EBUSY
	Range              Kind = 37 // InvalidRange 416
	IncompleteBody     Kind = 38 // fewer bytes than were announced
	BadDigest          Kind = 39 // content does not match the announced digest or checksum
	Canceled           Kind = 40 // the caller went away
	Conflict           Kind = 41 // OperationAborted / ConditionalRequestConflict 409: changed underneath, retry
	NotSupportedRename Kind = 42 // renameat2 flag combination (EINVAL)
	Unwritten          Kind = 43 // a mount holds changes that it can't write now; retry later (EIO, SlowDown 503)
	Locked             Kind = 44 // another owner's lock is in the way (EAGAIN)
	Deadlock           Kind = 45 // waiting for the lock would be for ever (EDEADLK)
	NoLocks            Kind = 46 // too many locks, or waits for them (ENOLCK)
)

var names = [...]string{
	"internal error", "not found", "already exists", "not a directory", "is a directory", "directory not empty",
	"invalid argument", "not permitted", "access denied", "name too long", "crosses buckets", "too large",
	"no space left", "quota exceeded", "read-only", "too few drives online to write", "too few good shards to read",
	"temporarily unavailable", "corrupt", "stale", "fenced", "outcome unknown", "precondition failed", "not modified",
	"no such bucket", "bucket exists", "bucket not empty", "bad bucket name", "no such upload", "invalid part",
	"parts out of order", "part too small", "no such attribute", "not supported", "too many links",
	"directory into itself", "busy", "range not satisfiable", "incomplete body", "digest mismatch", "canceled",
	"conflict", "rename flags not supported", "a mount holds changes that can't be written now",
	"locked by others", "deadlock avoided", "no locks available",
}

// String names the kind in words.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("error kind %d", uint8(k))
}

// Error says what was being done (Op), what kind of failure it was, and why.
type Error struct {
	Op   string // package.Operation, for a log reader
	Kind Kind
	Msg  string // a sentence for a person; may be empty
	Err  error  // the cause; may be nil
}

func (e *Error) Error() string {
	s := e.Op
	if s != "" {
		s += ": "
	}
	if e.Msg != "" {
		s += e.Msg
	} else {
		s += e.Kind.String()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// E makes an error. The cause may be nil.
func E(op string, k Kind, err error) error { return &Error{Op: op, Kind: k, Err: err} }

// Newf makes an error with a sentence.
func Newf(op string, k Kind, format string, args ...any) error {
	return &Error{Op: op, Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// KindOf returns the kind of the outermost *Error in err's chain; a context's
// error is Canceled; anything else is Other. KindOf(nil) is Other: ask only about errors.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Canceled
	}
	return Other
}

// Is reports whether err is non-nil and of kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
