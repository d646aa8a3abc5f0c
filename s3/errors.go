package s3

import (
	"errors"
	"io"
	"os"

	"twofold/internal/errs"
	"twofold/s3/s3err"
)

// toS3 maps an error of the store to S3's: the one place where it is done.
func toS3(err error) *s3err.Error {
	if e := s3err.As(err); e != nil {
		return e
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return s3err.Wrap(s3err.RequestTimeout, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return s3err.Wrap(s3err.IncompleteBody, err)
	}
	return s3err.Wrap(codeOf(errs.KindOf(err)), err)
}

func codeOf(k errs.Kind) s3err.Code {
	switch k {
	case errs.NotFound:
		return s3err.NoSuchKey
	case errs.NoBucket:
		return s3err.NoSuchBucket
	case errs.BucketExists:
		return s3err.BucketAlreadyOwnedByYou
	case errs.BucketNotEmpty, errs.NotEmpty:
		return s3err.BucketNotEmpty
	case errs.BadBucketName:
		return s3err.InvalidBucketName
	case errs.NoUpload:
		return s3err.NoSuchUpload
	case errs.InvalidPart:
		return s3err.InvalidPart
	case errs.InvalidPartOrder:
		return s3err.InvalidPartOrder
	case errs.PartTooSmall:
		return s3err.EntityTooSmall
	case errs.Precondition:
		return s3err.PreconditionFailed
	case errs.NotModified:
		return s3err.NotModified
	case errs.Conflict:
		return s3err.ConditionalRequestConflict
	case errs.Busy:
		return s3err.OperationAborted
	case errs.Range:
		return s3err.InvalidRange
	case errs.IncompleteBody:
		return s3err.IncompleteBody
	case errs.BadDigest:
		return s3err.BadDigest
	case errs.NameTooLong:
		return s3err.KeyTooLongError
	case errs.TooLarge:
		return s3err.EntityTooLarge
	case errs.Invalid, errs.NotDir, errs.IsDir, errs.Exists:
		return s3err.InvalidArgument
	case errs.Permission, errs.Access:
		return s3err.AccessDenied
	case errs.Unsupported:
		return s3err.NotImplemented
	case errs.NoSpace:
		return s3err.InsufficientStorage
	case errs.Quota:
		return s3err.QuotaExceeded
	case errs.WriteQuorum, errs.ReadQuorum, errs.Unwritten:
		return s3err.SlowDown
	case errs.Unavailable, errs.ReadOnly, errs.Fenced, errs.Stale:
		return s3err.ServiceUnavailable
	case errs.Canceled:
		return s3err.RequestTimeout
	}
	// Other, Corrupt, UnknownOutcome and what only the mount can meet.
	return s3err.InternalError
}
