package fusefs

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"twofold/internal/errs"
)

// A mount that is killed takes its connection to the kernel with it, and whoever waits for
// an answer gets an error: when the last descriptor of /dev/fuse is closed. But a thread
// that has just asked the kernel to forget something may be in an uninterruptible wait
// (EntryNotify for the lock of a directory, InodeNotify for pages) for a request that waits
// for this process. SIGKILL does not end that thread, so the descriptor stays open, and
// both wait for ever. Hence a second process, which sees that this one is to die and aborts
// the connection. It has no part in anything else.
//
// It looks, for nothing tells it: a pidfd is not readable, nor is PR_SET_PDEATHSIG's signal
// sure to come, before the last thread has ended.

// guardEvery is how often the guard looks, and so for how long at most a mount that was
// killed keeps others waiting.
const guardEvery = time.Second

// dyingTime is more than a process that is killed needs to end.
const dyingTime = 200 * time.Millisecond

// Guard starts the guard: a command that calls RunGuard with the arguments behind those
// given. It ends by itself. Without CAP_SYS_ADMIN it could not abort anything, and none is
// started.
func (s *Server) Guard(command ...string) error {
	const op = "fusefs.Guard"
	if os.Geteuid() != 0 {
		return nil
	}
	table, err := mountTable()
	if err != nil {
		return errs.E(op, errs.Other, err)
	}
	m, ok := table.at(s.mountpoint)
	if !ok {
		return errs.Newf(op, errs.NotFound, "%s is not mounted any more", s.mountpoint)
	}
	// What others have left open in this process is not for it: it ends a moment later, and
	// somebody may wait for the end of a pipe.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		s.log.Debug("descriptors are inherited by the process that guards the mount", "err", err)
	}
	args := append(command[1:len(command):len(command)], strconv.Itoa(os.Getpid()), m.device, s.mountpoint)
	cmd := exec.Command(command[0], args...)
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errs.E(op, errs.Other, err)
	}
	go func() {
		s.log.Warn("the process that guards the mount has ended", "err", cmd.Wait())
	}()
	return nil
}

// RunGuard waits until the process that called Guard ends, or is killed and can't: then it
// aborts the connection of its mount. The mount stays where it is, and everything in it is
// ENOTCONN: what lies under it is not for the programs that use it.
//
// Of a process that has ended the kernel has closed the connection. At its path there may be
// another mount already, with the device number of the old one: that is left alone.
func RunGuard(args []string) error {
	const op = "fusefs.RunGuard"
	if len(args) != 3 {
		return errs.Newf(op, errs.Invalid, "it is started by a mount")
	}
	parent, err := strconv.Atoi(args[0])
	if err != nil {
		return errs.E(op, errs.Invalid, err)
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	for os.Getppid() == parent {
		if held(parent) {
			time.Sleep(dyingTime)
			if os.Getppid() == parent && held(parent) {
				return abort(args[1], args[2])
			}
		}
		time.Sleep(guardEvery)
	}
	return nil
}

// held reports whether a process was killed and has threads that have not ended.
func held(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	if bytes.Contains(b, []byte("\nState:\tZ")) { // its first thread has ended
		return !bytes.Contains(b, []byte("\nThreads:\t1\n"))
	}
	return fatalPending(b)
}

// abort aborts the connection of the mount of a device at a path. umount2(2) with MNT_FORCE
// does so, and fails as long as there is a use of the mount, which this is one of.
func abort(device, path string) error {
	const op = "fusefs.abort"
	table, err := mountTable()
	if err != nil {
		return errs.E(op, errs.Other, err)
	}
	if m, ok := table.at(path); !ok || m.device != device || !m.ours() {
		return nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return errs.E(op, errs.Other, fmt.Errorf("%s: %w", path, err))
	}
	defer unix.Close(fd)
	if err := unix.Unmount(path, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EBUSY {
		return errs.E(op, errs.Other, fmt.Errorf("%s: %w", path, err))
	}
	return nil
}

// keepConnections has no program that this process starts inherit descriptors of /dev/fuse,
// as go-fuse opens them: a connection ends when the last one is closed.
func keepConnections() {
	list, _ := filepath.Glob("/proc/self/fd/*")
	for _, name := range list {
		if to, err := os.Readlink(name); err == nil && to == "/dev/fuse" {
			if fd, err := strconv.Atoi(filepath.Base(name)); err == nil {
				unix.CloseOnExec(fd)
			}
		}
	}
}
