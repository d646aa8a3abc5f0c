package replica

import (
	"errors"
	"os"
	"syscall"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"

	"twofold/internal/errs"
)

// walFS is the library's file system, with segment files as segmentFile has them.
type walFS struct{ *walfs.FS }

var _ types.VFS = walFS{}

// Create implements types.VFS.
func (v walFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := v.FS.Create(dir, name, size)
	return newSegmentFile(f, err)
}

// OpenWriter implements types.VFS.
func (v walFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := v.FS.OpenWriter(dir, name)
	return newSegmentFile(f, err)
}

// aheadOfLog is up to how many bytes behind the log's end are written with zeros.
const aheadOfLog = 256 << 10

// smallAppend is up to how many bytes of an append there are zeros behind it. What is
// larger is not worth writing twice: it comes with a few others to an fsync.
const smallAppend = 32 << 10

var zeros [aheadOfLog]byte

// segmentFile is a file of the log, which the library writes from its beginning to its
// end, in two things different from the library's:
//
//   - The fsync of a file that was removed fails: rm -rf leaves it open, and an fsync of
//     it means nothing.
//   - An fsync has no file system's journal to wait for. The library has the file's
//     blocks allocated (fallocate(2)), but the first write to each turns it from
//     unwritten to written, which is metadata: the fsync commits a transaction of ext4's
//     or XFS's journal beside the data. So zeros, which is how they are read anyway, are
//     written some way ahead, with one such transaction for many appends; and as the size
//     stays, fdatasync(2) is enough, for which a new mtime is none of its business. On one
//     disk of ext4 that is 0.17 instead of 0.27 ms for one log, 0.5 instead of 0.7 ms for
//     four at once.
//
// Writes and Sync are for one goroutine at a time, as the library has it.
type segmentFile struct {
	types.WritableFile
	file   *os.File // the same
	size   int64    // bytes allocated
	ahead  int64    // up to where there is something written, as far as is known
	synced bool     // by an fsync, which the names and all attributes went with
}

func newSegmentFile(w types.WritableFile, err error) (types.WritableFile, error) {
	if err != nil {
		return nil, err
	}
	s := &segmentFile{WritableFile: w}
	switch f := w.(type) {
	case *walfs.File:
		s.file = &f.File
	case *os.File:
		s.file = f
	default:
		return nil, errs.Newf("replica.wal", errs.Other, "the log's file is a %T", w)
	}
	info, err := s.file.Stat()
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	s.size = info.Size()
	return s, nil
}

// WriteAt implements types.WritableFile.
func (s *segmentFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := s.WritableFile.WriteAt(p, off)
	if err != nil {
		return n, err
	}
	end := off + int64(n)
	if end <= s.ahead {
		return n, nil
	}
	s.ahead = end
	if n > smallAppend || end >= s.size {
		return n, nil
	}
	// An error is none of the append's: one of the drive's will be met by its fsync.
	k, _ := s.WritableFile.WriteAt(zeros[:min(aheadOfLog, s.size-end)], end)
	s.ahead += int64(k)
	return n, nil
}

// Sync implements types.WritableFile: what was written is on the drive when it returns.
func (s *segmentFile) Sync() error {
	if err := s.sync(); err != nil {
		return err
	}
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && sys.Nlink == 0 {
		return errs.Newf("replica.wal", errs.Unavailable, "the log's file was removed")
	}
	return nil
}

// sync begins with an fsync, with that of the directory where the file is new.
func (s *segmentFile) sync() error {
	if !s.synced {
		if err := s.WritableFile.Sync(); err != nil {
			return err
		}
		s.synced = true
		return nil
	}
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			if failed = unix.Fdatasync(int(fd)); !errors.Is(failed, unix.EINTR) {
				return
			}
		}
	})
	if err == nil && failed != nil {
		err = &os.PathError{Op: "fdatasync", Path: s.file.Name(), Err: failed}
	}
	return err
}
