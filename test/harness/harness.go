// Package harness runs the real program for end-to-end tests: the binary, its drives
// in a temporary directory, its mount, and clients. Everything a test starts is
// ended with it, also when it fails: processes by their pids, mounts lazily.
package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Credentials of every server that tests start.
const (
	User     = "twofold-test"
	Password = "twofold-test-secret"
)

// Binary builds the program once for all tests of a package and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	b := built()
	if b.err != nil {
		t.Fatalf("building the program: %v", b.err)
	}
	return b.path
}

type binary struct {
	path string
	err  error
}

var built = sync.OnceValue(func() binary {
	root, err := moduleRoot()
	if err != nil {
		return binary{err: err}
	}
	// One file for all test packages of a checkout: another one's program is not it.
	tags := os.Getenv("TWOFOLD_TEST_TAGS") // build tags: internal/plant
	sum := sha256.Sum256([]byte(root + "\x00" + tags))
	path := filepath.Join(os.TempDir(), fmt.Sprintf("twofold-e2e-%d-%x", os.Getuid(), sum[:4]), "twofold")
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	cmd := exec.Command("go", "build", "-tags", tags, "-o", tmp, "./cmd/twofold")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return binary{err: fmt.Errorf("%w: %s", err, out)}
	}
	return binary{path: path, err: os.Rename(tmp, path)}
})

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// Server is a server process with its drives, and a mount if one was asked for.
type Server struct {
	t       testing.TB
	Dir     string   // where everything of this server is
	Drives  []string // directories of the drives
	Args    []string // the command line behind the flags; the drives, unless changed
	Flags   []string // more flags
	Env     []string // more environment
	Mount   string   // mount point; empty: no mount
	Address string   // host:port

	mu  sync.Mutex
	cmd *exec.Cmd
	end chan error
	log *tail
}

// Option changes a server before it starts.
type Option func(*Server)

// WithMount also mounts.
func WithMount() Option { return func(s *Server) { s.Mount = filepath.Join(s.Dir, "mnt") } }

// WithFlags adds flags.
func WithFlags(f ...string) Option { return func(s *Server) { s.Flags = append(s.Flags, f...) } }

// WithEnv adds NAME=VALUE pairs.
func WithEnv(e ...string) Option { return func(s *Server) { s.Env = append(s.Env, e...) } }

// WithDrives puts the drives elsewhere.
func WithDrives(dirs ...string) Option {
	return func(s *Server) { s.Drives, s.Args = dirs, dirs }
}

// Start starts a server on n new drives and waits until it serves.
func Start(t testing.TB, n int, opts ...Option) *Server {
	t.Helper()
	s := New(t, n, opts...)
	s.Start()
	return s
}

// New prepares a server without starting it.
func New(t testing.TB, n int, opts ...Option) *Server {
	t.Helper()
	s := &Server{t: t, Dir: t.TempDir(), Address: freeAddress(t), log: &tail{}}
	for i := range n {
		s.Drives = append(s.Drives, filepath.Join(s.Dir, fmt.Sprintf("d%d", i+1)))
	}
	s.Args = []string{filepath.Join(s.Dir, fmt.Sprintf("d{1...%d}", n))}
	if n <= 1 {
		s.Args = s.Drives
	}
	for _, o := range opts {
		o(s)
	}
	t.Cleanup(s.cleanup)
	return s
}

func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// environ is the environment of the program and its tools.
func (s *Server) environ() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "S3_") && !strings.HasPrefix(e, "MINIO_") && !strings.HasPrefix(e, "AWS_") {
			env = append(env, e)
		}
	}
	return append(append(env, "S3_ROOT_USER="+User, "S3_ROOT_PASSWORD="+Password), s.Env...)
}

// Start starts the server and waits until it serves, and its mount answers.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.TryStart(); err != nil {
		s.t.Fatalf("%v\n%s", err, s.Log())
	}
}

// TryStart is Start with an error.
func (s *Server) TryStart() error {
	args := append([]string{"server", "--address", s.Address}, s.Flags...)
	if s.Mount != "" {
		args = append(args, "--mount", s.Mount)
	}
	return s.launch(exec.Command(Binary(s.t), append(args, s.Args...)...))
}

// StartCommand is Start by way of another command, which becomes the server.
func (s *Server) StartCommand(name string, args ...string) {
	s.t.Helper()
	if err := s.launch(exec.Command(name, args...)); err != nil {
		s.t.Fatalf("%v\n%s", err, s.Log())
	}
}

func (s *Server) launch(cmd *exec.Cmd) error {
	if err := s.begin(cmd); err != nil {
		return err
	}
	return s.await(60 * time.Second)
}

// begin starts the command and does not wait for the server.
func (s *Server) begin(cmd *exec.Cmd) error {
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = s.environ(), s.log, s.log, s.Dir
	// In a group of its own, so that cleanup reaches it whole.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // the mount process holds the log open
	if err := cmd.Start(); err != nil {
		return err
	}
	end := make(chan error, 1)
	go func() { end <- cmd.Wait() }()
	s.mu.Lock()
	s.cmd, s.end = cmd, end
	s.mu.Unlock()
	return nil
}

// await waits until the server answers and the mount is there.
func (s *Server) await(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for time.Now().Before(deadline) {
		select {
		case err := <-s.end:
			s.end <- err
			return fmt.Errorf("the server ended: %v", err)
		default:
		}
		if s.answers() && (s.Mount == "" || Mounted(s.Mount) && !dead(s.Mount)) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the server was not there after %v", timeout)
}

// answers reports whether S3 lists buckets.
func (s *Server) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := net.DialTimeout("tcp", s.Address, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	_, err = s.S3().ListBuckets(ctx, nil)
	return err == nil
}

// Mounted reports whether dir is one of our mounts, by the kernel's table: nothing
// of the mount itself is asked.
func Mounted(dir string) bool {
	b, err := os.ReadFile("/proc/self/mounts")
	return err == nil && strings.Contains(string(b), " "+dir+" fuse.twofold ")
}

// dead reports whether a mount is what a killed mount process has left.
func dead(dir string) bool {
	var st syscall.Statfs_t // not stat(2): the kernel may still know the attributes
	return errors.Is(syscall.Statfs(dir, &st), syscall.ENOTCONN)
}

// Pid is the server's (the supervisor's) process id.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process.Pid
}

// Kill kills the server as kill -9 does; its mount process lives on.
func (s *Server) Kill() {
	s.t.Helper()
	s.mu.Lock()
	cmd, end := s.cmd, s.end
	s.mu.Unlock()
	cmd.Process.Kill()
	<-end
	end <- nil
	// The worker dies with the supervisor; wait until its port is free.
	for range 500 {
		l, err := net.Listen("tcp", s.Address)
		if err == nil {
			l.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatalf("%s is still in use after kill -9", s.Address)
}

// Stop stops the server as Ctrl-C does and returns how it ended.
func (s *Server) Stop() error {
	s.mu.Lock()
	cmd, end := s.cmd, s.end
	s.mu.Unlock()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-end:
		end <- err
		return err
	case <-time.After(90 * time.Second):
		return fmt.Errorf("it did not stop within 90 s")
	}
}

// MountPid is the process id of the mount process, 0 if there is none.
func (s *Server) MountPid() int { return processOf("mount", s.Mount) }

// processOf finds the program's process with both words in its command line.
func processOf(words ...string) int {
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil || !bytes.Contains(b, []byte("twofold")) {
			continue
		}
		argv := strings.Split(string(b), "\x00")
		found := 0
		for _, w := range words {
			for _, a := range argv {
				if a == w {
					found++
					break
				}
			}
		}
		// `server --mount DIR` has the words as well; the mount process has "mount".
		if found == len(words) && len(argv) > 1 && argv[1] == words[0] {
			var pid int
			fmt.Sscanf(p, "/proc/%d/", &pid)
			return pid
		}
	}
	return 0
}

// KillMount kills the mount process as kill -9 does.
func (s *Server) KillMount() {
	if pid := s.MountPid(); pid != 0 {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Log is the end of what the server and its mount printed.
func (s *Server) Log() string { return s.log.String() }

func (s *Server) cleanup() {
	s.mu.Lock()
	cmd := s.cmd
	s.mu.Unlock()
	if cmd != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Process.Kill()
	}
	if s.Mount != "" {
		s.KillMount()
		for range 100 { // several, if a test mounted over itself
			if !Mounted(s.Mount) {
				break
			}
			syscall.Unmount(s.Mount, 2) // MNT_DETACH
		}
	}
	if s.t.Failed() {
		s.t.Logf("the end of the server's log:\n%s", s.Log())
	}
}

// S3 is a client of the server. It retries as the SDK does by default.
func (s *Server) S3(opts ...func(*s3.Options)) *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + s.Address), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(User, Password, ""),
	}, opts...)
}

// Run runs a tool with the server's credentials in its environment, and fails the
// test if it fails. It returns what the tool printed.
func (s *Server) Run(name string, args ...string) string {
	s.t.Helper()
	out, err := s.Try(name, args...)
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try is Run with an error.
func (s *Server) Try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.Dir
	cmd.Env = append(s.environ(), "AWS_ACCESS_KEY_ID="+User, "AWS_SECRET_ACCESS_KEY="+Password, "AWS_DEFAULT_REGION=us-east-1",
		"AWS_CONFIG_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true", "HOME="+s.Dir, "ENDPOINT=http://"+s.Address, "MNT="+s.Mount)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// tail keeps the end of what is written.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if len(l.b) > 1<<20 {
		l.b = append([]byte(nil), l.b[len(l.b)-1<<19:]...)
	}
	return len(p), nil
}

// all is all that is kept.
func (l *tail) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.b
	if len(b) > 16<<10 {
		b = b[len(b)-16<<10:]
	}
	return string(b)
}
