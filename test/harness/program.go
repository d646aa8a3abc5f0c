package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
)

// Result is how a run of the program ended.
type Result struct {
	Stdout, Stderr string
	Status         int // exit status; -1 if a signal ended it or it ran into the time limit
}

// Program runs the program to its end, at most a minute, with the test credentials in
// the environment (a later NAME=VALUE in env wins), in the server's directory.
func (s *Server) Program(env []string, args ...string) Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, Binary(s.t), args...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = &out, &err, s.Dir, append(s.environ(), env...)
	// A group of its own: what it started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	e := cmd.Run()
	var exit *exec.ExitError
	if e != nil && !errors.As(e, &exit) && cmd.ProcessState == nil {
		s.t.Fatalf("running the program: %v", e)
	}
	return Result{out.String(), err.String(), cmd.ProcessState.ExitCode()}
}

// Signal sends a signal to the server (the supervisor).
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.Pid(), sig); err != nil {
		s.t.Fatal(err)
	}
}

// Wait waits until the server has ended and returns how.
func (s *Server) Wait(timeout time.Duration) error {
	s.mu.Lock()
	end := s.end
	s.mu.Unlock()
	select {
	case err := <-end:
		end <- err
		return err
	case <-time.After(timeout):
		return errors.New("it did not end")
	}
}

// Path is a path in the mount.
func (s *Server) Path(elem ...string) string {
	return filepath.Join(append([]string{s.Mount}, elem...)...)
}

// URL is the address of a bucket, or of an object in it, unescaped.
func (s *Server) URL(path string) string { return "http://" + s.Address + "/" + path }

// Minio is a client of the other wide-spread SDK.
func (s *Server) Minio(t testing.TB) *minio.Client {
	t.Helper()
	c, err := minio.New(s.Address, &minio.Options{Creds: miniocreds.NewStaticV4(User, Password, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Fetch gets a URL without credentials: for presigned ones.
func Fetch(url string) (*http.Response, error) {
	c := http.Client{Timeout: time.Minute}
	return c.Get(url)
}

// Need skips the test where there is no such tool; in CI, where scripts/test-deps
// has installed them all, it fails instead.
func Need(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Getenv("CI") != "" || os.Getenv("TWOFOLD_ALL_TESTS") != "" {
			t.Fatalf("%s is not installed: run scripts/test-deps", tool)
		}
		t.Skipf("%s is not installed: run scripts/test-deps", tool)
	}
}

// NeedMount is Need for what a mount takes.
func NeedMount(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("there is no /dev/fuse: %v", err)
	}
	if os.Getuid() != 0 {
		Need(t, "fusermount3")
	}
}

// SmallDrives mounts n file systems in memory of that size (tmpfs's: "96m") and returns
// a path in each for a drive. Without root it skips the test; with it, a mount that
// fails is a failure.
func SmallDrives(t testing.TB, n int, size string) (drives []string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	dir := t.TempDir()
	for i := range n {
		d := filepath.Join(dir, fmt.Sprintf("d%d", i))
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", d, "tmpfs", 0, "size="+size); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(d, syscall.MNT_DETACH) })
		drives = append(drives, filepath.Join(d, "drive"))
	}
	return drives
}
