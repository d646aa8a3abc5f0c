package kv

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"twofold/internal/errs"
)

// fileList names the files of a checkpoint, or of a cleanly closed live directory,
// with their sizes. It is the last file written there.
type fileList struct {
	Version int              `json:"version"`
	Files   map[string]int64 `json:"files"`
}

// Versions of a fileList. With value files it is the second, which programs that do
// not know of them refuse.
const (
	fileListVersion   = 1
	valuesListVersion = 2
)

// listFiles lists a directory's regular files, but for the one named except.
func listFiles(dir, except string) (fileList, error) {
	l := fileList{Version: fileListVersion, Files: map[string]int64{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return l, err
	}
	for _, e := range entries {
		if e.Name() == except || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return l, err
		}
		l.Files[e.Name()] = info.Size()
	}
	if _, ok := l.Files[valueListName]; ok {
		l.Version = valuesListVersion
	}
	return l, nil
}

// readFileList reads dir/name and checks that every file it lists is there with
// its size. errs.NotFound where there is no list.
func readFileList(dir, name string) (fileList, error) {
	const op = "kv.readFileList"
	var l fileList
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return l, errs.E(op, errs.NotFound, err)
	} else if err != nil {
		return l, errs.E(op, errs.Other, err)
	}
	if err := json.Unmarshal(raw, &l); err != nil || l.Version < fileListVersion || l.Version > valuesListVersion {
		return l, errs.Newf(op, errs.Corrupt, "%s in %s is not a list of files of version %d or %d", name, dir, fileListVersion, valuesListVersion)
	}
	for f, size := range l.Files {
		if filepath.Base(f) != f {
			return l, errs.Newf(op, errs.Corrupt, "%s in %s lists %q", name, dir, f)
		}
		switch info, err := os.Lstat(filepath.Join(dir, f)); {
		case err != nil:
			return l, errs.E(op, errs.Corrupt, err)
		case info.Size() != size:
			return l, errs.Newf(op, errs.Corrupt, "%s in %s has %d bytes, not %d", f, dir, info.Size(), size)
		}
	}
	return l, nil
}

// writeFileList writes dir/name durably: afterwards every file it lists, their
// directory entries and the list itself are on the drive. Files for which known
// returns true are durable already.
func writeFileList(dir, name string, known func(string) bool) (fileList, error) {
	l, err := listFiles(dir, name)
	if err != nil {
		return l, err
	}
	for _, f := range l.sorted() {
		if known == nil || !known(f) {
			if err := syncPath(filepath.Join(dir, f)); err != nil {
				return l, err
			}
		}
	}
	if err := syncPath(dir); err != nil {
		return l, err
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return l, err
	}
	if err := writeFileSync(filepath.Join(dir, name), raw); err != nil {
		return l, err
	}
	return l, syncPath(dir)
}

func (l fileList) sorted() []string {
	names := make([]string, 0, len(l.Files))
	for f := range l.Files {
		names = append(names, f)
	}
	sort.Strings(names)
	return names
}

// writeFileSync creates or replaces a file and fsyncs it, not its directory.
func writeFileSync(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// syncPath fsyncs a file or a directory.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// linkOrCopy gives a file that will never change a second name, or a second copy
// where the file system has no hard links.
func linkOrCopy(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
		return err
	}
	return copyFile(from, to)
}

// copyFile copies a file's content to a new file.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

// zeroTail is a run of zero bytes that no log of a memtable has inside: every entry
// begins with a non-empty key's length, and no value is as long.
const zeroTail = 2 << 20

// copyLog copies the written part of a memtable's log: a sparse file, mapped by
// Badger, with zeros behind the last entry. Nothing must be written to it meanwhile.
// errMoved for one that has been emptied.
func copyLog(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := out.Close(); err == nil {
			err = cerr
		}
	}()
	buf, zero := make([]byte, 256<<10), make([]byte, 256<<10)
	var end, off int64 // end of the last block that is not all zeros
	for off-end < zeroTail {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], off); err != nil {
				return err
			}
			end = off + int64(n)
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			return err
		}
	}
	if end == 0 { // not even a header: Badger is about to remove it
		return errMoved
	}
	return nil
}

// Badger's files, by name.
const (
	manifestName = "MANIFEST"
	registryName = "KEYREGISTRY"
)

func isTable(name string) bool { return strings.HasSuffix(name, ".sst") }
func isLog(name string) bool   { return strings.HasSuffix(name, logSuffix) }

// immutable tells whether a file of a checkpoint never changes.
func immutable(name string) bool { return isTable(name) || isValues(name) }
