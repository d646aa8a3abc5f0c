package history

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
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

// untilEOF does what it is told, and when the test ends, however it ends, ends what it
// started: mounts in its directory, too.
const untilEOF = `
while read -r line; do eval "$line"; done
kill -9 $pids 2>/dev/null
for m in mnt*; do umount -l "$m" 2>/dev/null; done`

// newLauncher makes the shell: before anything is open in a mount.
func newLauncher(t testing.TB, dir string) *launcher {
	t.Helper()
	l := &launcher{t: t, sh: exec.Command("/bin/sh", "-c", untilEOF)}
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
	l.keep(append(l.all, pid))
	return pid
}

// alive reports whether a process runs.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// keep notes what is to be ended with the test: no process that is gone, for its number
// may be another one's by then.
func (l *launcher) keep(pids []int) {
	l.all = pids
	fmt.Fprintf(l.in, "pids='%s'\n", strings.Trim(fmt.Sprint(pids), "[]"))
}

// kill kills a process -9 and waits until it is gone.
func (l *launcher) kill(pid int) {
	syscall.Kill(pid, syscall.SIGKILL)
	for end := time.Now().Add(startTime); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("process %d does not die", pid)
		}
	}
	l.keep(slices.DeleteFunc(l.all, func(p int) bool { return p == pid }))
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
