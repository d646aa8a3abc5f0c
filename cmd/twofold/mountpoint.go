package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"twofold/engine/placement"
	"twofold/fusefs"
)

// Nothing here looks into a mount of ours that is there already: one whose server is
// away (and this may be the start of its server) answers when that is back.

// checkMountPoint refuses what can't be mounted on, before anything is changed.
func checkMountPoint(dir string) error {
	const choose = "choose an empty directory, or one that is not there yet"
	path, err := realPath(dir)
	if err != nil {
		return usage("the mount point %s: %w", dir, err)
	}
	if fusefs.IsMounted(path) {
		return nil // it goes on, or is dead and is cleared before the next one
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return checkParent(dir, filepath.Dir(path))
	case errors.Is(err, syscall.ENOTCONN):
		return usage("the mount point %s holds a dead mount of something else: unmount it by hand (umount -l %s)", dir, dir)
	case err != nil:
		return usage("the mount point %s can't be used: %w", dir, err)
	case !st.IsDir():
		return usage("the mount point %s is not a directory: %s", dir, choose)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return usage("the mount point %s can't be read: %w", dir, err)
	}
	if len(entries) > 0 {
		return usage("the mount point %s is not empty: mounting would hide what is in it; %s", dir, choose)
	}
	return checkOwner(dir, path, st)
}

// checkOwner is what fusermount3 asks of who mounts and is not root.
func checkOwner(dir, path string, st fs.FileInfo) error {
	if os.Geteuid() == 0 {
		return nil
	}
	s, ok := st.Sys().(*syscall.Stat_t)
	sticky := st.Mode()&fs.ModeSticky != 0
	if ok && sticky && int(s.Uid) != os.Getuid() || unix.Access(path, unix.W_OK) != nil {
		return usage("the mount point %s is another user's: mounting without root takes a directory of your own", dir)
	}
	return nil
}

// checkParent says whether the mount point can be made in the nearest directory that
// there is.
func checkParent(dir, parent string) error {
	for {
		st, err := os.Stat(parent)
		switch {
		case errors.Is(err, fs.ErrNotExist) && filepath.Dir(parent) != parent:
			parent = filepath.Dir(parent)
			continue
		case err != nil:
			return usage("the mount point %s can't be made: %w", dir, err)
		case !st.IsDir():
			return usage("the mount point %s can't be made: %s is not a directory", dir, parent)
		case unix.Access(parent, unix.W_OK|unix.X_OK) != nil:
			return usage("the mount point %s can't be made: you may not write in %s", dir, parent)
		}
		return nil
	}
}

// checkApart refuses a mount point that is, or holds, a drive, or lies in one, also by
// way of symbolic links.
func checkApart(mount string, drives []placement.Drive) error {
	dir, err := realPath(mount)
	if err != nil {
		return usage("--mount %s: %w", mount, err)
	}
	for _, d := range drives {
		p, err := realPath(d.Path)
		if err != nil {
			return usage("%s: %w", d.Path, err)
		}
		if within(p, dir) || within(dir, p) {
			return usage("--mount %s and the drive %s are one inside the other: choose another directory to mount on", mount, d.Path)
		}
	}
	return nil
}

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	r, err := filepath.Rel(dir, p)
	return err == nil && r != ".." && !(len(r) > 2 && r[:3] == "../")
}

// realPath is the absolute path without symbolic links. What is not there (yet)
// stays as it is.
func realPath(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	links := 40 // as the kernel allows, path_resolution(7)
	return followLinks(abs, &links)
}

func followLinks(p string, links *int) (string, error) {
	parent := filepath.Dir(p)
	if parent == p {
		return p, nil
	}
	parent, err := followLinks(parent, links)
	if err != nil {
		return "", err
	}
	p = filepath.Join(parent, filepath.Base(p))
	if fusefs.IsMounted(p) {
		return p, nil
	}
	to, err := os.Readlink(p)
	if err != nil {
		return p, nil // no link
	}
	if *links--; *links < 0 {
		return "", syscall.ELOOP
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(parent, to)
	}
	return followLinks(to, links)
}

// prepareMountPoint clears what a killed mount left, and says whether dir can be
// mounted on. The caller is the only mount process of the directory.
func prepareMountPoint(dir string, log *slog.Logger) error {
	path, err := realPath(dir)
	if err != nil {
		return usage("the mount point %s: %w", dir, err)
	}
	cleared, err := fusefs.ClearStale(path)
	if err != nil {
		return plain(err)
	}
	if cleared {
		log.Info("cleared what a mount that died had left", "dir", dir)
	}
	return checkMountPoint(dir)
}

// makeMountPoint makes the directory where it is not there.
func makeMountPoint(dir string) error {
	path, err := realPath(dir)
	if err == nil {
		err = os.MkdirAll(path, 0o755)
	}
	if err != nil {
		return usage("the mount point %s can't be made: %w", dir, err)
	}
	return nil
}
