package harness

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// NewNodes prepares a store over n nodes with each drives on every one, all on this
// machine's loopback, without starting it. Options are for every node; WithMount gives each
// a mount of its own.
func NewNodes(t testing.TB, n, each int, opts ...Option) []*Server {
	t.Helper()
	dir := t.TempDir()
	nodes := make([]*Server, n)
	var args []string
	for i, port := range freePorts(t, n) {
		s := New(t, 0, func(s *Server) { s.Dir = filepath.Join(dir, fmt.Sprint("node", i+1)) })
		s.Address = fmt.Sprintf("127.0.0.1:%d", port)
		if err := os.MkdirAll(s.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for d := range each {
			s.Drives = append(s.Drives, filepath.Join(s.Dir, fmt.Sprintf("d%d", d+1)))
			args = append(args, "http://"+s.Address+s.Drives[d])
		}
		s.Flags = []string{"--node", "http://" + s.Address}
		for _, o := range opts {
			o(s)
		}
		nodes[i] = s
	}
	for _, s := range nodes {
		s.Args = args
	}
	return nodes
}

// freePorts are n different ones.
func freePorts(t testing.TB, n int) (ports []int) {
	var held []net.Listener
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	for _, l := range held {
		l.Close()
	}
	return ports
}

// StartNodes starts nodes side by side, for they wait for each other, and waits until
// each of them serves.
func StartNodes(t testing.TB, nodes ...*Server) {
	t.Helper()
	for _, s := range nodes {
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	AwaitNodes(t, nodes...)
}

// AwaitNodes waits until each of them serves.
func AwaitNodes(t testing.TB, nodes ...*Server) {
	t.Helper()
	for _, s := range nodes {
		if err := s.Await(2 * time.Minute); err != nil {
			t.Fatalf("%s: %v\n%s", s.Address, err, s.Log())
		}
	}
}

// Launch starts the server and does not wait for it.
func (s *Server) Launch() error {
	args := append([]string{"server", "--address", s.Address}, s.Flags...)
	if s.Mount != "" {
		args = append(args, "--mount", s.Mount)
	}
	return s.begin(exec.Command(Binary(s.t), append(args, s.Args...)...))
}

// Await waits until the server answers, and its mount is there.
func (s *Server) Await(limit time.Duration) error { return s.await(limit) }

// Says reports whether the server has printed a text.
func (s *Server) Says(text string) bool { return strings.Contains(s.log.all(), text) }

// Said is how often the server has printed a text.
func (s *Server) Said(text string) int { return strings.Count(s.log.all(), text) }

// SaidLast is the one of the texts that the server has printed last; "" if none.
func (s *Server) SaidLast(texts ...string) (last string) {
	at := -1
	log := s.log.all()
	for _, text := range texts {
		if i := strings.LastIndex(log, text); i > at {
			at, last = i, text
		}
	}
	return last
}

// Alive reports whether the server's process runs.
func (s *Server) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return false
	}
	select {
	case err := <-s.end:
		s.end <- err
		return false
	default:
		return true
	}
}
