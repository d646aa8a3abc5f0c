package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// A server is a small supervisor and one worker, which does everything. The worker's
// metadata index is mapped into its memory. A drive that dies under a mapping kills
// the process (SIGBUS); one that hangs under it brings the process to a stop (beat).
// The supervisor kills a worker that gives no sign of life, and starts it again, and
// it comes back without the drive. Whoever kills the supervisor kills the worker with
// it (PR_SET_PDEATHSIG); the mount is a process that outlives both.
//
// The supervisor itself never touches a drive.

// crashesInARow is after how many crashes without a quiet minute between them the
// supervisor gives up on a server that never served: then the fault is not one that a
// restart heals.
const crashesInARow = 10

type supervisor struct {
	args   []string // the worker's command line
	log    *slog.Logger
	mount  *mountKeeper // nil without --mount
	legacy *legacy
	limits limits
}

// run starts the worker and keeps it running until it ends by itself, or a signal
// asks to stop. It returns the worker's exit status.
func (s *supervisor) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	served, crashes, last := false, 0, time.Time{}
	for {
		w, err := startWorker(s.args, s.legacy, crashes > 0)
		if err != nil {
			return err
		}
		if s.mount != nil {
			s.mount.start(w.ready)
		}
		asked, err := s.watch(w, signals)
		served = served || w.served.Load()
		// Once it has served, it is to serve again, whatever the worker says now: the
		// drives that are too few may be enough later. One that never did is told why.
		again := died(err) || err != nil && served
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
		if crashes >= crashesInARow && !served {
			return fmt.Errorf("the server crashed %d times in a row: %w", crashes, err)
		}
		s.log.Error("the server process crashed and is started again", "err", err, "crashes", crashes)
		select {
		case <-time.After(min(time.Duration(crashes)*200*time.Millisecond, s.limits.pause)):
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

// watch waits for the worker's end, and brings it about when it gives no sign of life.
// A signal first unmounts (the mount flushes into the worker), and is then passed on; a
// later second one kills.
func (s *supervisor) watch(w *worker, signals <-chan os.Signal) (asked bool, err error) {
	var first time.Time
	passed := make(chan struct{})
	var late <-chan time.Time
	p := pulse{w: w, limits: &s.limits}
	tick := time.NewTicker(s.limits.look)
	defer tick.Stop()
	for {
		select {
		case err := <-w.done:
			return asked, err
		case <-tick.C:
			if why := p.look(); why != nil {
				s.log.Error("the server process is killed", "err", why)
				return asked, w.end(s.limits.reap)
			}
		case <-late:
			s.log.Error("the server process does not stop and is killed", "after", s.limits.stop)
			return asked, w.end(s.limits.reap)
		case <-passed:
			passed, late = nil, time.After(s.limits.stop)
		case <-signals:
			if asked && time.Since(first) < sameSignal {
				continue
			}
			if asked {
				return asked, w.end(s.limits.reap)
			}
			asked, first = true, time.Now()
			s.log.Info("stopping: unmounting and draining requests; once more to stop at once")
			go func() {
				if s.mount != nil {
					s.mount.stop()
				}
				w.cmd.Process.Signal(syscall.SIGTERM)
				close(passed)
			}()
		}
	}
}

// died reports whether a worker ended by a signal, or was killed and can't end. A Go
// crash is a signal too, SIGABRT, because workers run with GOTRACEBACK=crash.
func died(err error) bool {
	var e *exec.ExitError
	if !errors.As(err, &e) {
		return errors.Is(err, errStuck)
	}
	ws, ok := e.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled()
}

// exitOf passes a worker's exit status on; the worker has said why itself.
func exitOf(err error) error {
	var e *exec.ExitError
	if errors.Is(err, errStuck) {
		return statusError{err, 128 + int(syscall.SIGKILL)}
	}
	if !errors.As(err, &e) {
		return err
	}
	ws, _ := e.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return statusError{fmt.Errorf("the server process was ended by signal %d (%v)", ws.Signal(), ws.Signal()), 128 + int(ws.Signal())}
	}
	return statusError{errors.New(""), ws.ExitStatus()}
}
