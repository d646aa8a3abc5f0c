package fusefs

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// Each of these makes one of the cycles that DESIGN.md, "Why nothing deadlocks", tells
// of: an Invalidate that has to notify a kernel which waits, by way of the server, for
// the Invalidate. They end by the kernel's timeouts.

// ends fails the test if fn does not end: then the mounts are cut off.
func ends(t *testing.T, what string, ms []*testMount, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(40 * time.Second):
		for _, m := range ms {
			syscall.Unmount(m.dir, mntForce)
		}
		t.Fatal("hangs: ", what)
	}
}

// TestTwoMountsChangeOneDirectory: one mount makes a file, for which its kernel holds the
// directory's lock, and waits at the server for what another mount does: that removes a
// directory whose name the first one's kernel has.
func TestTwoMountsChangeOneDirectory(t *testing.T) {
	testNameGoes(t, "Create", func(m *testMount) error { return os.WriteFile(m.path("new"), nil, 0644) })
}

// TestLookupWaitsWhileNameGoes: the same with a LOOKUP, for which it is shared.
func TestLookupWaitsWhileNameGoes(t *testing.T) {
	testNameGoes(t, "Lookup", func(m *testMount) error {
		_, err := os.Stat(m.path("slow"))
		return err
	})
}

func testNameGoes(t *testing.T, waits string, call func(*testMount) error) {
	v := newFakeVolume()
	a, b := mountFake(t, v, nil), somebody{v.session()}
	ctx := context.Background()
	_, _, err := b.Create(ctx, twofold.RootIno, "x", api.Create{Type: metadata.TypeDir, Mode: 0755})
	must(t, err)
	b.put(t, "slow", "slow")
	c := a.s.f.cache
	c.mu.Lock()
	c.max.name = maxTimeout // long enough to get there on a slow machine
	c.mu.Unlock()
	_, err = os.Stat(a.path("x"))
	must(t, err)
	hangs, removed := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	a.setHook(func(op string, _ twofold.Ino) error {
		if op == waits && first.CompareAndSwap(false, true) {
			close(hangs)
			<-removed
		}
		return nil
	})
	called := make(chan error, 1)
	go func() { called <- call(a) }()
	<-hangs
	eventually(t, "the kernel has just been given the name", func() bool {
		_, err := os.Stat(a.path("x")) // it has the inode, so that it asks without the lock
		must(t, err)
		c.mu.Lock()
		defer c.mu.Unlock()
		return time.Until(c.inodes[twofold.RootIno].names["x"].kernel) > maxTimeout*9/10
	})
	ends(t, "the rmdir", []*testMount{a}, func() {
		if err := b.Rmdir(ctx, twofold.RootIno, "x"); err != nil {
			t.Error(err)
		}
	})
	select {
	case err := <-called:
		t.Fatal("the call did not wait: ", err)
	default:
	}
	close(removed)
	must(t, <-called)
	_, err = os.Stat(a.path("x"))
	wantErrno(t, err, syscall.ENOENT)
	c.mu.Lock()
	hot := c.inodes[twofold.RootIno].cool.After(time.Now())
	c.mu.Unlock()
	if !hot {
		t.Fatal("the directory is given to the kernel as before")
	}
}

// TestPageReadWaitsWhileFileGoes: a mapping reads, with the kernel's page lock, and hangs
// at the server; the file is replaced by another mount.
func TestPageReadWaitsWhileFileGoes(t *testing.T) {
	v := newFakeVolume()
	a, b := mountFake(t, v, nil), mountFake(t, v, nil)
	s3 := somebody{v.session()}
	content := string(bytes.Repeat([]byte("x"), 8*maxContent))
	s3.put(t, "f", content)
	must(t, os.WriteFile(b.path("g"), []byte("new"), 0644))
	k := startTalk(t, "view", a.path("f"))
	hangs, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	a.setHook(func(op string, _ twofold.Ino) error {
		if op == "Read" {
			if first.CompareAndSwap(false, true) {
				close(hangs)
				<-release
			}
		}
		return nil
	})
	loaded := make(chan string, 1)
	if _, err := fmt.Fprintln(k.in, "load 0 1"); err != nil {
		t.Fatal(err)
	}
	go func() {
		line, _ := k.out.ReadString('\n')
		loaded <- line
	}()
	<-hangs
	_, err := os.Stat(a.path("f"))
	must(t, err)
	ends(t, "the rename", []*testMount{a, b}, func() {
		if err := os.Rename(b.path("g"), b.path("f")); err != nil {
			t.Error(err)
		}
	})
	wantFile(t, a.path("f"), "new")
	close(release)
	if line := <-loaded; line != "x\n" {
		t.Fatalf("the mapping has %q", line)
	}
}

// TestLeasesUnderStress: two mounts make, replace, rename, read, list and map files in the
// same directories, while somebody else changes them. Each look is checked against
// what was there before or after it.
func TestLeasesUnderStress(t *testing.T) {
	v := newFakeVolume()
	v.grace = time.Second
	ms := []*testMount{mountFake(t, v, nil), mountFake(t, v, nil)}
	s3 := somebody{v.session()}
	dirs := []string{"d0", "d1"}
	for _, d := range dirs {
		must(t, os.Mkdir(ms[0].path(d), 0755))
	}
	stop := time.Now().Add(1500 * time.Millisecond)
	running := func() bool { return time.Now().Before(stop) && !t.Failed() }
	ends(t, "the stress", ms, func() {
		var wg sync.WaitGroup
		for i := range 4 {
			m := ms[i%2]
			name := func() string { return m.path(fmt.Sprintf("%s/f%d", dirs[rand.IntN(2)], rand.IntN(4))) }
			wg.Go(func() {
				for n := 0; running(); n++ {
					line := fmt.Sprintf("%d-%d\n", i, n)
					tmp := m.path(fmt.Sprintf("%s/tmp%d", dirs[rand.IntN(2)], i))
					if err := os.WriteFile(tmp, bytes.Repeat([]byte(line), 1+rand.IntN(3000)), 0644); err != nil {
						t.Error(err)
					}
					if err := os.Rename(tmp, name()); err != nil {
						t.Error(err)
					}
					if rand.IntN(4) == 0 {
						os.Remove(name())
					}
				}
			})
			wg.Go(func() {
				for running() {
					path := name()
					var err error
					switch rand.IntN(3) {
					case 0:
						_, err = os.ReadDir(m.path(dirs[0]))
					case 1:
						err = checkMapped(path)
					default:
						err = checkRepeated(path)
					}
					if err != nil && !os.IsNotExist(err) {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() { // what was removed, or made, by others is gone, or there, at once
			ctx := context.Background()
			for n := 0; running(); n++ {
				name := fmt.Sprintf("n%d", n%3)
				ino := s3.put(t, name, name)
				for _, m := range ms {
					if st, err := os.Stat(m.path(name)); err != nil || st.Sys().(*syscall.Stat_t).Ino != uint64(ino) {
						t.Errorf("%s was made: %v", name, err)
					}
				}
				if err := s3.Unlink(ctx, twofold.RootIno, name); err != nil {
					t.Error(err)
				}
				for _, m := range ms {
					if _, err := os.Stat(m.path(name)); !os.IsNotExist(err) {
						t.Errorf("%s was removed: %v", name, err)
					}
				}
			}
		})
		wg.Wait()
	})
}

func checkRepeated(path string) error {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return err // nothing yet, or cut by a writer
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if !bytes.Equal(b, bytes.Repeat(append(line, '\n'), len(b)/(len(line)+1))) {
		return fmt.Errorf("%s: %d bytes %.20q", path, len(b), b)
	}
	return nil
}

// checkMapped reads through a mapping. A file that is replaced while it is mapped stays.
func checkMapped(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	return unix.Munmap(mem)
}
