package fusefs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twofold/internal/errs"
	"twofold/volume/api"
)

// lockProgram is a process that locks files as it is told, a line of stdin for each
// call: its errno or what was found is the answer.
//
//	open a PATH | ro a PATH | close a | dup b a
//	set a TYPE START LEN | setw ... | ofd ... | ofdw ... | get a TYPE START LEN | ofdget ...
//	flock a sh|ex|un | flocknb ...
//	pwrite a OFF TEXT | pread a OFF LEN
func lockProgram([]string) error {
	fds := map[string]int{}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer, err := lockCommand(strings.Fields(in.Text()), fds)
		if err != nil {
			answer = "error " + err.Error()
			var no syscall.Errno
			if errors.As(err, &no) {
				answer = unix.ErrnoName(no)
			}
		}
		fmt.Println(answer)
	}
	return in.Err()
}

func lockCommand(w []string, fds map[string]int) (answer string, err error) {
	num := func(i int) int64 { n, _ := strconv.ParseInt(w[i], 10, 64); return n }
	answer = "ok"
	fd := 0
	if len(w) > 1 {
		fd = fds[w[1]]
	}
	switch w[0] {
	case "open":
		fds[w[1]], err = unix.Open(w[2], unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	case "ro":
		fds[w[1]], err = unix.Open(w[2], unix.O_RDONLY|unix.O_CLOEXEC, 0)
	case "dup":
		fds[w[1]], err = unix.Dup(fds[w[2]])
	case "close":
		err = unix.Close(fd)
	case "set", "setw", "ofd", "ofdw", "get", "ofdget":
		l := unix.Flock_t{Type: map[string]int16{"r": unix.F_RDLCK, "w": unix.F_WRLCK, "u": unix.F_UNLCK}[w[2]], Start: num(3), Len: num(4)}
		cmd := map[string]int{"set": unix.F_SETLK, "setw": unix.F_SETLKW, "ofd": unix.F_OFD_SETLK, "ofdw": unix.F_OFD_SETLKW,
			"get": unix.F_GETLK, "ofdget": unix.F_OFD_GETLK}[w[0]]
		if err = unix.FcntlFlock(uintptr(fd), cmd, &l); err == nil && strings.HasSuffix(w[0], "get") {
			answer = fmt.Sprintf("%s %d %d %d", map[int16]string{unix.F_RDLCK: "r", unix.F_WRLCK: "w", unix.F_UNLCK: "u"}[l.Type], l.Start, l.Len, l.Pid)
			if l.Type == unix.F_UNLCK {
				answer = "free"
			}
		}
	case "flock", "flocknb":
		how := map[string]int{"sh": unix.LOCK_SH, "ex": unix.LOCK_EX, "un": unix.LOCK_UN}[w[2]]
		if w[0] == "flocknb" {
			how |= unix.LOCK_NB
		}
		err = unix.Flock(fd, how)
	case "pwrite":
		_, err = unix.Pwrite(fd, []byte(w[3]), num(2))
	case "pread":
		b := make([]byte, num(3))
		var n int
		n, err = unix.Pread(fd, b, num(2))
		answer = string(b[:n])
	}
	return answer, err
}

// ask sends a line whose answer comes later.
func (k *talk) ask(line string) (answer <-chan string) {
	k.t.Helper()
	fmt.Fprintln(k.in, line)
	ch := make(chan string, 1)
	go func() {
		s, err := k.out.ReadString('\n')
		if err != nil && err != io.EOF {
			s = err.Error()
		}
		ch <- strings.TrimSpace(s)
	}()
	return ch
}

func answered(t *testing.T, what string, ch <-chan string, want string) {
	t.Helper()
	select {
	case got := <-ch:
		if got != want {
			t.Fatalf("%s: %q, want %q", what, got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: no answer", what)
	}
}

func unanswered(t *testing.T, what string, ch <-chan string) {
	t.Helper()
	select {
	case got := <-ch:
		t.Fatalf("%s: answered %q", what, got)
	default:
	}
}

// eventually says a line until the answer is the wanted one.
func (k *talk) eventually(line, want string) {
	k.t.Helper()
	got := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if got = k.say(line); got == want {
			return
		}
	}
	k.t.Fatalf("%q: still %q, want %q", line, got, want)
}

// waits returns when n requests have waited for locks in this mount.
func (m *testMount) waits(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); m.count("AwaitLock") < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d requests wait, not %d", m.count("AwaitLock"), n)
		}
	}
}

// lockProcesses are three processes with the file f open as a: two of one mount and one of
// another.
func lockProcesses(t *testing.T) (m1, m2 *testMount, p [3]*talk) {
	v := newFakeVolume()
	m1, m2 = mountFake(t, v, nil), mountFake(t, v, nil)
	for i, m := range []*testMount{m1, m1, m2} {
		p[i] = startTalk(t, "lock")
		p[i].want("open a "+m.path("f"), "ok")
	}
	return m1, m2, p
}

func TestRecordLocks(t *testing.T) {
	_, _, p := lockProcesses(t)
	p[0].want("set a w 10 10", "ok")
	pid := p[0].cmd.Process.Pid
	p[1].want("set a r 15 1", "EAGAIN")
	p[2].want("set a r 15 1", "EAGAIN")
	p[1].want("get a r 0 0", fmt.Sprintf("w 10 10 %d", pid))
	p[2].want("get a r 0 0", "w 10 10 0") // no pid of another mount
	p[0].want("get a w 0 0", "free")
	p[2].want("set a r 0 10", "ok")
	p[0].want("set a u 12 2", "ok") // two are left
	p[2].want("set a w 12 2", "ok")
	p[1].want("get a w 13 0", "w 12 2 0")
	p[2].want("get a w 13 0", "w 14 6 0")
	p[0].want("set a r 14 6", "ok") // a downgrade
	p[2].want("set a r 14 100", "ok")
	p[2].want("set a w 14 100", "EAGAIN")
	p[0].want("set a u 0 0", "ok")
	p[2].want("set a w 0 0", "ok")
	p[0].want("get a r 5 1", "w 0 0 0") // to the end of the file, wherever that is
}

// Locks of a process go when it closes any descriptor of the file, also one that can
// only read; those of an open file when its last descriptor is closed.
func TestLocksEndWithClose(t *testing.T) {
	m1, _, p := lockProcesses(t)
	p[0].want("ro b "+m1.path("f"), "ok")
	p[0].want("set a w 0 10", "ok")
	p[0].want("ofd a w 20 10", "ok")
	p[0].want("dup c a", "ok")
	p[2].want("set a r 5 1", "EAGAIN")
	p[0].want("close b", "ok")
	p[2].want("set a w 0 10", "ok") // close(2) is what drops it: at once
	p[0].want("close a", "ok")
	p[2].want("set a w 20 1", "EAGAIN") // the open file lives on in c
	p[2].want("get a w 20 1", "w 20 10 0")
	p[0].want("close c", "ok")
	p[2].eventually("set a w 20 1", "ok") // RELEASE comes a moment after close(2)

	// OFD and POSIX locks conflict, also within a process, and two open files of it.
	p[1].want("open b "+m1.path("f"), "ok")
	p[1].want("set a w 50 1", "ok")
	p[1].want("ofd b w 50 1", "EAGAIN")
	p[1].want("ofd a w 60 1", "ok")
	p[1].want("ofd b w 60 1", "EAGAIN")
	p[1].want("ofdget b w 60 1", "w 60 1 -1")
}

func TestFlock(t *testing.T) {
	m1, _, p := lockProcesses(t)
	p[0].want("flock a sh", "ok")
	p[2].want("flock a sh", "ok")
	p[2].want("set a w 0 0", "ok") // record locks are another matter
	p[1].want("flocknb a ex", "EAGAIN")
	p[0].want("open b "+m1.path("f"), "ok")
	p[0].want("flocknb b ex", "EAGAIN") // another open file
	p[0].want("flock a un", "ok")
	p[0].want("dup c a", "ok")
	p[2].want("flock a ex", "ok")
	wait := p[0].ask("flock c ex")
	m1.waits(t, 1)
	unanswered(t, "flock", wait)
	p[2].want("close a", "ok")
	answered(t, "flock after the other one closed", wait, "ok")
	p[1].want("flocknb a sh", "EAGAIN")
	p[0].want("close a", "ok")
	p[1].want("flocknb a sh", "EAGAIN") // c is the same open file
	p[0].want("close c", "ok")
	p[1].eventually("flocknb a sh", "ok")
}

// A killed process has no locks.
func TestKilledHolder(t *testing.T) {
	m1, m2, p := lockProcesses(t)
	p[0].want("set a w 0 0", "ok")
	p[0].want("flock a ex", "ok")
	record := p[2].ask("setw a w 0 0")
	whole := p[1].ask("flock a sh")
	m1.waits(t, 1)
	m2.waits(t, 1)
	p[0].cmd.Process.Kill()
	answered(t, "the record lock", record, "ok")
	answered(t, "the flock", whole, "ok")
}

// Whoever gets the lock sees what was written under it.
func TestLockedWritesAreSeen(t *testing.T) {
	m1, m2, p := lockProcesses(t)
	p[0].want("set a w 0 0", "ok")
	p[0].want("pwrite a 0 first", "ok")
	next := p[2].ask("setw a w 0 0")
	m2.waits(t, 1)
	p[0].want("pwrite a 0 other", "ok")
	p[0].want("set a u 0 0", "ok")
	answered(t, "the lock", next, "ok")
	p[2].want("pread a 0 5", "other")
	p[2].want("pwrite a 0 third", "ok")
	back := p[1].ask("setw a r 0 0")
	m1.waits(t, 1)
	p[2].want("close a", "ok")
	answered(t, "the lock", back, "ok")
	p[1].want("pread a 0 5", "third")
}

func TestLockDeadlock(t *testing.T) {
	m1, m2, p := lockProcesses(t)
	p[0].want("set a w 0 1", "ok")
	p[2].want("set a w 1 1", "ok")
	first := p[0].ask("setw a w 1 1")
	m1.waits(t, 1)
	p[2].want("setw a w 0 1", "EDEADLK")
	p[2].want("set a u 0 0", "ok")
	answered(t, "the other one", first, "ok")
	// OFD locks have no such thing (fcntl(2)).
	p[2].want("ofd a w 5 1", "ok")
	second := p[0].ask("ofdw a w 5 1")
	m1.waits(t, 2)
	third := p[2].ask("ofdw a w 1 1") // of the process, whose locks others might drop
	m2.waits(t, 2)
	unanswered(t, "an OFD lock", second)
	unanswered(t, "an OFD lock", third)
	p[0].cmd.Process.Kill()
	answered(t, "when the holder is gone", third, "ok")
}

// A signal ends a wait, and nothing of it stays.
func TestInterruptedWait(t *testing.T) {
	m1, _, p := lockProcesses(t)
	script := `
import fcntl, os, signal, sys
class Late(Exception): pass
def late(*_): raise Late()
signal.signal(signal.SIGALRM, late)
f = open(sys.argv[1], "r+")
fcntl.lockf(f, fcntl.LOCK_SH, 5, 100)
for lock in (lambda: fcntl.lockf(f, fcntl.LOCK_EX, 0, 0), lambda: fcntl.flock(f, fcntl.LOCK_EX)):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        lock()
        print("granted")
    except Late:
        print("interrupted")
sys.stdout.flush()
sys.stdin.read()
`
	p[2].want("set a w 0 10", "ok")
	p[2].want("flock a sh", "ok")
	py := pythonTalk(t, script, m1.path("f"))
	answered(t, "fcntl", py.ask(""), "interrupted") // it lives until its input ends
	line, err := py.out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "interrupted" {
		t.Fatalf("flock: %q, %v", line, err)
	}
	p[2].want("set a u 0 0", "ok")
	p[2].want("flock a un", "ok")
	p[1].want("flocknb a ex", "ok")
	// What it had before it has still, as it was.
	p[1].want("get a w 0 0", fmt.Sprintf("r 100 5 %d", py.cmd.Process.Pid))
}

func pythonTalk(t *testing.T, script string, args ...string) *talk {
	t.Helper()
	exe, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	cmd := exec.Command(exe, append([]string{"-c", script}, args...)...)
	cmd.Stderr = os.Stderr
	return startTalkOf(t, cmd)
}

// Locks are the inode's: a name that goes or changes takes none along.
func TestLocksSurviveNames(t *testing.T) {
	_, m2, p := lockProcesses(t)
	p[0].want("set a w 0 1", "ok")
	must(t, os.Rename(m2.path("f"), m2.path("g")))
	q := startTalk(t, "lock")
	q.want("open a "+m2.path("g"), "ok")
	q.want("set a w 0 0", "EAGAIN")
	must(t, os.Remove(m2.path("g")))
	q.want("set a w 0 0", "EAGAIN")
	q.want("open b "+m2.path("g"), "ok") // a new file
	q.want("set b w 0 0", "ok")
	p[0].want("set a u 0 0", "ok")
	q.want("set a w 0 0", "ok")
}

// TestLockedFileIsPinned: locks end with the last open file that the volume knows of. One
// that was opened without a call is made known before it has locks: else the late end of
// an open that was interrupted would take them.
func TestLockedFileIsPinned(t *testing.T) {
	v := newFakeVolume()
	m, other := mountFake(t, v, nil), somebody{v.session()}
	ctx := context.Background()
	ino := other.put(t, "f", "x")
	_, err := m.Open(ctx, ino) // of a process that was killed before it had the answer
	must(t, err)
	_, err = os.Stat(m.path("f"))
	must(t, err)
	f, err := os.Open(m.path("f"))
	must(t, err)
	defer f.Close()
	if n := m.pins(ino); n != 1 {
		t.Fatalf("%d opens: the second one was a call", n)
	}
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	must(t, m.Release(ctx, ino))
	l := api.Lock{Kind: api.LockFlock, Type: api.LockExclusive, End: api.MaxLockEnd}
	if err := other.SetLock(ctx, ino, l, false); !errs.Is(err, errs.Locked) {
		t.Fatalf("somebody else has locked it as well: %v", err)
	}
	must(t, f.Close())
	eventually(t, "the lock went with the file", func() bool { return other.SetLock(ctx, ino, l, false) == nil })
}
