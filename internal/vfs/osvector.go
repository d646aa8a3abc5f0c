package vfs

import (
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

// maxVector is the most buffers of one call (IOV_MAX, readv(2)).
const maxVector = 1024

// ReadV is preadv(2), see VectorReader.
func (o *osFile) ReadV(bufs [][]byte, off int64) (int, error) {
	want, done := vectorLen(bufs), 0
	for done < want {
		n, err := o.preadv2(bufs[:min(len(bufs), maxVector)], off+int64(done), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, &fs.PathError{Op: "read", Path: o.f.Name(), Err: err}
		}
		if n == 0 {
			break
		}
		if done += n; done < want {
			bufs = skipVector(slices.Clone(bufs), n)
		}
	}
	return done, shortVector(done, want)
}

// ReadVNow is preadv2(2) with RWF_NOWAIT, see VectorReader. A short read is one that
// came to a page which is not in memory.
func (o *osFile) ReadVNow(bufs [][]byte, off int64) bool {
	if len(bufs) > maxVector {
		return false
	}
	n, err := o.preadv2(bufs, off, unix.RWF_NOWAIT)
	return err == nil && n == vectorLen(bufs)
}

// preadv2 keeps the file open meanwhile, also where somebody closes it.
func (o *osFile) preadv2(bufs [][]byte, off int64, flags int) (n int, err error) {
	if cerr := o.raw.Control(func(fd uintptr) {
		n, err = unix.Preadv2(int(fd), bufs, off, flags)
	}); cerr != nil {
		return 0, fs.ErrClosed
	}
	return n, err
}
