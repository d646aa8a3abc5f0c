package fusefs

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// subtreeOf makes /top/sub and /top/secret in the volume, and mounts /top/sub.
func subtreeOf(t *testing.T, change func(*Options)) (m *testMount, s *fakeSession, top, sub twofold.Ino) {
	t.Helper()
	v := newFakeVolume()
	s = v.session()
	ctx := context.Background()
	mk := func(dir twofold.Ino, name string, typ metadata.Type) twofold.Ino {
		a, _, err := s.Create(ctx, dir, name, api.Create{Type: typ, Mode: 0755})
		must(t, err)
		return a.Ino
	}
	top = mk(twofold.RootIno, "top", metadata.TypeDir)
	sub = mk(top, "sub", metadata.TypeDir)
	mk(top, "secret", metadata.TypeFile)
	mk(sub, "inside", metadata.TypeFile)
	return mountFake(t, v, func(o *Options) {
		o.Root = sub
		if change != nil {
			change(o)
		}
	}), s, top, sub
}

func TestSubtree(t *testing.T) {
	m, s, top, _ := subtreeOf(t, nil)
	ctx := context.Background()
	ino := func(path string) uint64 {
		var st syscall.Stat_t
		must(t, syscall.Stat(path, &st))
		return st.Ino
	}
	if n := ino(m.dir); n != 1 {
		t.Errorf("the root has inode %d", n)
	}
	outer := ino(filepath.Dir(m.dir))
	if ino(m.dir+"/..") != outer || ino(m.dir+"/../..") == 1 {
		t.Error(".. of the root is not where it is mounted")
	}
	// Changes of, and in, the root.
	must(t, os.Mkdir(m.path("d"), 0755))
	must(t, os.WriteFile(m.path("d/f"), []byte("hello"), 0644))
	must(t, os.Rename(m.path("d/f"), m.path("f")))
	must(t, os.Rename(m.path("f"), m.path("d/g")))
	must(t, os.Link(m.path("d/g"), m.path("h")))
	must(t, os.Symlink("h", m.path("l")))
	wantFile(t, m.path("l"), "hello")
	if ino(m.path("d/..")) != 1 {
		t.Error(".. of a directory in the root is not the root")
	}
	must(t, os.Chmod(m.dir, 0700))
	must(t, syscall.Setxattr(m.dir, "user.x", []byte("y"), 0))
	must(t, os.Remove(m.path("h")))
	names := func() (list []string) {
		es, err := os.ReadDir(m.dir)
		must(t, err)
		for _, e := range es {
			list = append(list, e.Name())
		}
		return list
	}
	if got := names(); len(got) != 3 || got[0] != "d" || got[1] != "inside" || got[2] != "l" {
		t.Errorf("the root has %q", got)
	}
	if _, err := os.Stat(m.path("secret")); !os.IsNotExist(err) {
		t.Errorf("a file beside the root: %v", err)
	}

	// Renamed by somebody else it goes on, and so do new lookups.
	must(t, s.Rename(ctx, top, "sub", twofold.RootIno, "elsewhere", 0))
	must(t, os.WriteFile(m.path("after"), []byte("x"), 0644))
	a, err := s.Lookup(ctx, twofold.RootIno, "elsewhere")
	must(t, err)
	if _, err := s.Lookup(ctx, a.Ino, "after"); err != nil {
		t.Errorf("written after the rename: %v", err)
	}

	// Removed it is gone.
	for _, n := range []string{"after", "inside", "l", "d"} {
		must(t, os.RemoveAll(m.path(n)))
	}
	must(t, s.Rmdir(ctx, twofold.RootIno, "elsewhere"))
	_, err = os.Stat(m.dir)
	wantErrno(t, err, syscall.ESTALE)
	wantErrno(t, os.WriteFile(m.path("x"), nil, 0600), syscall.ESTALE)
	_, err = os.ReadDir(m.dir)
	wantErrno(t, err, syscall.ESTALE)
}

// TestReadOnlyStays: the kernel can be told to let changes through again, without that
// the mount hears of it.
func TestReadOnlyStays(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("remounting takes root")
	}
	m, _, _, _ := subtreeOf(t, func(o *Options) { o.ReadOnly = true })
	wantErrno(t, os.Mkdir(m.path("d"), 0755), syscall.EROFS)
	must(t, syscall.Mount("", m.dir, "", syscall.MS_REMOUNT|syscall.MS_NOSUID|syscall.MS_NODEV, ""))
	wantErrno(t, os.Mkdir(m.path("d"), 0755), syscall.EROFS)
	wantErrno(t, os.WriteFile(m.path("inside"), []byte("x"), 0644), syscall.EROFS)
	wantErrno(t, os.Remove(m.path("inside")), syscall.EROFS)
	wantErrno(t, os.Chmod(m.path("inside"), 0600), syscall.EROFS)
	wantFile(t, m.path("inside"), "")
}

// TestSubtreeTellsOfItsRoot: what a change has made of the directory that is the root comes
// back with the root's number.
func TestSubtreeTellsOfItsRoot(t *testing.T) {
	s := newFakeVolume().session()
	s.caches = true
	root, _, err := s.Create(t.Context(), twofold.RootIno, "d", api.Create{Type: metadata.TypeDir})
	must(t, err)
	sub := subtree{s, root.Ino}
	ctx, dirs := api.WithDirs(t.Context())
	_, err = sub.GetAttr(ctx, twofold.RootIno)
	must(t, err)
	_, _, err = sub.Create(ctx, twofold.RootIno, "a", api.Create{Type: metadata.TypeFile})
	must(t, err)
	must(t, sub.Rename(ctx, twofold.RootIno, "a", twofold.RootIno, "b", 0))
	must(t, sub.Unlink(ctx, twofold.RootIno, "b"))
	if len(dirs.Attrs()) < 3 {
		t.Fatalf("told of %+v", dirs.Attrs())
	}
	for _, a := range dirs.Attrs() {
		if a.Ino != twofold.RootIno || !a.Leased {
			t.Errorf("told of %+v", a)
		}
	}
}
