package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// A server is a small supervisor and one worker, which does everything. The worker's
// metadata index is mapped into its memory, and a drive that dies under a mapping
// kills the process (SIGBUS): the supervisor starts it again, and it comes back
// without the drive, within a second or two. Whoever kills the supervisor kills the
// worker with it (PR_SET_PDEATHSIG); the mount is a process that outlives both.

// workerEnv marks the worker's environment.
const workerEnv = "TWOFOLD_WORKER"

// crashesInARow is after how many crashes without a quiet minute between them the
// supervisor gives up: then the fault is not one that a restart heals.
const crashesInARow = 10

type supervisor struct {
	args  []string // the worker's command line
	log   *slog.Logger
	mount *mountKeeper // nil without --mount
}

// run starts the worker and keeps it running until it ends by itself, or a signal
// asks to stop. It returns the worker's exit status.
func (s *supervisor) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	crashes, last := 0, time.Time{}
	for {
		w, err := startWorker(s.args)
		if err != nil {
			return err
		}
		if s.mount != nil {
			s.mount.start(w.ready)
		}
		asked, err := s.watch(w, signals)
		// One that served and then gave up is started again too: the metadata index
		// ends its process with status 1 when a drive's directories vanish under it.
		again := crashed(err) || err != nil && w.served.Load()
		if asked || !again {
			if s.mount != nil {
				s.mount.stop()
			}
			return exitOf(err)
		}
		if time.Since(last) > time.Minute {
			crashes = 0
		}
		crashes, last = crashes+1, time.Now()
		if crashes >= crashesInARow {
			return fmt.Errorf("the server crashed %d times in a row: %w", crashes, err)
		}
		s.log.Error("the server process crashed and is started again", "err", err, "crashes", crashes)
		select {
		case <-time.After(time.Duration(crashes) * 200 * time.Millisecond):
		case <-signals:
			if s.mount != nil {
				s.mount.stop()
			}
			return exitOf(err)
		}
	}
}

// sameSignal is how long after a signal another one is taken for the same: timeout(1)
// and some supervisors signal the process and its group.
const sameSignal = 500 * time.Millisecond

// watch waits for the worker's end. A signal first unmounts (the mount flushes into
// the worker), and is then passed on; a later second one kills.
func (s *supervisor) watch(w *worker, signals <-chan os.Signal) (asked bool, err error) {
	var first time.Time
	for {
		select {
		case err := <-w.done:
			return asked, err
		case <-signals:
			if asked && time.Since(first) < sameSignal {
				continue
			}
			if asked {
				w.cmd.Process.Kill()
				continue
			}
			asked, first = true, time.Now()
			s.log.Info("stopping: unmounting and draining requests; once more to stop at once")
			go func() {
				if s.mount != nil {
					s.mount.stop()
				}
				w.cmd.Process.Signal(syscall.SIGTERM)
			}()
		}
	}
}

type worker struct {
	cmd    *exec.Cmd
	ready  chan string // gets the address when the worker serves; closed when it ends
	served atomic.Bool // it came so far
	done   chan error
}

// startWorker runs this program again as the worker. The pipe tells when it serves.
func startWorker(args []string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, wr, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	w := &worker{ready: make(chan string, 1), done: make(chan error, 1)}
	w.cmd = exec.Command(self, args...)
	w.cmd.Env = append(os.Environ(), workerEnv+"=3", "GOTRACEBACK=crash")
	w.cmd.Stdout, w.cmd.Stderr = os.Stdout, os.Stderr
	w.cmd.ExtraFiles = []*os.File{wr}
	// A process group of its own: Ctrl-C in the terminal is for the supervisor,
	// which unmounts before it passes it on.
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The death signal is tied to the thread that forks: it must live on.
		runtime.LockOSThread()
		err := w.cmd.Start()
		wr.Close()
		started <- err
		if err == nil {
			w.done <- w.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		r.Close()
		return nil, err
	}
	go func() {
		defer r.Close()
		defer close(w.ready)
		b, _ := io.ReadAll(io.LimitReader(r, 4096))
		if len(b) > 0 {
			w.served.Store(true)
			w.ready <- string(b)
		}
	}()
	return w, nil
}

// tellReady is the worker's side: it writes the address it serves to the supervisor.
func tellReady(address string) {
	if os.Getenv(workerEnv) == "" {
		return
	}
	f := os.NewFile(3, "ready")
	f.WriteString(address)
	f.Close()
}

// crashed reports whether a worker ended by a signal: a Go crash is one too, SIGABRT,
// because workers run with GOTRACEBACK=crash.
func crashed(err error) bool {
	var e *exec.ExitError
	if !errors.As(err, &e) {
		return false
	}
	ws, ok := e.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled()
}

// exitOf passes a worker's exit status on; the worker has said why itself.
func exitOf(err error) error {
	var e *exec.ExitError
	if !errors.As(err, &e) {
		return err
	}
	ws, _ := e.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return statusError{fmt.Errorf("the server process was ended by signal %d (%v)", ws.Signal(), ws.Signal()), 128 + int(ws.Signal())}
	}
	return statusError{errors.New(""), ws.ExitStatus()}
}
