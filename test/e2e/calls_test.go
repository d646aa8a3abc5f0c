package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// exchanges: renameat2(2) in all its forms, and the keys that S3 sees then.
func exchanges(s *store, b string) {
	at := func(from, to string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, s.Path(b, from), unix.AT_FDCWD, s.Path(b, to), flags)
	}
	links := func(want uint64, elem string) {
		s.t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(s.Path(b, elem), &st); err != nil || uint64(st.Nlink) != want {
			s.t.Errorf("%s has %d links, want %d; %v", elem, st.Nlink, want, err)
		}
	}
	noErr(s.t, os.MkdirAll(s.Path(b, "one", "dir", "below"), 0o755))
	noErr(s.t, os.Mkdir(s.Path(b, "two"), 0o755))
	noErr(s.t, os.WriteFile(s.Path(b, "one", "dir", "f"), []byte("in dir"), 0o644))
	noErr(s.t, os.WriteFile(s.Path(b, "two", "file"), []byte("file"), 0o644))
	links(3, "one")
	links(2, "two")

	noErr(s.t, at("one/dir", "two/file", unix.RENAME_EXCHANGE)) // a directory and a file, across directories
	links(2, "one")
	links(3, "two")
	s.wantList(b, "", "one/", "one/dir", "two/", "two/file/", "two/file/below/", "two/file/f")
	s.wantFile([]byte("file"), b, "one", "dir")
	s.wantObject(b, "two/file/f", []byte("in dir"))
	noErr(s.t, at("one", "two", unix.RENAME_EXCHANGE)) // two directories
	s.wantList(b, "", "one/", "one/file/", "one/file/below/", "one/file/f", "two/", "two/dir")
	noErr(s.t, at("one/file", "two", unix.RENAME_EXCHANGE)) // of different depth
	s.wantList(b, "", "one/", "one/file/", "one/file/dir", "two/", "two/below/", "two/f")
	noErr(s.t, at("two/f", "one/file/dir", unix.RENAME_EXCHANGE)) // two files
	s.wantObject(b, "two/f", []byte("file"))
	s.wantObject(b, "one/file/dir", []byte("in dir"))

	for _, c := range []struct {
		from, to string
		flags    uint
		want     error
	}{
		{"one", "one/file", unix.RENAME_EXCHANGE, unix.EINVAL},
		{"one/file", "one", unix.RENAME_EXCHANGE, unix.EINVAL},
		{"one", "none", unix.RENAME_EXCHANGE, unix.ENOENT},
		{"one", "two", unix.RENAME_NOREPLACE, unix.EEXIST},
		{"two/f", "two", unix.RENAME_NOREPLACE, unix.EEXIST},
		{"two", "two", unix.RENAME_NOREPLACE, unix.EEXIST},
		{"two/f", "two/g", unix.RENAME_WHITEOUT, unix.EINVAL},
		{"two/f", "two/below", unix.RENAME_EXCHANGE | unix.RENAME_NOREPLACE, unix.EINVAL},
	} {
		if err := at(c.from, c.to, c.flags); !errors.Is(err, c.want) {
			s.t.Errorf("%s to %s, flags %d: %v, want %v", c.from, c.to, c.flags, err, c.want)
		}
	}
	noErr(s.t, at("two", "three", unix.RENAME_NOREPLACE))
	s.wantList(b, "", "one/", "one/file/", "one/file/dir", "three/", "three/below/", "three/f")
}

// appends: lines of several processes that append are all there, each whole. Of two
// mounts it is TestTwoMountsAppend in fusefs.
func appends(s *store, b string) {
	const processes, lines = 6, 100
	var all []*exec.Cmd
	for p := range processes {
		script := fmt.Sprintf(`exec >>"$0"; i=0; while [ $i -lt %d ]; do echo "%d $i %s"; i=$((i+1)); done`, lines, p, strings.Repeat("x", 10*p))
		cmd := exec.Command("sh", "-ec", script, s.Path(b, "log"))
		noErr(s.t, cmd.Start())
		all = append(all, cmd)
	}
	for _, cmd := range all {
		noErr(s.t, cmd.Wait())
	}
	next := make([]int, processes)
	got := strings.Split(strings.TrimSuffix(string(s.get(b, "log")), "\n"), "\n")
	for _, line := range got {
		var p, i int
		var x string
		fmt.Sscan(line, &p, &i, &x)
		if p >= processes || i != next[p] || x != strings.Repeat("x", 10*p) {
			s.t.Fatalf("line %q, want number %v", line, next)
		}
		next[p]++
	}
	if len(got) != processes*lines {
		s.t.Fatalf("%d lines, want %d", len(got), processes*lines)
	}
}

// specials: sockets, FIFOs and device nodes are what they are on any file system.
func specials(s *store, b string) {
	short, err := os.MkdirTemp("", "") // a socket's path has at most 107 bytes
	noErr(s.t, err)
	s.t.Cleanup(func() { os.RemoveAll(short) })
	noErr(s.t, os.Symlink(s.Path(b), filepath.Join(short, "b")))
	l, err := net.Listen("unix", filepath.Join(short, "b", "socket"))
	noErr(s.t, err)
	go func() {
		if c, err := l.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := net.Dial("unix", filepath.Join(short, "b", "socket"))
	noErr(s.t, err)
	_, err = c.Write([]byte("hello"))
	noErr(s.t, err)
	noErr(s.t, c.(*net.UnixConn).CloseWrite())
	got, err := io.ReadAll(c)
	noErr(s.t, err)
	same(s.t, "through the socket", got, []byte("hello"))
	noErr(s.t, c.Close())
	s.wantObject(b, "socket", nil)
	noErr(s.t, l.Close()) // removes it
	s.wantNoObject(b, "socket")

	noErr(s.t, unix.Mkfifo(s.Path(b, "fifo"), 0o600))
	writer := exec.Command("sh", "-c", `echo through > "$0"`, s.Path(b, "fifo"))
	noErr(s.t, writer.Start())
	out, err := os.ReadFile(s.Path(b, "fifo"))
	noErr(s.t, err)
	noErr(s.t, writer.Wait())
	same(s.t, "through the FIFO", out, []byte("through\n"))
	s.wantObject(b, "fifo", nil)
	s.put(b, "fifo", []byte("a file now"))
	s.wantFile([]byte("a file now"), b, "fifo")
}

// directs: O_DIRECT of any offset, length and buffer, as the mount has no blocks; with
// O_DSYNC what was written is in the store when write(2) returns.
func directs(s *store, b string) {
	fd, err := unix.Open(s.Path(b, "f"), unix.O_RDWR|unix.O_CREAT|unix.O_DIRECT|unix.O_DSYNC, 0o644)
	noErr(s.t, err)
	defer unix.Close(fd)
	want := make([]byte, 10_000)
	buf := make([]byte, 8192)
	odd := buf[1+uintptr(unsafe.Pointer(&buf[0]))%2:] // not aligned to anything
	for _, c := range []struct{ off, n int }{{3, 5}, {4095, 2}, {511, 4097}, {9_999, 1}, {0, 1}} {
		copy(odd, bytes.Repeat([]byte{byte('a' + c.n%26)}, c.n))
		copy(want[c.off:], odd[:c.n])
		if n, err := unix.Pwrite(fd, odd[:c.n], int64(c.off)); n != c.n || err != nil {
			s.t.Fatalf("%d bytes at %d: %d, %v", c.n, c.off, n, err)
		}
	}
	s.wantObject(b, "f", want)
	for _, c := range []struct{ off, n, want int }{{3, 5, 5}, {4095, 2, 2}, {511, 4097, 4097}, {9_990, 100, 10}, {10_000, 1, 0}} {
		n, err := unix.Pread(fd, odd[:c.n], int64(c.off))
		if n != c.want || err != nil || !bytes.Equal(odd[:n], want[c.off:c.off+n]) {
			s.t.Fatalf("%d bytes at %d: %d, %v", c.n, c.off, n, err)
		}
	}
}
