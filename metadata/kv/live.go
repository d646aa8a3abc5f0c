package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"twofold/internal/errs"
	"twofold/internal/vfs"
)

const (
	livePrefix = "live-"
	// cleanList says that a live directory was closed and everything in it fsynced.
	cleanList = "CLEAN"
)

// Options of Open.
type Options struct {
	// Verify: every table is read once before it is mapped, see Options.verify. For
	// the start after a crash, which may have been the drive's fault. An error is
	// errs.Unavailable; the index is left for another time.
	Verify bool
	// Verified is told of the bytes read for Verify, as they are. May be nil.
	Verified func(bytes int)

	// Checkpoint is where a live directory is rebuilt from when the last stop was
	// not a clean one. Empty: from nothing.
	Checkpoint string
	// Fresh discards the live directory even after a clean stop.
	Fresh bool
	// Bulky says from how many bytes on a value of key lies in a value file; 0: never.
	// Such a value costs one more read than others. Nil: no value does. It may change
	// from one Open to the next.
	Bulky  func(key []byte) int
	Logger *slog.Logger

	valueFileSize int64  // 0: valueFileSize
	fs            vfs.FS // of value files; nil: the operating system's
}

// Open opens the store in base, a directory that is made if only it is missing. A live directory that was closed cleanly is used as
// it is. Any other is thrown away and rebuilt from the checkpoint: what Badger wrote
// without an fsync is not trusted, whatever it looks like.
func Open(base string, o Options) (*Badger, error) {
	const op = "kv.Open"
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	// Not what is above: a drive that is gone is not to be made again.
	if err := os.Mkdir(base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, errs.E(op, errs.Other, err)
	}
	dirs, next, err := liveDirs(base)
	if err != nil {
		return nil, errs.E(op, errs.Other, err)
	}
	var keep string
	for _, dir := range dirs {
		if keep == "" && !o.Fresh && dirty(dir) == nil {
			keep = dir
		} else if err := os.RemoveAll(dir); err != nil {
			return nil, errs.E(op, errs.Other, err)
		}
	}
	if err := o.verify(keep); err != nil {
		return nil, err
	}
	if keep != "" {
		if b, err := openIndex(base, keep, o); err == nil {
			return b, nil
		} else {
			o.Logger.Error("a cleanly closed index does not open; it is rebuilt", "dir", keep, "err", err)
		}
		if err := os.RemoveAll(keep); err != nil {
			return nil, errs.E(op, errs.Other, err)
		}
	}
	if err := o.verify(o.Checkpoint); err != nil { // the live tables are links to its
		return nil, err
	}
	if len(dirs) > 0 && keep == "" && !o.Fresh {
		o.Logger.Info("the metadata index was not closed cleanly: it is made again from its checkpoint and the raft log")
	}
	dir := filepath.Join(base, fmt.Sprintf("%s%08d", livePrefix, next))
	if o.Checkpoint == "" {
		err = os.Mkdir(dir, 0o700)
	} else {
		err = RestoreFrom(o.Checkpoint, dir)
	}
	if err != nil {
		return nil, errs.E(op, errs.Other, err)
	}
	return openIndex(base, dir, o)
}

// openIndex opens a live directory that may be trusted: its tree and its values.
func openIndex(base, dir string, o Options) (*Badger, error) {
	b, err := openBadger(base, dir, o.Logger)
	if err != nil {
		return nil, err
	}
	v := b.values
	v.bulky = o.Bulky
	if o.valueFileSize != 0 {
		v.limit = o.valueFileSize
	}
	if o.fs != nil {
		v.fs = o.fs
	}
	if err := v.load(); err != nil {
		return nil, errors.Join(err, v.close(), b.db.Close(), b.logs.close())
	}
	b.startCleaner()
	return b, nil
}

// dirty removes the mark of a clean stop, durably, before anything is written; an
// error means that there was none that holds.
func dirty(dir string) error {
	if _, err := readFileList(dir, cleanList); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, cleanList)); err != nil {
		return err
	}
	return syncPath(dir)
}

// liveDirs lists the live directories in base, and a number that none has.
func liveDirs(base string) (dirs []string, next int, err error) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		num, ok := strings.CutPrefix(e.Name(), livePrefix)
		if !ok {
			continue
		}
		dirs = append(dirs, filepath.Join(base, e.Name()))
		if n, err := strconv.Atoi(num); err == nil {
			next = max(next, n+1)
		}
	}
	return dirs, next, nil
}

// Close implements Store: everything is on the drive, and the next Open uses it,
// when it returns nil.
func (b *Badger) Close() error {
	const op = "kv.Close"
	b.cleaner.end()
	b.cleaner.wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	b.gone.Store(true)
	b.life.Lock() // waits for Views
	defer b.life.Unlock()
	list := b.values.list()
	if err := errors.Join(b.db.Close(), b.logs.close(), b.values.close()); err != nil {
		return errs.E(op, errs.Other, err)
	}
	if b.failed != nil {
		return nil // no clean stop: the next Open rebuilds
	}
	if err := list.write(b.dir); err != nil {
		return errs.E(op, errs.Other, err)
	}
	// The pins are not given back: Badger would empty the checkpoint's tables.
	if _, err := writeFileList(b.dir, cleanList, b.durable.has); err != nil {
		return errs.E(op, errs.Other, errors.Join(err, removeIfThere(filepath.Join(b.dir, cleanList))))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Abandon gives the store up without touching its files: for a drive that is gone or
// hangs, where Close would wait for it. What Badger keeps trying in the background
// fails quietly; its memory is lost until the process ends. There is no clean mark.
func (b *Badger) Abandon() {
	b.gone.Store(true)
	b.muted.Store(true)
	b.cleaner.end()
}
