package fusefs

import (
	"os"
	"syscall"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// TestNewDirectoryIsKnown: what is in a directory that the mount has made needs no question
// of names that are not there, until others make some.
func TestNewDirectoryIsKnown(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	s3 := somebody{m.v.session()}
	d := func(name string) string { return m.path("d/" + name) }
	missing := func(name string) {
		t.Helper()
		_, err := os.Lstat(d(name))
		wantErrno(t, err, syscall.ENOENT)
	}
	must(t, os.Mkdir(m.path("d"), 0755))
	dir := ino(t, m.path("d"))
	calls := m.count("Lookup")
	missing("x")
	for _, name := range []string{"a", "b", "c"} {
		must(t, os.WriteFile(d(name), []byte(name), 0644))
		wantFile(t, d(name), name)
	}
	must(t, os.Mkdir(d("sub"), 0755))
	must(t, os.WriteFile(d("sub/f"), nil, 0644))
	must(t, os.Rename(d("a"), d("x")))
	missing("y")
	if n := m.count("Lookup") - calls; n != 0 {
		t.Errorf("%d lookups", n)
	}
	// What the mount itself has changed.
	missing("a")
	wantFile(t, d("x"), "a")
	must(t, os.Remove(d("b")))
	missing("b")
	must(t, os.WriteFile(d("b"), []byte("again"), 0644))
	wantFile(t, d("b"), "again")
	// What others change; with what they have not, which is asked for.
	_, _, err := s3.Create(t.Context(), dir, "y", api.Create{Type: metadata.TypeFile, Mode: 0644})
	must(t, err)
	wantFile(t, d("y"), "")
	must(t, s3.Rename(t.Context(), dir, "y", dir, "z", 0))
	missing("y")
	wantFile(t, d("z"), "")
	must(t, s3.Unlink(t.Context(), dir, "c"))
	missing("c")
}

// TestNewDirectoryBesideItsChanges: a name that the mount is about to make is not missing,
// as others may see it before the mount is answered; nor is any after a change that has
// failed in some way.
func TestNewDirectoryBesideItsChanges(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	must(t, os.Mkdir(m.path("d"), 0755))
	dir := ino(t, m.path("d"))
	made, goOn := make(chan struct{}), make(chan struct{})
	m.setAfter(func(op string) {
		if op == "Create" {
			close(made)
			<-goOn
		}
	})
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(m.path("d/x"), nil, 0644) }()
	<-made
	m.setAfter(nil)
	a, err := m.s.f.files.Lookup(t.Context(), dir, "x") // the kernel would wait for its own CREATE
	close(goOn)
	if err != nil || a.Ino == 0 {
		t.Errorf("what is made and not answered: %+v, %v", a, err)
	}
	must(t, <-done)

	must(t, os.Mkdir(m.path("d/e"), 0755))
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "Create" { // it has happened, and nobody knows
			m.setHook(nil)
			_, _, err := (somebody{m.fakeSession}).Create(t.Context(), ino(t, m.path("d/e")), "y", api.Create{Type: metadata.TypeFile, Mode: 0644})
			must(t, err)
			return fail(errs.UnknownOutcome)
		}
		return nil
	})
	if err := os.WriteFile(m.path("d/e/y"), nil, 0644); err == nil {
		t.Fatal("no error")
	}
	_, err = os.Lstat(m.path("d/e/y"))
	must(t, err)
}

// TestWholeDirectoryInTheCache: a kept answer of long ago, a change overtaking the answer, and
// a cache that is full each end what is known of all names.
func TestWholeDirectoryInTheCache(t *testing.T) {
	s := newFakeVolume().session()
	fresh := func() (*cache, api.Attr) {
		c := newCache(s.cachedUntil)
		a := api.Attr{Ino: 1024, Type: metadata.TypeDir, Ctime: 7, Btime: 7, Leased: true}
		c.putAttr(a, c.now())
		return c, a
	}
	known := func(c *cache) bool {
		_, ok := c.lookup(1024, "x")
		return ok
	}
	c, a := fresh()
	if c.putNewDir(a, c.now()); !known(c) {
		t.Fatal("a new directory is not known")
	}
	if _, ok := c.lookup(1024, "%tf-file-x"); ok {
		t.Error("an escape is known")
	}
	c.max.names = 1
	c.begin(key{1024, "a"})
	c.begin(key{1024, "b"}) // the record of a has gone
	if _, ok := c.lookup(1024, "a"); ok || known(c) {
		t.Error("known in a full cache")
	}
	for what, spoil := range map[string]func(c *cache, a *api.Attr){
		"a kept answer": func(_ *cache, a *api.Attr) { a.Ctime++ },
		"no lease":      func(_ *cache, a *api.Attr) { a.Leased = false },
		"a change":      func(c *cache, a *api.Attr) { c.invalidate([]api.Stale{{Ino: a.Ino, Names: []string{"y"}}}) },
	} {
		c, a := fresh()
		m := c.now()
		if spoil(c, &a); true {
			c.putNewDir(a, m)
		}
		if known(c) {
			t.Errorf("known in spite of %s", what)
		}
	}
	for what, end := range map[string]func(c *cache){
		"a change by others":    func(c *cache) { c.invalidate([]api.Stale{{Ino: 1024, Names: []string{"y"}}}) },
		"the lease was revoked": func(c *cache) { c.invalidate([]api.Stale{{Ino: 1024}}) },
		"all were":              func(c *cache) { c.drop() },
		"an own escape":         func(c *cache) { c.begin(key{1024, "%tf-file-x"}) },
	} {
		c, a := fresh()
		c.putNewDir(a, c.now())
		if end(c); known(c) {
			t.Errorf("known behind %s", what)
		}
	}
}
