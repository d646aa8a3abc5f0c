package fusefs

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// calls is how many operations the session was asked for.
func (s *fakeSession) calls() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for op, k := range s.ops {
		if op[0] >= 'A' && op[0] <= 'Z' && op != "Release" { // a RELEASE comes when it likes
			n += k
		}
	}
	return n
}

func (s somebody) put(t testing.TB, name, data string) twofold.Ino {
	t.Helper()
	ctx := context.Background()
	a, _, err := s.Create(ctx, twofold.RootIno, name, api.Create{Type: metadata.TypeFile, Mode: 0644})
	must(t, err)
	_, err = s.Write(ctx, a.Ino, api.Write{Segments: []api.Segment{{Data: []byte(data)}}, Mtime: twofold.Now()})
	must(t, err)
	return a.Ino
}

// TestLeasedNeedsNoCall: what was looked up, read and found missing once is not asked
// for again, also when the kernel's own timeouts are over.
func TestLeasedNeedsNoCall(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	s3.put(t, "f", "small")
	s3.put(t, "empty", "x")
	must(t, os.Symlink("f", m.path("link")))
	look := func() {
		t.Helper()
		st, err := os.Stat(m.path("f"))
		must(t, err)
		if st.Size() != 5 || st.Mode() != 0644 {
			t.Fatal("stat says", st.Size(), st.Mode())
		}
		wantFile(t, m.path("f"), "small")
		if to, err := os.Readlink(m.path("link")); err != nil || to != "f" {
			t.Fatal(to, err)
		}
		_, err = os.Stat(m.path("missing"))
		wantErrno(t, err, syscall.ENOENT)
		es, err := os.ReadDir(m.dir)
		must(t, err)
		if len(es) != 3 {
			t.Fatal("the listing has", len(es))
		}
	}
	look()
	before := m.calls()
	look()
	time.Sleep(maxTimeout + 2*kernelSlack) // the kernel asks again
	look()
	if n := m.calls() - before; n != 0 {
		m.mu.Lock()
		defer m.mu.Unlock()
		t.Fatalf("%d calls for what is leased: %v", n, m.ops)
	}
}

// TestKernelAnswersAlone: within its timeouts the kernel does not even ask the mount about a
// directory's name, nor about attributes.
func TestKernelAnswersAlone(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	ino := s3.put(t, "f", "x")
	dir, _, err := s3.Create(context.Background(), twofold.RootIno, "d", api.Create{Type: metadata.TypeDir, Mode: 0755})
	must(t, err)
	f, err := os.Open(m.path("f"))
	must(t, err)
	defer f.Close()
	look := func() {
		_, err := os.Stat(m.path("d"))
		must(t, err)
		_, err = f.Stat()
		must(t, err)
	}
	inos := []twofold.Ino{twofold.RootIno, dir.Ino, ino}
	c := m.s.f.cache
	eventually(t, "no request", func() bool { // a slow machine may not do it in time at once
		look()
		c.mu.Lock()
		for _, ino := range inos {
			c.inodes[ino].used = time.Time{}
		}
		c.mu.Unlock()
		look()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, ino := range inos {
			if !c.inodes[ino].used.IsZero() {
				return false
			}
		}
		return true
	})
}

// changes are what somebody may do to "f" and "d" that a stat, a listing or a read shows.
var changes = []struct {
	name string
	do   func(t *testing.T, s somebody, f twofold.Ino)
	want string // of show, the rest is compared with the session's own view
}{
	{"chmod", func(t *testing.T, s somebody, f twofold.Ino) {
		mode := uint32(0600)
		_, err := s.SetAttr(context.Background(), f, api.SetAttr{Mode: &mode})
		must(t, err)
	}, "f -rw------- 1 old"},
	{"overwrite", func(t *testing.T, s somebody, f twofold.Ino) { s.overwrite(t, "f", 0, "new") }, "f -rw-r--r-- 1 new"},
	{"truncate", func(t *testing.T, s somebody, f twofold.Ino) {
		size := int64(1)
		_, err := s.SetAttr(context.Background(), f, api.SetAttr{Size: &size})
		must(t, err)
	}, "f -rw-r--r-- 1 o"},
	{"unlink", func(t *testing.T, s somebody, f twofold.Ino) {
		must(t, s.Unlink(context.Background(), twofold.RootIno, "f"))
	}, "f missing"},
	{"replace", func(t *testing.T, s somebody, f twofold.Ino) {
		s.put(t, "other", "other")
		must(t, s.Rename(context.Background(), twofold.RootIno, "other", twofold.RootIno, "f", 0))
	}, "f -rw-r--r-- 1 other"},
	{"rename", func(t *testing.T, s somebody, f twofold.Ino) {
		must(t, s.Rename(context.Background(), twofold.RootIno, "f", twofold.RootIno, "g", 0))
	}, "f missing g -rw-r--r-- 1 old"},
	{"link", func(t *testing.T, s somebody, f twofold.Ino) {
		_, err := s.Link(context.Background(), f, twofold.RootIno, "g")
		must(t, err)
	}, "f -rw-r--r-- 2 old g -rw-r--r-- 2 old"},
	{"create", func(t *testing.T, s somebody, f twofold.Ino) { s.put(t, "g", "g") }, "f -rw-r--r-- 1 old g -rw-r--r-- 1 g"},
	{"exchange", func(t *testing.T, s somebody, f twofold.Ino) {
		s.put(t, "g", "g")
		must(t, s.Rename(context.Background(), twofold.RootIno, "f", twofold.RootIno, "g", 2))
	}, "f -rw-r--r-- 1 g g -rw-r--r-- 1 old"},
}

// show is what the mount has of "f" and "g", and that a listing agrees with it.
func show(t *testing.T, m *testMount) string {
	t.Helper()
	var got []string
	for _, name := range []string{"f", "g"} {
		st, err := os.Stat(m.path(name))
		if os.IsNotExist(err) {
			if name == "f" {
				got = append(got, "f missing")
			}
			continue
		}
		must(t, err)
		b, err := os.ReadFile(m.path(name))
		must(t, err)
		got = append(got, fmt.Sprint(name, " ", st.Mode(), " ", st.Sys().(*syscall.Stat_t).Nlink, " ", string(b)))
	}
	es, err := os.ReadDir(m.dir)
	must(t, err)
	var listed, found []string
	for _, e := range es {
		listed = append(listed, e.Name())
	}
	for _, name := range []string{"f", "g"} {
		if _, err := os.Lstat(m.path(name)); err == nil {
			found = append(found, name)
		}
	}
	if !equal(listed, found) {
		t.Fatalf("listed are %v, found %v", listed, found)
	}
	return strings.Join(got, " ")
}

// TestChangesOfOthersShow: whatever the mount and its kernel have cached, a change of
// somebody else shows as soon as it has returned.
func TestChangesOfOthersShow(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) { testChange(t, m, s3, s3, c.do, c.want) })
	}
}

// TestOwnChangesShow: the same by the mount's own calls, of which the volume tells nobody:
// here made by the same session beside the kernel's back where it knows nothing.
func TestOwnChangesShow(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	own := map[string]func() error{
		"chmod":     func() error { return os.Chmod(m.path("f"), 0600) },
		"overwrite": func() error { return overwriteFile(m.path("f"), "new") },
		"truncate":  func() error { return os.Truncate(m.path("f"), 1) },
		"unlink":    func() error { return os.Remove(m.path("f")) },
		"replace": func() error {
			if err := os.WriteFile(m.path("other"), []byte("other"), 0644); err != nil {
				return err
			}
			return os.Rename(m.path("other"), m.path("f"))
		},
		"rename": func() error { return os.Rename(m.path("f"), m.path("g")) },
		"link":   func() error { return os.Link(m.path("f"), m.path("g")) },
		"create": func() error { return os.WriteFile(m.path("g"), []byte("g"), 0644) },
		"exchange": func() error {
			if err := os.WriteFile(m.path("g"), []byte("g"), 0644); err != nil {
				return err
			}
			return unix.Renameat2(unix.AT_FDCWD, m.path("f"), unix.AT_FDCWD, m.path("g"), unix.RENAME_EXCHANGE)
		},
	}
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			testChange(t, m, s3, s3, func(t *testing.T, _ somebody, _ twofold.Ino) { must(t, own[c.name]()) }, c.want)
		})
	}
}

func overwriteFile(path, data string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte(data), 0)
	return err
}

func testChange(t *testing.T, m *testMount, s3, by somebody, do func(*testing.T, somebody, twofold.Ino), want string) {
	ctx := context.Background()
	for _, name := range []string{"f", "g"} {
		s3.Unlink(ctx, twofold.RootIno, name)
	}
	f := s3.put(t, "f", "old")
	for range 2 { // once for the mount, once for the kernel
		if got := show(t, m); got != "f -rw-r--r-- 1 old" {
			t.Fatal(got)
		}
	}
	for _, name := range []string{"f", "."} { // a read has made the kernel forget the time of access
		_, err := os.Stat(m.path(name))
		must(t, err)
	}
	do(t, by, f)
	if got := show(t, m); got != want {
		t.Fatalf("afterwards: %s, want %s", got, want)
	}
	// And so does the directory.
	st, err := os.Stat(m.dir)
	must(t, err)
	root, err := s3.GetAttr(ctx, twofold.RootIno)
	must(t, err)
	if got := st.ModTime().UnixNano(); got != int64(root.Mtime) {
		t.Fatalf("the directory's time is %d, want %d", got, root.Mtime)
	}
}

// TestAnswersOvertaken: an answer that an Invalidate, or a change of the mount's own,
// overtakes is not kept.
func TestAnswersOvertaken(t *testing.T) {
	for _, c := range []struct{ by, op string }{
		{"others", "gotattr"}, {"others", "lookedup"}, {"ourselves", "gotattr"}, {"ourselves", "lookedup"},
	} {
		t.Run(c.by+" "+c.op, func(t *testing.T) {
			v := newFakeVolume()
			m, s3 := mountFake(t, v, nil), somebody{v.session()}
			ino := s3.put(t, "f", "x")
			held, release := make(chan struct{}), make(chan struct{})
			var first atomic.Bool
			m.setHook(func(op string, at twofold.Ino) error {
				if op == c.op && (at == ino || op == "lookedup") {
					if first.CompareAndSwap(false, true) {
						close(held)
						<-release
					}
				}
				return nil
			})
			m.s.f.cache.drop()
			done := make(chan error, 1)
			go func() {
				ctx := context.Background()
				var err error
				if c.op == "gotattr" {
					_, err = m.s.f.files.GetAttr(ctx, ino)
				} else {
					_, err = m.s.f.files.Lookup(ctx, twofold.RootIno, "f")
				}
				done <- err
			}()
			<-held
			mode := uint32(0600)
			if c.by == "others" {
				_, err := s3.SetAttr(context.Background(), ino, api.SetAttr{Mode: &mode})
				must(t, err)
			} else {
				_, err := m.s.f.files.SetAttr(context.Background(), ino, api.SetAttr{Mode: &mode})
				must(t, err)
			}
			close(release)
			must(t, <-done)
			if st, err := os.Stat(m.path("f")); err != nil || st.Mode() != 0600 {
				t.Fatal(st.Mode(), err)
			}
		})
	}
}

// TestLazyPin: a file that was opened without a call keeps its content when somebody, or
// this mount, removes its last name; and is gone afterwards.
func TestLazyPin(t *testing.T) {
	for _, by := range []string{"unlink of others", "replaced by others", "unlink", "replaced", "server restarts", "stays open"} {
		t.Run(by, func(t *testing.T) {
			v := newFakeVolume()
			m, s3 := mountFake(t, v, nil), somebody{v.session()}
			ctx := context.Background()
			content := strings.Repeat("long", maxContent) // so that it is not cached
			ino := s3.put(t, "f", content)
			s3.put(t, "g", "x")
			_, err := os.Stat(m.path("f"))
			must(t, err)
			f, err := os.Open(m.path("f"))
			must(t, err)
			defer f.Close()
			if m.count("Open") != 0 {
				t.Fatal("the open was a call")
			}
			switch by {
			case "unlink of others":
				must(t, s3.Unlink(ctx, twofold.RootIno, "f"))
			case "replaced by others":
				must(t, s3.Rename(ctx, twofold.RootIno, "g", twofold.RootIno, "f", 0))
			case "unlink":
				must(t, os.Remove(m.path("f")))
			case "replaced":
				must(t, os.Rename(m.path("g"), m.path("f")))
			case "server restarts":
				m.holder.Held()
				eventually(t, "the file is pinned", func() bool { return m.pins(ino) == 1 })
				v.mu.Lock()
				clear(v.inodes[ino].readers)
				v.mu.Unlock()
				must(t, s3.Unlink(ctx, twofold.RootIno, "f"))
			case "stays open":
				m.s.f.sweep(time.Now().Add(2 * longOpen))
				if m.pins(ino) != 1 {
					t.Fatal("it is not pinned")
				}
				must(t, s3.Unlink(ctx, twofold.RootIno, "f"))
			}
			b := make([]byte, len(content))
			if n, err := f.ReadAt(b, 0); err != nil || string(b[:n]) != content {
				t.Fatal("read", n, err)
			}
			must(t, f.Close())
			eventually(t, "the inode is given up", func() bool {
				v.mu.Lock()
				defer v.mu.Unlock()
				return v.inodes[ino] == nil
			})
		})
	}
}

func (s *fakeSession) pins(ino twofold.Ino) int {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if in := s.v.inodes[ino]; in != nil {
		return in.pins[s]
	}
	return 0
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: ", what)
		}
	}
}

// TestCutOff: a mount whose lease has ended serves nothing from a cache, nor does its
// kernel, for then the server changes things unasked.
func TestCutOff(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	s3.put(t, "f", "old")
	end := time.Now().Add(400 * time.Millisecond)
	m.cutOff(end)
	show(t, m)
	show(t, m)
	time.Sleep(time.Until(end) + kernelSlack)
	v.mu.Lock()
	for _, in := range v.inodes {
		clear(in.readers)
	}
	v.mu.Unlock()
	s3.overwrite(t, "f", 0, "new")
	s3.put(t, "g", "g")
	if got := show(t, m); got != "f -rw-r--r-- 1 new g -rw-r--r-- 1 g" {
		t.Fatal(got)
	}
}

// TestServerRestarts: before the mount says what it holds, to a server that may not know of
// its read leases, everything cached is dropped, by the kernel as well.
func TestServerRestarts(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	s3.put(t, "f", "old")
	show(t, m)
	show(t, m)
	m.holder.Held()
	v.mu.Lock()
	for _, in := range v.inodes {
		clear(in.readers)
	}
	v.mu.Unlock()
	s3.overwrite(t, "f", 0, "new")
	s3.put(t, "g", "g")
	if got := show(t, m); got != "f -rw-r--r-- 1 new g -rw-r--r-- 1 g" {
		t.Fatal(got)
	}
}

// TestIdleLeasesAreGivenBack: what nobody used for a minute, and what does not fit.
func TestIdleLeasesAreGivenBack(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	var inos []twofold.Ino
	for i := range 20 {
		inos = append(inos, s3.put(t, fmt.Sprint(i), "x"))
	}
	c := m.s.f.cache
	c.mu.Lock()
	c.max.inodes = 10
	c.mu.Unlock()
	for i := range inos {
		wantFile(t, m.path(fmt.Sprint(i)), "x")
	}
	held := func() (n int) {
		for _, ino := range inos {
			if m.reads(ino) {
				n++
			}
		}
		return n
	}
	later := time.Now().Add(2 * maxTimeout)
	m.s.f.sweep(later)
	if n := held(); n == 0 || n > 10 {
		t.Fatalf("%d leases are held", n)
	}
	m.s.f.sweep(later.Add(idleLease))
	if n := held(); n != 0 {
		t.Fatalf("%d leases are held that nobody uses", n)
	}
	for i := range inos {
		wantFile(t, m.path(fmt.Sprint(i)), "x")
	}
	m.s.f.cache.drop() // a server that stayed the same still has them
	m.s.f.sweep(later.Add(2 * idleLease))
	if n := held(); n != 0 {
		t.Fatalf("%d leases are held that nobody relies on", n)
	}
}

// TestCacheIsBounded: contents and names give way to newer ones.
func TestCacheIsBounded(t *testing.T) {
	c := newCache(func() time.Time { return time.Now().Add(time.Minute) })
	c.max = cacheLimits{inodes: 1000, names: 10, content: 100}
	for i := range 50 {
		ino := twofold.Ino(100 + i)
		c.putAttr(api.Attr{Ino: ino, Type: metadata.TypeFile, Size: 30, Leased: true}, c.now())
		c.putContent(ino, make([]byte, 30), c.now())
		c.putName(5, fmt.Sprint(i), ino, c.now())
	}
	if c.bytes > 100 || c.contents.Len() != 3 || c.names.Len() != 10 || len(c.inodes[5].names) != 10 {
		t.Fatal(c.bytes, c.contents.Len(), c.names.Len())
	}
	if _, _, ok := c.content(149); !ok {
		t.Fatal("the newest content is not there")
	}
	if _, ok := c.lookup(5, "0"); ok {
		t.Fatal("the oldest name is there")
	}
}

// TestMovedDirectory: the kernel moves a directory's entry with the time that it may keep it
// for. A change of the new name by others shows at once all the same, also where there is
// no lease of where it went to.
func TestMovedDirectory(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	ctx := context.Background()
	must(t, os.Mkdir(m.path("to"), 0755))
	must(t, os.Mkdir(m.path("d"), 0755))
	to := s3.find(t, "to").Ino
	v.mu.Lock()
	v.changing[key{ino: to}]++
	v.changing[key{to, allNames}]++
	delete(v.inodes[to].readers, m.fakeSession)
	v.mu.Unlock()
	m.s.f.cache.drop()
	_, err := os.Stat(m.path("d"))
	must(t, err)
	must(t, os.Rename(m.path("d"), m.path("to/d")))
	must(t, s3.Rename(ctx, to, "d", twofold.RootIno, "d", 0))
	_, err = os.Stat(m.path("to/d"))
	wantErrno(t, err, syscall.ENOENT)
	_, err = os.Stat(m.path("d"))
	must(t, err)
}

// TestOwnChangeShowsToOthersFirst: while a change of the mount's own is on its way back from
// the volume others see it; so nobody must be shown the old by the kernel.
func TestOwnChangeShowsToOthersFirst(t *testing.T) {
	for _, what := range []string{"chmod", "unlink", "rmdir"} {
		t.Run(what, func(t *testing.T) {
			v := newFakeVolume()
			m, s3 := mountFake(t, v, nil), somebody{v.session()}
			s3.put(t, "f", "x")
			must(t, os.Mkdir(m.path("d"), 0755))
			for range 2 {
				for _, name := range []string{"f", "d"} {
					_, err := os.Stat(m.path(name))
					must(t, err)
				}
			}
			done, release := make(chan struct{}), make(chan struct{})
			m.setAfter(func(op string) {
				if op == "SetAttr" || op == "Unlink" || op == "Rmdir" {
					close(done)
					<-release
				}
			})
			called := make(chan error, 1)
			go func() {
				switch what {
				case "chmod":
					called <- os.Chmod(m.path("f"), 0600)
				case "unlink":
					called <- os.Remove(m.path("f"))
				case "rmdir":
					called <- syscall.Rmdir(m.path("d"))
				}
			}()
			<-done
			switch what {
			case "chmod":
				if st, err := os.Stat(m.path("f")); err != nil || st.Mode() != 0600 {
					t.Error(st.Mode(), err)
				}
			case "unlink", "rmdir": // a path walk would wait for the directory's lock, or for the entry
				m.s.f.cache.mu.Lock()
				in := m.s.f.cache.inodes[twofold.RootIno]
				for name, n := range in.names {
					if (name == "f" || name == "d" && what == "rmdir") && n.kernel.After(time.Now()) {
						t.Errorf("the kernel may have %s", name)
					}
				}
				m.s.f.cache.mu.Unlock()
			}
			close(release)
			must(t, <-called)
		})
	}
}

// TestWrittenIsRead: a small file that was written here is read without a call.
func TestWrittenIsRead(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	must(t, os.WriteFile(m.path("f"), []byte("first"), 0644))
	must(t, os.WriteFile(m.path("f"), []byte("second"), 0644))
	wantFile(t, m.path("f"), "second")
	if n := m.count("Read"); n != 0 {
		t.Fatalf("%d reads", n)
	}
	must(t, os.Truncate(m.path("f"), 3))
	wantFile(t, m.path("f"), "sec")
	must(t, overwriteFile(m.path("f"), "X"))
	wantFile(t, m.path("f"), "Xec")
}

// TestKernelOutlivesItsConnection: a mount whose connection to the kernel is aborted can't
// tell it to forget anything. The kernel goes on with what it was told, until its
// timeouts are over, and changes wait for those.
func TestKernelOutlivesItsConnection(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("umount2(2) takes root")
	}
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	s3.put(t, "f", "old")
	_, err := os.Stat(m.path("f"))
	must(t, err)
	f, err := os.Open(m.path("f"))
	must(t, err)
	defer f.Close()
	for range 2 {
		_, err = f.Stat()
		must(t, err)
	}
	defer unix.Unmount(m.dir, unix.MNT_DETACH)
	if err := unix.Unmount(m.dir, unix.MNT_FORCE); err == nil { // aborts it; the file keeps it mounted
		t.Fatal("unmounted with an open file")
	}
	s3.overwrite(t, "f", 0, "longer")
	if st, err := f.Stat(); err == nil && st.Size() != 6 {
		t.Fatalf("the size is %d", st.Size())
	}
}
