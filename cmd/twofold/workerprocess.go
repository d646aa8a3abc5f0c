package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// worker is a worker process, as the supervisor sees it.
type worker struct {
	cmd    *exec.Cmd
	ready  chan string   // gets the address when the worker serves; closed when it ends
	served atomic.Bool   // it came so far
	beats  atomic.Uint64 // signs of life
	done   chan error
}

// startWorker runs this program again as the worker.
func startWorker(args []string, l *legacy, afterCrash bool) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ready, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyW.Close()
	alive, aliveW, err := os.Pipe()
	if err != nil {
		ready.Close()
		return nil, err
	}
	defer aliveW.Close()
	w := &worker{ready: make(chan string, 1), done: make(chan error, 1)}
	w.cmd = exec.Command(self, args...)
	w.cmd.Env = append(os.Environ(), workerEnv+"=1", "GOTRACEBACK=crash")
	if afterCrash {
		w.cmd.Env = append(w.cmd.Env, crashEnv+"=1")
	}
	w.cmd.Stdout, w.cmd.Stderr = os.Stdout, os.Stderr
	w.cmd.ExtraFiles = append([]*os.File{readyW, aliveW}, l.files()...)
	// A process group of its own: Ctrl-C in the terminal is for the supervisor,
	// which unmounts before it passes it on.
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The death signal is tied to the thread that forks: it must live on.
		runtime.LockOSThread()
		err := w.cmd.Start()
		started <- err
		if err == nil {
			w.done <- w.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		ready.Close()
		alive.Close()
		return nil, err
	}
	go w.awaitReady(ready)
	go w.countBeats(alive)
	return w, nil
}

func (w *worker) awaitReady(r *os.File) {
	defer r.Close()
	defer close(w.ready)
	b, _ := io.ReadAll(io.LimitReader(r, 4096))
	if len(b) > 0 {
		w.served.Store(true)
		w.ready <- string(b)
	}
}

func (w *worker) countBeats(r *os.File) {
	defer r.Close()
	for b := make([]byte, 64); ; {
		n, err := r.Read(b)
		if err != nil {
			return
		}
		w.beats.Add(uint64(n))
	}
}

// state is the process's state in one letter, proc_pid_stat(5): T and t are stopped by
// a signal and by a debugger, Z is dead. 0 where there is no such process.
func (w *worker) state() byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	rest := b[strings.LastIndexByte(string(b), ')')+1:]
	if len(rest) < 2 {
		return 0
	}
	return rest[1]
}

// errStuck is the end of a worker that was killed and is not gone: threads of it wait
// inside a file system that hangs.
var errStuck = errors.New("the process was killed and can't end: a drive hangs, and threads of it wait there")

// end kills the worker and waits until it is gone, no longer than limit: errStuck.
func (w *worker) end(limit time.Duration) error {
	sever(w.cmd.Process.Pid)
	w.cmd.Process.Kill()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-w.done:
		return err
	case <-t.C:
		return errStuck
	}
}

// sever ends the connections of a process that is about to be killed and may not be
// gone for long: they would stay open, and their clients wait for an answer. It shuts
// the sockets down (shutdown(2) is of the socket, not of a descriptor) by descriptors
// of its own, pidfd_getfd(2). Where that is not allowed, clients wait as long as they
// do for any server that does not answer.
func sever(pid int) {
	task := fmt.Sprintf("/proc/%d/task", pid)
	for _, t := range names(task) {
		var tid int
		fmt.Sscan(t, &tid)
		flags := 0
		if tid != pid {
			flags = unix.O_EXCL // PIDFD_THREAD: the first thread may be dead and have none
		}
		p, err := unix.PidfdOpen(tid, flags)
		if err != nil {
			continue
		}
		fds := names(task + "/" + t + "/fd")
		for _, n := range fds {
			if to, err := os.Readlink(task + "/" + t + "/fd/" + n); err == nil && strings.HasPrefix(to, "socket:") {
				var fd int
				fmt.Sscan(n, &fd)
				severOne(p, fd)
			}
		}
		unix.Close(p)
		if len(fds) > 0 {
			return // the threads share them
		}
	}
}

// severOne shuts down a descriptor of the process if it is a connection.
func severOne(pidfd, n int) {
	fd, err := unix.PidfdGetfd(pidfd, n, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || family != unix.AF_INET && family != unix.AF_INET6 {
		return
	}
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listens == 0 {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	}
}

// names lists a directory; none where it can't be read.
func names(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	n, _ := f.Readdirnames(-1)
	return n
}
