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
	SmallSize   int    // bytes of a small file
	SmallCount  int    // small files that many threads make in a round; one thread makes an eighth of them
	StatPasses  int    // how often each of the small files is looked at again
	Clients     int    // threads at once
	LargeSize   int64  // bytes of the file that is written and read in sequence; 0: none
	RandomCount int    // reads, and writes, of 4 KiB at random places of the large file; 0: none
	Tar         string // a tar archive to unpack; empty: none
	Git         string // a git repository to clone; empty: none
}

// FSLoad is the file workload in one directory.
type FSLoad struct {
	dir   string
	o     FSOptions
	small []byte
	block []byte
	large randomFile // open between the steps at random places
	read  randomFile // open for reading only, in the step that reads again at random places
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
func (l *FSLoad) Close() error {
	l.large.close()
	l.read.close()
	return os.RemoveAll(l.dir)
}

// Steps implements Workload.
func (l *FSLoad) Steps(r int) []Step {
	steps := l.smallSteps(r, 1, max(1, l.o.SmallCount/8))
	if l.o.Clients > 1 {
		steps = append(steps, l.smallSteps(r, l.o.Clients, l.o.SmallCount)...)
	}
	if l.o.LargeSize > 0 {
		steps = append(steps, l.largeSteps()...)
	}
	return append(steps, l.treeSteps(r)...)
}

// step is a Step of a function that knows no context.
func step(name string, clients, count int, bytes int64, do func(i int) error) Step {
	return Step{Name: name, Clients: clients, Count: count, Bytes: bytes, Do: func(_ context.Context, i int) error { return do(i) }}
}

// smallSteps is a life of count small files in 16 directories.
func (l *FSLoad) smallSteps(r, clients, count int) []Step {
	path := func(i int) string {
		return filepath.Join(l.dir, fmt.Sprintf("%d-%d", r, clients), fmt.Sprintf("%02x", i%16), fmt.Sprintf("%06d", i))
	}
	o := l.o
	return []Step{
		step("mkdir", 1, 16, 0, func(i int) error {
			return os.MkdirAll(filepath.Dir(path(i)), 0o755)
		}),
		step("create "+size(o.SmallSize), clients, count, int64(o.SmallSize), func(i int) error {
			return os.WriteFile(path(i), l.small, 0o644)
		}),
		step("open+read "+size(o.SmallSize), clients, count, int64(o.SmallSize), func(i int) error {
			return l.readSmall(path(i * 7919 % count))
		}),
		// What a file system keeps of files that it has read once.
		step("read again", clients, count, int64(o.SmallSize), func(i int) error {
			return l.readSmall(path(i))
		}),
		step("stat", clients, o.StatPasses*count, 0, func(i int) error {
			_, err := os.Stat(path(i % count))
			return err
		}),
		step("rename", clients, count, 0, func(i int) error {
			return os.Rename(path(i), path(i)+".new")
		}),
		step("unlink", clients, count, 0, func(i int) error {
			return os.Remove(path(i) + ".new")
		}),
	}
}

func (l *FSLoad) readSmall(name string) error {
	b, err := os.ReadFile(name)
	if err == nil && len(b) != l.o.SmallSize {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Clean implements Workload.
func (l *FSLoad) Clean(_ context.Context, r int) error {
	l.large.close()
	l.read.close()
	entries, err := os.ReadDir(l.dir)
	for _, e := range entries {
		if err == nil {
			err = os.RemoveAll(filepath.Join(l.dir, e.Name()))
		}
	}
	return err
}
