package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

// mountAt starts `twofold mount` of a source and waits until it serves.
func mountAt(t *testing.T, s *harness.Server, source, dir string, flags ...string) {
	t.Helper()
	cmd := exec.Command(harness.Binary(t), append(append([]string{"mount"}, flags...), source, dir)...)
	cmd.Env = append(os.Environ(), "S3_ROOT_USER="+harness.User, "S3_ROOT_PASSWORD="+harness.Password)
	out := &lines{}
	cmd.Stderr = out
	noErr(t, cmd.Start())
	end := make(chan error, 1)
	go func() { end <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-end:
			if err != nil {
				t.Errorf("the mount ended with %v\n%s", err, out)
			}
		case <-time.After(time.Minute):
			t.Errorf("the mount does not end\n%s", out)
			cmd.Process.Kill()
			syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	out.await(t, "mounted")
}

// TestMountOneDirectory: a bucket, and a prefix in it, mounted alone, beside S3.
func TestMountOneDirectory(t *testing.T) {
	harness.NeedMount(t)
	s := harness.Start(t, 4)
	st := &store{Server: s, t: t, c: s.S3()}
	st.bucket("photos")
	st.put("photos", "2024/may/a.jpg", []byte("a"))
	st.put("photos", "top.jpg", []byte("top"))
	bucket, prefix := filepath.Join(s.Dir, "bucket"), filepath.Join(s.Dir, "prefix")
	mountAt(t, s, s.Address+"/photos", bucket)
	mountAt(t, s, "http://"+s.Address+"/photos/2024/may/", prefix)
	if b, err := os.ReadFile(filepath.Join(bucket, "2024/may/a.jpg")); err != nil || string(b) != "a" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(prefix, "a.jpg")); err != nil || string(b) != "a" {
		t.Errorf("%q, %v", b, err)
	}
	if src := sourceOf(t, bucket); src != s.Address+"/photos" {
		t.Errorf("the mount's source is %q", src)
	}
	// What is cached of a root goes when S3 changes it.
	for range 3 {
		_, err := os.ReadDir(prefix)
		noErr(t, err)
		st.put("photos", "2024/may/new.jpg", []byte("new"))
		if b, err := os.ReadFile(filepath.Join(prefix, "new.jpg")); err != nil || string(b) != "new" {
			t.Errorf("%q, %v", b, err)
		}
		if es, err := os.ReadDir(prefix); err != nil || len(es) != 2 {
			t.Errorf("%v, %v", es, err)
		}
		st.delete("photos", "2024/may/new.jpg")
		if _, err := os.Stat(filepath.Join(prefix, "new.jpg")); !os.IsNotExist(err) {
			t.Errorf("a deleted object: %v", err)
		}
		if es, err := os.ReadDir(prefix); err != nil || len(es) != 1 {
			t.Errorf("%v, %v", es, err)
		}
	}
	// What is written in one is in the others at once.
	noErr(t, os.WriteFile(filepath.Join(prefix, "b.jpg"), []byte("bb"), 0o644))
	st.wantObject("photos", "2024/may/b.jpg", []byte("bb"))
	// Renamed in one mount, the other one goes on.
	noErr(t, os.Rename(filepath.Join(bucket, "2024/may"), filepath.Join(bucket, "spring")))
	noErr(t, os.Rename(filepath.Join(prefix, "b.jpg"), filepath.Join(prefix, "c.jpg")))
	st.wantObject("photos", "spring/c.jpg", []byte("bb"))
	if _, err := os.Stat(filepath.Join(bucket, "2024")); !os.IsNotExist(err) {
		// it was implied by what is not in it any more, or made explicit by the rename
		if es, err := os.ReadDir(filepath.Join(bucket, "2024")); err != nil || len(es) > 0 {
			t.Errorf("%v, %v", es, err)
		}
	}
	// Removed, it is gone: after the moment in which who has just looked may still look.
	noErr(t, os.RemoveAll(filepath.Join(bucket, "spring")))
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := os.Stat(prefix)
		if e, ok := err.(*os.PathError); ok && e.Err == syscall.ESTALE {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a root that was removed: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := os.WriteFile(filepath.Join(prefix, "x"), nil, 0o600); err == nil {
		t.Error("a file was made in a directory that was removed")
	}
	for source, says := range map[string]string{
		"/nothing":        `no bucket "nothing"`,
		"/photos/no/way":  `"no/way/"`,
		"/photos/../x":    `"../x/"`,
		"/photos/top.jpg": "not a directory",
	} {
		r := s.Program(nil, "mount", s.Address+source, filepath.Join(s.Dir, "never"))
		if r.Status != 1 || !strings.Contains(r.Stderr, says) {
			t.Errorf("%s: status %d, %s", source, r.Status, r.Stderr)
		}
	}
	if _, err := os.Lstat(filepath.Join(s.Dir, "never")); !os.IsNotExist(err) {
		t.Errorf("a mount that could not be made left its directory behind: %v", err)
	}
}

// sourceOf is what the kernel's table has as source of a mount.
func sourceOf(t *testing.T, dir string) string {
	b, err := os.ReadFile("/proc/self/mounts")
	noErr(t, err)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == dir {
			return f[0]
		}
	}
	return ""
}

// TestFstab: mount(8) with a line of an fstab. The helper is put into /sbin in a mount
// namespace of the script's own.
func TestFstab(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mount(8) takes root")
	}
	harness.NeedMount(t)
	harness.Need(t, "mount", "umount", "unshare", "findmnt", "pgrep")
	s := harness.Start(t, 4)
	c := s.S3()
	name := "photos"
	_, err := c.CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: &name})
	noErr(t, err)
	(&store{Server: s, t: t, c: c}).put(name, "2024/a.jpg", []byte("a"))

	sbin, dir := filepath.Join(s.Dir, "sbin"), filepath.Join(s.Dir, "mnt")
	noErr(t, os.Mkdir(sbin, 0o755))
	noErr(t, os.Mkdir(dir, 0o755))
	noErr(t, os.Symlink(harness.Binary(t), filepath.Join(sbin, "mount.fuse.twofold")))
	secret := filepath.Join(s.Dir, "credentials")
	noErr(t, os.WriteFile(secret, fmt.Appendf(nil, "S3_ROOT_USER=%s\nS3_ROOT_PASSWORD=%s\n", harness.User, harness.Password), 0o600))
	wrong := filepath.Join(s.Dir, "wrong")
	noErr(t, os.WriteFile(wrong, []byte("S3_ROOT_USER=someone\nS3_ROOT_PASSWORD=not-the-right-one\n"), 0o600))
	fstab := filepath.Join(s.Dir, "fstab")
	line := func(source, opts string) string {
		return fmt.Sprintf("%s/%s %s fuse.twofold %s 0 0\n", s.Address, source, dir, opts)
	}
	run := func(script string) string {
		t.Helper()
		cmd := exec.Command("unshare", "--mount", "--propagation", "private", "bash", "-eu", "-o", "pipefail", "-c",
			`mount --bind "$SBIN" /usr/sbin; mount --bind "$SBIN" /sbin 2>/dev/null || true
			pid() { pgrep -f -- "mount .*-- $SRC $DIR\$"; }
			trap 'umount -l "$DIR" 2>/dev/null || true' EXIT
			`+script)
		cmd.Dir = s.Dir
		cmd.Env = []string{"PATH=/usr/bin:/bin", "SBIN=" + sbin, "DIR=" + dir, "FSTAB=" + fstab, "SRC=" + s.Address + "/photos/2024"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}

	noErr(t, os.WriteFile(fstab, []byte(line("photos/2024", "credentials="+secret+",uid=1234,umask=077,allow_other,_netdev,nofail,noauto,user,noatime")), 0o600))
	got := run(`mount -T "$FSTAB" "$DIR"
		findmnt -n -o SOURCE,FSTYPE "$DIR"
		stat -c '%u %A %i' "$DIR/a.jpg" | cut -d' ' -f1,2
		cat "$DIR/a.jpg"; echo
		printf bb >"$DIR/b.jpg"
		tr '\0' ' ' </proc/$(pid)/cmdline; echo
		readlink /proc/$(pid)/fd/2 /proc/$(pid)/cwd
		p=$(pid)
		umount "$DIR"
		for i in $(seq 600); do [ -e /proc/$p ] || break; sleep 0.1; done
		[ ! -e /proc/$p ] && echo ended
		ls -A "$DIR"`)
	for _, want := range []string{s.Address + "/photos/2024 fuse.twofold", "1234 -rw-------", "\na\n", "/dev/null\n/\n", "ended\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, harness.Password) {
		t.Errorf("the password is in the process list:\n%s", got)
	}
	(&store{Server: s, t: t, c: c}).wantObject(name, "2024/b.jpg", []byte("bb"))

	// Read-only, also for root.
	noErr(t, os.WriteFile(fstab, []byte(line("photos/2024", "ro,credentials="+secret)), 0o600))
	got = run(`mount -T "$FSTAB" "$DIR"; cat "$DIR/b.jpg"; echo; touch "$DIR/x" 2>&1 || true; findmnt -n -o OPTIONS "$DIR"`)
	if !strings.Contains(got, "bb\n") || !strings.Contains(got, "Read-only file system") || !strings.Contains(got, "ro,nosuid,nodev") {
		t.Errorf("read-only:\n%s", got)
	}

	// What can't be mounted is said, with a status that mount(8) passes on, and nothing stays.
	for _, c := range []struct{ source, opts, says string }{
		{"photos/2025", "credentials=" + secret, "photos"},
		{"nothing", "credentials=" + secret, "no bucket"},
		{"photos", "credentials=" + wrong, "S3_ROOT_USER"},
		{"photos", "credentials=" + secret + ",nonsense", "no option"},
	} {
		noErr(t, os.WriteFile(fstab, []byte(line(c.source, c.opts)), 0o600))
		got = run(`mount -T "$FSTAB" "$DIR" && echo mounted || echo "status $?"; findmnt -n "$DIR" || true`)
		if !strings.Contains(got, c.says) || strings.Contains(got, "mounted") || strings.Contains(got, "status 0") || strings.Contains(got, "fuse") && strings.Contains(got, "rw,") {
			t.Errorf("%s %s:\n%s", c.source, c.opts, got)
		}
	}
}
