package cluster

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// openTun makes a tun device (Linux Documentation/networking/tuntap.rst) in the network of a process and
// returns its near end: what is read was sent by that network, what is written
// arrives in it.
func openTun(pid int, name string) (f *os.File, err error) {
	err = inNetwork(fmt.Sprintf("/proc/%d/ns/net", pid), func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("/dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(name)
		if err == nil {
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("TUNSETIFF: %w", err)
		}
		f = os.NewFile(uintptr(fd), name) // after TUNSETIFF: a device can be polled only then
		return nil
	})
	return f, err
}

// inNetwork calls fn on a thread that is in another network namespace. Sockets and
// devices that it makes stay there.
func inNetwork(path string, fn func() error) error {
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The process counts as where its first thread is. Another goroutine gets
			// another thread while this one is taken.
			defer runtime.UnlockOSThread()
			done <- inNetwork(path, fn)
			return
		}
		// Never unlocked: the thread ends with the goroutine, and nobody else gets one
		// that is in a foreign network.
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("setns: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}
