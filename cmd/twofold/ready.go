package main

import (
	"io"
	"log/syslog"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// readyVar is in the environment of a mount process that mount(8) waits for: the number
// of the descriptor to write a line to when it serves. From then on the process is a
// daemon: nothing of the terminal is its own any more, and its log goes to syslog(3).
const readyVar = "TWOFOLD_READY"

// readiness is the one who waits, if somebody does.
type readiness struct {
	pipe *os.File // nil: nobody

	mu  sync.Mutex
	log io.Writer
}

var _ io.Writer = (*readiness)(nil)

func newReadiness() *readiness {
	r := &readiness{log: os.Stderr}
	if fd, err := strconv.Atoi(os.Getenv(readyVar)); err == nil && fd > 2 {
		unix.CloseOnExec(fd)
		r.pipe = os.NewFile(uintptr(fd), "ready")
	}
	os.Unsetenv(readyVar)
	return r
}

// Write writes to the log of the moment.
func (r *readiness) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

// tell says that the mount serves.
func (r *readiness) tell() {
	if r.pipe == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = io.Discard
	if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "twofold-mount"); err == nil {
		r.log = w
	}
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		for fd := range 3 {
			unix.Dup3(int(null.Fd()), fd, 0)
		}
		null.Close()
	}
	r.pipe.WriteString("ready\n")
	r.pipe.Close()
}
