package drive

import (
	"context"
	"errors"
	"io"
	"path"
	"syscall"

	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// kindOf classifies an error of the file system. What is no better known is
// errs.Unavailable: this drive did not do it, another may.
func kindOf(err error) errs.Kind {
	if k := errs.KindOf(err); k != errs.Other {
		return k
	}
	switch vfs.Errno(err) {
	case syscall.ENOENT:
		return errs.NotFound
	case syscall.EEXIST:
		return errs.Exists
	case syscall.ENOSPC, syscall.EDQUOT:
		return errs.NoSpace
	case syscall.EROFS:
		return errs.ReadOnly
	case syscall.EACCES, syscall.EPERM:
		return errs.Access
	case syscall.EWOULDBLOCK:
		return errs.Busy
	case syscall.EINVAL, syscall.ENAMETOOLONG, syscall.ENOTDIR:
		return errs.Invalid
	}
	return errs.Unavailable
}

// isDriveFault reports whether err speaks against the drive itself: not for a
// missing name, a full disk, or a process that is out of descriptors.
func isDriveFault(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) {
		return false
	}
	switch vfs.Errno(err) {
	case syscall.EIO, syscall.EUCLEAN, syscall.ENODEV, syscall.ENXIO, syscall.ESHUTDOWN, syscall.ENOTCONN,
		syscall.ESTALE, syscall.EREMOTEIO, syscall.ENOMEDIUM, syscall.ETIMEDOUT, syscall.EILSEQ, syscall.EBADMSG:
		return true
	}
	return false
}

// lockDrive takes the lock that keeps two processes off one drive. A file system
// that can't be written, and has no lock file, is not locked: nobody writes there.
func lockDrive(fsys vfs.FS, dir string) (io.Closer, error) {
	l, err := fsys.Lock(path.Join(dir, lockName))
	switch kindOf(err) {
	case errs.Busy:
		return nil, errs.Newf("drive.lock", errs.Busy, "%s is in use by another process", dir)
	case errs.ReadOnly:
		return io.NopCloser(nil), nil
	}
	if err != nil {
		return nil, errs.E("drive.lock", kindOf(err), err)
	}
	return l, nil
}
