package history

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

// server is a node: the only one, or one of several.
type server struct {
	rig  *rig
	srv  *harness.Server // its drives, address and directory; it is started by the launcher
	net  *network        // where others find it; nil: the only one
	args []string        // behind "server"
	log  string          // file in the rig's directory
	from int64           // where in the log this process begins
	pid  int             // of the supervisor
	s3   *s3.Client
}

// among prepares nodes that are one store.
func (r *rig) among(o rigOptions) {
	servers := harness.NewNodes(r.t, o.nodes, o.each)
	r.dir = r.t.TempDir()
	if o.faulty {
		dirs := r.breakable(o.nodes * o.each)
		for i, s := range servers {
			s.Drives = dirs[i*o.each : (i+1)*o.each]
		}
	}
	var drives []string
	for i, s := range servers {
		n := &server{rig: r, srv: s, net: r.network(s.Address), log: fmt.Sprintf("node%d.log", i+1)}
		for _, d := range s.Drives {
			drives = append(drives, n.net.url()+d)
		}
		r.nodes = append(r.nodes, n)
	}
	for _, n := range r.nodes {
		n.args = append([]string{"--address", n.srv.Address, "--node", n.net.url()}, drives...)
	}
}

// launch starts the server and does not wait for it.
func (n *server) launch() {
	if st, err := os.Stat(filepath.Join(n.rig.dir, n.log)); err == nil {
		n.from = st.Size()
	}
	n.pid = n.rig.run.start(n.log, n.rig.env, append([]string{harness.Binary(n.rig.t), "server"}, n.args...)...)
}

// await waits until the server serves.
func (n *server) await() {
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if n.answers() {
			return
		}
	}
	n.rig.t.Fatalf("no server at %s within %v\n%s", n.srv.Address, startTime, n.tail())
}

func (n *server) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	_, err := n.s3.ListBuckets(ctx, nil)
	return err == nil
}

// kill kills the server -9 and returns when its port is free.
func (n *server) kill() {
	n.rig.run.kill(n.pid)
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if l, err := net.Listen("tcp", n.srv.Address); err == nil {
			l.Close()
			return
		}
	}
	n.rig.t.Fatalf("%s is still in use after kill -9", n.srv.Address)
}

// signal sends a signal to the server's processes: the supervisor and the one that it
// watches over.
func (n *server) signal(sig syscall.Signal) {
	for _, pid := range append(children(n.pid), n.pid) {
		syscall.Kill(pid, sig)
	}
}

// children are the processes that a process has started.
func children(of int) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range all {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		var pid, parent int
		fmt.Sscan(string(b), &pid)
		_, rest, _ := strings.Cut(string(b), ") ") // proc(5): pid (comm) state ppid
		fmt.Sscanf(rest, "%s %d", new(string), &parent)
		if parent == of {
			pids = append(pids, pid)
		}
	}
	return pids
}

// said is what this process has printed.
func (n *server) said() string {
	b, _ := os.ReadFile(filepath.Join(n.rig.dir, n.log))
	return string(b[min(int(n.from), len(b)):])
}

// tail is the end of the log.
func (n *server) tail() string {
	b, _ := os.ReadFile(filepath.Join(n.rig.dir, n.log))
	return string(b[max(0, len(b)-8<<10):])
}

// term is the one that the node leads in, as far as it knows; 0 if it does not lead.
func (n *server) term() (term uint64) {
	_, rest, found := cutLast(n.said(), "this node leads the store")
	if !found || strings.Contains(rest, "this node does not lead the store") {
		return 0
	}
	_, rest, _ = strings.Cut(rest, "term=")
	fmt.Sscan(rest, &term)
	return term
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// leader is the number of the node that leads.
func (r *rig) leader() int {
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		at, latest := 0, uint64(0)
		for i, n := range r.nodes {
			if t := n.term(); t > latest {
				at, latest = i, t
			}
		}
		if latest > 0 {
			return at
		}
	}
	r.t.Fatalf("no node leads within %v", startTime)
	return 0
}

// keepLogs copies what servers and mounts have printed.
func (r *rig) keepLogs(base string) {
	all, _ := filepath.Glob(filepath.Join(r.dir, "*.log"))
	for _, f := range all {
		if b, err := os.ReadFile(f); err == nil {
			os.WriteFile(base+"-"+filepath.Base(f), b[max(0, len(b)-4<<20):], 0o644)
		}
	}
}
