package fusefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"twofold"
	"twofold/volume/api"
)

// TestMain runs the programs that tests start (a mapping must not be used in the
// process that serves it), and checks that no test leaves a mount.
func TestMain(m *testing.M) {
	if f := programs()[os.Getenv("FUSEFS_PROGRAM")]; f != nil {
		if err := f(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

// runTests keeps all directories of the tests in one place, so that a mount that
// is left can be told from those of somebody else.
func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fusefs-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Chmod(dir, 0755)
	os.Setenv("TMPDIR", dir)
	code := m.Run()
	for _, path := range mountsBelow(dir) {
		fmt.Fprintln(os.Stderr, "leaked mount:", path)
		syscall.Unmount(path, mntDetach)
		code = 1
	}
	os.RemoveAll(dir)
	return code
}

const mntForce = 1 // MNT_FORCE

func mountsBelow(dir string) (paths []string) {
	list, _ := mountTable()
	for _, m := range list {
		if m.ours() && strings.HasPrefix(m.path, dir+"/") {
			paths = append(paths, m.path)
		}
	}
	return paths
}

// testMount is a mounted session of a fake volume.
type testMount struct {
	*fakeSession
	dir string // a directory in the mount
	s   *Server
}

func mountFake(t testing.TB, v *fakeVolume, change func(*Options)) *testMount {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse here")
	}
	opts := Options{Mountpoint: filepath.Join(t.TempDir(), "mnt"), FlushAge: time.Hour, AllowOther: true}
	if err := os.Mkdir(opts.Mountpoint, 0755); err != nil {
		t.Fatal(err)
	}
	session := v.session()
	opts.CachedUntil = session.cachedUntil
	if change != nil {
		change(&opts)
	}
	s, err := Mount(opts, session)
	if err != nil {
		t.Fatal(err)
	}
	session.mu.Lock()
	session.holder = s.Holder()
	session.mu.Unlock()
	v.mu.Lock()
	session.caches = opts.CachedUntil != nil
	v.mu.Unlock()
	// A request that this process waits for and never answers would keep even a
	// killed process from ending: abort the connection instead.
	watchdog := time.AfterFunc(time.Minute, func() { syscall.Unmount(s.Mountpoint(), mntForce) })
	t.Cleanup(func() {
		defer watchdog.Stop()
		session.setHook(nil)
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		if err := s.Unmount(ctx, false); err != nil {
			t.Errorf("unmount: %v", err)
			syscall.Unmount(s.Mountpoint(), mntForce) // a test that failed left files open
			s.Unmount(ctx, true)
		}
		s.Wait()
		if n := s.f.budget.inUse(); n != 0 {
			t.Errorf("%d bytes of the budget are lost", n)
		}
		for end := time.Now().Add(10 * time.Second); s.f.aheads.inUse() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) { // reads ahead that were on their way have ended by now
				t.Errorf("%d bytes read ahead are lost", s.f.aheads.inUse())
				break
			}
		}
	})
	return &testMount{fakeSession: session, dir: s.Mountpoint(), s: s}
}

func (m *testMount) path(name string) string { return filepath.Join(m.dir, name) }

// somebody is a session without a mount: what S3 is.
type somebody struct{ *fakeSession }

func (s somebody) find(t testing.TB, name string) api.Attr {
	t.Helper()
	a, err := s.Lookup(context.Background(), twofold.RootIno, name)
	if err != nil {
		t.Fatalf("somebody else looks up %s: %v", name, err)
	}
	return a
}

func (s somebody) get(t testing.TB, name string) string {
	t.Helper()
	a := s.find(t, name)
	b := make([]byte, a.Size+100)
	n, err := s.Read(context.Background(), a.Ino, 0, b)
	if err != nil {
		t.Fatalf("somebody else reads %s: %v", name, err)
	}
	return string(b[:n])
}

// overwrite changes bytes in place, as another mount does.
func (s somebody) overwrite(t testing.TB, name string, off int64, data string) {
	t.Helper()
	ctx := context.Background()
	a := s.find(t, name)
	l, err := s.AcquireWrite(ctx, a.Ino)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(ctx, a.Ino, api.Write{
		Token: l.Token, Segments: []api.Segment{{Off: off, Data: []byte(data)}}, Mtime: twofold.Now(),
	}); err != nil {
		t.Fatal(err)
	}
	s.ReleaseWrite(ctx, a.Ino, l.Token)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErrno(t testing.TB, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func wantFile(t testing.TB, path, want string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != want {
		t.Fatalf("%s has %.80q (%d bytes), want %.80q (%d)", filepath.Base(path), b, len(b), want, len(want))
	}
}

// TestPosix runs go-fuse's conformance tests in the mount.
func TestPosix(t *testing.T) {
	leftOut := map[string]string{
		"FcntlFlockLocksFile": "wants locks of one process to exclude each other, which they don't (fcntl(2)); go-fuse skips it itself",
		"OpenSymlinkRace":     "go-fuse skips it itself",
	}
	m := mountFake(t, newFakeVolume(), nil)
	for name, f := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if why := leftOut[name]; why != "" {
				t.Skip(why)
			}
			dir := m.path(name)
			must(t, os.Mkdir(dir, 0755))
			f(t, dir)
		})
	}
}

func TestMountTwiceAndBusy(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	if _, err := Mount(Options{Mountpoint: m.dir}, m.fakeSession); err == nil || !strings.Contains(err.Error(), "mounted already") {
		t.Fatalf("a second mount: %v", err)
	}
	f, err := os.Create(m.path("open"))
	must(t, err)
	err = m.s.Unmount(context.Background(), false)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Fatalf("unmount of a busy mount: %v", err)
	}
	must(t, f.Close())
}
