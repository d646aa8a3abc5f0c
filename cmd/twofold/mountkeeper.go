package main

import (
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// mountKeeper starts the mount process of `server --mount` and looks after it: one
// that dies is started again, one that is there from before is taken over.
type mountKeeper struct {
	dir  string
	args []string // flags of `twofold mount`
	log  *slog.Logger

	mu       sync.Mutex
	started  bool
	stopping bool
	stopped  chan struct{}
}

func newMountKeeper(dir string, args []string, log *slog.Logger) *mountKeeper {
	return &mountKeeper{dir: dir, args: args, log: log, stopped: make(chan struct{})}
}

// start waits for a worker's address and then keeps a mount process, once.
func (k *mountKeeper) start(ready <-chan string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.started {
		return
	}
	k.started = true
	go func() {
		address, ok := <-ready
		if !ok { // that worker ended before it served: the next one's address will do
			k.mu.Lock()
			k.started = false
			k.mu.Unlock()
			return
		}
		k.keep(address)
	}()
}

// keep runs until stop.
func (k *mountKeeper) keep(address string) {
	defer close(k.stopped)
	for wait := 200 * time.Millisecond; !k.isStopping(); wait = min(2*wait, 10*time.Second) {
		began := time.Now()
		if c, ok := findMount(k.dir); ok {
			k.log.Info("the mount of before goes on", "dir", k.dir)
			io.Copy(io.Discard, c) // until that process ends
			c.Close()
		} else if err := k.runOnce(address); err != nil {
			k.log.Error("the mount process ended", "dir", k.dir, "err", err)
		}
		if k.isStopping() {
			return
		}
		if time.Since(began) > time.Minute {
			wait = 200 * time.Millisecond
		}
		time.Sleep(wait)
	}
}

// runOnce runs a mount process to its end. It is in a session of its own: neither
// Ctrl-C nor the server's death reach it.
func (k *mountKeeper) runOnce(address string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append([]string{"mount", "--endpoint", address, k.dir}, k.args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Run()
}

func (k *mountKeeper) isStopping() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stopping
}

// stopTimeout is how long a mount may take to flush and unmount.
const stopTimeout = 60 * time.Second

// stop unmounts. While the mount is busy (somebody's working directory, an open
// file) it is detached, so that the server can end: files that are open there end
// with an error then.
func (k *mountKeeper) stop() {
	k.mu.Lock()
	if k.stopping || !k.started {
		k.stopping = true
		k.mu.Unlock()
		return
	}
	k.stopping = true
	k.mu.Unlock()
	if err := stopMount(k.dir, stopTimeout); err != nil {
		k.log.Warn("not unmounted", "dir", k.dir, "err", err)
		return
	}
	select {
	case <-k.stopped:
	case <-time.After(5 * time.Second):
	}
}
