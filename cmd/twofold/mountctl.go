package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// A mount process can be asked for and told to stop through a Unix socket in the
// abstract namespace, named by the user and the mount point: it is gone when the
// process is, and nothing is left on disk. A server that is started again finds the
// mount of before in this way.
//
// The protocol is one line each way: "status" -> "pid N"; "stop" -> "ok" when it is
// unmounted, or the reason why not. A connection that sends nothing stays open until
// the process ends.

func controlAddress(dir string) (*net.UnixAddr, error) {
	abs, err := realPath(dir)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(abs))
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@twofold-mount-%d-%x", os.Getuid(), sum[:12])}, nil
}

// serveControl answers until ctx ends. stop unmounts. errors: another mount process
// has the same mount point.
func serveControl(ctx context.Context, dir string, stop func() error) error {
	addr, err := controlAddress(dir)
	if err != nil {
		return err
	}
	l, err := net.ListenUnix("unix", addr)
	if err != nil {
		return usage("another twofold mount process serves the mount point %s already", dir)
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go answerControl(c, stop)
		}
	}()
	return nil
}

func answerControl(c *net.UnixConn, stop func() error) {
	defer c.Close()
	if !sameUser(c) {
		return
	}
	r := bufio.NewReaderSize(c, 64)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch strings.TrimSpace(line) {
		case "status":
			fmt.Fprintf(c, "pid %d\n", os.Getpid())
		case "stop":
			if err := stop(); err != nil {
				fmt.Fprintln(c, strings.ReplaceAll(err.Error(), "\n", " "))
				continue
			}
			fmt.Fprintln(c, "ok")
		default:
			return
		}
	}
}

// sameUser checks the peer's credentials, unix(7) SO_PEERCRED: names in the abstract
// namespace have no permissions of their own.
func sameUser(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	raw.Control(func(fd uintptr) {
		cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		ok = err == nil && (int(cred.Uid) == os.Getuid() || cred.Uid == 0)
	})
	return ok
}

// findMount connects to the mount process that serves dir, if there is one.
func findMount(dir string) (*net.UnixConn, bool) {
	addr, err := controlAddress(dir)
	if err != nil {
		return nil, false
	}
	c, err := net.DialUnix("unix", nil, addr)
	if err != nil {
		return nil, false
	}
	if !sameUser(c) {
		c.Close()
		return nil, false
	}
	return c, true
}

// stopMount asks the mount process of dir to unmount and waits until it has.
func stopMount(dir string, timeout time.Duration) error {
	c, ok := findMount(dir)
	if !ok {
		return nil
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	if _, err := fmt.Fprintln(c, "stop"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the mount process of %s did not answer: %w", dir, err)
	}
	if line = strings.TrimSpace(line); line != "ok" {
		return fmt.Errorf("%s", line)
	}
	return nil
}
