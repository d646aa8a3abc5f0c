package flock

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Box holds open files outside of any process's table of descriptors: as a message
// with SCM_RIGHTS (unix(7)) in a socket, where it stays until the next process takes
// it out. It lives as long as any process has its two ends. The one that has them for this only, and starts
// the others, does not have the files: it can end, and start programs, when a file
// system hangs whose files would be closed by that (execve(2) closes what is marked
// so, and a FUSE file system is told of each close and may not answer).
//
// The last message tells what is in the box. A change puts the new message in before
// the old one is taken out.
type Box struct {
	in, out *os.File
	queued  int // messages
}

// maxKept is how many files a message can have (SCM_MAX_FD of the kernel's). What is
// more is not kept.
const maxKept = 253

// NewBox makes an empty box.
func NewBox() (*Box, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	return BoxOf(os.NewFile(uintptr(fds[0]), "box"), os.NewFile(uintptr(fds[1]), "box")), nil
}

// BoxOf is the box with these ends, which another process passed on.
func BoxOf(in, out *os.File) *Box { return &Box{in: in, out: out} }

// Ends are what to pass to another process for BoxOf.
func (b *Box) Ends() (in, out *os.File) { return b.in, b.out }

// put makes the files what is in the box.
func (b *Box) put(paths []string, files map[string]*os.File) error {
	paths = paths[:min(len(paths), maxKept)]
	fds := make([]int, len(paths))
	for i, p := range paths {
		fds[i] = int(files[p].Fd())
	}
	raw, err := json.Marshal(paths)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(int(b.in.Fd()), raw, unix.UnixRights(fds...), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	// Reading without space for the files drops them, and does not close them as
	// close(2) does, which may hang.
	for ; b.queued > 0; b.queued-- {
		if _, _, _, _, err := unix.Recvmsg(int(b.out.Fd()), make([]byte, 1), nil, unix.MSG_DONTWAIT); err != nil {
			break
		}
	}
	b.queued = 1
	return nil
}

// take empties the box and returns what was in it.
func (b *Box) take() (map[string]*os.File, error) {
	files := map[string]*os.File{}
	for {
		paths, fds, err := b.receive()
		if err == unix.EAGAIN {
			return files, nil
		}
		if err != nil {
			return files, err
		}
		for _, f := range files {
			go f.Close() // of an older message: a FUSE file system may hang in it
		}
		clear(files)
		for i, fd := range fds {
			files[paths[i]] = os.NewFile(uintptr(fd), paths[i])
		}
	}
}

// receive takes one message; EAGAIN when there is none.
func (b *Box) receive() (paths []string, fds []int, err error) {
	raw, control := make([]byte, 1<<20), make([]byte, unix.CmsgSpace(4*maxKept))
	n, c, flags, _, err := unix.Recvmsg(int(b.out.Fd()), raw, control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:c])
	if err != nil {
		return nil, nil, os.NewSyscallError("recvmsg", err)
	}
	for i := range messages {
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, nil, os.NewSyscallError("recvmsg", err)
		}
		fds = append(fds, more...)
	}
	if err := json.Unmarshal(raw[:n], &paths); err != nil || len(paths) != len(fds) || flags&unix.MSG_CTRUNC != 0 {
		for _, fd := range fds {
			go unix.Close(fd)
		}
		return nil, nil, fmt.Errorf("flock: a message of %d names and %d files: %w", len(paths), len(fds), os.ErrInvalid)
	}
	return paths, fds, nil
}
