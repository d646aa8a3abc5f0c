// Package vfstest is the conformance suite of file systems: what drives rely on.
package vfstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"twofold/internal/vfs"
)

// Run runs the suite. open returns a file system and an empty directory in it.
func Run(t *testing.T, open func(t *testing.T) (vfs.FS, string)) {
	for _, tt := range []struct {
		name string
		fn   func(*testing.T, vfs.FS, string)
	}{
		{"Files", testFiles}, {"Names", testNames}, {"Direct", testDirect},
		{"Vector", testVector}, {"Lock", testLock}, {"WriteFile", testWriteFile}, {"Info", testInfo},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fsys, dir := open(t)
			tt.fn(t, fsys, dir)
		})
	}
}

func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func fails(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func create(t *testing.T, fsys vfs.FS, name, content string) {
	t.Helper()
	f, err := fsys.Create(name)
	ok(t, "create", err)
	_, err = f.WriteAt([]byte(content), 0)
	ok(t, "write", err)
	ok(t, "sync", f.Sync())
	ok(t, "close", f.Close())
}

func content(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	b, err := vfs.ReadFile(fsys, name, 1<<20)
	ok(t, "read "+name, err)
	return string(b)
}

func testFiles(t *testing.T, fsys vfs.FS, dir string) {
	name := dir + "/f"
	_, err := fsys.Open(name)
	fails(t, "open of nothing", err, fs.ErrNotExist)
	f, err := fsys.Create(name)
	ok(t, "create", err)
	_, err = fsys.Create(name)
	fails(t, "create again", err, fs.ErrExist)
	_, err = f.WriteAt([]byte("world"), 10)
	ok(t, "write", err)
	_, err = f.WriteAt([]byte("hello"), 0)
	ok(t, "write", err)
	p := make([]byte, 100)
	n, err := f.ReadAt(p, 0)
	if want := "hello\x00\x00\x00\x00\x00world"; err != io.EOF || string(p[:n]) != want {
		t.Fatalf("read %q, %v", p[:n], err)
	}
	n, err = f.ReadAt(p[:5], 10)
	if (err != nil && err != io.EOF) || string(p[:n]) != "world" {
		t.Fatalf("read %q, %v", p[:n], err)
	}
	if _, err = f.ReadAt(p, 50); err != io.EOF {
		t.Fatalf("read behind the end: %v", err)
	}
	r, err := fsys.Open(name)
	ok(t, "open", err)
	_, err = r.WriteAt([]byte("x"), 0)
	fails(t, "write to a file opened for reading", err, syscall.EBADF)
	ok(t, "remove", fsys.Remove(name))
	if n, err := r.ReadAt(p[:5], 0); err != nil && err != io.EOF || string(p[:n]) != "hello" {
		t.Fatalf("read of a removed file: %q, %v", p[:n], err)
	}
	ok(t, "close", r.Close())
	ok(t, "close", f.Close())
	if _, err := f.ReadAt(p, 0); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("read after close: %v", err)
	}
}

func testNames(t *testing.T, fsys vfs.FS, dir string) {
	ok(t, "mkdir", fsys.Mkdir(dir+"/a"))
	fails(t, "mkdir again", fsys.Mkdir(dir+"/a"), fs.ErrExist)
	fails(t, "mkdir without parent", fsys.Mkdir(dir+"/x/y"), fs.ErrNotExist)
	create(t, fsys, dir+"/a/one", "1")
	create(t, fsys, dir+"/two", "2")
	fails(t, "remove of a full directory", fsys.Remove(dir+"/a"), syscall.ENOTEMPTY)
	ok(t, "rename over", fsys.Rename(dir+"/a/one", dir+"/two"))
	if got := content(t, fsys, dir+"/two"); got != "1" {
		t.Fatalf("renamed over: %q", got)
	}
	fails(t, "rename of nothing", fsys.Rename(dir+"/a/one", dir+"/two"), fs.ErrNotExist)
	ok(t, "link", fsys.Link(dir+"/two", dir+"/a/three"))
	fails(t, "link over", fsys.Link(dir+"/two", dir+"/a/three"), fs.ErrExist)
	ok(t, "sync", fsys.SyncDir(dir))
	ok(t, "sync", fsys.SyncDir(dir+"/a"))
	fails(t, "sync of nothing", fsys.SyncDir(dir+"/b"), fs.ErrNotExist)
	var names []string
	ok(t, "list", fsys.List(dir, func(e vfs.Entry) error {
		if e.Dir {
			e.Name += "/"
		}
		names = append(names, e.Name)
		return nil
	}))
	slices.Sort(names)
	if !slices.Equal(names, []string{"a/", "two"}) {
		t.Fatalf("listed %q", names)
	}
	stop := errors.New("stop")
	fails(t, "list", fsys.List(dir, func(vfs.Entry) error { return stop }), stop)
	fails(t, "list of nothing", fsys.List(dir+"/b", nil), fs.ErrNotExist)
	ok(t, "remove", fsys.Remove(dir+"/a/three"))
	ok(t, "remove", fsys.Remove(dir+"/a"))
	fails(t, "remove of nothing", fsys.Remove(dir+"/a"), fs.ErrNotExist)
	_, err := fsys.Stat(dir + "/two/x")
	fails(t, "stat below a file", err, syscall.ENOTDIR)
}

func testDirect(t *testing.T, fsys vfs.FS, dir string) {
	f, err := fsys.CreateDirect(dir + "/f")
	ok(t, "create", err)
	var want []byte
	for i, n := range []int{1 << 20, 1 << 16, 100, 1 << 20, 7} {
		p := vfs.AlignedBuf(n)[:n]
		for j := range p {
			p[j] = byte(j*7 + i)
		}
		_, err := f.WriteAt(p, int64(len(want)))
		ok(t, "write", err)
		want = append(want, p...)
	}
	ok(t, "sync", f.Sync())
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF || !bytes.Equal(got, want) {
		t.Fatalf("content differs: %v", err)
	}
	ok(t, "close", f.Close())
	if content, err := vfs.ReadFile(fsys, dir+"/f", 10<<20); err != nil || !bytes.Equal(content, want) {
		t.Fatalf("content differs: %v", err)
	}
	_, err = vfs.ReadFile(fsys, dir+"/f", 1000)
	fails(t, "read of a long file", err, syscall.EFBIG)
}

// Reads into several pieces of memory; what is read without waiting is the same.
func testVector(t *testing.T, fsys vfs.FS, dir string) {
	name := dir + "/f"
	create(t, fsys, name, "0123456789abcdef")
	f, err := fsys.Open(name)
	ok(t, "open", err)
	bufs := func() [][]byte { return [][]byte{make([]byte, 1), make([]byte, 5), {}, make([]byte, 4)} }
	want := func(what string, bufs [][]byte, want string) {
		t.Helper()
		if got := string(slices.Concat(bufs...)); got != want {
			t.Fatalf("%s: %q, want %q", what, got, want)
		}
	}
	b := bufs()
	n, err := vfs.ReadV(f, b, 3)
	if n != 10 || err != nil && err != io.EOF {
		t.Fatalf("%d bytes, %v", n, err)
	}
	want("read", b, "3456789abc")
	b = bufs()
	if n, err := vfs.ReadV(f, b, 12); n != 4 || err != io.EOF {
		t.Fatalf("at the end: %d bytes, %v", n, err)
	}
	want("at the end", b, "cdef\x00\x00\x00\x00\x00\x00")
	if n, err := vfs.ReadV(f, b, 100); n != 0 || err != io.EOF {
		t.Fatalf("behind the end: %d bytes, %v", n, err)
	}
	b = bufs()
	if vfs.ReadVNow(f, b, 2) {
		want("read now", b, "23456789ab")
	}
	if vfs.ReadVNow(f, bufs(), 12) {
		t.Fatal("more than the file has was read now")
	}
	ok(t, "close", f.Close())
	if _, err := vfs.ReadV(f, b, 0); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("read after close: %v", err)
	}
	if vfs.ReadVNow(f, b, 0) {
		t.Fatal("read now after close")
	}
}

func testLock(t *testing.T, fsys vfs.FS, dir string) {
	l, err := fsys.Lock(dir + "/lock")
	ok(t, "lock", err)
	_, err = fsys.Lock(dir + "/lock")
	fails(t, "lock again", err, syscall.EWOULDBLOCK)
	ok(t, "unlock", l.Close())
	l, err = fsys.Lock(dir + "/lock")
	ok(t, "lock", err)
	ok(t, "unlock", l.Close())
}

func testWriteFile(t *testing.T, fsys vfs.FS, dir string) {
	for _, s := range []string{"first", "second and longer", ""} {
		ok(t, "write", vfs.WriteFile(fsys, dir+"/f", []byte(s)))
		if got := content(t, fsys, dir+"/f"); got != s {
			t.Fatalf("%q, want %q", got, s)
		}
	}
	fails(t, "write into nothing", vfs.WriteFile(fsys, dir+"/x/f", nil), fs.ErrNotExist)
}

func testInfo(t *testing.T, fsys vfs.FS, dir string) {
	create(t, fsys, dir+"/f", "12345")
	a, err := fsys.Stat(dir + "/f")
	ok(t, "stat", err)
	d, err := fsys.Stat(dir)
	ok(t, "stat", err)
	if a.Size != 5 || a.Dir || !d.Dir || a.Dev != d.Dev || a.Ino == d.Ino || a.Ctime == 0 {
		t.Fatalf("file %+v, directory %+v", a, d)
	}
	f, err := fsys.Open(dir + "/f")
	ok(t, "open", err)
	if b, err := f.Stat(); err != nil || a != b {
		t.Fatalf("fstat %+v, stat %+v, %v", b, a, err)
	}
	ok(t, "close", f.Close())
	ok(t, "write", vfs.WriteFile(fsys, dir+"/f", []byte("12345")))
	if b, err := fsys.Stat(dir + "/f"); err != nil || a == b {
		t.Fatalf("a replaced file can't be told from the old one: %+v, %v", b, err)
	}
	s, err := fsys.StatFS(dir)
	if err != nil || s.Total == 0 || s.Free > s.Total || s.ReadOnly {
		t.Fatalf("statfs %+v, %v", s, err)
	}
}
