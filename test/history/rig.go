package history

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
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

// rig is a store with its mounts. One server, and each mount behind a network of its own;
// or nodes, each behind a network of its own, which is its address for mounts and for the
// other nodes.
type rig struct {
	t      testing.TB
	dir    string // of the launcher and of mount points
	run    *launcher
	env    []string
	nodes  []*server
	s3     *s3.Client // of the first node
	mounts []*mount
	drives *powerfs.FS // nil: the drives are plain directories
	behind bool        // mounts commit changes of names later
	views  int         // incarnations of mounts that this round has had
}

// mount is a mount point, and the process that serves it.
type mount struct {
	rig       *rig
	dir       string
	endpoints []string // URLs, in the order in which they are tried
	net       *network
	pid       int

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

// newRig starts a server on four drives, or nodes with as many each, and mounts. env is
// for all of them.
func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	harness.NeedMount(t)
	r := &rig{t: t, env: o.env, behind: o.behind}
	if o.nodes == 0 {
		r.alone(o)
	} else {
		r.among(o)
	}
	// Before newLauncher, so that it runs after it: processes first.
	t.Cleanup(r.unmount)
	r.run = newLauncher(t, r.dir)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	t.Cleanup(client.CloseIdleConnections)
	for _, n := range r.nodes {
		n.s3 = n.srv.S3(func(o *s3.Options) { o.Retryer, o.HTTPClient = aws.NopRetryer{}, client })
	}
	r.s3 = r.nodes[0].s3
	for _, n := range r.nodes { // side by side: they wait for each other
		n.launch()
	}
	for _, n := range r.nodes {
		n.await()
	}
	for i := range o.mounts {
		m := &mount{rig: r, dir: filepath.Join(r.dir, fmt.Sprintf("mnt%d", i))}
		m.net, m.endpoints = r.way(i)
		r.mounts = append(r.mounts, m)
		m.start()
	}
	return r
}

// rigOptions are what a rig is like.
type rigOptions struct {
	mounts int
	nodes  int  // 0: one server, on directories of this machine
	each   int  // drives of a node
	faulty bool // drives can break
	behind bool // mounts commit changes of names later
	env    []string
}

// alone prepares one server.
func (r *rig) alone(o rigOptions) {
	var opts []harness.Option
	if o.faulty {
		opts = append(opts, harness.WithDrives(r.breakable(4)...))
	}
	n := &server{rig: r, srv: harness.New(r.t, 4, opts...), log: "server.log"}
	n.args = append([]string{"--address", n.srv.Address}, n.srv.Args...)
	r.nodes, r.dir = []*server{n}, n.srv.Dir
}

// breakable makes drives that can break.
func (r *rig) breakable(drives int) (dirs []string) {
	r.drives = powerfs.Start(r.t, powerfs.Options{Drives: drives})
	for i := range drives {
		dirs = append(dirs, r.drives.Dir(i))
	}
	return dirs
}

// way is the network of a mount, and its endpoints.
func (r *rig) way(i int) (*network, []string) {
	if len(r.nodes) == 1 {
		p := r.network(r.nodes[0].srv.Address)
		return p, []string{p.url()}
	}
	// Another node is the first one of each mount; every other mount knows that one alone.
	var all []string
	for k := range r.nodes {
		all = append(all, r.nodes[(i+k)%len(r.nodes)].net.url())
	}
	if i%2 == 0 {
		all = all[:1]
	}
	return nil, all
}

// network makes one, which ends with the test.
func (r *rig) network(to string) *network {
	p, err := newNetwork(to)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(p.close)
	return p
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
	m.pid = r.run.start(filepath.Base(m.dir)+".log", r.env, harness.Binary(r.t), "mount", "--endpoint", strings.Join(m.endpoints, ","), fmt.Sprintf("--no-write-behind=%t", !r.behind), m.dir)
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
