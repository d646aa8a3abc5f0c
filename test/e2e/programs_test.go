package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twofold/test/harness"
)

// The daily work of programs in the mount, and its outcome read by S3.
func TestPrograms(t *testing.T) {
	s := newStore(t)
	s.bucket("work")
	for _, p := range []struct {
		name string
		run  func(*store)
	}{
		{"cp", cp}, {"rsync", rsync}, {"tar", tarball}, {"tar-attributes", tarAttributes}, {"git", git},
		{"sqlite-delete", func(s *store) { sqlite(s, "delete") }}, {"sqlite-wal", func(s *store) { sqlite(s, "wal") }},
	} {
		t.Run(p.name, func(t *testing.T) { p.run(s.in(t)) })
	}
}

// download writes all objects under a prefix to a directory, as a backup would.
func (s *store) download(bucket, prefix string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	for _, k := range s.list(bucket, prefix) {
		p := filepath.Join(dir, strings.TrimPrefix(k, prefix))
		if strings.HasSuffix(k, "/") {
			noErr(s.t, os.MkdirAll(p, 0o755))
			continue
		}
		noErr(s.t, os.MkdirAll(filepath.Dir(p), 0o755))
		noErr(s.t, os.WriteFile(p, s.get(bucket, k), 0o644))
	}
	return dir
}

func cp(s *store) {
	src := sampleDir(s.t, 100)
	noErr(s.t, os.Chmod(filepath.Join(src, "readme.txt"), 0o750))
	s.Run("cp", "-a", src, s.Path("work", "cp"))
	sameTree(s.t, s.Path("work", "cp"), src)
	sameTree(s.t, s.download("work", "cp/"), src)
	was, err := os.Stat(filepath.Join(src, "readme.txt"))
	noErr(s.t, err)
	is, err := os.Stat(s.Path("work", "cp", "readme.txt"))
	if err != nil || is.Mode() != was.Mode() || !is.ModTime().Equal(was.ModTime()) {
		s.t.Fatalf("cp -a: %v %v, was %v %v; %v", is.Mode(), is.ModTime(), was.Mode(), was.ModTime(), err)
	}
	s.Run("cp", "-a", s.Path("work", "cp"), s.Path("work", "cp2")) // within the mount
	sameTree(s.t, s.download("work", "cp2/"), src)
	s.Run("mv", s.Path("work", "cp2"), s.Path("work", "cp3"))
	s.wantList("work", "cp2")
	s.Run("rm", "-r", s.Path("work", "cp3"))
	s.wantList("work", "cp3")
}

func rsync(s *store) {
	harness.Need(s.t, "rsync")
	src := sampleDir(s.t, 110)
	noErr(s.t, os.Symlink("readme.txt", filepath.Join(src, "link")))
	sync := func(from, to string) string {
		return s.Run("rsync", "-a", "--delete", "--itemize-changes", from+"/", to+"/")
	}
	sync(src, s.Path("work", "rsync"))
	sameTree(s.t, s.Path("work", "rsync"), src)
	if out := sync(src, s.Path("work", "rsync")); out != "" {
		s.t.Fatalf("the second rsync transferred:\n%s", out)
	}
	same(s.t, "a link by S3", s.get("work", "rsync/link"), []byte("readme.txt"))
	// What S3 changed is what rsync brings back.
	s.put("work", "rsync/docs/by-s3", []byte("new"))
	s.delete("work", "rsync/empty")
	back := s.t.TempDir()
	sync(s.Path("work", "rsync"), back)
	sameTree(s.t, back, s.Path("work", "rsync"))
	if out := sync(s.Path("work", "rsync"), back); out != "" {
		s.t.Fatalf("the second rsync back transferred:\n%s", out)
	}
	s.Run("rsync", "-a", "--inplace", "--append-verify", src+"/", s.Path("work", "rsync")+"/")
	s.wantObject("work", "rsync/empty", nil)
}

func tarball(s *store) {
	src := sampleDir(s.t, 120)
	s.Run("tar", "-C", src, "-cf", s.Path("work", "sample.tar"), ".")
	noErr(s.t, os.Mkdir(s.Path("work", "untarred"), 0o755))
	s.Run("tar", "-C", s.Path("work", "untarred"), "-xf", s.Path("work", "sample.tar"))
	sameTree(s.t, s.Path("work", "untarred"), src)
	// The archive by S3 is the archive.
	local := filepath.Join(s.t.TempDir(), "sample.tar")
	noErr(s.t, os.WriteFile(local, s.get("work", "sample.tar"), 0o644))
	s.Run("tar", "-C", src, "--compare", "-f", local)
	sameTree(s.t, s.download("work", "untarred/"), src)
}

// tarAttributes: what an archive knows of files besides their bytes is the same after a
// round trip, within the mount and by way of a file.
func tarAttributes(s *store) {
	harness.Need(s.t, "getfattr")
	noErr(s.t, os.Mkdir(s.Path("work", "attributes"), 0o755))
	owner := "true"
	if os.Getuid() == 0 {
		owner = "chown 1234:5678 plain && chown -h 12:34 link"
	}
	s.Run("sh", "-ec", `cd "$1"
		printf 'some text' >plain; ln plain hard; ln -s plain link; ln -s nowhere dangling; mkfifo fifo; mkdir dir sticky empty
		`+owner+`
		truncate -s 3M sparse; printf x | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none
		setfattr -n user.color -v blue plain; setfattr -n user.shape -v round dir
		chmod 4750 plain; chmod 640 sparse; chmod 1777 sticky; chmod 2755 dir; printf y >dir/inside; chmod 400 dir/inside
		touch -d '2001-02-03 04:05:06.123456789' plain sparse dir/inside; touch -h -d '2002-03-04 05:06:07.5' link
		touch -d '1999-01-02 03:04:05' dir sticky empty`, "sh", s.Path("work", "attributes"))
	const all = `cd "$1" && find . -mindepth 1 -printf '%P %y %m %U:%G %s %T@ %n %l\n' | sort && getfattr -dRPh -m user .`
	// The directory's own size is no attribute of it.
	list := func(dir string) string { return s.Run("sh", "-ec", all, "sh", dir) }
	want := list(s.Path("work", "attributes"))
	archive := filepath.Join(s.t.TempDir(), "a.tar")
	s.Run("tar", "-C", s.Path("work", "attributes"), "--xattrs", "--sparse", "-cf", archive, ".")
	noErr(s.t, os.Mkdir(s.Path("work", "unpacked"), 0o755))
	s.Run("tar", "-C", s.Path("work", "unpacked"), "--xattrs", "-xpf", archive)
	if got := list(s.Path("work", "unpacked")); got != want {
		s.t.Fatalf("unpacked:\n%swant\n%s", got, want)
	}
	s.Run("tar", "-C", s.Path("work", "unpacked"), "--compare", "-f", archive)
	s.sameByS3("work", "unpacked")
}

func git(s *store) {
	harness.Need(s.t, "git")
	run := func(dir string, args ...string) string {
		return s.Run("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main", "-c", "gc.auto=0", "-c", "safe.directory=*"}, args...)...)
	}
	repo := s.Path("work", "repo")
	noErr(s.t, os.Mkdir(repo, 0o755))
	run(repo, "init")
	for i := range 5 {
		for j := range 20 {
			p := filepath.Join(repo, fmt.Sprintf("d%d", j%4), fmt.Sprintf("f%d", j))
			noErr(s.t, os.MkdirAll(filepath.Dir(p), 0o755))
			noErr(s.t, os.WriteFile(p, bytes.Repeat(fmt.Appendf(nil, "%d %d\n", i, j), 200), 0o644))
		}
		run(repo, "add", "-A")
		run(repo, "commit", "-q", "-m", fmt.Sprint("commit ", i))
	}
	run(repo, "checkout", "-q", "-b", "topic", "HEAD~2")
	run(repo, "checkout", "-q", "main")
	if out := run(repo, "status", "--porcelain"); out != "" {
		s.t.Fatalf("status: %s", out)
	}
	run(s.Path("work"), "clone", "-q", "--no-local", "repo", "clone")
	run(repo, "gc", "-q", "--prune=now")
	for _, r := range []string{"repo", "clone"} {
		run(s.Path("work", r), "fsck", "--full", "--strict")
		// A copy by S3 is a repository as well; refs/ may be empty of objects there.
		dir := s.download("work", r+"/")
		run(dir, "fsck", "--full", "--strict")
		if got, want := run(dir, "log", "--format=%H"), run(repo, "log", "--format=%H"); got != want || strings.Count(got, "\n") != 5 {
			s.t.Fatalf("log of the copy of %s:\n%swant\n%s", r, got, want)
		}
	}
}

func sqlite(s *store, mode string) {
	harness.Need(s.t, "sqlite3")
	name := mode + ".db"
	run := func(db, sql string) string { return strings.TrimSpace(s.Run("sqlite3", "-bail", db, sql)) }
	db := s.Path("work", name)
	if out := run(db, "PRAGMA journal_mode="+mode+";"); out != mode {
		s.t.Fatalf("journal_mode: %s", out)
	}
	run(db, "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB); CREATE INDEX i ON t(v);")
	for i := range 10 {
		run(db, fmt.Sprintf("BEGIN; WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<200) INSERT INTO t SELECT x+%d*1000, randomblob(300) FROM n; COMMIT;", i))
	}
	run(db, "BEGIN; DELETE FROM t; ROLLBACK;")
	run(db, "DELETE FROM t WHERE k%3=0; VACUUM;")
	const check = "PRAGMA integrity_check; SELECT count(*) FROM t;"
	want := run(db, check)
	if !strings.HasPrefix(want, "ok\n13") {
		s.t.Fatalf("%s", want)
	}
	if mode == "wal" { // everything into the database file, so that one object has it
		run(db, "PRAGMA wal_checkpoint(TRUNCATE);")
	}
	local := filepath.Join(s.t.TempDir(), name)
	noErr(s.t, os.WriteFile(local, s.get("work", name), 0o644))
	if got := run(local, check); got != want {
		s.t.Fatalf("the database by S3: %s, in the mount %s", got, want)
	}
	// And one that S3 wrote is opened in the mount, in the place of the old one.
	run(local, "PRAGMA journal_mode=delete; INSERT INTO t VALUES(-7, 'by S3');")
	b, err := os.ReadFile(local)
	noErr(s.t, err)
	s.put("work", name, b)
	if got := run(db, "SELECT v FROM t WHERE k=-7;"); got != "by S3" {
		s.t.Fatalf("after a PUT of the database: %q", got)
	}
}
