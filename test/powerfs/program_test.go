package powerfs_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"twofold/test/powerfs"
)

// TestFileSystem: what programs expect of any file system, over an orderly remount.
func TestFileSystem(t *testing.T) {
	for _, through := range []bool{false, true} {
		t.Run(fmt.Sprintf("writeThrough=%v", through), func(t *testing.T) {
			fs := powerfs.Start(t, powerfs.Options{WriteThrough: through})
			dir := fs.Dir(0)
			p := func(name string) string { return filepath.Join(dir, name) }
			must(t, os.MkdirAll(p("d/e"), 0o755))
			create(t, p("d/a"), random(100000), false)
			must(t, os.Link(p("d/a"), p("d/e/b")))
			must(t, os.Symlink("d/a", p("s")))
			must(t, os.Rename(p("d"), p("D")))
			must(t, os.Truncate(p("D/a"), 50000))
			must(t, os.Chmod(p("D/a"), 0o600))

			f, err := os.OpenFile(p("D/e/b"), os.O_RDWR, 0)
			must(t, err)
			must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
			must(t, unix.Fallocate(int(f.Fd()), 0, 0, 60000))
			m, err := unix.Mmap(int(f.Fd()), 0, 60000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(t, err)
			m[100], m[59999] = 1, 2
			must(t, unix.Msync(m, unix.MS_SYNC))
			must(t, unix.Munmap(m))
			must(t, os.Remove(p("D/e/b")))
			var b [1]byte
			_, err = f.ReadAt(b[:], 59999)
			must(t, err)
			must(t, f.Close())

			fs.Restart()
			want := append(random(100000)[:50000], make([]byte, 10000)...)
			want[100], want[59999] = 1, 2
			if b[0] != 2 || !bytes.Equal(read(t, p("D/a")), want) {
				t.Fatal("the content is wrong")
			}
			if to, err := os.Readlink(p("s")); err != nil || to != "d/a" {
				t.Fatalf("link to %q, %v", to, err)
			}
			if st, err := os.Stat(p("D/a")); err != nil || st.Mode() != 0o600 {
				t.Fatalf("%v %v", st, err)
			}
			es, err := os.ReadDir(p("D/e"))
			if err != nil || len(es) != 0 {
				t.Fatalf("%v %v", es, err)
			}
			many(t, p("many"))
		})
	}
}

// many makes more names than fit one READDIR.
func many(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	const n = 500
	for i := range n {
		create(t, filepath.Join(dir, fmt.Sprintf("a-name-of-some-length-%d", i)), nil, false)
	}
	es, err := os.ReadDir(dir)
	if err != nil || len(es) != n {
		t.Fatalf("%d names, %v", len(es), err)
	}
	must(t, os.RemoveAll(dir))
}

// TestSqlite: sqlite as its manual says to be durable loses no acknowledged
// transaction; with synchronous=FULL and a rollback journal, whose deletion is not
// synced, it is consistent.
func TestSqlite(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip(err)
	}
	for _, c := range []struct {
		mode    string
		durable bool
	}{
		{"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;", true},
		{"PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA;", true},
		{"PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL;", false},
	} {
		t.Run(c.mode, func(t *testing.T) {
			fs := powerfs.Start(t, powerfs.Options{})
			db := filepath.Join(fs.Dir(0), "db")
			sqlite(t, db, "CREATE TABLE t(n INTEGER PRIMARY KEY, x BLOB);")
			syncDir(t, fs.Dir(0))
			have := 0
			for seed := range uint64(6) {
				acked := insertUntilCut(t, fs, db, c.mode, have, seed)
				fs.Restart()
				if got := sqlite(t, db, "PRAGMA integrity_check;"); got != "ok" {
					t.Fatalf("seed %d: %s", seed, got)
				}
				var n, top int
				fmt.Sscanf(sqlite(t, db, "SELECT count(*), coalesce(max(n), 0) FROM t;"), "%d|%d", &n, &top)
				if n != top || c.durable && n < acked {
					t.Fatalf("seed %d: %d rows up to %d, %d were acknowledged", seed, n, top, acked)
				}
				have = n
			}
		})
	}
}

func sqlite(t *testing.T, db, sql string) string {
	t.Helper()
	out, err := exec.Command("sqlite3", db, sql).CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3 %s: %v: %s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

// insertUntilCut inserts rows from have+1 on and cuts the power while it does. It
// returns the last row that was acknowledged.
func insertUntilCut(t *testing.T, fs *powerfs.FS, db, mode string, have int, seed uint64) (acked int) {
	t.Helper()
	cmd := exec.Command("sqlite3", "-batch", db)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	go func() {
		io.WriteString(in, ".bail on\n"+mode+"\n")
		for n := have + 1; ; n++ {
			if _, err := fmt.Fprintf(in, "INSERT INTO t VALUES(%d, randomblob(3000));\nSELECT 'row', max(n) FROM t;\n", n); err != nil {
				return
			}
		}
	}()
	acked = have
	cut := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Sscanf(lines.Text(), "row|%d", &acked)
		if acked >= have+20 && !cut {
			cut = true
			fs.PowerCut(seed)
		}
	}
	in.Close()
	cmd.Wait()
	if !cut {
		t.Fatal("sqlite ended by itself")
	}
	return acked
}

// TestBbolt: bbolt reads through a map and writes with pwrite and fdatasync.
func TestBbolt(t *testing.T) {
	fs := powerfs.Start(t, powerfs.Options{})
	path := filepath.Join(fs.Dir(0), "bolt")
	acked := uint64(0)
	for seed := range uint64(6) {
		db, err := bbolt.Open(path, 0o600, nil)
		must(t, err)
		if seed == 0 {
			syncDir(t, fs.Dir(0))
		}
		for range 20 {
			must(t, db.Update(func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("b"))
				if err != nil {
					return err
				}
				return b.Put(binary.BigEndian.AppendUint64(nil, acked+1), random(2000))
			}))
			acked++
		}
		fs.PowerCut(seed)
		// A map of a drive that is gone is a SIGBUS: it is closed without a look.
		db.Close()
		fs.Restart()
		db, err = bbolt.Open(path, 0o600, nil)
		must(t, err)
		must(t, db.View(func(tx *bbolt.Tx) error {
			for n := range acked {
				if v := tx.Bucket([]byte("b")).Get(binary.BigEndian.AppendUint64(nil, n+1)); !bytes.Equal(v, random(2000)) {
					return fmt.Errorf("seed %d: %d is lost", seed, n+1)
				}
			}
			for err := range tx.Check() {
				return err
			}
			return nil
		}))
		must(t, db.Close())
	}
}

// TestBadger runs Badger, which maps its logs for writing, in a process of its own
// (it would take the test with it when its maps vanish), and kills it at the cut.
// It relies on a journal: it makes a memtable's name durable before its size, and
// does not open when it finds the file empty.
func TestBadger(t *testing.T) {
	fs := powerfs.Start(t, powerfs.Options{Ordered: true, EntryWithFsync: true})
	dir := filepath.Join(fs.Dir(0), "badger")
	must(t, os.Mkdir(dir, 0o755))
	syncDir(t, fs.Dir(0))
	have := 0
	for seed := range uint64(4) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestBadgerChild$")
		cmd.Env = append(os.Environ(), "POWERFS_BADGER="+dir, fmt.Sprintf("POWERFS_FROM=%d", have))
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		acked, cut, rest := have, false, []string{}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, _ := fmt.Sscanf(lines.Text(), "row %d", &acked); n == 0 {
				rest = append(rest, lines.Text())
			}
			if acked >= have+50 && !cut {
				cut = true
				fs.PowerCut(seed)
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		if !cut {
			t.Fatalf("seed %d: badger ended by itself after %d:\n%s", seed, acked, strings.Join(rest, "\n"))
		}
		fs.Restart()
		have = acked
	}
	db, err := badger.Open(badgerOptions(dir))
	must(t, err)
	must(t, db.View(func(tx *badger.Txn) error { return hasRows(tx, have) }))
	must(t, db.Close())
}

func badgerOptions(dir string) badger.Options {
	return badger.DefaultOptions(dir).WithSyncWrites(true).WithLogger(nil).WithMemTableSize(1 << 20).WithValueLogFileSize(4 << 20).WithValueThreshold(1 << 10)
}

func row(n int) []byte { return fmt.Appendf(nil, "row %d", n) }

func hasRows(tx *badger.Txn, upTo int) error {
	for n := 1; n <= upTo; n++ {
		i, err := tx.Get(row(n))
		if err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		v, err := i.ValueCopy(nil)
		if err != nil || !bytes.Equal(v, random(20000)) {
			return errors.Join(err, fmt.Errorf("row %d has another value", n))
		}
	}
	return nil
}

// TestBadgerChild is the process of TestBadger.
func TestBadgerChild(t *testing.T) {
	dir := os.Getenv("POWERFS_BADGER")
	if dir == "" {
		t.Skip("part of TestBadger")
	}
	var from int
	fmt.Sscan(os.Getenv("POWERFS_FROM"), &from)
	db, err := badger.Open(badgerOptions(dir))
	must(t, err)
	must(t, db.View(func(tx *badger.Txn) error { return hasRows(tx, from) }))
	for n := from + 1; n < from+100000; n++ {
		must(t, db.Update(func(tx *badger.Txn) error { return tx.Set(row(n), random(20000)) }))
		fmt.Printf("row %d\n", n)
	}
}
