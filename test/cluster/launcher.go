package cluster

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// launcher is a shell in a node's namespaces that starts what it is told. Programs are
// not started by this process: a child that it forks closes, in exec, the files that
// are open in a mount, which may wait for the very server that is being started.
type launcher struct {
	sh  *exec.Cmd
	net string // what /proc/PID/ns/net of everything in the node links to
	dir string // of /proc/PID/cwd: where logs go

	mu  sync.Mutex
	in  io.WriteCloser
	out *bufio.Reader
}

// untilEOF makes the mount namespace the shell's own, does what it is told, and at the
// end of its input kills everything in its network but itself.
const untilEOF = `
mount --make-rprivate / || exit
echo ready
while read -r line; do eval "$line"; done
net=$(readlink /proc/self/ns/net)
for p in /proc/[0-9]*; do
	[ "$p" = /proc/$$ ] || [ "$(readlink $p/ns/net)" != "$net" ] || kill -9 ${p#/proc/}
done 2>/dev/null`

func newLauncher(t testing.TB, dir string) *launcher {
	t.Helper()
	l := &launcher{sh: exec.Command("/bin/sh", "-c", untilEOF), dir: dir}
	l.sh.Dir, l.sh.Stderr = dir, os.Stderr
	l.sh.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS, Setpgid: true}
	in, err := l.sh.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.sh.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.in, l.out = in, bufio.NewReader(out)
	if err := l.sh.Start(); err != nil {
		t.Fatalf("a shell in namespaces of its own: %v", err)
	}
	if s, err := l.out.ReadString('\n'); s != "ready\n" {
		l.end()
		t.Fatalf("a shell in namespaces of its own: %q, %v", s, err)
	}
	if l.net, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/net", l.sh.Process.Pid)); err != nil {
		l.end()
		t.Fatal(err)
	}
	return l
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func quoted(words []string) string {
	var q []string
	for _, w := range words {
		q = append(q, quote(w))
	}
	return strings.Join(q, " ")
}

// tell has the shell do a line and returns the line that it answers with.
func (l *launcher) tell(line string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := fmt.Fprintln(l.in, line); err != nil {
		return "", err
	}
	s, err := l.out.ReadString('\n')
	return strings.TrimSpace(s), err
}

// do runs a command of the shell to its end. Its output is to be short.
func (l *launcher) do(command string) error {
	s, err := l.tell(fmt.Sprintf("o=$( (%s) 2>&1 </dev/null) && echo ok || echo failed: $o", command))
	if err == nil && s != "ok" {
		err = fmt.Errorf("%s: %s", command, s)
	}
	return err
}

// start starts a program, whose output goes to the end of a file, and returns its
// process id.
func (l *launcher) start(log string, env, args []string) (pid int, err error) {
	s, err := l.tell(fmt.Sprintf("(exec env %s) >>%s 2>&1 </dev/null & echo $!", quoted(append(env, args...)), quote(log)))
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(s, &pid)
	return pid, err
}

// processes are all that run in the node, but for its shell.
func (l *launcher) processes() []int {
	var out []int
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		var pid int
		if _, err := fmt.Sscan(d.Name(), &pid); err != nil || pid == l.sh.Process.Pid || pid == os.Getpid() {
			continue
		}
		if net, err := os.Readlink("/proc/" + d.Name() + "/ns/net"); err == nil && net == l.net && alive(pid) {
			out = append(out, pid)
		}
	}
	return out
}

// signal sends a signal to everything in the node, and repeats that while done says
// it is not enough yet: what was about to fork may have done so.
func (l *launcher) signal(sig syscall.Signal, done func() bool) bool {
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		for _, pid := range l.processes() {
			syscall.Kill(pid, sig)
		}
		if done() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool { s := state(pid); return s != 0 && s != 'Z' && s != 'X' }

// state is a process's in proc(5), 0 where there is none.
func state(pid int) byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if i := strings.LastIndex(string(b), ") "); err == nil && i >= 0 && i+2 < len(b) {
		return b[i+2]
	}
	return 0
}

// end ends the node with all that runs in it.
func (l *launcher) end() {
	if l.net != "" {
		l.signal(syscall.SIGKILL, func() bool { return len(l.processes()) == 0 })
	}
	l.sh.Process.Kill() // it would look for what has been found
	l.in.Close()
	l.sh.Wait()
}
