package vfs

import "io"

// VectorReader is what a File may be as well: it reads a run of the file into
// several pieces of memory with one call. Safe for concurrent use.
type VectorReader interface {
	// ReadV fills bufs, one after another, from off. Errors as io.ReaderAt.
	ReadV(bufs [][]byte, off int64) (int, error)
	// ReadVNow is ReadV of what is in memory already: it waits for no device. It
	// reports whether bufs were filled; where it does not they hold anything.
	ReadVNow(bufs [][]byte, off int64) bool
}

// ReadV is VectorReader.ReadV of any file.
func ReadV(f File, bufs [][]byte, off int64) (int, error) {
	if v, ok := f.(VectorReader); ok {
		return v.ReadV(bufs, off)
	}
	if len(bufs) == 1 {
		return f.ReadAt(bufs[0], off)
	}
	p := make([]byte, vectorLen(bufs))
	n, err := f.ReadAt(p, off)
	p = p[:n]
	for _, b := range bufs {
		p = p[copy(b, p):]
	}
	return n, err
}

// ReadVNow is VectorReader.ReadVNow of any file: those that can't tell have nothing
// in memory.
func ReadVNow(f File, bufs [][]byte, off int64) bool {
	v, ok := f.(VectorReader)
	return ok && v.ReadVNow(bufs, off)
}

func vectorLen(bufs [][]byte) int {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// skipVector takes the first n bytes off bufs, of which it changes the elements.
func skipVector(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

// shortVector is the error of a read that met the file's end.
func shortVector(n, want int) error {
	if n < want {
		return io.EOF
	}
	return nil
}
