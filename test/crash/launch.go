package crash

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"twofold/test/harness"
)

// launcher starts servers from a shell of its own. This process can't: a child that
// it forks closes, in exec, the files that are open in the mount, which asks the
// mount to flush them, which waits for the server that is being started.
type launcher struct {
	t   testing.TB
	srv *harness.Server
	in  io.WriteCloser
	out *bufio.Reader
	sh  *exec.Cmd
	log string
	pid int
}

// newLauncher makes the shell: before anything is open in the mount.
func newLauncher(t testing.TB, srv *harness.Server) *launcher {
	t.Helper()
	l := &launcher{t: t, srv: srv, log: filepath.Join(srv.Dir, "log")}
	l.sh = exec.Command("/bin/sh", "-c", `while read -r line; do eval "$line"; done`)
	l.sh.Dir, l.sh.Stderr = srv.Dir, os.Stderr
	var err error
	if l.in, err = l.sh.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := l.sh.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.out = bufio.NewReader(out)
	if err := l.sh.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.cleanup)
	return l
}

// start starts the server; it may not serve yet when start returns.
func (l *launcher) start() {
	words := []string{"exec", "env"}
	for _, e := range append([]string{"S3_ROOT_USER=" + harness.User, "S3_ROOT_PASSWORD=" + harness.Password}, l.srv.Env...) {
		words = append(words, quote(e))
	}
	words = append(words, quote(harness.Binary(l.t)), "server", "--address", l.srv.Address)
	for _, f := range l.srv.Flags {
		words = append(words, quote(f))
	}
	if l.srv.Mount != "" {
		words = append(words, "--mount", quote(l.srv.Mount))
	}
	for _, a := range l.srv.Args {
		words = append(words, quote(a))
	}
	fmt.Fprintf(l.in, "(%s) >>%s 2>&1 </dev/null & echo $!\n", strings.Join(words, " "), quote(l.log))
	line, err := l.out.ReadString('\n')
	if err != nil {
		l.t.Fatalf("launching: %v", err)
	}
	fmt.Sscan(line, &l.pid)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// alive reports whether the server's supervisor runs.
func (l *launcher) alive() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// kill kills -9, and returns when the server is gone with its worker.
func (l *launcher) kill() {
	l.t.Helper()
	syscall.Kill(l.pid, syscall.SIGKILL)
	// A thread that waits for a hanging disk keeps its process for as long.
	for range 12000 {
		if !l.alive() && free(l.srv.Address) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	l.t.Fatalf("%s is still in use after kill -9", l.srv.Address)
}

// stop stops in an orderly way; it reports whether that worked in time.
func (l *launcher) stop(timeout time.Duration) bool {
	syscall.Kill(l.pid, syscall.SIGTERM)
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if !l.alive() {
			return true
		}
	}
	return false
}

func free(address string) bool {
	n, err := net.Listen("tcp", address)
	if err == nil {
		n.Close()
	}
	return err == nil
}

// tail is the end of the log.
func (l *launcher) tail() string {
	b, _ := os.ReadFile(l.log)
	return string(b[max(0, len(b)-24<<10):])
}

func (l *launcher) cleanup() {
	if l.pid != 0 && l.alive() {
		syscall.Kill(l.pid, syscall.SIGKILL)
	}
	l.in.Close()
	l.sh.Wait()
	if l.t.Failed() {
		l.t.Logf("the end of the server's log:\n%s", l.tail())
	}
}
