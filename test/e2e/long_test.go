package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"twofold/test/harness"
)

// TestLongPrograms is what `make programs-test` runs: programs that are too slow, or too
// large to install, for every run. TWOFOLD_LONG_PROGRAMS says for how many seconds
// pgbench runs each time.
func TestLongPrograms(t *testing.T) {
	seconds, err := strconv.Atoi(os.Getenv("TWOFOLD_LONG_PROGRAMS"))
	if err != nil {
		t.Skip("run scripts/programs-test (make programs-test)")
	}
	if os.Getuid() != 0 {
		t.Skip("becoming another user takes root")
	}
	s := newStore(t, harness.WithFlags("--allow-other"))
	s.bucket("work")
	t.Run("postgresql", func(t *testing.T) { postgresql(s.in(t), seconds) })
	t.Run("go-build", func(t *testing.T) { goBuild(s.in(t)) })
}

// usage is what the drives' files take, in bytes of blocks, and what a directory's files
// have, by their sizes.
func (s *store) usage(dir string) (drives, meta, files int64) {
	walk := func(root string, add func(string, os.FileInfo)) {
		filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if info, err := d.Info(); err == nil { // it may be gone
					add(p, info)
				}
			}
			return nil
		})
	}
	for _, d := range s.Drives {
		walk(d, func(p string, info os.FileInfo) {
			n := info.Sys().(*syscall.Stat_t).Blocks * 512
			drives += n
			if strings.HasPrefix(p, filepath.Join(d, "meta")+"/") {
				meta += n
			}
		})
	}
	walk(dir, func(_ string, info os.FileInfo) { files += info.Size() })
	return drives, meta, files
}

// postgresql: a database of its own user's in the mount, under load. In the middle the
// store's server is killed, and started again: the database waits, and goes on. Then the
// database's processes are killed with the store's server, which is a crash of the whole
// machine as far as the database can tell. After each the tables are intact, and the
// balances add up. What the drives use of it is measured all the time.
func postgresql(s *store, seconds int) {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		harness.Need(s.t, "initdb")
		return
	}
	bin := bins[len(bins)-1]
	u, err := user.Lookup("postgres")
	noErr(s.t, err)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	socket := s.t.TempDir()
	noErr(s.t, os.Chown(socket, uid, gid))
	for d := socket; d != "/" && d != os.TempDir(); d = filepath.Dir(d) { // tests' directories are their owner's only
		noErr(s.t, os.Chmod(d, 0o755))
	}
	for d := s.Dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		noErr(s.t, os.Chmod(d, 0o755))
	}
	data := s.Path("work", "pgdata")
	noErr(s.t, os.Mkdir(data, 0o700))
	noErr(s.t, os.Chown(data, uid, gid))
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.Env = socket, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + socket, "PGHOST=" + socket, "PGUSER=postgres", "LC_ALL=C"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return cmd
	}
	run := func(name string, args ...string) string {
		s.t.Helper()
		out, err := command(name, args...).CombinedOutput()
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(socket, "log"))
			s.t.Fatalf("%s %v: %v\n%s\n%s", name, args, err, out, log[max(0, len(log)-4000):])
		}
		return strings.TrimSpace(string(out))
	}
	start := func() {
		s.t.Helper()
		run("pg_ctl", "-D", data, "-l", filepath.Join(socket, "log"), "-w", "-t", "300", "-o",
			"-k "+socket+" -c listen_addresses= -c max_wal_size=256MB -c checkpoint_timeout=30s -c shared_buffers=64MB", "start")
	}
	crash := func() { // kill -9 of the database: the postmaster, and what it started
		b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
		if err != nil {
			return
		}
		first, _, _ := strings.Cut(string(b), "\n")
		pid, err := strconv.Atoi(first)
		if err != nil {
			return
		}
		tasks, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		for _, p := range append([]string{first}, strings.Fields(string(tasks))...) { // or it starts others
			n, _ := strconv.Atoi(p)
			syscall.Kill(n, syscall.SIGKILL)
		}
		for _, p := range append([]string{first}, strings.Fields(string(tasks))...) {
			n, _ := strconv.Atoi(p)
			for range 600 { // its files are its own until it is gone
				if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n)); err != nil || bytes.Contains(b, []byte(") Z ")) {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	s.t.Cleanup(crash)
	check := func(when string) {
		s.t.Helper()
		run("pg_amcheck", "--install-missing", "--heapallindexed", "bench")
		// Each transaction adds one number to an account, a teller and a branch, and writes it down.
		got := run("psql", "-Atc", "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT coalesce(sum(delta),0) FROM pgbench_history) AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT count(*) FROM pgbench_history) > 0", "bench")
		if got != "t|t" {
			s.t.Fatalf("%s: the balances do not add up: %s", when, got)
		}
	}
	most := 0.0
	load := func(crashes bool, during func()) { // pgbench, and what the drives use meanwhile
		s.t.Helper()
		// -n: it would empty pgbench_history first.
		cmd := command("pgbench", "-n", "-c", "4", "-j", "2", "-T", strconv.Itoa(seconds), "bench")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		noErr(s.t, cmd.Start())
		end := make(chan error, 1)
		go func() { end <- cmd.Wait() }()
		half, tick := time.After(time.Duration(seconds)*time.Second/2), time.NewTicker(10*time.Second)
		defer tick.Stop()
		for {
			select {
			case <-half:
				if during != nil {
					during()
				}
			case <-tick.C:
				drives, meta, files := s.usage(data)
				most = max(most, float64(drives-meta)/float64(files))
				s.t.Logf("drives use %d MiB, %d of them metadata; the files have %d MiB", drives>>20, meta>>20, files>>20)
			case <-end:
				for _, l := range strings.Split(out.String(), "\n") {
					if strings.HasPrefix(l, "tps") || strings.HasPrefix(l, "number of transactions a") {
						s.t.Log(l)
					}
				}
				if !crashes && !strings.Contains(out.String(), "number of failed transactions: 0 ") {
					s.t.Errorf("pgbench:\n%s", out.String())
				}
				return
			}
		}
	}

	run("initdb", "-D", data, "-k")
	start()
	run("createdb", "bench")
	run("pgbench", "-i", "-q", "-s", "5", "bench")
	load(false, func() {
		s.Kill()
		s.Start()
	})
	check("the store's server was killed")
	load(true, func() {
		crash()
		s.Kill()
		s.Start()
	})
	start()
	check("the database and the store's server were killed")
	load(false, nil)
	check("at the end")
	run("pg_ctl", "-D", data, "-w", "-t", "300", "-m", "fast", "stop")
	run("pg_checksums", "-D", data, "--check")
	s.sameByS3("work", "pgdata")
	s.t.Logf("drives used at most %.1f times the files' bytes, parity included", most)
	// Twice for parity, three times for what is dead (docs/rules.md, 22), and the blobs of
	// one pass for each of the few files that are written to.
	if most > 8 {
		s.t.Errorf("drives used %.1f times the files' bytes", most)
	}
}

// goBuild builds this project with source, cache and output in the mount, and compares
// the program with the one that was built outside.
func goBuild(s *store) {
	root, err := exec.Command("go", "env", "GOMOD").Output()
	noErr(s.t, err)
	dir := s.Path("work", "go")
	noErr(s.t, os.Mkdir(dir, 0o755))
	s.Run("git", "-c", "safe.directory=*", "clone", "-q", "--no-local", filepath.Dir(strings.TrimSpace(string(root))), filepath.Join(dir, "src"))
	mod, err := exec.Command("go", "env", "GOMODCACHE").Output()
	noErr(s.t, err)
	build := func(src, cache, out string) {
		s.t.Helper()
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-p", "2", "-o", out, "./cmd/twofold")
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "GOCACHE="+cache, "GOMODCACHE="+strings.TrimSpace(string(mod)), "GOFLAGS=-mod=mod")
		began := time.Now()
		if b, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("go build: %v\n%s", err, b)
		}
		s.t.Logf("go build in %s: %v", src, time.Since(began).Round(time.Second))
	}
	build(filepath.Join(dir, "src"), filepath.Join(dir, "cache"), filepath.Join(dir, "twofold"))
	copied := s.t.TempDir()
	s.Run("cp", "-a", filepath.Join(dir, "src"), filepath.Join(copied, "src"))
	build(filepath.Join(copied, "src"), filepath.Join(copied, "cache"), filepath.Join(copied, "twofold"))
	one, err := os.ReadFile(filepath.Join(dir, "twofold"))
	noErr(s.t, err)
	two, err := os.ReadFile(filepath.Join(copied, "twofold"))
	noErr(s.t, err)
	same(s.t, "the program that was built in the mount", one, two)
	build(filepath.Join(dir, "src"), filepath.Join(dir, "cache"), filepath.Join(dir, "again")) // from the cache
	s.sameByS3("work", "go")
}
