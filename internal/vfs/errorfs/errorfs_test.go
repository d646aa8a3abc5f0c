package errorfs

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"twofold/internal/vfs"
	"twofold/internal/vfs/memfs"
)

func TestRules(t *testing.T) {
	f := New(memfs.New())
	i := f.Inject(Rule{Ops: Mkdir, Path: "/a", Skip: 1, Times: 2, Err: syscall.EIO})
	for n, want := range []error{nil, syscall.EIO, syscall.EIO, nil} {
		if err := f.Mkdir("/a" + string(rune('0'+n))); !errors.Is(err, want) {
			t.Fatalf("operation %d: %v, want %v", n, err, want)
		}
	}
	if err := f.Mkdir("/b"); err != nil || i.Hits() != 2 {
		t.Fatalf("%v, %d hits", err, i.Hits())
	}
	w := f.Inject(Rule{Ops: Write, Err: syscall.ENOSPC, Partial: true})
	file, err := f.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := file.WriteAt([]byte("12345678"), 0); n != 4 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%d, %v", n, err)
	}
	w.Remove()
	if b, err := vfs.ReadFile(f, "/f", 100); err != nil || string(b) != "1234" {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestHang(t *testing.T) {
	f := New(memfs.New())
	i := f.Inject(Rule{Ops: Stat, Hang: true})
	done := make(chan error, 1)
	go func() { _, err := f.Stat("/"); done <- err }()
	for i.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	select {
	case <-done:
		t.Fatal("it did not hang")
	default:
	}
	i.Remove()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
