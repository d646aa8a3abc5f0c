package fusefs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"twofold/internal/errs"
)

const mntDetach = 2 // MNT_DETACH

// unmount takes a mount out of the tree: as root by itself, else with the helper.
// errs.Busy while something is open in it, unless lazy.
func unmount(path string, lazy bool) error {
	flags := 0
	if lazy {
		flags = mntDetach
	}
	err := syscall.Unmount(path, flags)
	if err == nil || errors.Is(err, syscall.EINVAL) { // EINVAL: not mounted any more
		return nil
	}
	if errors.Is(err, syscall.EPERM) {
		err = unmountHelper(path, lazy)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.EBUSY) || strings.Contains(err.Error(), "busy") {
		return errs.Newf("fusefs.Unmount", errs.Busy, "%s is in use%s", path, users(path))
	}
	return errs.E("fusefs.Unmount", errs.Other, fmt.Errorf("%s: %w", path, err))
}

func unmountHelper(path string, lazy bool) error {
	bin, err := helper()
	if err != nil {
		return fmt.Errorf("fusermount3 is not installed (apt install fuse3): %w", err)
	}
	args := []string{"-u", "--", path}
	if lazy {
		args = []string{"-u", "-z", "--", path}
	}
	out, err := exec.Command(bin, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w", strings.TrimSpace(string(out)), err)
	}
	return nil
}

// users names processes that have something open below path, as far as /proc shows
// them to us. It reads links only, and never touches the mount.
func users(path string) string {
	const most = 5
	procs, _ := filepath.Glob("/proc/[0-9]*")
	var names []string
	for _, p := range procs {
		pid, _ := strconv.Atoi(filepath.Base(p))
		if !uses(p, path) {
			continue
		}
		comm, _ := os.ReadFile(p + "/comm")
		names = append(names, fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), pid))
		if len(names) == most {
			names = append(names, "...")
			break
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " by " + strings.Join(names, ", ")
}

func uses(proc, path string) bool {
	links, _ := filepath.Glob(proc + "/fd/*")
	maps, _ := filepath.Glob(proc + "/map_files/*")
	links = append(append(links, maps...), proc+"/cwd", proc+"/root", proc+"/exe")
	for _, l := range links {
		to, err := os.Readlink(l)
		if err == nil && (to == path || strings.HasPrefix(to, path+"/")) {
			return true
		}
	}
	return false
}
