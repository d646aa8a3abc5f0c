package bench

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// randomSize is the size of a read or write at a random place.
const randomSize = 4 << 10

// randomFile is the large file, opened once for all reads and writes at random
// places: those are measured, not opens.
type randomFile struct {
	mu sync.Mutex
	f  *os.File
}

// open opens the file if it is not, and drops what pages the kernel has of it, so
// that the file system is measured and not the kernel's memory (posix_fadvise(2):
// clean pages only).
func (r *randomFile) open(name string) (*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f != nil {
		return r.f, nil
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: fadvise: %w", name, err)
	}
	r.f = f
	return f, nil
}

// openAgain opens the file, if it is not, for reading only and with the pages that there are.
func (r *randomFile) openAgain(name string) (*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f != nil {
		return r.f, nil
	}
	f, err := os.Open(name)
	r.f = f
	return f, err
}

func (r *randomFile) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

// largeSteps are a file written and read in sequence, and then at random places.
func (l *FSLoad) largeSteps() []Step {
	o := l.o
	name := filepath.Join(l.dir, "large")
	at := func() int64 { return rand.Int64N(max(1, o.LargeSize/randomSize)) * randomSize }
	read := func(int) error {
		l.read.close()
		f, err := l.large.open(name)
		if err != nil {
			return err
		}
		_, err = f.ReadAt(make([]byte, min(randomSize, o.LargeSize)), at())
		return err
	}
	again := func(int) error {
		f, err := l.read.openAgain(name)
		if err != nil {
			return err
		}
		_, err = f.ReadAt(make([]byte, min(randomSize, o.LargeSize)), at())
		return err
	}
	write := func(int) error {
		f, err := l.large.open(name)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(l.block[:randomSize], at()); err != nil {
			return err
		}
		return unix.Fdatasync(int(f.Fd()))
	}
	steps := []Step{
		step("write+fsync "+size(int(o.LargeSize)), 1, 1, o.LargeSize, func(int) error { return l.writeLarge(name) }),
		step("read "+size(int(o.LargeSize)), 1, 1, o.LargeSize, func(int) error { return l.readLarge(name, true) }),
		step("read "+size(int(o.LargeSize))+" again", 1, 1, o.LargeSize, func(int) error { return l.readLarge(name, false) }),
		step("random read 4 KiB again", 1, o.RandomCount/4, randomSize, again),
		step("random read 4 KiB", 1, o.RandomCount/4, randomSize, read),
	}
	if o.Clients > 1 {
		steps = append(steps, step("random read 4 KiB", o.Clients, o.RandomCount, randomSize, read))
	}
	steps = append(steps, step("random write+fdatasync 4 KiB", 1, o.RandomCount/16, randomSize, write))
	if o.Clients > 1 {
		steps = append(steps, step("random write+fdatasync 4 KiB", o.Clients, o.RandomCount/4, randomSize, write))
	}
	return steps
}

func (l *FSLoad) writeLarge(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for n := l.o.LargeSize; n > 0; n -= int64(len(l.block)) {
		if _, err := f.Write(l.block[:min(n, int64(len(l.block)))]); err != nil {
			return err
		}
	}
	return f.Sync()
}

// readLarge reads the large file; drop has the kernel forget its pages first.
func (l *FSLoad) readLarge(name string, drop bool) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if drop {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return fmt.Errorf("%s: fadvise: %w", name, err)
		}
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, f, make([]byte, 1<<20))
	if err == nil && n != l.o.LargeSize {
		err = io.ErrUnexpectedEOF
	}
	return err
}
