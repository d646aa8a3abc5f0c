package replica

import (
	"os"
	"path/filepath"
)

// writeSync creates or replaces a file's content and fsyncs it, not its directory.
func writeSync(path string, data []byte) error {
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

// replaceSync replaces a file by a rename: after it the file has the old content or
// the new one, and when it returned nil the new one, whatever happens.
func replaceSync(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := writeSync(tmp, data); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// mkdirSync makes a directory below root, and what is missing between them, durably.
// It never makes root: a drive whose directory is gone is lost, and nothing may
// appear where it was.
func mkdirSync(root, path string) error {
	if _, err := os.Stat(path); err == nil || path == root {
		return err
	}
	parent := filepath.Dir(path)
	if err := mkdirSync(root, parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return syncDir(parent)
}

// syncDir fsyncs a directory.
func syncDir(path string) error {
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
