package fusefs

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDeviceNodes: a mount that obeys device nodes opens them, others refuse to
// (TestNames).
func TestDeviceNodes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("device nodes take root")
	}
	m := mountFake(t, newFakeVolume(), func(o *Options) { o.Dev = true })
	must(t, syscall.Mknod(m.path("zero"), syscall.S_IFCHR|0600, int(unix.Mkdev(1, 5))))
	f, err := os.OpenFile(m.path("zero"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := []byte("12345678")
	if n, err := f.Read(b); n != 8 || err != nil || string(b) != "\x00\x00\x00\x00\x00\x00\x00\x00" {
		t.Fatalf("%q, %d, %v", b, n, err)
	}
	if n, err := f.Write(b); n != 8 || err != nil {
		t.Fatal(n, err)
	}
	var st syscall.Stat_t
	must(t, syscall.Stat(m.path("zero"), &st))
	if st.Size != 0 || st.Rdev != unix.Mkdev(1, 5) {
		t.Fatalf("size %d, device %#x", st.Size, st.Rdev)
	}
}
