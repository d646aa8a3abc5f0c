package history

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"twofold/test/harness"
)

// launcher starts programs from a shell of its own. This process can't: a child that it
// forks closes, in exec, the files that are open in a mount, which asks the mount to
// flush them, which may wait for the very server that is being started.
type launcher struct {
	t   testing.TB
	in  io.WriteCloser
	out *bufio.Reader
	sh  *exec.Cmd
	all []int // what was started
}

// newLauncher makes the shell: before anything is open in a mount.
func newLauncher(t testing.TB, dir string) *launcher {
	t.Helper()
	l := &launcher{t: t, sh: exec.Command("/bin/sh", "-c", `while read -r line; do eval "$line"; done`)}
	l.sh.Dir, l.sh.Stderr = dir, os.Stderr
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

// start starts a program with the test's credentials and returns its process id.
func (l *launcher) start(log string, env []string, args ...string) (pid int) {
	words := []string{"exec", "env"}
	for _, w := range append(append([]string{"S3_ROOT_USER=" + harness.User, "S3_ROOT_PASSWORD=" + harness.Password}, env...), args...) {
		words = append(words, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	fmt.Fprintf(l.in, "(%s) >>%s 2>&1 </dev/null & echo $!\n", strings.Join(words, " "), log)
	line, err := l.out.ReadString('\n')
	if err != nil {
		l.t.Fatalf("launching: %v", err)
	}
	fmt.Sscan(line, &pid)
	l.all = append(l.all, pid)
	return pid
}

// alive reports whether a process runs.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// killed kills a process -9 and waits until it is gone.
func killed(pid int) bool {
	syscall.Kill(pid, syscall.SIGKILL)
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if !alive(pid) {
			return true
		}
	}
	return false
}

func (l *launcher) cleanup() {
	for _, pid := range l.all {
		if alive(pid) {
			syscall.Kill(pid, syscall.SIGCONT)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	l.in.Close()
	l.sh.Wait()
}
