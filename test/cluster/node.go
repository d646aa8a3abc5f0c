package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"twofold/test/harness"
)

// startTime is how long anything may take that does not depend on the cluster's state.
const startTime = time.Minute

// Node is a machine: one of the cluster's, or the client's, which has no server.
type Node struct {
	t      testing.TB
	Number int        // its port of the switch, from 0; the client's is behind the others'
	Name   string     // host name: node1, node2, ..., client
	Addr   netip.Addr // in the cluster's network
	Dir    string     // of this machine: the node's log and drives
	Data   string     // path of the drives on the node: the same for all nodes
	Flags  []string   // of its server, with which it is started
	Env    []string   // more environment of it

	shell  *launcher
	server int   // process id of the server (the supervisor), 0: none was started
	from   int64 // where its log begins
}

func newNode(t testing.TB, number int, name, root string) *Node {
	t.Helper()
	n := &Node{t: t, Number: number, Name: name, Addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(number + 1)}),
		Dir: filepath.Join(root, name), Data: filepath.Join(root, "data")}
	if err := os.MkdirAll(filepath.Join(n.Dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.shell = newLauncher(t, n.Dir)
	t.Cleanup(func() {
		n.shell.end()
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", name, n.Log())
		}
	})
	return n
}

// furnish makes the namespaces look like a machine: its name, the names of the
// others, an identity and drives of its own.
func (n *Node) furnish(hosts string) error {
	files := map[string]string{
		"/etc/hosts":                      hosts,
		"/etc/machine-id":                 fmt.Sprintf("%032x\n", n.Number+1),
		"/proc/sys/kernel/random/boot_id": fmt.Sprintf("%08x-0000-4000-8000-000000000000\n", n.Number+1),
	}
	commands := []string{
		"hostname " + n.Name,
		"mount --bind " + quote(filepath.Join(n.Dir, "data")) + " " + quote(n.Data),
		"ip link set lo up",
		fmt.Sprintf("ip address add %s/24 dev eth", n.Addr),
		"ip link set eth mtu 9000 txqueuelen 2000 up",
	}
	for path, content := range files {
		if _, err := os.Stat(path); err != nil {
			continue // nobody reads it here
		}
		own := filepath.Join(n.Dir, filepath.Base(path))
		if err := os.WriteFile(own, []byte(content), 0o644); err != nil {
			return err
		}
		commands = append(commands, "mount --bind "+quote(own)+" "+path)
	}
	return n.shell.do(strings.Join(commands, " && "))
}

// environ is that of a server and of tools.
func (n *Node) environ() []string {
	return append([]string{"S3_ROOT_USER=" + harness.User, "S3_ROOT_PASSWORD=" + harness.Password}, n.Env...)
}

// Serve starts `twofold server` with n's flags on the given drives. It may not serve
// yet when Serve returns: see Cluster.Await.
func (n *Node) Serve(drives ...string) {
	n.t.Helper()
	args := append([]string{harness.Binary(n.t), "server", "--address", ":9000"}, n.Flags...)
	var err error
	if st, err := os.Stat(filepath.Join(n.Dir, "log")); err == nil {
		n.from = st.Size()
	}
	if n.server, err = n.shell.start(filepath.Join(n.Dir, "log"), n.environ(), append(args, drives...)); err != nil {
		n.t.Fatalf("%s: starting the server: %v", n.Name, err)
	}
}

// Serving reports whether the server's process runs; it may be starting, or paused.
func (n *Node) Serving() bool { return n.server != 0 && alive(n.server) }

// Start starts any program on the node; its output goes to the node's log.
func (n *Node) Start(args ...string) (pid int) {
	n.t.Helper()
	pid, err := n.shell.start(filepath.Join(n.Dir, "log"), n.environ(), args)
	if err != nil {
		n.t.Fatalf("%s: starting %s: %v", n.Name, args[0], err)
	}
	return pid
}

// Run runs a program on the node to its end and returns what it printed. This process
// forks it: not while it has files open in a mount (see launcher).
func (n *Node) Run(ctx context.Context, args ...string) (string, error) {
	enter := []string{"-t", strconv.Itoa(n.shell.sh.Process.Pid), "-n", "-m", "-u", "--", "env"}
	cmd := exec.CommandContext(ctx, "nsenter", append(append(enter, n.environ()...), args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Path is how this process reaches a path on the node, in its mounts too. Symbolic links with absolute
// targets lead out of the node.
func (n *Node) Path(path string) string {
	return fmt.Sprintf("/proc/%d/root%s", n.shell.sh.Process.Pid, path)
}

// Stop asks the server to end, as systemd does, and returns when it has.
func (n *Node) Stop() {
	n.t.Helper()
	syscall.Kill(n.server, syscall.SIGTERM)
	n.await("to stop", func() bool { return !alive(n.server) })
}

// Kill kills the server as kill -9 does, and returns when it is gone with its worker.
// A mount process lives on.
func (n *Node) Kill() {
	n.t.Helper()
	syscall.Kill(n.server, syscall.SIGKILL)
	n.await("to die", func() bool { return !alive(n.server) && len(n.running("server")) == 0 })
}

// Crash kills everything on the node at once, mounts too. What was written and not
// synced is still there afterwards: it is not a power cut.
func (n *Node) Crash() {
	n.t.Helper()
	if !n.shell.signal(syscall.SIGKILL, func() bool { return len(n.shell.processes()) == 0 }) {
		n.t.Fatalf("%s: processes %v don't die", n.Name, n.shell.processes())
	}
}

// Pause stops all processes on the node (SIGSTOP): as a machine that swaps, or a
// virtual one that is moved. Its network goes on acknowledging what is sent to it.
func (n *Node) Pause() {
	n.t.Helper()
	stopped := func() bool {
		for _, pid := range n.shell.processes() {
			if s := state(pid); s != 'T' && s != 'Z' && s != 0 && s != 'D' { // D: stops when its disk answers
				return false
			}
		}
		return true
	}
	if !n.shell.signal(syscall.SIGSTOP, stopped) {
		n.t.Fatalf("%s: processes don't stop", n.Name)
	}
}

// Resume ends a Pause.
func (n *Node) Resume() { n.shell.signal(syscall.SIGCONT, func() bool { return true }) }

// running are the node's processes of a subcommand of the program.
func (n *Node) running(subcommand string) []int {
	var out []int
	for _, pid := range n.shell.processes() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if argv := strings.Split(string(b), "\x00"); err == nil && len(argv) > 1 && filepath.Base(argv[0]) == "twofold" && argv[1] == subcommand {
			out = append(out, pid)
		}
	}
	return out
}

// Mounts are the ids of the node's mount processes.
func (n *Node) Mounts() []int { return n.running("mount") }

// Log is the end of what was printed on the node.
func (n *Node) Log() string {
	b, _ := os.ReadFile(filepath.Join(n.Dir, "log"))
	return string(b[max(0, len(b)-16<<10):])
}

// Said is what was printed on the node since its server was started.
func (n *Node) Said() string {
	b, _ := os.ReadFile(filepath.Join(n.Dir, "log"))
	return string(b[min(n.from, int64(len(b))):])
}

func (n *Node) await(what string, is func() bool) {
	n.t.Helper()
	for end := time.Now().Add(startTime); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("%s did not come %s in %v", n.Name, what, startTime)
		}
	}
}
