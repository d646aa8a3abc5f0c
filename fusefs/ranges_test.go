package fusefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// TestFallocate: every mode that Linux passes on, over bytes that are not flushed yet.
func TestFallocate(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	for _, c := range []struct {
		mode     uint32
		off, len int64
		want     string
		errno    syscall.Errno
	}{
		{0, 2, 2, "abcdef", 0},
		{0, 4, 4, "abcdef\x00\x00", 0},
		{unix.FALLOC_FL_KEEP_SIZE, 4, 400, "abcdef", 0},
		{unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, 1, 2, "a\x00\x00def", 0},
		{unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, 4, 200, "abcd\x00\x00", 0},
		{unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, 6, 2, "abcdef", 0},
		{unix.FALLOC_FL_ZERO_RANGE, 1, 2, "a\x00\x00def", 0},
		{unix.FALLOC_FL_ZERO_RANGE, 5, 3, "abcde\x00\x00\x00", 0},
		{unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE, 5, 3, "abcde\x00", 0},
		{unix.FALLOC_FL_ZERO_RANGE, 8, 1, "abcdef\x00\x00\x00", 0},
		{unix.FALLOC_FL_COLLAPSE_RANGE, 0, 1, "abcdef", syscall.EOPNOTSUPP},
		{unix.FALLOC_FL_INSERT_RANGE, 0, 1, "abcdef", syscall.EOPNOTSUPP},
		{unix.FALLOC_FL_UNSHARE_RANGE, 0, 1, "abcdef", syscall.EOPNOTSUPP},
		{0, twofold.MaxFileLen - 1, 2, "abcdef", syscall.EFBIG},
	} {
		f, err := os.Create(m.path("f"))
		must(t, err)
		_, err = f.WriteString("abcdef")
		must(t, err)
		err = syscall.Fallocate(int(f.Fd()), c.mode, c.off, c.len)
		if c.errno != 0 {
			wantErrno(t, err, c.errno)
		} else if err != nil {
			t.Fatalf("mode %#x: %v", c.mode, err)
		}
		wantFile(t, m.path("f"), c.want)
		must(t, f.Close())
		wantFile(t, m.path("f"), c.want)
	}
}

// TestSeekHoles: SEEK_DATA and SEEK_HOLE see what write(2) returned for, flushed or not.
func TestSeekHoles(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("abc"), 4)
	must(t, err)
	_, err = f.WriteAt([]byte("de"), 10)
	must(t, err)
	must(t, f.Truncate(20))
	_, err = f.WriteAt([]byte("x"), 15)
	must(t, err)
	for _, c := range []struct {
		off    int64
		whence int
		want   int64
	}{
		{0, unix.SEEK_DATA, 4}, {5, unix.SEEK_DATA, 5}, {7, unix.SEEK_DATA, 10}, {12, unix.SEEK_DATA, 15}, {16, unix.SEEK_DATA, -1},
		{0, unix.SEEK_HOLE, 0}, {4, unix.SEEK_HOLE, 7}, {11, unix.SEEK_HOLE, 12}, {15, unix.SEEK_HOLE, 16}, {19, unix.SEEK_HOLE, 19},
		{20, unix.SEEK_HOLE, -1}, {20, unix.SEEK_DATA, -1}, {-1, unix.SEEK_DATA, -1},
	} {
		got, err := unix.Seek(int(f.Fd()), c.off, c.whence)
		if c.want < 0 {
			wantErrno(t, err, syscall.ENXIO)
		} else if err != nil || got != c.want {
			t.Fatalf("%+v: %d, %v", c, got, err)
		}
	}
	// What another mount writes counts at once.
	o := somebody{m.v.session()}
	o.overwrite(t, "f", 0, "!")
	if got, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); err != nil || got != 0 {
		t.Fatal(got, err)
	}
}

func copyRange(t *testing.T, src *os.File, srcOff int64, dst *os.File, dstOff int64, n int) (int, error) {
	t.Helper()
	return unix.CopyFileRange(int(src.Fd()), &srcOff, int(dst.Fd()), &dstOff, n, 0)
}

// TestCopyFileRange: the volume copies, from and onto bytes that are not flushed, and
// readers of both see it at once.
func TestCopyFileRange(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	open := func(name, data string) *os.File {
		f, err := os.Create(m.path(name))
		must(t, err)
		t.Cleanup(func() { f.Close() })
		_, err = f.WriteString(data)
		must(t, err)
		return f
	}
	a, b := open("a", "0123456789"), open("b", "abcdefghij")
	for _, c := range []struct {
		src          *os.File
		srcOff       int64
		dst          *os.File
		dstOff       int64
		len, copied  int
		wantA, wantB string
		errno        syscall.Errno
	}{
		{a, 2, b, 3, 4, 4, "0123456789", "abc2345hij", 0},
		{b, 0, a, 8, 5, 5, "01234567abc23", "abc2345hij", 0},
		{a, 0, a, 10, 3, 3, "01234567ab012", "abc2345hij", 0},
		{b, 8, a, 0, 100, 2, "ij234567ab012", "abc2345hij", 0},
		{b, 10, a, 0, 100, 0, "ij234567ab012", "abc2345hij", 0},
		{a, 0, a, 2, 3, 0, "ij234567ab012", "abc2345hij", syscall.EINVAL},
		{a, 11, b, 12, 2, 2, "ij234567ab012", "abc2345hij\x00\x0012", 0},
	} {
		before := m.count("CopyRange")
		n, err := copyRange(t, c.src, c.srcOff, c.dst, c.dstOff, c.len)
		if c.errno != 0 {
			wantErrno(t, err, c.errno)
		} else if err != nil || n != c.copied {
			t.Fatalf("%+v: %d, %v", c, n, err)
		}
		if n > 0 && m.count("CopyRange") == before {
			t.Fatal("the kernel copied by itself")
		}
		wantFile(t, m.path("a"), c.wantA)
		wantFile(t, m.path("b"), c.wantB)
	}
	_, err := a.WriteAt([]byte("X"), 0) // the lease still works
	must(t, err)
	o := somebody{m.v.session()}
	if got := o.get(t, "a"); got != "Xj234567ab012" {
		t.Fatalf("somebody else reads %q", got)
	}
	o.overwrite(t, "b", 0, "ZZ") // which takes the lease away
	if n, err := copyRange(t, b, 0, a, 0, 3); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	wantFile(t, m.path("a"), "ZZc34567ab012")
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "CopyRange" {
			return errs.E("test", errs.NoSpace, nil)
		}
		return nil
	})
	_, err = copyRange(t, b, 0, a, 0, 3)
	wantErrno(t, err, syscall.ENOSPC)
	m.setHook(nil)
	wantFile(t, m.path("b"), "ZZc2345hij\x00\x0012")
}

// TestCopyBothWays: copies between two files in both directions at once, while they
// are written to and recalled, come to an end.
func TestCopyBothWays(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	var files []*os.File
	for _, name := range []string{"a", "b"} {
		must(t, os.WriteFile(m.path(name), []byte(strings.Repeat(name, 4000)), 0644))
		f, err := os.OpenFile(m.path(name), os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		files = append(files, f)
	}
	o := somebody{m.v.session()}
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			for k := range 50 {
				if _, err := copyRange(t, files[i], 0, files[1-i], int64(k), 1000); err != nil && !errors.Is(err, syscall.EIO) {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for k := range 50 {
				if _, err := files[i].WriteAt([]byte("x"), int64(k)); err != nil {
					t.Error(err)
				}
				o.get(t, []string{"a", "b"}[i])
			}
		})
	}
	all.Wait()
}

// TestTmpfileLinked: a file without a name is read and written, takes a name, and
// goes with its descriptor otherwise. One that was collected before it could be
// opened is made again.
func TestTmpfileLinked(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	lost := 2
	m.setHook(func(op string, ino twofold.Ino) error {
		if op == "Open" && lost > 0 {
			lost--
			return fail(errs.Stale)
		}
		return nil
	})
	fd, err := unix.Open(m.dir, unix.O_TMPFILE|unix.O_RDWR, 0640)
	must(t, err)
	f := os.NewFile(uintptr(fd), "tmpfile")
	_, err = f.WriteString("hello")
	must(t, err)
	if names, err := os.ReadDir(m.dir); err != nil || len(names) != 0 {
		t.Fatal(names, err)
	}
	_, err = f.Seek(0, io.SeekStart)
	must(t, err)
	if b, err := io.ReadAll(f); err != nil || string(b) != "hello" {
		t.Fatalf("%q, %v", b, err)
	}
	must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, m.path("named"), unix.AT_SYMLINK_FOLLOW))
	wantFile(t, m.path("named"), "hello")
	must(t, f.Close())
	wantFile(t, m.path("named"), "hello")
	wantMode(t, m.path("named"), 0640)

	fd, err = unix.Open(m.dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_EXCL, 0600)
	must(t, err)
	wantErrno(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, m.path("no"), unix.AT_SYMLINK_FOLLOW), syscall.ENOENT)
	must(t, unix.Close(fd))
}

// TestBirthTime: statx(2) shows when an inode was made, whatever happened since.
func TestBirthTime(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	p := m.path("f")
	must(t, os.WriteFile(p, []byte("x"), 0644))
	a, err := m.Lookup(context.Background(), twofold.RootIno, "f")
	must(t, err)
	must(t, os.WriteFile(p, []byte("xyz"), 0644))
	must(t, os.Chmod(p, 0600))
	var sx unix.Statx_t
	must(t, unix.Statx(unix.AT_FDCWD, p, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &sx))
	if sx.Mask&unix.STATX_BTIME == 0 || sx.Btime.Sec*second+int64(sx.Btime.Nsec) != int64(a.Btime) {
		t.Fatalf("birth %+v (mask %#x), want %d", sx.Btime, sx.Mask, a.Btime)
	}
	var st syscall.Stat_t
	must(t, syscall.Stat(p, &st))
	if uint32(sx.Mode) != st.Mode || sx.Size != uint64(st.Size) || sx.Mtime.Nsec != uint32(st.Mtim.Nsec) || sx.Ino != st.Ino || sx.Nlink != uint32(st.Nlink) {
		t.Fatalf("statx %+v, stat %+v", sx, st)
	}
}

// TestCopyLetsGo: a copy that keeps one file at rest while it waits for the other one
// does not hold up a recall of the first, for which the other may be waiting. The
// kernel is left out: it has locks of its own.
func TestCopyLetsGo(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	o := somebody{v.session()}
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	var nodes []*node
	for _, name := range []string{"first", "second"} {
		must(t, os.WriteFile(m.path(name), []byte(name), 0644))
		n := m.s.f.ref(o.find(t, name).Ino)
		defer m.s.f.unref(n)
		nodes = append(nodes, n)
	}
	m.awaitNoLease(t)
	first, second := nodes[0], nodes[1]
	write := func(n *node, p string) error {
		_, err := n.write(ctx, change{data: [][]byte{[]byte(p)}})
		return err
	}
	must(t, write(first, "FIRST")) // so the lease is here
	// The grant of the second waits until somebody else has read the first.
	asked, seen := make(chan struct{}), make(chan struct{})
	m.setHook(func(op string, ino twofold.Ino) error {
		if op == "AcquireWrite" && ino == second.ino {
			close(asked)
			select {
			case <-seen:
			case <-ctx.Done():
			}
		}
		return nil
	})
	done := make(chan error, 2)
	go func() { done <- write(second, "S") }()
	<-asked
	m.setHook(nil)
	go func() {
		n, err := m.s.f.copyRange(ctx, first, second, api.CopyRange{Src: first.ino, Dst: second.ino, DstOff: 6, Len: 5})
		if err == nil && n != 5 {
			err = fmt.Errorf("copied %d", n)
		}
		done <- err
	}()
	for atRest := false; !atRest; time.Sleep(time.Millisecond) {
		first.mu.Lock()
		atRest = first.op
		first.mu.Unlock()
	}
	go func() {
		o.get(t, "first")
		close(seen)
	}()
	must(t, <-done)
	must(t, <-done)
	if got := o.get(t, "second"); got != "SecondFIRST" && got != "secondFIRST" {
		t.Fatalf("%q", got)
	}
}
