package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold/internal/errs"
)

// errnos maps what the layers below report to what a system call returns. It is
// the only such place. Kinds that are not here are EIO: they tell of the store,
// not of the call.
var errnos = [...]syscall.Errno{
	errs.NotFound:           syscall.ENOENT,
	errs.Exists:             syscall.EEXIST,
	errs.NotDir:             syscall.ENOTDIR,
	errs.IsDir:              syscall.EISDIR,
	errs.NotEmpty:           syscall.ENOTEMPTY,
	errs.Invalid:            syscall.EINVAL,
	errs.Permission:         syscall.EPERM,
	errs.Access:             syscall.EACCES,
	errs.NameTooLong:        syscall.ENAMETOOLONG,
	errs.CrossBucket:        syscall.EXDEV,
	errs.TooLarge:           syscall.EFBIG,
	errs.NoSpace:            syscall.ENOSPC,
	errs.Quota:              syscall.EDQUOT,
	errs.ReadOnly:           syscall.EROFS,
	errs.Stale:              syscall.ESTALE,
	errs.NoBucket:           syscall.ENOENT,
	errs.BucketExists:       syscall.EEXIST,
	errs.BucketNotEmpty:     syscall.ENOTEMPTY,
	errs.BadBucketName:      syscall.EINVAL,
	errs.NoAttr:             syscall.ENODATA,
	errs.Unsupported:        syscall.EOPNOTSUPP,
	errs.TooManyLinks:       syscall.EMLINK,
	errs.Loop:               syscall.EINVAL,
	errs.Busy:               syscall.EBUSY,
	errs.Range:              syscall.ERANGE,
	errs.Canceled:           syscall.EINTR,
	errs.NotSupportedRename: syscall.EINVAL,
	errs.Locked:             syscall.EAGAIN,
	errs.Deadlock:           syscall.EDEADLK,
	errs.NoLocks:            syscall.ENOLCK,
}

// errno is the status of a request that ended with err.
func errno(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	if k := errs.KindOf(err); int(k) < len(errnos) && errnos[k] != 0 {
		return fuse.Status(errnos[k])
	}
	return fuse.EIO
}
