package fusefs

import (
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// leases is how many read leases the session has of inodes.
func (s *fakeSession) leases(t *testing.T, names []string) (n int) {
	t.Helper()
	for _, name := range names {
		if name == "." || name == ".." {
			continue
		}
		s.v.mu.Lock()
		ino := s.v.inodes[twofold.RootIno].entries[name]
		s.v.mu.Unlock()
		if s.reads(ino) {
			n++
		}
	}
	return n
}

// TestLargeListing: a directory that is larger than the cache is listed without leases of
// what can't be kept, unless somebody looks at what is listed: then with all that is looked at.
func TestLargeListing(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	want := fill(t, v, 3000)
	const room = 500
	c := m.s.f.cache
	c.mu.Lock()
	c.max.inodes = room
	c.mu.Unlock()
	fd, err := unix.Open(m.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	if names, _ := readDir(t, fd, 5000); len(names) != len(want) {
		t.Fatalf("%d names are listed, want %d", len(names), len(want))
	}
	const reply = 5000 / entryOutSize // entries that one answer may have at most
	if n := m.leases(t, want); n < room/2 || n > room+reply {
		t.Fatalf("listing %d names took %d leases", len(want), n)
	}

	_, err = unix.Seek(fd, 0, unix.SEEK_SET)
	must(t, err)
	before := m.did("Lookup")
	looked := 0
	for {
		b := make([]byte, 5000)
		n, err := unix.Getdents(fd, b)
		must(t, err)
		if n == 0 {
			break
		}
		_, _, names := unix.ParseDirent(b[:n], -1, nil)
		for _, name := range names {
			_, err := os.Lstat(m.path(name))
			must(t, err)
			looked++
		}
		c.mu.Lock() // as if the kernel's second were over
		for _, in := range c.inodes {
			in.kernel = time.Time{}
		}
		c.mu.Unlock()
	}
	if n := m.did("Lookup") - before; looked != 3000 || n > looked/10 {
		t.Fatalf("a stat of each of %d names took %d lookups", looked, n)
	}
}

// did is how often the session was asked for an operation.
func (s *fakeSession) did(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops[op]
}

// TestCacheGivesWay: an inode takes the place of the one used last, whose lease is given back,
// unless the kernel has something of that, or it is open.
func TestCacheGivesWay(t *testing.T) {
	c := newCache(func() time.Time { return time.Now().Add(time.Minute) })
	c.max.inodes = 10
	put := func(ino twofold.Ino) bool {
		c.putAttr(api.Attr{Ino: ino, Type: metadata.TypeFile, Leased: true}, c.now())
		_, ok := c.attr(ino)
		return ok
	}
	for ino := range twofold.Ino(10) {
		put(100 + ino)
	}
	c.inodes[100].kernel = time.Now().Add(time.Hour)
	c.inodes[101].lazy = &lazyPin{}
	for ino := range twofold.Ino(5) {
		if !put(200 + ino) {
			t.Fatalf("there was no room for inode %d", 200+ino)
		}
	}
	for _, ino := range []twofold.Ino{100, 101, 107, 204} {
		if _, ok := c.attr(ino); !ok {
			t.Errorf("inode %d is gone", ino)
		}
	}
	given, ch := c.forget(time.Now())
	ch.end(nil)
	for ino := twofold.Ino(102); ino <= 106; ino++ {
		if !slices.Contains(given, ino) {
			t.Errorf("the lease of %d is not given back: %v", ino, given)
		}
	}
	if slices.Contains(given, 100) || slices.Contains(given, 101) {
		t.Errorf("a lease that is needed is given back: %v", given)
	}
}

// TestUnkeptLeaseIsGivenBack: what came too late to be kept is not leased for good.
func TestUnkeptLeaseIsGivenBack(t *testing.T) {
	c := newCache(func() time.Time { return time.Now().Add(time.Minute) })
	m := c.now()
	c.invalidate([]api.Stale{{Ino: 7}})
	c.putAttr(api.Attr{Ino: 7, Type: metadata.TypeFile, Leased: true}, m)
	given, ch := c.forget(time.Now())
	ch.end(nil)
	if len(given) != 1 || given[0] != 7 {
		t.Fatal("given back:", given)
	}
}
