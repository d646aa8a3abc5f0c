package fusefs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// readDir reads an open directory's entries from where it stands, with the offset
// behind each.
func readDir(t *testing.T, fd int, size int) (names []string, offs []int64) {
	t.Helper()
	b := make([]byte, size)
	for {
		n, err := unix.Getdents(fd, b)
		must(t, err)
		if n == 0 {
			return names, offs
		}
		for p := b[:n]; len(p) > 0; {
			size := binary.NativeEndian.Uint16(p[16:]) // struct linux_dirent64
			names = append(names, unix.ByteSliceToString(p[19:size]))
			offs = append(offs, int64(binary.NativeEndian.Uint64(p[8:])))
			p = p[size:]
		}
	}
}

func fill(t *testing.T, v *fakeVolume, n int) (want []string) {
	s := v.session()
	for i := range n {
		name := fmt.Sprintf("f%05d", i)
		_, _, err := s.Create(context.Background(), twofold.RootIno, name, api.Create{Type: metadata.TypeFile, Mode: 0600})
		must(t, err)
		want = append(want, name)
	}
	return append(want, ".", "..")
}

func testListing(t *testing.T, change func(*Options)) {
	v := newFakeVolume()
	m := mountFake(t, v, change)
	want := fill(t, v, 3000)
	sort.Strings(want)
	fd, err := unix.Open(m.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	names, offs := readDir(t, fd, 5000)
	got := append([]string(nil), names...)
	sort.Strings(got)
	if !equal(got, want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for _, i := range []int{0, 1, 2, 77, 2999} { // seekdir to what telldir said
		_, err := unix.Seek(fd, offs[i], 0)
		must(t, err)
		rest, _ := readDir(t, fd, 800)
		if !equal(rest, names[i+1:]) {
			t.Fatalf("behind entry %d: %d entries from %v, want %d", i, len(rest), rest[:min(2, len(rest))], len(names)-i-1)
		}
	}
	must(t, os.Remove(m.path("f00001"))) // rewinddir shows the directory as it is now
	_, err = unix.Seek(fd, 0, 0)
	must(t, err)
	if again, _ := readDir(t, fd, 4096); len(again) != len(want)-1 {
		t.Fatalf("%d entries after one was removed", len(again))
	}
}

func TestListing(t *testing.T) { testListing(t, func(o *Options) { o.CachedUntil = nil }) }

// TestListingPlus is the same with attributes, which the kernel asks for when it may
// cache them.
func TestListingPlus(t *testing.T) {
	testListing(t, nil)
}

// TestListingUnderChanges: 10,000 entries stay, others come and go; each that stays
// is listed once.
func TestListingUnderChanges(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	stay := fill(t, v, 10000)
	other := v.session()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ctx := context.Background()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprintf("f%05d-", i*7919%10000)
			other.Create(ctx, twofold.RootIno, name, api.Create{Type: metadata.TypeFile})
			if i%3 > 0 {
				other.Unlink(ctx, twofold.RootIno, name)
			}
			time.Sleep(100 * time.Microsecond)
		}
	})
	for _, size := range []int{4 << 10, 32 << 10, 1 << 20} {
		fd, err := unix.Open(m.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		names, _ := readDir(t, fd, size)
		unix.Close(fd)
		seen := make(map[string]int)
		for _, n := range names {
			seen[n]++
		}
		for n, k := range seen {
			if k != 1 {
				t.Fatalf("%s is listed %d times", n, k)
			}
		}
		for _, n := range stay {
			if seen[n] == 0 {
				t.Fatalf("%s is missing", n)
			}
		}
	}
	close(stop)
	wg.Wait()
}

func equal(a, b []string) bool { return strings.Join(a, "/") == strings.Join(b, "/") }

// TestDefaults: what was never given an owner or a mode shows the mount's.
func TestDefaults(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, func(o *Options) { o.UID, o.GID, o.Umask = 1234, 5678, 027 })
	s := v.session()
	for name, c := range map[string]struct {
		t    metadata.Type
		mode uint32
	}{
		"file": {metadata.TypeFile, syscall.S_IFREG | 0640},
		"dir":  {metadata.TypeDir, syscall.S_IFDIR | 0750},
		"link": {metadata.TypeSymlink, syscall.S_IFLNK | 0777},
	} {
		a, _, err := s.Create(context.Background(), twofold.RootIno, name, api.Create{Type: c.t, Target: "x"})
		must(t, err)
		v.mu.Lock()
		at := &v.inodes[a.Ino].attr
		at.ModeSet, at.UIDSet, at.GIDSet = false, false, false
		v.mu.Unlock()
		var st syscall.Stat_t
		must(t, syscall.Lstat(m.path(name), &st))
		if st.Mode != c.mode || st.Uid != 1234 || st.Gid != 5678 || st.Ino != uint64(a.Ino) {
			t.Errorf("%s: %o %d %d", name, st.Mode, st.Uid, st.Gid)
		}
	}
}

// asUser runs a command as an ordinary user.
func asUser(t *testing.T, args ...string) (string, error) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4000, Gid: 4001}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// openWay lets everybody reach a test's directory.
func openWay(dir string) {
	for d := filepath.Dir(dir); d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0755)
	}
}

func TestOwnersAndPermissions(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	openWay(m.dir)
	must(t, os.Mkdir(m.path("d"), 0))
	must(t, os.Chmod(m.path("d"), 0777))
	must(t, os.WriteFile(m.path("d/secret"), []byte("s"), 0600))
	if out, err := asUser(t, "sh", "-c", "echo mine > "+m.path("d/mine")); err != nil {
		t.Fatal(err, out)
	}
	var st syscall.Stat_t
	must(t, syscall.Stat(m.path("d/mine"), &st))
	if st.Uid != 4000 || st.Gid != 4001 {
		t.Fatalf("made by %d, %d", st.Uid, st.Gid)
	}
	for _, c := range []string{"cat " + m.path("d/secret"), "echo x >> " + m.path("d/secret"), "mkdir " + m.path("d2")} {
		if out, err := asUser(t, "sh", "-c", c); err == nil {
			t.Errorf("%s: allowed: %s", c, out)
		}
	}
	// A write and a truncate by somebody without privileges clear set-id bits, and so
	// does a change of owner.
	for _, c := range []string{"echo x >> %s", ": > %s", "truncate -s 1 %s"} {
		must(t, os.WriteFile(m.path("d/suid"), []byte("12345"), 0777))
		must(t, os.Chmod(m.path("d/suid"), 0777|os.ModeSetuid|os.ModeSetgid))
		if out, err := asUser(t, "sh", "-c", fmt.Sprintf(c, m.path("d/suid"))); err != nil {
			t.Fatal(c, err, out)
		}
		wantMode(t, m.path("d/suid"), 0777)
	}
	must(t, syscall.Chmod(m.path("d/suid"), 06777))
	must(t, os.Chown(m.path("d/suid"), 1, 1))
	wantMode(t, m.path("d/suid"), 0777)
	must(t, syscall.Chmod(m.path("d/suid"), 04755))
	must(t, os.WriteFile(m.path("d/suid"), []byte("root may"), 0755))
	wantMode(t, m.path("d/suid"), 04755)
}

func wantMode(t *testing.T, path string, want uint32) {
	t.Helper()
	var st syscall.Stat_t
	must(t, syscall.Stat(path, &st))
	if st.Mode&07777 != want {
		t.Fatalf("%s has mode %o, want %o", filepath.Base(path), st.Mode&07777, want)
	}
}

func TestXattrs(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	p := m.path("f")
	must(t, os.WriteFile(p, nil, 0644))
	must(t, unix.Setxattr(p, "user.a", []byte("value"), unix.XATTR_CREATE))
	wantErrno(t, unix.Setxattr(p, "user.a", []byte("v"), unix.XATTR_CREATE), syscall.EEXIST)
	wantErrno(t, unix.Setxattr(p, "user.b", []byte("v"), unix.XATTR_REPLACE), syscall.ENODATA)
	b := make([]byte, 100)
	n, err := unix.Getxattr(p, "user.a", b)
	if err != nil || string(b[:n]) != "value" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	_, err = unix.Getxattr(p, "user.a", b[:2])
	wantErrno(t, err, syscall.ERANGE)
	n, err = unix.Listxattr(p, b)
	if err != nil || string(b[:n]) != "user.a\x00" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	must(t, unix.Removexattr(p, "user.a"))
	_, err = unix.Getxattr(p, "user.a", b)
	wantErrno(t, err, syscall.ENODATA)
	// Never stored and ignored (rule 9).
	wantErrno(t, unix.Setxattr(p, capability, []byte{0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0), syscall.EOPNOTSUPP)
}

func TestNames(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	must(t, os.MkdirAll(m.path("a/b"), 0755))
	must(t, os.WriteFile(m.path("a/x"), []byte("x"), 0644))
	must(t, os.WriteFile(m.path("y"), []byte("y"), 0644))
	at := func(old, new string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, m.path(old), unix.AT_FDCWD, m.path(new), flags)
	}
	wantErrno(t, at("a/x", "y", unix.RENAME_NOREPLACE), syscall.EEXIST)
	must(t, at("a/x", "y", unix.RENAME_EXCHANGE))
	wantFile(t, m.path("y"), "x")
	wantErrno(t, at("a", "a/b/c", 0), syscall.EINVAL)
	wantErrno(t, at("y", "a", 0), syscall.EISDIR)
	wantErrno(t, at("a", "y", 0), syscall.ENOTDIR)
	wantErrno(t, at("gone", "z", 0), syscall.ENOENT)
	must(t, at("a", "moved", 0))
	wantFile(t, m.path("moved/x"), "y")
	wantErrno(t, syscall.Rmdir(m.path("moved")), syscall.ENOTEMPTY)
	wantErrno(t, syscall.Unlink(m.path("moved")), syscall.EISDIR)
	wantErrno(t, syscall.Mkdir(m.path("moved"), 0755), syscall.EEXIST)
	_, err := os.Stat(m.path(strings.Repeat("n", 256)))
	wantErrno(t, err, syscall.ENAMETOOLONG)
	must(t, syscall.Mkfifo(m.path("fifo"), 0600))
	must(t, syscall.Mknod(m.path("dev"), syscall.S_IFCHR|0600, int(unix.Mkdev(1, 3))))
	var st syscall.Stat_t
	must(t, syscall.Stat(m.path("dev"), &st))
	if st.Rdev != unix.Mkdev(1, 3) || st.Mode != syscall.S_IFCHR|0600 {
		t.Fatalf("device %x, mode %o", st.Rdev, st.Mode)
	}
	_, err = os.Open(m.path("dev")) // nodev
	wantErrno(t, err, syscall.EACCES)
	var fs syscall.Statfs_t
	must(t, syscall.Statfs(m.dir, &fs))
	if fs.Blocks*uint64(fs.Bsize) != 1<<40 || fs.Bavail*uint64(fs.Bsize) != 1<<39 || fs.Namelen != 255 {
		t.Fatalf("%+v", fs)
	}
}

// TestCreateRaces: somebody makes a file between the kernel's lookup and its create.
func TestCreateRaces(t *testing.T) {
	v := newFakeVolume()
	m, other := mountFake(t, v, nil), v.session()
	race := func(name string, flags int) error {
		var once sync.Once
		m.setHook(func(op string, _ twofold.Ino) error {
			if op == "Create" {
				once.Do(func() {
					a, _, _ := other.Create(context.Background(), twofold.RootIno, name, api.Create{Type: metadata.TypeFile, Mode: 0600})
					other.Write(context.Background(), a.Ino, api.Write{Segments: []api.Segment{{Data: []byte("theirs")}}, Mtime: 1})
				})
			}
			return nil
		})
		defer m.setHook(nil)
		f, err := os.OpenFile(m.path(name), flags|os.O_CREATE, 0644)
		if err == nil {
			f.Close()
		}
		return err
	}
	wantErrno(t, race("a", os.O_WRONLY|os.O_EXCL), syscall.EEXIST)
	must(t, race("b", os.O_WRONLY))
	wantFile(t, m.path("b"), "theirs")
	must(t, race("c", os.O_WRONLY|os.O_TRUNC))
	wantFile(t, m.path("c"), "")
}

func TestReadOnly(t *testing.T) {
	v := newFakeVolume()
	fill(t, v, 1)
	m := mountFake(t, v, func(o *Options) { o.ReadOnly = true })
	wantFile(t, m.path("f00000"), "")
	wantErrno(t, os.WriteFile(m.path("f00000"), nil, 0600), syscall.EROFS)
	wantErrno(t, os.Mkdir(m.path("d"), 0755), syscall.EROFS)
}

// TestClearStale: a mount whose process was killed is found and cleared, one that
// lives is left alone.
func TestClearStale(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dead mount")
	must(t, os.Mkdir(dir, 0755))
	t.Cleanup(func() { syscall.Unmount(dir, mntDetach) })
	if ok, err := ClearStale(dir); ok || err != nil {
		t.Fatalf("no mount: %v, %v", ok, err)
	}
	k := startTalk(t, "serve", dir)
	if line, err := k.out.ReadString('\n'); err != nil || line != "mounted\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if ok, err := ClearStale(dir); ok || err != nil {
		t.Fatalf("a living mount: %v, %v", ok, err)
	}
	must(t, k.cmd.Process.Kill())
	k.cmd.Wait()
	if _, err := Mount(Options{Mountpoint: dir}, newFakeVolume().session()); err == nil || !strings.Contains(err.Error(), "dead mount") {
		t.Fatalf("mount over a dead one: %v", err)
	}
	if ok, err := ClearStale(dir); !ok || err != nil {
		t.Fatalf("a dead mount: %v, %v", ok, err)
	}
	_, err := os.ReadDir(dir)
	must(t, err)
}

func TestMountRefusals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0644))
	for _, o := range []Options{{}, {Mountpoint: file}, {Mountpoint: file + "s"}, {Mountpoint: filepath.Dir(file), Umask: 01000}} {
		if s, err := Mount(o, newFakeVolume().session()); err == nil {
			s.Unmount(context.Background(), true)
			t.Errorf("%+v was mounted", o)
		}
	}
}

// TestUnmountFlushes: what was written is there after a lazy unmount, too, by those
// who still have the file open.
func TestUnmountFlushes(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	f, err := os.Create(m.path("f"))
	must(t, err)
	_, err = f.WriteString("before")
	must(t, err)
	must(t, m.s.Unmount(context.Background(), true))
	_, err = f.WriteString(" after")
	must(t, err)
	if got := s3.get(t, "f"); got != "before after" {
		t.Fatalf("others see %q", got)
	}
	must(t, f.Close())
	m.s.Wait()
	if h := m.holder.Held(); len(h.Writes)+len(h.Opens) != 0 {
		t.Fatalf("still held: %+v", h)
	}
	if _, err := os.Stat(m.path("f")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("still mounted: %v", err)
	}
}

func TestMountTable(t *testing.T) {
	l, err := parseMounts(bytes.NewReader([]byte("36 35 0:98 / /mnt\\040a rw,noatime shared:1 - fuse.twofold twofold rw\nrubbish\n37 36 0:99 / /mnt\\040a rw - ext4 x rw\n")))
	must(t, err)
	if m, ok := l.at("/mnt a"); !ok || m.device != "0:99" || m.ours() || len(l) != 2 || !l[0].ours() {
		t.Fatalf("%+v", l)
	}
}

func FuzzMountTable(f *testing.F) {
	f.Add([]byte("36 35 0:98 / /mnt\\040a rw shared:1 - fuse.twofold twofold rw\n"))
	f.Fuzz(func(t *testing.T, b []byte) { parseMounts(bytes.NewReader(b)) })
}
