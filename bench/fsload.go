package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// FSOptions choose the file workload.
type FSOptions struct {
	SmallSize  int
	SmallCount int
	Clients    int
	LargeSize  int64 // bytes of the file that is written and read in sequence; 0: none
}

// FSLoad is the file workload in one directory.
type FSLoad struct {
	dir   string
	o     FSOptions
	small []byte
	block []byte
}

var _ Workload = (*FSLoad)(nil)

// NewFSLoad works in a new directory below dir.
func NewFSLoad(dir string, o FSOptions) (*FSLoad, error) {
	d, err := os.MkdirTemp(dir, "twofold-bench-")
	if err != nil {
		return nil, err
	}
	l := &FSLoad{dir: d, o: o, small: make([]byte, o.SmallSize), block: make([]byte, 1<<20)}
	rand.Read(l.small)
	rand.Read(l.block)
	return l, nil
}

// Close removes the directory.
func (l *FSLoad) Close() error { return os.RemoveAll(l.dir) }

func (l *FSLoad) path(r, i int) string {
	return filepath.Join(l.dir, fmt.Sprint(r), fmt.Sprintf("%02x", i%16), fmt.Sprintf("%06d", i))
}

// Steps implements Workload.
func (l *FSLoad) Steps(r int) []Step {
	o := l.o
	step := func(name string, clients, count int, bytes int64, do func(i int) error) Step {
		return Step{Name: name, Clients: clients, Count: count, Bytes: bytes, Do: func(_ context.Context, i int) error { return do(i) }}
	}
	steps := []Step{
		step("mkdir", 1, 16, 0, func(i int) error {
			return os.MkdirAll(filepath.Dir(l.path(r, i)), 0o755)
		}),
		step("create "+size(o.SmallSize), o.Clients, o.SmallCount, int64(o.SmallSize), func(i int) error {
			return os.WriteFile(l.path(r, i), l.small, 0o644)
		}),
		step("read "+size(o.SmallSize), o.Clients, o.SmallCount, int64(o.SmallSize), func(i int) error {
			return l.readSmall(r, i*7919%o.SmallCount)
		}),
		// What a file system keeps of files that it has read once.
		step("read again", o.Clients, o.SmallCount, int64(o.SmallSize), func(i int) error {
			return l.readSmall(r, i)
		}),
		step("stat", o.Clients, o.SmallCount, 0, func(i int) error {
			_, err := os.Stat(l.path(r, i))
			return err
		}),
		step("rename", o.Clients, o.SmallCount, 0, func(i int) error {
			return os.Rename(l.path(r, i), l.path(r, i)+".new")
		}),
		step("unlink", o.Clients, o.SmallCount, 0, func(i int) error {
			return os.Remove(l.path(r, i) + ".new")
		}),
	}
	if o.LargeSize > 0 {
		name := filepath.Join(l.dir, "large")
		steps = append(steps,
			step("write+fsync "+size(int(o.LargeSize)), 1, 1, o.LargeSize, func(int) error { return l.writeLarge(name) }),
			step("read "+size(int(o.LargeSize)), 1, 1, o.LargeSize, func(int) error { return l.readLarge(name) }))
	}
	return steps
}

func (l *FSLoad) readSmall(r, i int) error {
	b, err := os.ReadFile(l.path(r, i))
	if err == nil && len(b) != l.o.SmallSize {
		err = io.ErrUnexpectedEOF
	}
	return err
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

func (l *FSLoad) readLarge(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, f, make([]byte, 1<<20))
	if err == nil && n != l.o.LargeSize {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Clean implements Workload.
func (l *FSLoad) Clean(_ context.Context, r int) error {
	os.Remove(filepath.Join(l.dir, "large"))
	return os.RemoveAll(filepath.Join(l.dir, fmt.Sprint(r)))
}
