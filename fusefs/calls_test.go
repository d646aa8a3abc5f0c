package fusefs

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// requests counts what the kernel asks, by opcode.
type requests struct {
	mu sync.Mutex
	n  map[string]int
}

var rx = regexp.MustCompile(`rx \d+: ([A-Z_]+)`)

// Write takes a line of go-fuse's log.
func (r *requests) Write(line []byte) (int, error) {
	if m := rx.FindSubmatch(line); m != nil && !bytes.Contains(m[1], []byte("FORGET")) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.n[string(m[1])]++
	}
	return len(line), nil
}

func (r *requests) now() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.n)
}

// now is how often the volume was asked for each operation.
func (s *fakeSession) now() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := maps.Clone(s.ops)
	maps.DeleteFunc(n, func(op string, _ int) bool {
		// Hooks; and what is asked for many operations at once, or when it likes.
		return op[0] < 'A' || op[0] > 'Z' || op == "Promise" || op == "Forget"
	})
	return n
}

// since is what has been added to before, in alphabetical order.
func since(before, now map[string]int) string {
	var s []string
	for _, op := range slices.Sorted(maps.Keys(now)) {
		switch n := now[op] - before[op]; {
		case n == 1:
			s = append(s, op)
		case n > 1:
			s = append(s, fmt.Sprintf("%s*%d", op, n))
		}
	}
	return strings.Join(s, " ")
}

// awaitClosed waits until no file is open in the mount, and no write lease held. It asks for
// nothing that would have the mount drop its cache (as Held does).
func (m *testMount) awaitClosed(t *testing.T) {
	t.Helper()
	f := m.s.f
	eventually(t, "all is closed", func() bool {
		f.mu.Lock()
		nodes := slices.Collect(maps.Values(f.nodes))
		f.mu.Unlock()
		for _, n := range nodes {
			n.mu.Lock()
			open := n.opens > 0 || n.pin != pinNone || n.lease != leaseNone
			n.mu.Unlock()
			if open {
				return false
			}
		}
		return true
	})
}

// TestCallsOfOperations: what small files cost in calls of the volume, in a directory that
// the mount has made and just changed. docs/benchmarks.md has the table, with what the
// kernel asked for (go test -run TestCallsOfOperations -v), which depends on its
// timeouts, so on how fast the machine is.
func TestCallsOfOperations(t *testing.T) {
	reqs := &requests{n: make(map[string]int)}
	m := mountFake(t, newFakeVolume(), func(o *Options) { o.requests = reqs })
	must(t, os.Mkdir(m.path("d"), 0755))
	data := make([]byte, 4096)
	p := func(name string) string { return m.path("d/" + name) }
	when := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1e9}}
	write := func(name string) {
		f, err := os.OpenFile(p(name), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0644)
		must(t, err)
		_, err = f.Write(data)
		must(t, err)
		must(t, f.Close())
	}
	for _, c := range []struct {
		name string
		do   func()
		want string
	}{
		{"create, write, close", func() { write("f") }, "AcquireWrite Create ReleaseWrite Write"},
		{"open, read, close", func() { _, err := os.ReadFile(p("f")); must(t, err) }, ""},
		{"overwrite, close", func() {
			f, err := os.OpenFile(p("f"), os.O_WRONLY, 0)
			must(t, err)
			_, err = f.Write(data)
			must(t, err)
			must(t, f.Close())
		}, "AcquireWrite ReleaseWrite Write"},
		{"chmod", func() { must(t, os.Chmod(p("f"), 0600)) }, "SetAttr"},
		{"utimensat", func() { must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p("f"), when, 0)) }, "SetAttr"},
		{"rename", func() { must(t, os.Rename(p("f"), p("g"))) }, "Rename"},
		{"unlink", func() { must(t, unix.Unlink(p("g"))) }, "Lookup Unlink"},
		{"mkdir", func() { must(t, os.Mkdir(p("sub"), 0755)) }, "Create"},
		{"rmdir", func() { must(t, unix.Rmdir(p("sub"))) }, "Rmdir"},
		{"untar of a file", func() {
			f, err := os.OpenFile(p("unpacked"), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0600)
			must(t, err)
			_, err = f.Write(data)
			must(t, err)
			must(t, unix.UtimesNanoAt(int(f.Fd()), "", when, unix.AT_EMPTY_PATH))
			must(t, f.Chown(os.Getuid(), os.Getgid()))
			must(t, f.Chmod(0644))
			must(t, f.Close())
		}, "AcquireWrite Create ReleaseWrite SetAttr Write"},
	} {
		write("last") // so that the directory was changed
		must(t, unix.Unlink(p("last")))
		m.awaitClosed(t)
		calls, asked := m.now(), reqs.now()
		c.do()
		m.awaitClosed(t)
		got := since(calls, m.now())
		t.Logf("%-22s %-60s %s", c.name, since(asked, reqs.now()), got)
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
