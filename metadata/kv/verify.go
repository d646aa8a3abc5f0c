package kv

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"twofold/internal/errs"
)

// verify reads every table in dir, if that is asked for: all that Badger will map.
// A table that can't be read by read(2), which says so, would end the process when it
// is read through its mapping (SIGBUS). A drive that hangs in here holds its caller
// up; in a page fault it would hold the whole process up.
func (o *Options) verify(dir string) error {
	if !o.Verify || dir == "" {
		return nil
	}
	const op = "kv.Verify"
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // who opens it says so
	} else if err != nil {
		return errs.E(op, errs.Unavailable, err)
	}
	buf := make([]byte, 1<<20)
	for _, e := range entries {
		if !isTable(e.Name()) {
			continue
		}
		if err := o.readThrough(filepath.Join(dir, e.Name()), buf); err != nil {
			return errs.E(op, errs.Unavailable, err)
		}
	}
	return nil
}

// readThrough reads a file to its end.
func (o *Options) readThrough(path string, buf []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		n, err := f.Read(buf)
		if o.Verified != nil {
			o.Verified(n)
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
