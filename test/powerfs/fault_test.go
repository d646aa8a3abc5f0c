package powerfs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twofold/test/powerfs"
)

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// appendSync appends a byte and fsyncs.
func appendSync(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write([]byte("x")); err != nil {
		return err
	}
	return f.Sync()
}

func TestErrors(t *testing.T) {
	fs := powerfs.Start(t, powerfs.Options{Drives: 2, WriteThrough: true})
	a, b, other := filepath.Join(fs.Dir(0), "a"), filepath.Join(fs.Dir(0), "b"), filepath.Join(fs.Dir(1), "a")
	for _, p := range []string{a, b, other} {
		create(t, p, random(10000), true)
		read(t, p) // cached: a fault must be met all the same
	}

	fs.Fault(powerfs.Fault{Kind: powerfs.EIO, Class: powerfs.Read, Drive: 0, Path: "a"})
	_, err := os.ReadFile(a)
	wantErr(t, "read", err, syscall.EIO)
	read(t, b)
	read(t, other)
	fs.Clear()
	read(t, a)

	fs.Fault(powerfs.Fault{Kind: powerfs.EIO, Class: powerfs.Write, Drive: powerfs.AllDrives, Count: 1})
	wantErr(t, "write", appendSync(a), syscall.EIO)
	must(t, appendSync(a)) // the count is used up

	id := fs.Fault(powerfs.Fault{Kind: powerfs.EIO, Class: powerfs.Fsync})
	wantErr(t, "fsync", appendSync(a), syscall.EIO)
	must(t, appendSync(other)) // Drive 0 only
	fs.ClearFault(id)
	must(t, appendSync(a))

	fs.Fault(powerfs.Fault{Kind: powerfs.EIO, Class: powerfs.Meta})
	_, err = os.Stat(a)
	wantErr(t, "stat", err, syscall.EIO)
	fs.Clear()

	fs.Fault(powerfs.Fault{Kind: powerfs.ENOSPC})
	wantErr(t, "write", appendSync(a), syscall.ENOSPC)
	wantErr(t, "mkdir", os.Mkdir(a+"dir", 0o755), syscall.ENOSPC)
	var st unix.Statfs_t
	must(t, unix.Statfs(fs.Dir(0), &st))
	if st.Bavail != 0 {
		t.Errorf("statfs on a full drive: %d blocks", st.Bavail)
	}
	must(t, os.Remove(b)) // deletes need no space
	fs.Clear()

	fs.Fault(powerfs.Fault{Kind: powerfs.EROFS})
	wantErr(t, "open for writing", appendSync(a), syscall.EROFS)
	wantErr(t, "unlink", os.Remove(a), syscall.EROFS)
	wantErr(t, "rename", os.Rename(a, b), syscall.EROFS)
	read(t, a)
	fs.Clear()
	must(t, os.Rename(a, b))
}

// TestErrorsWriteBack: with a write-back cache the fsync tells.
func TestErrorsWriteBack(t *testing.T) {
	fs := powerfs.Start(t, powerfs.Options{})
	a := filepath.Join(fs.Dir(0), "a")
	create(t, a, random(10000), true)
	for kind, want := range map[powerfs.FaultKind]error{powerfs.EIO: syscall.EIO, powerfs.ENOSPC: syscall.ENOSPC} {
		f, err := os.OpenFile(a, os.O_RDWR, 0)
		must(t, err)
		fault := powerfs.Fault{Kind: kind}
		if kind == powerfs.EIO {
			fault.Class = powerfs.Write
		}
		fs.Fault(fault)
		_, err = f.Write([]byte("x"))
		must(t, err)
		wantErr(t, "fsync", f.Sync(), want)
		fs.Clear()
		f.Close()
	}
}

func TestCorrupt(t *testing.T) {
	fs := powerfs.Start(t, powerfs.Options{})
	a := filepath.Join(fs.Dir(0), "a b")
	want := random(10000)
	create(t, a, want, false) // dirty in the kernel, perhaps
	fs.Corrupt(0, "a b", 5000)
	want[5000] ^= 0xff
	if !bytes.Equal(read(t, a), want) {
		t.Fatal("not exactly that byte was flipped")
	}
}

// TestHang: operations wait until they are let go, the control socket doesn't, and
// a power cut ends the wait.
func TestHang(t *testing.T) {
	fs := powerfs.Start(t, powerfs.Options{Drives: 2})
	a := filepath.Join(fs.Dir(0), "a")
	create(t, a, random(10000), true)
	try := func() chan error {
		done := make(chan error, 1)
		go func() { done <- appendSync(a) }()
		select {
		case err := <-done:
			t.Fatalf("it did not hang: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		return done
	}
	fs.Fault(powerfs.Fault{Kind: powerfs.Hang})
	done := try()
	create(t, filepath.Join(fs.Dir(1), "b"), nil, true) // the other drive goes on
	fs.Stats()
	fs.Clear()
	must(t, <-done)

	fs.Fault(powerfs.Fault{Kind: powerfs.Hang, Class: powerfs.Fsync})
	done = try()
	fs.PowerCut(1)
	if err := <-done; err == nil {
		t.Fatal("an fsync that hung at the cut succeeded")
	}
	fs.Restart()
}

// TestShortLie: a drive that lies loses what it said was durable, until it is honest.
func TestShortLie(t *testing.T) {
	fs := powerfs.Start(t, powerfs.Options{})
	a, b := filepath.Join(fs.Dir(0), "a"), filepath.Join(fs.Dir(0), "b")
	lost := 0
	for seed := range uint64(10) {
		os.Remove(a)
		syncDir(t, fs.Dir(0))
		fs.Fault(powerfs.Fault{Kind: powerfs.ShortLie})
		create(t, a, random(10000), true)
		syncDir(t, fs.Dir(0))
		fs.Clear()
		create(t, b, random(10000), true)
		if seed%2 == 0 {
			syncDir(t, fs.Dir(0))
			must(t, appendSync(a))
		}
		fs.PowerCut(seed)
		fs.Restart()
		got, err := os.ReadFile(a)
		whole := err == nil && bytes.HasPrefix(got, random(10000))
		switch {
		case seed%2 == 0 && !whole:
			t.Fatalf("seed %d: an honest sync after the lie was not one", seed)
		case !whole:
			lost++
		}
	}
	if lost == 0 {
		t.Fatal("no lied sync was lost")
	}
}
