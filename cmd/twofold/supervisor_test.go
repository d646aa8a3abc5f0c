package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the worker of the supervisors under test.
func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		if err := helper(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "helper:", err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helper is a worker that has a lock in dir and answers who it is. It does not start
// where there is a file "fail": with its first byte less, each time.
func helper(mode, dir string) error {
	if mode == "fail" {
		return errors.New("told to")
	}
	name := filepath.Join(dir, "fail")
	if b, err := os.ReadFile(name); err == nil && len(b) > 0 {
		os.WriteFile(name, b[1:], 0o600)
		return errors.New("told to, for a while")
	}
	in, err := inherit()
	if err != nil {
		return err
	}
	if _, err := in.locks.Lock(filepath.Join(dir, "lock")); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getpid(), in.afterCrash) })
	mux.HandleFunc("/fail", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	in.tellReady("http://" + in.listener.Addr().String())
	return http.Serve(in.listener, mux)
}

// quick are limits for tests. A worker beats each second; a stopped one is taken for
// one that hangs.
func quick() limits {
	return limits{
		look: 100 * time.Millisecond, silence: 25, stopped: 25, dead: 3,
		reap: 10 * time.Second, stop: time.Minute, pause: time.Millisecond,
	}
}

// supervised is a supervisor at work in this process.
type supervised struct {
	t    *testing.T
	dir  string
	url  string
	l    *legacy
	done chan error
}

func startSupervised(t *testing.T, l limits) *supervised {
	t.Helper()
	legacy, err := newLegacy("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &supervised{t: t, dir: t.TempDir(), l: legacy, done: make(chan error, 1)}
	s.url = "http://" + s.address()
	sup := &supervisor{args: []string{"serve", s.dir}, log: slog.New(slog.NewTextHandler(t.Output(), nil)), legacy: legacy, limits: l}
	go func() { s.done <- sup.run() }()
	t.Cleanup(func() {
		defer legacy.close()
		select {
		case <-s.done:
			return
		default:
		}
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
		<-s.done
	})
	return s
}

func (s *supervised) address() string {
	c, err := net.FileListener(s.l.listener)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	return c.Addr().String()
}

// who asks the worker for its pid, and whether it was told of a crash.
func (s *supervised) who() (pid int, afterCrash bool, err error) {
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get(s.url)
	if err != nil {
		return 0, false, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, false, err
	}
	_, err = fmt.Fscan(bytes.NewReader(b), &pid, &afterCrash)
	return pid, afterCrash, err
}

// await waits for a worker that is not the given one.
func (s *supervised) await(not int) (pid int, afterCrash bool) {
	s.t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if pid, afterCrash, err = s.who(); err == nil && pid != not {
			return pid, afterCrash
		}
	}
	s.t.Fatalf("no other worker than %d: %v", not, err)
	return 0, false
}

// TestFrozenWorker: a worker that gives no sign of life is replaced, and requests that
// wait for it end. Where it can't be gone (it is not waited for here) the next one has
// the port and the locks all the same.
func TestFrozenWorker(t *testing.T) {
	for _, reap := range []time.Duration{10 * time.Second, 0} {
		t.Run(fmt.Sprint("reap=", reap), func(t *testing.T) {
			l := quick()
			l.reap = reap
			s := startSupervised(t, l)
			first, afterCrash := s.await(0)
			if afterCrash {
				t.Error("the first worker is told of a crash")
			}
			waiting, err := http.Get(s.url + "/wait")
			if err != nil {
				t.Fatal(err)
			}
			defer waiting.Body.Close()
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, waiting.Body)
				ended <- err
			}()
			syscall.Kill(first, syscall.SIGSTOP)
			if _, afterCrash := s.await(first); !afterCrash {
				t.Error("the next worker is not told of the crash")
			}
			select {
			case <-ended:
			case <-time.After(time.Minute):
				t.Error("a request of before still waits")
			}
		})
	}
}

// TestTwoWorkers: a worker that stands still and is not even killed does not keep port
// and locks from the next one; its connections can be ended.
func TestTwoWorkers(t *testing.T) {
	legacy, err := newLegacy("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.close()
	s := &supervised{t: t, dir: t.TempDir(), l: legacy}
	s.url = "http://" + s.address()
	var pid int
	for range 2 {
		w, err := startWorker([]string{"serve", s.dir}, legacy, false)
		if err != nil {
			t.Fatal(err)
		}
		defer w.end(time.Minute)
		before := pid
		if pid, _ = s.await(before); pid != w.cmd.Process.Pid {
			t.Fatalf("%d answers, and not %d", pid, w.cmd.Process.Pid)
		}
		waiting, err := http.Get(s.url + "/wait")
		if err != nil {
			t.Fatal(err)
		}
		defer waiting.Body.Close()
		syscall.Kill(pid, syscall.SIGSTOP)
		sever(pid)
		if _, err := io.Copy(io.Discard, waiting.Body); err == nil {
			t.Error("the connection ended in order")
		}
	}
	legacy.close()
	if l, err := net.Listen("tcp", strings.TrimPrefix(s.url, "http://")); err != nil {
		t.Errorf("two processes that don't die keep the port: %v", err)
	} else {
		l.Close()
	}
}

// TestServedIsServedAgain: once it has served, the worker is started until it serves
// again, however often it fails.
func TestServedIsServedAgain(t *testing.T) {
	s := startSupervised(t, quick())
	first, _ := s.await(0)
	if err := os.WriteFile(filepath.Join(s.dir, "fail"), make([]byte, crashesInARow+2), 0o600); err != nil {
		t.Fatal(err)
	}
	http.Get(s.url + "/fail")
	s.await(first)
	if b, err := os.ReadFile(filepath.Join(s.dir, "fail")); err != nil || len(b) > 0 {
		t.Fatalf("%d failures are left: %v", len(b), err)
	}
}

// TestFirstStartFails: a server that can't start says why, at once.
func TestFirstStartFails(t *testing.T) {
	legacy, err := newLegacy("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.close()
	sup := &supervisor{args: []string{"fail", t.TempDir()}, log: slog.New(slog.DiscardHandler), legacy: legacy, limits: quick()}
	var status statusError
	if err := sup.run(); !errors.As(err, &status) || status.status != 3 {
		t.Fatalf("%v, and not status 3", err)
	}
}

// TestPulse: how many looks it takes until a worker without a sign of life is given up.
func TestPulse(t *testing.T) {
	l := quick()
	l.silence, l.stopped, l.dead = 3, 6, 2
	looks := func(p *pulse) int {
		for n := 1; n < 100; n++ {
			if p.look() != nil {
				return n
			}
		}
		return 0
	}
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	w := &worker{cmd: child}
	p := &pulse{w: w, limits: &l}
	if n := looks(p); n != l.silence {
		t.Errorf("silent: %d looks", n)
	}
	w.beats.Add(1)
	if err := p.look(); err != nil {
		t.Errorf("after a sign of life: %v", err)
	}
	become := func(state byte) {
		t.Helper()
		for end := time.Now().Add(time.Minute); w.state() != state; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it does not become %c", state)
			}
		}
	}
	child.Process.Signal(syscall.SIGSTOP)
	become('T')
	if n := looks(&pulse{w: w, limits: &l, beats: 1}); n != l.stopped {
		t.Errorf("stopped: %d looks", n)
	}
	child.Process.Kill()
	become('Z')
	if n := looks(&pulse{w: w, limits: &l, beats: 1}); n != l.dead+1 {
		t.Errorf("dead and not gone: %d looks", n)
	}
}
