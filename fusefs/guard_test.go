package fusefs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"twofold"
)

// TestKilledInTheKernel: a mount is killed while one of its threads waits in the kernel for
// the lock of a directory, which a mkdir(2) has that waits for the mount. It ends all the
// same, and so does the mkdir(2); the mount is still there, disconnected.
func TestKilledInTheKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("aborting a connection takes root")
	}
	dir := filepath.Join(t.TempDir(), "mnt")
	must(t, os.Mkdir(dir, 0755))
	k := startTalk(t, "stuck", dir)
	t.Cleanup(func() { // before the program is waited for
		k.cmd.Process.Kill()
		syscall.Unmount(dir, mntForce)
		syscall.Unmount(dir, mntDetach)
	})
	k.want("", "mounted")
	made := make(chan error, 1)
	go func() { made <- os.Mkdir(filepath.Join(dir, "d"), 0755) }()
	k.want("", "stuck")
	must(t, k.cmd.Process.Kill())
	select {
	case err := <-made:
		if err == nil {
			t.Error("the directory was made, by nobody")
		}
	case <-time.After(time.Minute):
		t.Error("mkdir(2) still waits for a mount that was killed")
	}
	if _, err := os.Stat(dir); !isDisconnected(err) {
		t.Errorf("what is at the mount point: %v", err)
	}
}

// TestGuardLeavesOthersAlone: a mount is killed and ends, and somebody mounts at its place,
// before its guard has noticed.
func TestGuardLeavesOthersAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("aborting a connection takes root")
	}
	dir := filepath.Join(t.TempDir(), "mnt")
	must(t, os.Mkdir(dir, 0755))
	for range 2 { // the second one nearly always has the device number of the first
		k := startTalk(t, "stuck", dir)
		t.Cleanup(func() {
			k.cmd.Process.Kill()
			syscall.Unmount(dir, mntDetach)
		})
		k.want("", "mounted")
		_, err := os.Stat(dir)
		must(t, err)
		must(t, k.cmd.Process.Kill())
		k.cmd.Wait()
		must(t, syscall.Unmount(dir, mntDetach))
	}
	v := newFakeVolume()
	s, err := Mount(Options{Mountpoint: dir}, v.session())
	must(t, err)
	t.Cleanup(func() {
		must(t, s.Unmount(context.Background(), false))
		s.Wait()
	})
	for end := time.Now().Add(2*guardEvery + 2*dyingTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(dir); err != nil {
			t.Fatalf("the new mount: %v", err)
		}
	}
}

// stuckProgram serves a mount in which mkdir(2) is never answered, and has the kernel asked
// to forget a name of the directory meanwhile.
func stuckProgram(args []string) error {
	session := newFakeVolume().session()
	s, err := Mount(Options{Mountpoint: args[0]}, session)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	// Guard leaves nothing of the environment.
	if err := s.Guard("/usr/bin/env", "FUSEFS_PROGRAM=guard", exe); err != nil {
		return err
	}
	session.setHook(func(op string, _ twofold.Ino) error {
		if op == "Create" {
			go s.f.kernel.EntryNotify(1, "other")
			<-context.Background().Done()
		}
		return nil
	})
	fmt.Println("mounted")
	for !inKernel("fuse_reverse_inval_entry") {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("stuck")
	s.Wait()
	return nil
}

// inKernel tells whether a thread of this process waits in a function of the kernel, see
// proc(5).
func inKernel(function string) bool {
	list, _ := filepath.Glob("/proc/self/task/*/wchan")
	for _, name := range list {
		if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), function) {
			return true
		}
	}
	return false
}
