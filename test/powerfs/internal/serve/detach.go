package serve

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
)

// Detach takes a mount away at once, whoever uses it. That there is none is a success.
func Detach(dir string) error {
	err := syscall.Unmount(dir, syscall.MNT_DETACH)
	switch {
	case err == nil, errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOENT):
		return nil
	case errors.Is(err, syscall.EPERM):
		return fusermount("-uz", dir)
	}
	return err
}

// fusermount is for those who may not call umount2.
func fusermount(flag, dir string) error {
	out, err := exec.Command("fusermount3", flag, dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fusermount3 %s %s: %w: %s", flag, dir, err, out)
	}
	return nil
}
