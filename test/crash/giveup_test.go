package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWorkerEnds: when the process that serves dies alone, killed, by an I/O error
// under a mapping, or as a Go program crashes, it is started again, and both views go
// on in the mount that was.
func TestWorkerEnds(t *testing.T) {
	r := start(t)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGBUS, syscall.SIGQUIT} {
		pid := workerOf(r.run.pid)
		if pid == 0 {
			t.Fatal("there is no worker")
		}
		syscall.Kill(pid, sig)
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if p := workerOf(r.run.pid); p != 0 && p != pid && r.serverAnswers() {
				break
			}
		}
		if !r.run.alive() || workerOf(r.run.pid) == pid {
			t.Fatalf("after %v the server is not back", sig)
		}
		r.mustWrite(fmt.Sprintf("after %v of the worker", sig))
	}
}

// workerOf finds the child of a supervisor that is a server.
func workerOf(supervisor int) int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		var pid, parent int
		var state string
		fmt.Sscanf(string(b), "%d", &pid)
		rest := string(b)[strings.LastIndexByte(string(b), ')')+1:]
		fmt.Sscanf(rest, "%s %d", &state, &parent)
		cmd, _ := os.ReadFile(filepath.Join(filepath.Dir(s), "cmdline"))
		if parent == supervisor && state != "Z" && strings.Contains(string(cmd), "\x00server\x00") {
			return pid
		}
	}
	return 0
}
