package bench

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every operation of the file workload runs, for one thread and for several, and
// leaves nothing behind.
func TestFSLoad(t *testing.T) {
	for _, program := range []string{"tar", "git"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is needed: %v", program, err)
		}
	}
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "src.tar")
	for _, args := range [][]string{
		{"git", "init", "-q", src},
		{"git", "-C", src, "add", "file"},
		{"git", "-C", src, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "m"},
		{"tar", "-cf", archive, "-C", src, "file"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	dir := t.TempDir()
	l, err := NewFSLoad(dir, FSOptions{
		SmallSize: 100, SmallCount: 32, StatPasses: 2, Clients: 4,
		LargeSize: 3<<20 + 5, RandomCount: 32, Tar: archive, Git: src,
	})
	if err != nil {
		t.Fatal(err)
	}
	targets := []Target{{"dir", l}}
	res, err := Run(context.Background(), io.Discard, 2, targets...)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	Report(&out, targets, res)
	for _, want := range []string{
		"mkdir, 1 client", "create 100 B, 1 client", "create 100 B, 4 clients", "open+read 100 B, 4 clients",
		"stat, 4 clients", "rename, 1 client", "unlink, 4 clients", "write+fsync", "random read 4 KiB, 1 client", "random read 4 KiB again, 1 client",
		"random read 4 KiB, 4 clients", "random write+fdatasync 4 KiB, 4 clients", "untar, 1 client", "git clone, 1 client",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
