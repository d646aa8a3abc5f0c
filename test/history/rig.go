package history

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"

	"twofold/test/harness"
	"twofold/test/powerfs"
)

// startTime is how long a program may take to serve, or to be gone. Far longer than it
// takes: it is the test that failed then.
const startTime = 120 * time.Second

// rig is a server with its mounts, each behind a network of its own.
type rig struct {
	t      testing.TB
	srv    *harness.Server // its drives, address and directory; it is started by run
	run    *launcher
	pid    int
	env    []string
	s3     *s3.Client
	mounts []*mount
	drives *powerfs.FS // nil: the drives are plain directories
	behind bool        // mounts commit changes of names later
	views  int         // incarnations of mounts that this round has had
}

// mount is a mount point, and the process that serves it.
type mount struct {
	rig *rig
	dir string
	net *network
	pid int

	mu     sync.RWMutex // held shared by clients in the middle of a step: see enter
	up     *incarnation
	bucket string
}

// incarnation is a mount process, as long as it lives.
type incarnation struct {
	view int
	root int // descriptor of the round's bucket
	wg   sync.WaitGroup
}

func (i *incarnation) leave() { i.wg.Done() }

// newRig starts a server on four drives, and mounts. env is for both.
func newRig(t testing.TB, mounts int, faulty, behind bool, env ...string) *rig {
	t.Helper()
	harness.NeedMount(t)
	r := &rig{t: t, env: env, behind: behind}
	var opts []harness.Option
	if faulty {
		r.drives = powerfs.Start(t, powerfs.Options{Drives: 4})
		var dirs []string
		for i := range 4 {
			dirs = append(dirs, r.drives.Dir(i))
		}
		opts = append(opts, harness.WithDrives(dirs...))
	}
	r.srv = harness.New(t, 4, opts...)
	// Before newLauncher, so that it runs after it: processes first.
	t.Cleanup(r.unmount)
	r.run = newLauncher(t, r.srv.Dir)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	t.Cleanup(client.CloseIdleConnections)
	r.s3 = r.srv.S3(func(o *s3.Options) { o.Retryer, o.HTTPClient = aws.NopRetryer{}, client })
	r.start()
	for i := range mounts {
		p, err := newNetwork(r.srv.Address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.close)
		m := &mount{rig: r, dir: filepath.Join(r.srv.Dir, fmt.Sprintf("mnt%d", i)), net: p}
		r.mounts = append(r.mounts, m)
		m.start()
	}
	return r
}

// start starts the server and waits until it serves.
func (r *rig) start() {
	args := append([]string{harness.Binary(r.t), "server", "--address", r.srv.Address}, r.srv.Args...)
	r.pid = r.run.start("server.log", r.env, args...)
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if r.answers() {
			return
		}
	}
	r.t.Fatalf("no server within %v\n%s", startTime, r.log())
}

func (r *rig) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := r.s3.ListBuckets(ctx, nil)
	return err == nil
}

// kill kills the server -9 and returns when its port is free.
func (r *rig) kill() {
	r.run.kill(r.pid)
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if l, err := net.Listen("tcp", r.srv.Address); err == nil {
			l.Close()
			return
		}
	}
	r.t.Fatalf("%s is still in use after kill -9", r.srv.Address)
}

// log is the end of what the server printed.
func (r *rig) log() string {
	b, _ := os.ReadFile(filepath.Join(r.srv.Dir, "server.log"))
	return string(b[max(0, len(b)-8<<10):])
}

func (r *rig) unmount() {
	for _, m := range r.mounts {
		for range 10 {
			if !harness.Mounted(m.dir) {
				break
			}
			syscall.Unmount(m.dir, syscall.MNT_DETACH)
		}
	}
}

// start mounts and waits until the mount is there.
func (m *mount) start() {
	r := m.rig
	m.pid = r.run.start(filepath.Base(m.dir)+".log", r.env, harness.Binary(r.t), "mount", "--endpoint", "http://"+m.net.address, fmt.Sprintf("--no-write-behind=%t", !r.behind), m.dir)
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if harness.Mounted(m.dir) {
			return
		}
	}
	r.t.Fatalf("%s is not mounted within %v", m.dir, startTime)
}

// open opens the bucket's directory for clients and returns its inode number.
func (m *mount) open(bucket string) (ino uint64) {
	fd, err := unix.Open(filepath.Join(m.dir, bucket), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		m.rig.t.Fatalf("opening %s in %s: %v", bucket, m.dir, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bucket, m.up = bucket, &incarnation{view: m.rig.views, root: fd}
	m.rig.views++
	return st.Ino
}

// enter gives a client the mount for a step, or reports that there is none.
func (m *mount) enter() (*incarnation, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.up == nil {
		return nil, false
	}
	m.up.wg.Add(1)
	return m.up, true
}

// close takes the mount from the clients; it waits for those that are in it.
func (m *mount) close() {
	m.mu.Lock()
	up := m.up
	m.up = nil
	m.mu.Unlock()
	if up != nil {
		up.wg.Wait()
		unix.Close(up.root)
	}
}

// alive is the incarnation's view.
func (m *mount) current() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.up.view
}

// kill kills the mount's process -9; what is under way there ends.
func (m *mount) kill() {
	m.rig.run.kill(m.pid)
	m.close()
	for range 10 {
		if syscall.Unmount(m.dir, syscall.MNT_DETACH) != nil {
			break
		}
	}
}
