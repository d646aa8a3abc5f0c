package powerfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// binary builds cmd/powerfs once in the life of this process and returns a path to
// execute. The file itself is removed at once: what remains is an open descriptor,
// so that nothing is left behind however the test ends.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "powerfs-build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "powerfs")
	out, err := exec.Command("go", "build", "-o", bin, "twofold/test/powerfs/cmd/powerfs").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	f, err := os.Open(bin)
	if err != nil {
		return "", err
	}
	defer f.Close()
	// A raw descriptor, which no finalizer closes, and a high one, which fork's
	// shuffling of the child's standard files leaves alone.
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 200)
	return fmt.Sprintf("/proc/self/fd/%d", fd), err
})
