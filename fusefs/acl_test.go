package fusefs

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twofold"
	"twofold/internal/acl"
	"twofold/volume/api"
)

// letIn4000 is an ACL of a file of root's that user 4000 may read.
var letIn4000 = acl.ACL{
	{Tag: acl.UserObj, Perm: 6, ID: acl.NoID}, {Tag: acl.User, Perm: 4, ID: 4000}, {Tag: acl.GroupObj, ID: acl.NoID},
	{Tag: acl.Mask, Perm: 4, ID: acl.NoID}, {Tag: acl.Other, ID: acl.NoID},
}.Encode()

// TestACLIsObeyedAtOnce: one that was set elsewhere lets in, and one that was removed
// elsewhere does not any more, at the next call. The kernel keeps ACLs, but asks for the
// attributes before it checks a permission, as they are not cached, and forgets the ACL then.
func TestACLIsObeyedAtOnce(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	openWay(m.dir)
	must(t, os.Chmod(m.dir, 0755))
	must(t, os.WriteFile(m.path("f"), []byte("content"), 0640))
	other := somebody{v.session()}
	ino := other.find(t, "f").Ino
	ctx := context.Background()
	for range 3 {
		if out, err := asUser(t, "cat", m.path("f")); err == nil {
			t.Fatalf("without an ACL: %s", out)
		}
		must(t, other.SetXattr(ctx, ino, acl.AccessName, letIn4000, 0))
		if out, err := asUser(t, "cat", m.path("f")); err != nil || out != "content" {
			t.Fatalf("with an ACL: %s, %v", out, err)
		}
		must(t, other.RemoveXattr(ctx, ino, acl.AccessName))
	}
}

// TestACLWithoutKernel: a kernel that does not obey ACLs gets none to store (rule 9).
func TestACLWithoutKernel(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, func(o *Options) { o.noACL = true })
	old := syscall.Umask(027)
	defer syscall.Umask(old)
	must(t, os.WriteFile(m.path("f"), nil, 0666))
	must(t, os.Mkdir(m.path("d"), 0777))
	for name, want := range map[string]os.FileMode{"f": 0640, "d": os.ModeDir | 0750} {
		if st, err := os.Stat(m.path(name)); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	wantErrno(t, unix.Setxattr(m.path("f"), acl.AccessName, letIn4000, 0), syscall.EOPNOTSUPP)
	_, err := unix.Getxattr(m.path("f"), acl.AccessName, make([]byte, 100))
	wantErrno(t, err, syscall.EOPNOTSUPP)
	somebody := somebody{v.session()}
	must(t, somebody.SetXattr(context.Background(), somebody.find(t, "f").Ino, acl.AccessName, letIn4000, 0))
	b := make([]byte, 100)
	if n, err := unix.Listxattr(m.path("f"), b); n != 0 || err != nil {
		t.Errorf("listed %q, %v", b[:n], err)
	}
}

// TestACLKillsSetGID: the volume is told when the caller is neither in the group nor
// privileged.
func TestACLKillsSetGID(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	openWay(m.dir)
	must(t, os.WriteFile(m.path("f"), nil, 0640))
	var got uint32
	v.mu.Lock()
	m.fakeSession.flags = func(f uint32) { got = f }
	v.mu.Unlock()
	set := func() (string, error) {
		return asUser(t, "setfattr", "-n", acl.AccessName, "-v", "0x0200000001000600ffffffff04000400ffffffff20000400ffffffff", m.path("f"))
	}
	for _, c := range []struct {
		gid  int
		want uint32
	}{{4001, 0}, {0, api.XattrKillSetGID}} {
		must(t, os.Chown(m.path("f"), 4000, c.gid))
		if out, err := set(); err != nil {
			t.Fatal(out, err)
		}
		v.mu.Lock()
		if got != c.want {
			t.Errorf("group %d: flags %#x, want %#x", c.gid, got, c.want)
		}
		v.mu.Unlock()
	}
	must(t, os.Chown(m.path("f"), 0, 0))
	if out, err := set(); err == nil {
		t.Errorf("somebody else's file: %s", out)
	}
}

// TestACLIsObeyedByOtherName: the kernel keeps an ACL also when its attributes have run
// out, and an answer to the LOOKUP of another name, which makes them good again, does not
// have it forget that (fs/fuse/inode.c, fuse_iget).
func TestACLIsObeyedByOtherName(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	openWay(m.dir)
	must(t, os.Chmod(m.dir, 0755))
	must(t, os.WriteFile(m.path("f"), []byte("content"), 0640))
	other := somebody{v.session()}
	ctx := context.Background()
	ino := other.find(t, "f").Ino
	must(t, other.SetXattr(ctx, ino, acl.AccessName, letIn4000, 0))
	_, err := other.Link(ctx, ino, twofold.RootIno, "g")
	must(t, err)
	open, err := os.Open(m.path("f")) // the kernel keeps the inode
	must(t, err)
	defer open.Close()
	if out, err := asUser(t, "cat", m.path("f")); err != nil || out != "content" {
		t.Fatalf("with an ACL: %s, %v", out, err)
	}
	time.Sleep(maxTimeout + 2*kernelSlack) // the kernel's attributes run out
	must(t, other.RemoveXattr(ctx, ino, acl.AccessName))
	if out, err := asUser(t, "cat", m.path("g")); err == nil {
		t.Fatalf("without an ACL: %s", out)
	}
}

// TestACLChangedUnheard is the same where the ACL changed while the mount was cut off, so
// that nobody could tell it.
func TestACLChangedUnheard(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	openWay(m.dir)
	must(t, os.Chmod(m.dir, 0755))
	must(t, os.WriteFile(m.path("f"), []byte("content"), 0640))
	other := somebody{v.session()}
	ctx := context.Background()
	ino := other.find(t, "f").Ino
	must(t, other.SetXattr(ctx, ino, acl.AccessName, letIn4000, 0))
	_, err := other.Link(ctx, ino, twofold.RootIno, "g")
	must(t, err)
	open, err := os.Open(m.path("f"))
	must(t, err)
	defer open.Close()
	if out, err := asUser(t, "cat", m.path("f")); err != nil || out != "content" {
		t.Fatalf("with an ACL: %s, %v", out, err)
	}
	m.holder.Held() // and the server does not know of its read leases
	v.mu.Lock()
	for _, in := range v.inodes {
		clear(in.readers)
	}
	v.mu.Unlock()
	must(t, other.RemoveXattr(ctx, ino, acl.AccessName))
	if out, err := asUser(t, "cat", m.path("g")); err == nil {
		t.Fatalf("without an ACL: %s", out)
	}
}
