package kv

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFault: a file that shrinks under its map is a drive that can't be read.
func TestFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := syscall.Mmap(int(f.Fd()), 0, 8192, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(m)
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	sum := byte(0)
	err = catchFaults(func() error { sum += m[5000]; return nil })
	var fault *Fault
	if !errors.As(err, &fault) {
		t.Errorf("a fault is %v (%d)", err, sum)
	}
	defer func() {
		if recover() != "other" {
			t.Error("another panic was swallowed")
		}
	}()
	_ = catchFaults(func() error { panic("other") })
}
