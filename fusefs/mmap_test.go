package fusefs

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMappedStoresAreRecalled: stores through a shared mapping send no request;
// when others read, the recall makes the kernel write the page back, and the next
// store takes the lease again (rule 4).
func TestMappedStoresAreRecalled(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	must(t, os.WriteFile(m.path("f"), bytes.Repeat([]byte("."), 10000), 0644))
	for range 2 { // fill pages without the lease: they must not survive the mapping's open
		wantFile(t, m.path("f"), strings.Repeat(".", 10000))
	}
	k := startTalk(t, "mapping", m.path("f"))
	k.want("load 0 3", "...")
	for _, word := range []string{"one", "two", "six", "ten"} {
		k.want("store 0 "+word, "ok")
		k.want("store 9000 "+word, "ok")
		got := s3.get(t, "f")
		if got[:3] != word || got[9000:9003] != word {
			t.Fatalf("others see %q and %q, not %q", got[:3], got[9000:9003], word)
		}
		s3.overwrite(t, "f", 4, "other"+word)
		k.want("load 0 12", word+"."+"other"+word)
	}
	k.want("store 5000 last", "ok")
	k.want("munmap", "ok")
	k.want("close", "ok")
	if got := s3.get(t, "f"); got[5000:5004] != "last" {
		t.Fatalf("after close others see %q", got[5000:5004])
	}
}

// TestTwoMappings: the same file mapped in two mounts.
func TestTwoMappings(t *testing.T) {
	v := newFakeVolume()
	a, b := mountFake(t, v, nil), mountFake(t, v, nil)
	must(t, os.WriteFile(a.path("f"), bytes.Repeat([]byte("."), 8192), 0644))
	ka, kb := startTalk(t, "mapping", a.path("f")), startTalk(t, "mapping", b.path("f"))
	for i := range 20 {
		wa, wb := strings.Repeat("a", 1+i), strings.Repeat("b", 1+i)
		ka.want("store 0 "+wa, "ok")
		kb.want("store 100 "+wb, "ok") // same page
		ka.want("store 4096 "+wa, "ok")
		wantPart(t, b, 0, wa)
		wantPart(t, a, 100, wb)
		wantPart(t, b, 4096, wa)
	}
}

func wantPart(t *testing.T, m *testMount, off int64, want string) {
	t.Helper()
	f, err := os.Open(m.path("f"))
	must(t, err)
	defer f.Close()
	got := make([]byte, len(want))
	_, err = f.ReadAt(got, off)
	must(t, err)
	if string(got) != want {
		t.Fatalf("at %d: %q, want %q", off, got, want)
	}
}

func TestMsync(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	must(t, os.WriteFile(m.path("f"), bytes.Repeat([]byte("."), 5000), 0644))
	k := startTalk(t, "mapping", m.path("f"))
	k.want("store 10 durable", "ok")
	k.want("msync", "ok")
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, in := range v.inodes {
		if in.data != nil && !bytes.Contains(in.data, []byte("durable")) {
			t.Fatal("msync did not commit")
		}
	}
}

// TestSqlite runs a database in write-ahead mode, which maps its -shm file.
func TestSqlite(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("sqlite3 is not installed")
	}
	v := newFakeVolume()
	a, b := mountFake(t, v, nil), mountFake(t, v, nil)
	sql := func(m *testMount, q string) string {
		t.Helper()
		out, err := exec.Command("sqlite3", m.path("db"), q).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", q, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	sql(a, "pragma journal_mode=wal; create table t(n integer primary key, s text);")
	for i := range 5 {
		m := []*testMount{a, b}[i%2]
		sql(m, "with recursive c(x) as (select 1 union all select x+1 from c where x < 500) insert into t(s) select hex(randomblob(100)) from c;")
		if got := sql(m, "pragma integrity_check;"); got != "ok" {
			t.Fatal(got)
		}
	}
	for _, m := range []*testMount{a, b} {
		if got := sql(m, "select count(*) from t;"); got != "2500" {
			t.Fatalf("%s rows", got)
		}
	}
}

// TestGit has many small files, renames over others, and mapped packs.
func TestGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	m := mountFake(t, newFakeVolume(), nil)
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", m.path("repo"), "-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	must(t, os.Mkdir(m.path("repo"), 0755))
	git("init", "-q")
	for i := range 3 {
		must(t, os.WriteFile(m.path("repo/file"), bytes.Repeat([]byte{byte('a' + i)}, 100000), 0644))
		git("add", ".")
		git("commit", "-q", "-m", "x")
	}
	git("gc", "-q")
	git("fsck", "--strict")
	git("checkout", "-q", "HEAD~2")
	wantFile(t, m.path("repo/file"), strings.Repeat("a", 100000))
}

// TestMappedStoresAreCopied: copy_file_range and SEEK_DATA see what a mapping of the
// file has stored, as a read does.
func TestMappedStoresAreCopied(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	must(t, os.WriteFile(m.path("f"), make([]byte, 8192), 0644))
	k := startTalk(t, "mapping", m.path("f"))
	src, err := os.Open(m.path("f"))
	must(t, err)
	defer src.Close()
	dst, err := os.Create(m.path("copy"))
	must(t, err)
	defer dst.Close()
	k.want("store 5000 one", "ok")
	if off, err := unix.Seek(int(src.Fd()), 0, unix.SEEK_DATA); err != nil || off != 5000 {
		t.Fatal("data at", off, err)
	}
	k.want("store 6000 two", "ok")
	if n, err := copyRange(t, src, 6000, dst, 0, 3); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	wantFile(t, m.path("copy"), "two")
}
