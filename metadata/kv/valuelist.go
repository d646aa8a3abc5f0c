package kv

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"twofold/internal/errs"
)

// valueListName is the file in a checkpoint, or in a cleanly closed live directory,
// that says which value files there are. Without it there are none.
const valueListName = "VALUES"

const valueListVersion = 1

// valueList is its content.
type valueList struct {
	Version int         `json:"version"`
	Next    uint32      `json:"next"` // number of the next file
	Files   []valueInfo `json:"files"`
}

// valueInfo is a file in which something is alive.
type valueInfo struct {
	File uint32 `json:"file"`
	Size int64  `json:"size"` // bytes up to which records lie
	Live int64  `json:"live"` // bytes of the records that the tree points to
}

// list is what is there now. Badger.mu is held.
func (v *values) list() valueList {
	l := valueList{Version: valueListVersion, Next: v.next}
	for _, f := range v.files {
		if f.live > 0 {
			l.Files = append(l.Files, valueInfo{f.id, f.size, f.live})
		}
	}
	sort.Slice(l.Files, func(i, j int) bool { return l.Files[i].File < l.Files[j].File })
	return l
}

// write writes the list to dir, without an fsync. A store that never had a value file
// writes none, and stays one that older programs read.
func (l valueList) write(dir string) error {
	if l.Next == 1 {
		return nil
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, valueListName), raw, 0o600)
}

// cut gives the files that the newest version needs a name in dir, a checkpoint.
// They are sealed first: the next batch begins a new file, and these never change.
func (v *values) cut(dir string) error {
	v.seal()
	if v.due() {
		v.wake()
	}
	for _, f := range v.files {
		if f.live == 0 {
			continue
		}
		if err := linkOrCopy(v.path(f), filepath.Join(dir, valueName(f.id))); err != nil {
			return err
		}
	}
	return v.list().write(dir)
}

// load opens the files of a directory that may be trusted. What else of that kind
// lies there was to be removed.
func (v *values) load() error {
	const op = "kv.loadValues"
	l, err := readValueList(v.dir)
	if err != nil {
		return err
	}
	v.next = max(l.Next, 1)
	for _, info := range l.Files {
		f := &valueFile{id: info.File, size: info.Size, live: info.Live, sealed: true}
		if v.files[f.id] != nil || f.id >= v.next || f.live <= 0 || f.live > f.size {
			return errs.Newf(op, errs.Corrupt, "%s in %s lists %+v", valueListName, v.dir, info)
		}
		if f.f, err = v.fs.Open(v.path(f)); err != nil {
			return errs.E(op, errs.Corrupt, err)
		}
		v.files[f.id] = f
		if err := f.check(); err != nil {
			return err
		}
		v.sealed.files++
		v.sealed.size += f.size
		v.sealed.live += f.live
	}
	return v.sweep()
}

// check looks whether an opened file is what its name says, and long enough.
func (f *valueFile) check() error {
	const op = "kv.loadValues"
	info, err := f.f.Stat()
	if err != nil {
		return errs.E(op, errs.Other, err)
	}
	if info.Size < f.size {
		return errs.Newf(op, errs.Corrupt, "%s has %d bytes, not %d", valueName(f.id), info.Size, f.size)
	}
	head := make([]byte, fileHeadLen)
	if _, err := f.f.ReadAt(head, 0); err != nil {
		return errs.E(op, errs.Corrupt, err)
	}
	return checkFileHead(head, f.id)
}

// sweep removes value files that are not listed.
func (v *values) sweep() error {
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return errs.E("kv.loadValues", errs.Other, err)
	}
	listed := make(map[string]bool, len(v.files))
	for id := range v.files {
		listed[valueName(id)] = true
	}
	for _, e := range entries {
		if isValues(e.Name()) && !listed[e.Name()] {
			if err := v.fs.Remove(filepath.Join(v.dir, e.Name())); err != nil {
				return errs.E("kv.loadValues", errs.Other, err)
			}
		}
	}
	return nil
}

// readValueList reads a directory's list; an empty one where there is none.
func readValueList(dir string) (l valueList, err error) {
	const op = "kv.readValueList"
	raw, err := os.ReadFile(filepath.Join(dir, valueListName))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	} else if err != nil {
		return l, errs.E(op, errs.Other, err)
	}
	if err := json.Unmarshal(raw, &l); err != nil || l.Version < 1 {
		return l, errs.Newf(op, errs.Corrupt, "%s in %s is not a list of value files", valueListName, dir)
	}
	if l.Version > valueListVersion {
		return l, errs.Newf(op, errs.Unsupported, "%s in %s is of version %d, this program knows %d", valueListName, dir, l.Version, valueListVersion)
	}
	return l, nil
}
