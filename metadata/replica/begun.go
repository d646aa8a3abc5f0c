package replica

import (
	"errors"
	"io/fs"
	"os"
)

// Begun reports whether the drive at a path has a replica that was a member of its
// group. One that had not finished joining, or being made, was none; one that can't be
// read counts as one. It may hang where the file system does.
func Begun(path string) bool {
	d := Dir{Path: path}
	if _, err := os.Stat(d.g0()); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	id, err := readIdentity(d.g0())
	return err != nil || id != nil && id.Standing == member
}
