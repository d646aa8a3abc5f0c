package kv

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"

	"twofold/internal/errs"
)

// checkpointList is the file that makes a directory a checkpoint.
const checkpointList = "CHECKPOINT"

// Cut is a checkpoint that is complete but not yet durable.
type Cut struct {
	b   *Badger
	dir string
}

// Checkpoint makes a durable copy of everything written before the call in dir,
// which must not exist yet: it appears there whole or not at all, by a rename. The
// tables are hard links to the live ones, so its cost is that of the number of files
// and of one copied memtable. The space it holds is that of tables that compactions
// have replaced since, until it is removed.
func (b *Badger) Checkpoint(dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return errs.Newf("kv.Checkpoint", errs.Exists, "%s exists", dir)
	}
	staging := dir + ".tmp"
	c, err := b.Cut(staging)
	if err != nil {
		return err
	}
	if err := c.Sync(); err != nil {
		return errors.Join(err, os.RemoveAll(staging))
	}
	if err := os.Rename(staging, dir); err != nil {
		return errs.E("kv.Checkpoint", errs.Other, err)
	}
	if err := syncPath(filepath.Dir(dir)); err != nil {
		return errs.E("kv.Checkpoint", errs.Other, err)
	}
	return nil
}

// Cut takes the quick part of a checkpoint: it returns with dir holding exactly what
// was written before the call. Writes wait meanwhile, snapshots don't. What dir held
// is removed first. Sync must follow before the copy counts for anything.
func (b *Badger) Cut(dir string) (*Cut, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, errs.E("kv.Cut", errs.Other, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, errs.E("kv.Cut", errs.Other, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.failed != nil {
		return nil, errs.Newf("kv.Cut", errs.Unavailable, "the store is closed or failed")
	}
	// No write is in progress, and none starts: only flushes and compactions move
	// files, and they add nothing. A table that is gone was replaced after the
	// MANIFEST was read: then it is read again.
	for {
		err := b.cut(dir)
		if err == nil {
			return &Cut{b: b, dir: dir}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, errs.E("kv.Cut", errs.Other, errors.Join(err, os.RemoveAll(dir)))
		}
	}
}

// cut makes one attempt. Order matters: a memtable's log is removed after its table
// is in the MANIFEST, so logs are copied first and a log that vanished is a table.
func (b *Badger) cut(dir string) error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isLog(e.Name()) {
			continue
		}
		err := copyLog(filepath.Join(b.dir, e.Name()), filepath.Join(dir, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, name := range []string{registryName, manifestName} {
		if err := copyFile(filepath.Join(b.dir, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	tables, err := readManifest(dir)
	if err != nil {
		return err
	}
	for _, name := range tables {
		err := linkOrCopy(filepath.Join(b.dir, name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// readManifest returns the names of the tables in the copied MANIFEST, whose tail
// may be half an entry of a change in progress; that is cut off.
func readManifest(dir string) ([]string, error) {
	f, err := os.OpenFile(filepath.Join(dir, manifestName), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, end, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(end); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(m.Tables))
	for id := range m.Tables {
		names = append(names, table.IDToFilename(id))
	}
	return names, nil
}

// Sync makes the cut durable: every file and the directory are fsynced.
func (c *Cut) Sync() error {
	// Extra links of an earlier attempt, to tables that the MANIFEST no longer
	// names, are harmless but hold space.
	tables, err := readManifest(c.dir)
	if err != nil {
		return errs.E("kv.Cut.Sync", errs.Other, err)
	}
	named := make(map[string]bool, len(tables))
	for _, t := range tables {
		named[t] = true
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return errs.E("kv.Cut.Sync", errs.Other, err)
	}
	for _, e := range entries {
		if isTable(e.Name()) && !named[e.Name()] {
			if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil {
				return errs.E("kv.Cut.Sync", errs.Other, err)
			}
		}
	}
	l, err := writeFileList(c.dir, checkpointList, c.b.durable.has)
	if err != nil {
		return errs.E("kv.Cut.Sync", errs.Other, err)
	}
	c.b.durable.set(l)
	return nil
}

// VerifyCheckpoint checks that dir is a whole checkpoint: every file is there with
// its size. errs.NotFound or errs.Corrupt otherwise.
func VerifyCheckpoint(dir string) error {
	_, err := readFileList(dir, checkpointList)
	return err
}

// RestoreFrom makes live, which must not exist, a copy of the checkpoint that
// Badger may open and change: links to its tables, copies of the rest.
func RestoreFrom(checkpoint, live string) error {
	const op = "kv.RestoreFrom"
	l, err := readFileList(checkpoint, checkpointList)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(live, 0o700); err != nil {
		return errs.E(op, errs.Other, err)
	}
	for _, name := range l.sorted() {
		put := copyFile
		if isTable(name) {
			put = linkOrCopy
		}
		if err := put(filepath.Join(checkpoint, name), filepath.Join(live, name)); err != nil {
			return errs.E(op, errs.Other, err)
		}
	}
	return nil
}

// SyncCheckpoint makes a checkpoint that was copied file by file durable, with
// what else was put beside it.
func SyncCheckpoint(dir string) error {
	if _, err := writeFileList(dir, checkpointList, nil); err != nil {
		return errs.E("kv.SyncCheckpoint", errs.Other, err)
	}
	return nil
}

// Discard removes a cut that is not wanted after all. What can't be removed is
// removed with other leftovers by whoever owns the directory.
func (c *Cut) Discard() { _ = os.RemoveAll(c.dir) }
