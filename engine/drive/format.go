package drive

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// Names in a drive's directory. MetaDir belongs to the metadata replica.
const (
	FormatName  = "format.json"
	MetaDir     = "meta"
	blobsDir    = "blobs"
	tmpDir      = "tmp"
	lockName    = "lock"
	healingName = "healing"
	formatTmp   = FormatName + ".tmp"

	// FormatVersion is the version of the layout that this program writes.
	FormatVersion = 1
	maxFormat     = 64 << 10 // bytes of a format file that are read
)

// Format is what a drive knows about itself: the content of its format.json.
type Format struct {
	Version int               `json:"version"`
	Cluster twofold.ClusterID `json:"cluster"`
	Drive   twofold.DriveID   `json:"drive"`
	// Pool, Set and Index are the drive's position, from 0.
	Pool  uint16 `json:"pool"`
	Set   uint16 `json:"set"`
	Index int    `json:"index"`
	// Sets and SetSize are the shape of its pool: sets, and drives in each.
	Sets    int          `json:"sets"`
	SetSize int          `json:"set_size"`
	Created twofold.Time `json:"created"` // nanoseconds since the Unix epoch
}

// formatFile is Format as stored: with a hash over its JSON without the hash, so
// that a flipped digit is not taken for another drive.
type formatFile struct {
	Format
	Hash string `json:"hash"`
}

// SetID is the set that the drive belongs to.
func (f *Format) SetID() twofold.SetID { return twofold.SetID{Pool: f.Pool, Set: f.Set} }

// check tells what is wrong with the values, in words.
func (f *Format) check() error {
	switch {
	case f.Cluster.IsZero() || f.Drive.IsZero():
		return errors.New("cluster or drive id is missing")
	case f.Sets < 1 || f.Sets > 1<<16 || f.SetSize < 1 || f.SetSize > maxShards:
		return fmt.Errorf("a pool of %d sets of %d drives", f.Sets, f.SetSize)
	case int(f.Set) >= f.Sets || f.Index < 0 || f.Index >= f.SetSize:
		return fmt.Errorf("drive %d of set %d in a pool of %d sets of %d drives", f.Index, f.Set, f.Sets, f.SetSize)
	}
	return nil
}

func (f *Format) hash() (string, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	s := sum(b, 0)
	return hex.EncodeToString(s[:]), nil
}

// encodeFormat is the content of format.json.
func encodeFormat(f Format) ([]byte, error) {
	h, err := f.hash()
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(formatFile{Format: f, Hash: h}, "", "  ")
	return append(b, '\n'), err
}

// parseFormat reads the content of format.json. errs.Corrupt, or errs.Unsupported
// for a version of the future.
func parseFormat(b []byte) (Format, error) {
	const op = "drive.ReadFormat"
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Format{}, &errs.Error{Op: op, Kind: errs.Corrupt, Msg: FormatName + " can't be read", Err: err}
	}
	if v.Version > FormatVersion {
		return Format{}, errs.Newf(op, errs.Unsupported,
			"%s has version %d, written by a newer program; this one knows versions up to %d", FormatName, v.Version, FormatVersion)
	}
	var f formatFile
	if err := json.Unmarshal(b, &f); err != nil {
		return Format{}, &errs.Error{Op: op, Kind: errs.Corrupt, Msg: FormatName + " can't be read", Err: err}
	}
	h, err := f.Format.hash()
	if err == nil && h != f.Hash {
		err = errors.New("its hash does not match")
	}
	if err == nil && f.Version < 1 {
		err = fmt.Errorf("version %d", f.Version)
	}
	if err == nil {
		err = f.Format.check()
	}
	if err != nil {
		return Format{}, &errs.Error{Op: op, Kind: errs.Corrupt, Msg: FormatName + " is damaged", Err: err}
	}
	return f.Format, nil
}

// ReadFormat reads what the drive at a path says about itself. errs.NotFound: there
// is no directory, or a fresh one (empty but for lost+found, or with what an
// interrupted WriteFormat left). errs.Invalid: there is something that is not ours.
// errs.Corrupt: a format file that can't be trusted; errs.Unsupported: one of a
// newer program. It may hang where the file system does.
func ReadFormat(fsys vfs.FS, dir string) (Format, error) {
	const op = "drive.ReadFormat"
	b, err := vfs.ReadFile(fsys, path.Join(dir, FormatName), maxFormat)
	if err == nil {
		f, err := parseFormat(b)
		if err != nil {
			return f, errs.E(dir, errs.KindOf(err), err)
		}
		return f, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		foreign, lerr := foreignEntry(fsys, dir)
		switch {
		case errors.Is(lerr, fs.ErrNotExist):
			return Format{}, errs.Newf(op, errs.NotFound, "%s does not exist", dir)
		case lerr != nil:
			err = lerr
		case foreign != "":
			return Format{}, errs.Newf(op, errs.Invalid,
				"%s has no %s but is not empty: there is %q", dir, FormatName, foreign)
		default:
			return Format{}, errs.Newf(op, errs.NotFound, "%s is fresh", dir)
		}
	}
	k := kindOf(err)
	switch vfs.Errno(err) {
	case syscall.EFBIG, syscall.EISDIR:
		k = errs.Corrupt
	case syscall.ENOTDIR:
		k = errs.Invalid
	}
	return Format{}, errs.E(op, k, err)
}

// foreignEntry names an entry that a fresh drive does not have, or "".
func foreignEntry(fsys vfs.FS, dir string) (name string, err error) {
	err = fsys.List(dir, func(e vfs.Entry) error {
		switch e.Name {
		case "lost+found", formatTmp, lockName:
		default:
			name = e.Name
		}
		return nil
	})
	return name, err
}

// WriteFormat makes a fresh directory a drive, durably; a missing directory is made,
// its parent is not. errs.Exists where the directory has a format already,
// errs.Invalid where it has something else, errs.Busy while another process has it.
func WriteFormat(fsys vfs.FS, dir string, f Format) error {
	const op = "drive.WriteFormat"
	f.Version = FormatVersion
	if err := f.check(); err != nil {
		return errs.E(op, errs.Invalid, err)
	}
	if err := fsys.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return errs.E(op, kindOf(err), err)
	}
	// Also where it was there: whoever made it may have been killed before a sync.
	err := fsys.SyncDir(path.Dir(strings.TrimRight(dir, "/")))
	if err != nil && kindOf(err) != errs.Access {
		return errs.E(op, kindOf(err), err)
	}
	lock, err := lockDrive(fsys, dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	switch _, err := ReadFormat(fsys, dir); {
	case err == nil:
		return errs.Newf(op, errs.Exists, "%s is formatted already", dir)
	case !errs.Is(err, errs.NotFound):
		return err
	}
	b, err := encodeFormat(f)
	if err == nil {
		err = vfs.WriteFile(fsys, path.Join(dir, FormatName), b)
	}
	if err != nil {
		return errs.E(op, kindOf(err), err)
	}
	return nil
}
