package fusefs

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// TestSetIDBitsOfADirtyFile: a write by somebody without privileges clears set-id bits
// at once, not with the flush; and a chmod after it is not undone by the flush.
func TestSetIDBitsOfADirtyFile(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	openWay(m.dir)
	p := m.path("f")
	must(t, os.WriteFile(p, []byte("12345"), 0777))
	must(t, os.Chown(p, 4000, 4001))
	must(t, syscall.Chmod(p, 06777))
	out, err := asUser(t, "sh", "-c", fmt.Sprintf(
		"exec 3>>%[1]s; echo x >&3; stat -L -c %%a /proc/self/fd/3; chmod 4755 %[1]s; stat -c %%a %[1]s; exec 3>&-; stat -c %%a %[1]s", p))
	if err != nil || out != "777\n4755\n4755\n" {
		t.Fatalf("%v: %q", err, out)
	}
}

// TestSetIDBitsOfSpecialFiles: a change of owner clears them of everything but
// directories (chown(2), chown_common in fs/open.c).
func TestSetIDBitsOfSpecialFiles(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	must(t, syscall.Mkfifo(m.path("fifo"), 0755))
	must(t, syscall.Mknod(m.path("socket"), syscall.S_IFSOCK|0755, 0))
	must(t, os.Mkdir(m.path("dir"), 0755))
	for name, want := range map[string]uint32{"fifo": 0755, "socket": 0755, "dir": 06755} {
		must(t, syscall.Chmod(m.path(name), 06755))
		must(t, os.Chown(m.path(name), 1, 1))
		wantMode(t, m.path(name), want)
	}
}
