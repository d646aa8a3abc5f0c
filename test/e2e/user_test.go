package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"twofold/test/harness"
)

// nobody is a user without rights that this test runs the server and the mount as.
const nobody = 65534

// TestUser: server and mount of a user who is not root, who mounts by fusermount3.
// Nobody else gets into the mount, root included, so that what is done there is done by
// that user's programs.
func TestUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming another user takes root")
	}
	harness.NeedMount(t)
	harness.Need(t, "setpriv", "fusermount3")
	if openFuse(t) {
		return // it ran in another process
	}
	s := harness.New(t, 4)
	noErr(t, os.Chmod(filepath.Dir(s.Dir), 0o755)) // the test's own directory
	noErr(t, os.Chown(s.Dir, nobody, nobody))
	s.Mount = filepath.Join(s.Dir, "mnt")
	as := []string{"--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"}
	start := func() {
		t.Helper()
		args := append(append([]string{}, as...), harness.Binary(t), "server", "--address", s.Address, "--mount", s.Mount)
		s.StartCommand("setpriv", append(args, s.Args...)...)
	}
	do := func(script string) string {
		t.Helper()
		cmd := exec.Command("setpriv", append(append([]string{}, as...), "sh", "-ec", script)...)
		cmd.Dir, cmd.Env = s.Dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "MNT=" + s.Mount}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s\n%s", script, err, out, s.Log())
		}
		return strings.TrimSpace(string(out))
	}

	// A directory that is not the user's is refused before anything is written.
	noErr(t, os.Mkdir(filepath.Join(s.Dir, "roots"), 0o755))
	refused := exec.Command("setpriv", append(append([]string{}, as...), harness.Binary(t), "server", "--address", s.Address,
		"--mount", filepath.Join(s.Dir, "roots"), s.Args[0])...)
	if out, err := refused.CombinedOutput(); refused.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "another user's") {
		t.Errorf("a mount point of root's: %v\n%s", err, out)
	}
	if _, err := os.Stat(s.Drives[0]); err == nil {
		t.Error("a drive was made before the mount point was refused")
	}

	start()
	st := &store{Server: s, t: t, c: s.S3()}
	st.bucket("bucket")
	st.put("bucket", "by-s3", []byte("from S3"))
	if got := do(`cat $MNT/bucket/by-s3; stat -c ' %u:%g %A' $MNT/bucket/by-s3`); got != "from S3 65534:65534 -rw-r--r--" {
		t.Errorf("an object in the mount: %q", got)
	}
	do(`printf 'from a file' >$MNT/bucket/file; mkdir $MNT/bucket/dir $MNT/second
		printf x >$MNT/bucket/dir/a; mv $MNT/bucket/dir/a $MNT/bucket/dir/b; ln -s b $MNT/bucket/dir/link; chmod 600 $MNT/bucket/dir/b
		sync $MNT/bucket/file`)
	st.wantObject("bucket", "file", []byte("from a file"))
	st.wantObject("bucket", "dir/b", []byte("x"))
	if got := do(`chown 0 $MNT/bucket/file 2>&1 || echo refused; rmdir $MNT/second; ls $MNT`); !strings.HasSuffix(got, "refused\nbucket") {
		t.Errorf("chown, and ls of the root: %q", got)
	}
	if _, err := os.ReadDir(s.Mount); !os.IsPermission(err) {
		t.Errorf("another user in the mount: %v", err)
	}

	back := func() { // only the user can tell a dead mount from one that works
		t.Helper()
		waitFor(t, func() bool {
			return exec.Command("setpriv", append(append([]string{}, as...), "cat", filepath.Join(s.Mount, "bucket", "by-s3"))...).Run() == nil
		})
	}
	pid := s.MountPid()
	s.KillMount() // it comes back
	waitFor(t, func() bool { return s.MountPid() != 0 && s.MountPid() != pid })
	back()
	s.Kill()
	s.KillMount()
	waitFor(t, func() bool { return s.MountPid() == 0 })
	start() // over what the killed mount left
	back()
	if got := do(`cat $MNT/bucket/dir/link`); got != "x" {
		t.Errorf("after kill -9 of both: %q", got)
	}
	s.Signal(syscall.SIGTERM)
	if err := s.Wait(90 * time.Second); err != nil || harness.Mounted(s.Mount) {
		t.Fatalf("ended with %v, mounted: %v\n%s", err, harness.Mounted(s.Mount), s.Log())
	}
}

// openFuse sees to it that users may open /dev/fuse, as udev has it everywhere. Where
// they may not (some containers), the test runs in a mount namespace of its own, with
// such a device: nothing is changed for others. It reports whether it has.
func openFuse(t *testing.T) (ran bool) {
	const device, child = "/dev/fuse", "E2E_OPEN_FUSE"
	if st, err := os.Stat(device); err != nil || st.Mode()&0o666 == 0o666 {
		return false
	}
	if node := os.Getenv(child); node != "" {
		noErr(t, syscall.Mount(node, device, "", syscall.MS_BIND, ""))
		return false
	}
	harness.Need(t, "unshare")
	node := filepath.Join(t.TempDir(), "fuse")
	noErr(t, syscall.Mknod(node, syscall.S_IFCHR|0o666, 10<<8|229)) // the kernel's admin-guide/devices.txt
	noErr(t, os.Chmod(node, 0o666))
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", os.Args[0], "-test.run=^TestUser$", "-test.v")
	cmd.Env = append(os.Environ(), child+"="+node)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	noErr(t, err)
	return true
}
