package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"twofold/test/harness"
)

// sqliteKilledWriter commits transactions for ever, and prints the number of each when its
// COMMIT has returned, which is after SQLite has synced it.
const sqliteKilledWriter = `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=120, isolation_level=None)
c.execute("PRAGMA journal_mode=" + sys.argv[2])
c.execute("PRAGMA synchronous=FULL")
n = c.execute("SELECT n FROM s").fetchone()[0]
while True:
    n += 1
    c.execute("BEGIN IMMEDIATE")
    c.execute("INSERT INTO t VALUES(?, randomblob(3000))", (n,))
    c.execute("UPDATE s SET n=?", (n,))
    c.execute("COMMIT")
    print(n, flush=True)
`

// TestSQLiteKilled: databases in the mount bear the kill of their writer, of the server
// while a writer works, which then waits and goes on, and of all three with the mount. No
// transaction is lost whose COMMIT had returned, and none is there in part.
func TestSQLiteKilled(t *testing.T) {
	if os.Getenv("TWOFOLD_LONG_PROGRAMS") == "" {
		t.Skip("half a minute: run scripts/programs-test (make programs-test)")
	}
	harness.Need(t, "sqlite3", "python3")
	s := newStore(t)
	s.bucket("work")
	var dbs []*database
	for _, mode := range []string{"delete", "wal"} {
		dir := s.Path("work", mode)
		noErr(t, os.Mkdir(dir, 0o755))
		d := &database{store: s, mode: mode, path: filepath.Join(dir, "t.db")}
		s.Run("sqlite3", "-bail", d.path, "PRAGMA journal_mode="+mode+"; CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB); CREATE INDEX i ON t(v); CREATE TABLE s(n INTEGER); INSERT INTO s VALUES(0);")
		dbs = append(dbs, d)
	}
	all := func(do func(*database)) {
		t.Helper()
		for _, d := range dbs {
			do(d)
		}
	}

	all((*database).start)
	all((*database).more)
	all((*database).kill)
	all(func(d *database) { d.check("the writer was killed") })

	all((*database).start)
	all((*database).more)
	s.Kill()
	s.Start()
	all((*database).more) // the writers go on
	s.Kill()
	for _, d := range dbs {
		d.cmd.Process.Kill() // it ends when its files are closed: with the mount
	}
	s.KillMount()
	all((*database).kill)
	waitFor(t, func() bool { return s.MountPid() == 0 })
	s.Start()
	all(func(d *database) {
		d.check("the server was killed, and then writer, server and mount")
		s.sameByS3("work", d.mode)
	})
}

// database is one with its writer.
type database struct {
	*store
	mode, path string
	acked      atomic.Int64 // the last transaction whose COMMIT has returned
	cmd        *exec.Cmd    // the writer; nil: none
	errors     strings.Builder
	read       chan struct{} // closed when its output has ended
}

func (d *database) start() {
	d.t.Helper()
	d.cmd = exec.Command("python3", "-c", sqliteKilledWriter, d.path, d.mode)
	d.cmd.Stderr = &d.errors
	out, err := d.cmd.StdoutPipe()
	noErr(d.t, err)
	noErr(d.t, d.cmd.Start())
	read := make(chan struct{})
	d.read = read
	go func() {
		defer close(read)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			n, _ := strconv.ParseInt(sc.Text(), 10, 64)
			d.acked.Store(n)
		}
	}()
	d.t.Cleanup(d.kill)
}

// kill ends the writer, if there is one. It may be waiting for a server that is gone.
func (d *database) kill() {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Kill()
	<-d.read
	d.cmd.Wait()
	d.cmd = nil
	if d.errors.Len() > 0 {
		d.t.Errorf("the writer: %s", d.errors.String())
	}
}

// more waits until some more transactions are committed.
func (d *database) more() {
	d.t.Helper()
	n := d.acked.Load()
	waitFor(d.t, func() bool { return d.acked.Load() >= n+10 })
}

func (d *database) check(when string) {
	d.t.Helper()
	out := strings.TrimSpace(d.Run("sqlite3", "-bail", d.path, fmt.Sprintf(
		"PRAGMA integrity_check; SELECT count(*)=max(k) AND max(k)=(SELECT n FROM s) AND max(k)>=%d FROM t;", d.acked.Load())))
	if out != "ok\n1" {
		d.t.Fatalf("%s: %s after transaction %d: %s", when, d.mode, d.acked.Load(), out)
	}
}
