package node

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fileSystem tells which file system a directory is on (or will be on: its nearest
// ancestor that exists), by device number, and of what kind it is.
func fileSystem(path string) (dev uint64, kind string, ok bool) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return 0, "", false
	}
	for {
		if _, err := os.Stat(abs); err == nil {
			break
		}
		parent := filepath.Dir(abs)
		if parent == abs {
			return 0, "", false
		}
		abs = parent
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Stat(abs, &st) != nil || unix.Statfs(abs, &fs) != nil {
		return 0, "", false
	}
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC:
		kind = "ext4" // ext2 and ext3 share the number
	case unix.NFS_SUPER_MAGIC:
		kind = "nfs"
	case unix.TMPFS_MAGIC:
		kind = "tmpfs"
	}
	return st.Dev, kind, true
}
