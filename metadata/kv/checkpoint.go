package kv

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"

	"twofold/internal/errs"
)

// checkpointList is the file that makes a directory a checkpoint.
const checkpointList = "CHECKPOINT"

// Cut is a checkpoint that is complete but not yet durable. Keep or Discard ends it.
type Cut struct {
	b    *Badger
	dir  string
	pins pins // the tables it shares
}

// Checkpoint makes a durable copy of everything written before the call in dir,
// which must not exist yet: it appears there whole or not at all, by a rename. The
// tables and value files are hard links to the live ones, so its cost is that of the
// number of files and of one copied memtable. The space it holds is that of files that
// were replaced since, until it is removed. The checkpoint made before it becomes
// worthless: its tables may be emptied from now on.
func (b *Badger) Checkpoint(dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return errs.Newf("kv.Checkpoint", errs.Exists, "%s exists", dir)
	}
	c, err := b.Cut(dir + ".tmp")
	if err != nil {
		return err
	}
	err = c.Sync()
	if err == nil {
		err = os.Rename(c.dir, dir)
	}
	if err == nil {
		err = syncPath(filepath.Dir(dir))
	}
	if err != nil {
		c.Discard()
		return errs.E("kv.Checkpoint", errs.Other, err)
	}
	c.Keep()()
	return nil
}

// Cut takes the quick part of a checkpoint: it returns with dir holding exactly what
// was written before the call. Writes wait meanwhile, snapshots don't. What dir held
// is removed first. Sync must follow before the copy counts for anything; the
// directory may be renamed then.
func (b *Badger) Cut(dir string) (*Cut, error) {
	const op = "kv.Cut"
	if err := os.RemoveAll(dir); err != nil {
		return nil, errs.E(op, errs.Other, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, errs.E(op, errs.Other, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.failed != nil {
		return nil, errs.Newf(op, errs.Unavailable, "the store is closed or failed")
	}
	// No write is in progress, and none starts: only flushes and compactions move
	// files, and they add nothing. When they do, the files are copied again.
	for tries := 0; ; tries++ {
		p, err := pinTables(b.db)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		if err = b.cut(dir, p); err == nil {
			err = b.values.cut(dir)
		}
		if err == nil {
			return &Cut{b: b, dir: dir, pins: p}, nil
		}
		p.release(b.log)
		if !errors.Is(err, errMoved) || tries > 1000 {
			return nil, errs.E(op, errs.Other, errors.Join(err, os.RemoveAll(dir)))
		}
		time.Sleep(time.Millisecond)
	}
}

// Keep makes the cut the checkpoint whose tables are protected. The function it
// returns ends the protection of the one before it: call it when that was removed,
// and nobody reads its files any more.
func (c *Cut) Keep() (release func()) {
	c.b.mu.Lock()
	old := c.b.pinned
	c.b.pinned, c.pins = c.pins, nil
	c.b.mu.Unlock()
	return func() { old.release(c.b.log) }
}

// Discard removes a cut that is not wanted after all. What can't be removed is
// removed with other leftovers by whoever owns the directory.
func (c *Cut) Discard() {
	_ = os.RemoveAll(c.dir)
	c.pins.release(c.b.log)
	c.pins = nil
}

// errMoved: a flush or a compaction came between.
var errMoved = errors.New("files moved meanwhile")

// cut makes one attempt. A memtable's log must not be copied and then flushed, too:
// compactions might have dropped a deletion together with what it deleted, and the
// log would bring that back. So every copied log must still be there after the
// MANIFEST was copied. Tables that the MANIFEST names must be pinned already.
func (b *Badger) cut(dir string, p pins) error {
	logs, err := b.cutLogs(dir)
	if err != nil {
		return moved(err)
	}
	for _, name := range []string{registryName, manifestName} {
		if err := copyFile(filepath.Join(b.dir, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, name := range logs {
		// Badger empties a log before it removes it.
		if info, err := os.Stat(filepath.Join(b.dir, name)); err != nil {
			return moved(err)
		} else if info.Size() == 0 {
			return errMoved
		}
	}
	tables, err := manifestTables(filepath.Join(dir, manifestName))
	if err != nil {
		return errors.Join(errMoved, err) // it was being written to
	}
	for _, id := range tables {
		if p[id] == nil {
			return errMoved
		}
		name := table.IDToFilename(id)
		err := linkOrCopy(filepath.Join(b.dir, name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// moved takes a file that is gone for one that was flushed.
func moved(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errMoved
	}
	return err
}

// cutLogs copies the memtables' logs, in the place of those of an earlier attempt.
func (b *Badger) cutLogs(dir string) (logs []string, err error) {
	old, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range old {
		if isLog(e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !isLog(e.Name()) {
			continue
		}
		// Through the link, if it is one. A link that waits for Badger leads to an
		// empty file.
		if info, err := os.Stat(filepath.Join(b.dir, e.Name())); err != nil {
			return nil, err
		} else if info.Size() == 0 {
			continue
		}
		if err := copyLog(filepath.Join(b.dir, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
		logs = append(logs, e.Name())
	}
	return logs, nil
}

// manifestTables returns the tables that a MANIFEST names; none where there is no
// such file. Half an entry at its end, of a change in progress, is left out.
func manifestTables(path string) ([]uint64, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions("").WithLogger(nil))
	if err != nil {
		return nil, err
	}
	ids := make([]uint64, 0, len(m.Tables))
	for id := range m.Tables {
		ids = append(ids, id)
	}
	return ids, nil
}

// Sync makes the cut durable: every file and the directory are fsynced.
func (c *Cut) Sync() error {
	const op = "kv.Cut.Sync"
	// Links that an attempt made before it had to be repeated, to tables that the
	// MANIFEST no longer names: they hold space.
	tables, err := manifestTables(filepath.Join(c.dir, manifestName))
	if err != nil {
		return errs.E(op, errs.Other, err)
	}
	named := make(map[string]bool, len(tables))
	for _, id := range tables {
		named[table.IDToFilename(id)] = true
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return errs.E(op, errs.Other, err)
	}
	for _, e := range entries {
		if isTable(e.Name()) && !named[e.Name()] {
			if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil {
				return errs.E(op, errs.Other, err)
			}
		}
	}
	l, err := writeFileList(c.dir, checkpointList, c.b.durable.has)
	if err != nil {
		return errs.E(op, errs.Other, err)
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
// Badger may open and change: links to its tables and value files, which are never
// written to, copies of the rest.
func RestoreFrom(checkpoint, live string) error {
	const op = "kv.RestoreFrom"
	l, err := readFileList(checkpoint, checkpointList)
	if err != nil {
		return err
	}
	if err := os.Mkdir(live, 0o700); err != nil {
		return errs.E(op, errs.Other, err)
	}
	for _, name := range l.sorted() {
		put := copyFile
		if immutable(name) {
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
