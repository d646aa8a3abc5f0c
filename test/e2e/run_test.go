package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"twofold/test/harness"
)

// TestMakeRun runs what `make run` runs, in a tree of its own with the program built
// already: again after the server was killed, and after both were, when the mount point
// waits or is dead.
func TestMakeRun(t *testing.T) {
	harness.NeedMount(t)
	s := harness.New(t, 0) // for its directory, its address and its clean end
	script, err := os.ReadFile("../../scripts/run")
	noErr(t, err)
	for name, text := range map[string]string{"run": string(script), "build": "#!/bin/sh\n"} {
		noErr(t, os.MkdirAll(filepath.Join(s.Dir, "scripts"), 0o755))
		noErr(t, os.WriteFile(filepath.Join(s.Dir, "scripts", name), []byte(text), 0o755))
	}
	noErr(t, os.MkdirAll(filepath.Join(s.Dir, "bin"), 0o755))
	noErr(t, os.Symlink(harness.Binary(t), filepath.Join(s.Dir, "bin", "twofold")))
	mnt := filepath.Join(s.Dir, "run", "mnt")
	s.Mount = mnt
	run := func() {
		t.Helper()
		s.StartCommand(filepath.Join(s.Dir, "scripts", "run"), "--address", s.Address)
	}
	run()
	noErr(t, os.Mkdir(filepath.Join(mnt, "photos"), 0o755))
	noErr(t, os.WriteFile(filepath.Join(mnt, "photos", "one"), []byte("1"), 0o644))
	same := func(when string) {
		t.Helper()
		if out, err := exec.Command("cat", filepath.Join(mnt, "photos", "one")).CombinedOutput(); err != nil || string(out) != "1" {
			t.Fatalf("%s: %q, %v\n%s", when, out, err, s.Log())
		}
	}

	// Not synced, but seen: by the mount of before, which goes on.
	s.Kill()
	run()
	same("the server was killed")

	f, err := os.Open(filepath.Join(mnt, "photos", "one"))
	noErr(t, err)
	noErr(t, f.Sync())
	noErr(t, f.Close())
	s.Kill()
	if s.MountPid() == 0 {
		t.Fatal("the mount process is not found")
	}
	s.KillMount()
	waitFor(t, func() bool { return s.MountPid() == 0 })
	run()
	same("both were killed")

	s.Signal(syscall.SIGINT)
	if err := s.Wait(90 * time.Second); err != nil || harness.Mounted(mnt) {
		t.Fatalf("ended with %v, mounted: %v", err, harness.Mounted(mnt))
	}
}
