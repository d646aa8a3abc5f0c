package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"twofold/test/harness"
)

// writer inserts rows into a database that others write as well, one transaction each.
const sqliteWriter = `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=120, isolation_level=None)
for i in range(int(sys.argv[3])):
    db.execute("BEGIN IMMEDIATE")
    n = db.execute("SELECT n FROM total").fetchone()[0]
    db.execute("INSERT INTO t VALUES (?, ?, ?)", (n, sys.argv[2], "x" * 200))
    db.execute("UPDATE total SET n = ?", (n + 1,))
    db.execute("COMMIT")
    print(i, flush=True)
`

// holder has locks until its stdin ends.
const lockHolder = `
import fcntl, sys
f = open(sys.argv[1], "r+")
fcntl.lockf(f, fcntl.LOCK_EX, 10, 0)
g = open(sys.argv[1], "r+")
fcntl.flock(g, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
`

// tryLocks says which of the holder's locks are taken.
const tryLocks = `
import fcntl, sys
f = open(sys.argv[1], "r+")
def taken(lock):
    try:
        lock()
        return "free"
    except BlockingIOError:
        return "taken"
print(taken(lambda: fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB, 10, 0)), taken(lambda: fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)))
`

// waitLocks waits for both.
const waitLocks = `
import fcntl, sys
f = open(sys.argv[1], "r+")
fcntl.lockf(f, fcntl.LOCK_EX, 10, 0)
fcntl.flock(f, fcntl.LOCK_EX)
print("got them")
`

// TestLocks: locks of two mounts of one server, which is killed meanwhile, as is one of
// the mounts.
func TestLocks(t *testing.T) {
	s := newStore(t)
	harness.Need(t, "python3", "sqlite3")
	s.bucket("shared")
	second := s.secondMount()
	one, two := s.Path("shared"), filepath.Join(second.dir, "shared")

	// Both write one database, while the server is killed and comes back.
	const rows = 15
	sqlite := func(db, sql string) string { return strings.TrimSpace(s.Run("sqlite3", "-bail", db, sql)) }
	sqlite(filepath.Join(one, "db"), "CREATE TABLE t(k INTEGER PRIMARY KEY, who, what); CREATE TABLE total(n); INSERT INTO total VALUES(0);")
	var wg sync.WaitGroup
	begun := make(chan struct{}, 4*rows)
	for i, dir := range []string{one, two} {
		p := s.python(sqliteWriter, filepath.Join(dir, "db"), fmt.Sprint("mount ", i), fmt.Sprint(rows))
		wg.Go(func() {
			for p.out.Scan() {
				begun <- struct{}{}
			}
			if err := p.cmd.Wait(); err != nil {
				t.Errorf("the writer of mount %d: %v", i, err)
			}
		})
	}
	for range 5 {
		<-begun
	}
	s.Kill()
	s.Start()
	wg.Wait()
	for _, dir := range []string{one, two} {
		got := sqlite(filepath.Join(dir, "db"), "PRAGMA integrity_check; SELECT count(*), count(DISTINCT who), max(k) FROM t; SELECT n FROM total;")
		if want := fmt.Sprintf("ok\n%d|2|%d\n%d", 2*rows, 2*rows-1, 2*rows); got != want {
			t.Fatalf("%s: %q, want %q", dir, got, want)
		}
	}

	// Locks outlive the server; a mount that is killed has none.
	noErr(t, os.WriteFile(filepath.Join(one, "f"), []byte("0123456789"), 0o666))
	holder := s.python(lockHolder, filepath.Join(two, "f"))
	if !holder.out.Scan() || holder.out.Text() != "locked" {
		t.Fatalf("the holder: %q", holder.out.Text())
	}
	taken := func() string { return strings.TrimSpace(s.Run("python3", "-c", tryLocks, filepath.Join(one, "f"))) }
	if got := taken(); got != "taken taken" {
		t.Fatalf("while the other mount holds them: %s", got)
	}
	s.Kill()
	s.Start()
	if got := taken(); got != "taken taken" {
		t.Fatalf("after the server was killed: %s", got)
	}
	wait := s.python(waitLocks, filepath.Join(one, "f"))
	second.kill()
	if !wait.out.Scan() || wait.out.Text() != "got them" {
		t.Fatalf("after the mount of the holder was killed: %q", wait.out.Text())
	}
}

// child is a program that the test talks to; it ends with the test.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func (s *store) python(script string, args ...string) *child {
	s.t.Helper()
	cmd := exec.Command("python3", append([]string{"-c", script}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	noErr(s.t, err)
	out, err := cmd.StdoutPipe()
	noErr(s.t, err)
	noErr(s.t, cmd.Start())
	s.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return &child{cmd, in, bufio.NewScanner(out)}
}

// mountProcess is a second mount of a store.
type mountProcess struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

func (s *store) secondMount() *mountProcess {
	s.t.Helper()
	m := &mountProcess{t: s.t, dir: filepath.Join(s.Dir, "mnt2"), done: make(chan struct{})}
	m.cmd = exec.Command(harness.Binary(s.t), "mount", "--endpoint", "http://"+s.Address, m.dir)
	m.cmd.Env = append(os.Environ(), "S3_ROOT_USER="+harness.User, "S3_ROOT_PASSWORD="+harness.Password)
	noErr(s.t, m.cmd.Start())
	go func() { m.cmd.Wait(); close(m.done) }()
	s.t.Cleanup(func() {
		m.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-m.done:
		case <-time.After(10 * time.Second):
		}
		m.kill()
	})
	waitFor(s.t, func() bool { return harness.Mounted(m.dir) })
	return m
}

// kill ends the mount as kill -9 does, and takes away what is left of it.
func (m *mountProcess) kill() {
	m.cmd.Process.Kill()
	<-m.done
	if harness.Mounted(m.dir) {
		syscall.Unmount(m.dir, syscall.MNT_DETACH)
	}
}
