package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// seeds is how many power cuts a property is tried with.
const seeds = 150

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scratch is a directory in memory where there is one: these tests make thousands.
func scratch(t rapidTB) (dir string, remove func()) {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "disk")
	if err != nil {
		t.Fatal(err)
	}
	return dir, func() { os.RemoveAll(dir) }
}

func make1(t *testing.T, d *Disk, dir *Inode, name string, typ uint32) *Inode {
	t.Helper()
	i, _, err := d.Create(dir, name, NewAttr(typ|0o750, uint32(os.Getuid()), uint32(os.Getgid())), "")
	must(t, err)
	return i
}

// cut runs the scenario on a fresh disk and calls look with what survives, for
// many seeds. It returns how often look answered what.
func cut(t *testing.T, opts Options, scenario func(d *Disk), look func(dir string) string) map[string]int {
	t.Helper()
	answers := make(map[string]int)
	for seed := range uint64(seeds) {
		func() {
			dir, remove := scratch(t)
			defer remove()
			d := open(t, dir, opts)
			scenario(d)
			gen, err := d.PowerCut(seed)
			must(t, err)
			answers[look(gen)]++
		}()
	}
	return answers
}

// only fails when an answer is not allowed, or one that is does not come.
func only(t *testing.T, answers map[string]int, allowed ...string) {
	t.Helper()
	for _, a := range allowed {
		if answers[a] == 0 {
			t.Errorf("%d power cuts and never %q", seeds, a)
		}
		delete(answers, a)
	}
	for a := range answers {
		t.Errorf("not possible: %q", a)
	}
}

// ls lists a tree, depth first, with "!" behind a file that isn't empty.
func ls(t *testing.T) func(string) string {
	return func(dir string) string {
		var names []string
		must(t, filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
			if err != nil || p == dir {
				return err
			}
			rel, _ := filepath.Rel(dir, p)
			names = append(names, rel)
			return nil
		}))
		return strings.Join(names, " ")
	}
}

func TestEntries(t *testing.T) {
	file, dir := uint32(syscall.S_IFREG), uint32(syscall.S_IFDIR)
	rename := func(d *Disk, from *Inode, a string, to *Inode, b string) {
		must(t, d.Rename(from, a, to, b, false, false))
	}
	for _, c := range []struct {
		name     string
		opts     Options
		scenario func(d *Disk)
		allowed  []string
	}{
		{"create is forgotten or kept", Options{}, func(d *Disk) { make1(t, d, d.root, "a", file).Sync() }, []string{"", "a"}},
		{"a synced directory keeps it", Options{}, func(d *Disk) { make1(t, d, d.root, "a", file); d.root.SyncDir() }, []string{"a"}},
		{"fsync of the file does with EntryWithFsync", Options{EntryWithFsync: true}, func(d *Disk) {
			make1(t, d, make1(t, d, d.root, "d", dir), "a", file).Sync()
		}, []string{"d d/a"}},
		{"fsync of the directory is not one of its parent", Options{}, func(d *Disk) {
			i := make1(t, d, d.root, "d", dir)
			make1(t, d, i, "a", file)
			i.SyncDir()
		}, []string{"", "d d/a"}},
		{"two creates are independent", Options{}, func(d *Disk) {
			make1(t, d, d.root, "a", file)
			make1(t, d, d.root, "b", file)
		}, []string{"", "a", "b", "a b"}},
		{"but not with a journal", Options{Ordered: true}, func(d *Disk) {
			make1(t, d, d.root, "a", file)
			make1(t, d, d.root, "b", file)
		}, []string{"", "a", "a b"}},
		{"an fsync commits the journal", Options{Ordered: true, EntryWithFsync: true}, func(d *Disk) {
			make1(t, d, d.root, "a", file)
			make1(t, d, d.root, "b", file).Sync()
		}, []string{"a b"}},
		{"an unlink is undone", Options{}, func(d *Disk) {
			make1(t, d, d.root, "a", file)
			d.root.SyncDir()
			must(t, d.Remove(d.root, "a", false))
		}, []string{"", "a"}},
		{"a rename is atomic", Options{}, func(d *Disk) {
			make1(t, d, d.root, "a", file)
			make1(t, d, d.root, "d", dir)
			d.root.SyncDir()
			i, _ := d.Find("d")
			rename(d, d.root, "a", i, "b")
		}, []string{"a d", "d d/b"}},
		{"one synced directory is enough for it", Options{}, func(d *Disk) {
			make1(t, d, d.root, "a", file)
			i := make1(t, d, d.root, "d", dir)
			d.root.SyncDir()
			rename(d, d.root, "a", i, "b")
			i.SyncDir()
		}, []string{"d d/b"}},
		{"a file is not lost with the directory it was renamed out of", Options{}, func(d *Disk) {
			i := make1(t, d, d.root, "d", dir)
			make1(t, d, i, "a", file)
			d.SyncAll()
			rename(d, i, "a", d.root, "b")
			must(t, d.Remove(d.root, "d", true))
		}, []string{"d d/a", "b d", "b"}},
		{"directories don't end up in each other", Options{}, func(d *Disk) {
			a := make1(t, d, d.root, "a", dir)
			b := make1(t, d, a, "b", dir)
			d.SyncAll()
			rename(d, a, "b", d.root, "b")
			rename(d, d.root, "a", b, "a")
		}, []string{"a a/b", "a b", "b b/a"}},
	} {
		t.Run(c.name, func(t *testing.T) { only(t, cut(t, c.opts, c.scenario, ls(t)), c.allowed...) })
	}
}

// TestPages: of two pages overwritten twice each, every mixture is found.
func TestPages(t *testing.T) {
	fill := func(i *Inode, b byte) {
		for pg := range int64(2) {
			must(t, i.WriteAt(bytes.Repeat([]byte{b}, PageSize), pg*PageSize))
		}
	}
	torn := 0
	answers := cut(t, Options{}, func(d *Disk) {
		i := make1(t, d, d.root, "f", syscall.S_IFREG)
		d.root.SyncDir()
		fill(i, '0')
		i.Sync()
		fill(i, '1')
		fill(i, '2')
	}, func(dir string) string {
		b, err := os.ReadFile(filepath.Join(dir, "f"))
		must(t, err)
		for pg := 0; pg < len(b); pg += PageSize {
			if p := b[pg : pg+PageSize]; !bytes.Equal(p, bytes.Repeat(p[:1], PageSize)) {
				torn++
				return "torn"
			}
		}
		return string([]byte{b[0], b[PageSize]})
	})
	for _, want := range []string{"00", "02", "20", "22", "12", "torn"} {
		if answers[want] == 0 {
			t.Errorf("never %q: %v", want, answers)
		}
	}
	if torn > seeds*2/3 {
		t.Errorf("%d of %d are torn", torn, seeds)
	}
}

// TestGrowth: an append that was not synced is there, or nothing, zeros, or a part.
func TestGrowth(t *testing.T) {
	answers := cut(t, Options{}, func(d *Disk) {
		i := make1(t, d, d.root, "f", syscall.S_IFREG)
		must(t, i.WriteAt([]byte("begin"), 0))
		i.Sync()
		d.root.SyncDir()
		must(t, i.WriteAt(bytes.Repeat([]byte("x"), 3*PageSize), 5))
	}, func(dir string) string {
		b, err := os.ReadFile(filepath.Join(dir, "f"))
		must(t, err)
		switch rest := bytes.TrimPrefix(b, []byte("begin")); {
		case len(rest) == len(b):
			return "the synced part is lost"
		case len(rest) == 0:
			return "nothing"
		case len(rest) < 3*PageSize:
			return "part"
		case bytes.IndexByte(rest, 0) >= 0:
			return "zeros"
		}
		return "all"
	})
	only(t, answers, "nothing", "part", "zeros", "all")
}

// TestTruncate: a truncation is forgotten, unless a journal has it.
func TestTruncate(t *testing.T) {
	scenario := func(d *Disk) {
		i := make1(t, d, d.root, "f", syscall.S_IFREG)
		must(t, i.Truncate(3))
		d.root.SyncDir()
	}
	look := func(dir string) string {
		b, err := os.ReadFile(filepath.Join(dir, "f"))
		must(t, err)
		return string(b)
	}
	only(t, cut(t, Options{}, scenario, look), "", "\x00\x00\x00")
	only(t, cut(t, Options{Ordered: true}, scenario, look), "\x00\x00\x00")
}

// TestTruncateOrder: what a truncation cut off doesn't come back into a file that
// grew again, and what was written after it isn't there without it.
func TestTruncateOrder(t *testing.T) {
	pages := func(i *Inode, b string) {
		must(t, i.WriteAt(bytes.Repeat([]byte(b[:1]), len(b)*PageSize), 0))
	}
	look := func(dir string) (s string) {
		b, err := os.ReadFile(filepath.Join(dir, "f"))
		must(t, err)
		for ; len(b) > 0; b = b[PageSize:] {
			if !bytes.Equal(b[:PageSize], bytes.Repeat(b[:1], PageSize)) {
				return "torn"
			}
			s += strings.ReplaceAll(string(b[:1]), "\x00", "0")
		}
		return s
	}
	begin := func(d *Disk, b string) *Inode {
		i := make1(t, d, d.root, "f", syscall.S_IFREG)
		d.root.SyncDir()
		pages(i, b)
		i.Sync()
		must(t, i.Truncate(0))
		return i
	}
	only(t, cut(t, Options{}, func(d *Disk) { must(t, begin(d, "1").Truncate(2*PageSize)) }, look), "1", "", "0", "00")
	only(t, cut(t, Options{}, func(d *Disk) { pages(begin(d, "11"), "2") }, look), "11", "", "2", "0", "torn")
}

// TestSpaceComesBack: what nothing can bring back any more has no file.
func TestSpaceComesBack(t *testing.T) {
	d, err := Open(t.TempDir(), Options{})
	must(t, err)
	i := make1(t, d, d.root, "f", syscall.S_IFREG)
	must(t, i.WriteAt(make([]byte, 100), 0))
	d.SyncAll()
	must(t, d.Remove(d.root, "f", false))
	if _, err := os.Stat(i.path()); err != nil {
		t.Fatal("an unlink that could be undone freed the content")
	}
	d.root.SyncDir()
	if _, err := os.Stat(i.path()); err != nil {
		t.Fatal("a file that the kernel knows was freed")
	}
	d.Forget(i.No, 1)
	if _, err := os.Stat(i.path()); !os.IsNotExist(err) {
		t.Fatalf("the content is still there: %v", err)
	}
	if st := d.Stats(); st.UndoBytes != 0 || st.DirOps != 0 || st.Inodes != 1 {
		t.Fatalf("something is left: %+v", st)
	}
}

// TestSaveOpen: a tree put to rest comes back with links, targets and attributes.
func TestSaveOpen(t *testing.T) {
	backing := t.TempDir()
	d, err := Open(backing, Options{})
	must(t, err)
	f := make1(t, d, make1(t, d, d.root, "d", syscall.S_IFDIR), "f", syscall.S_IFREG)
	when := time.Unix(1e9, 5)
	must(t, f.WriteAt([]byte("hello"), 1<<20))
	f.Update(func(a *Attr) { a.Mtime = when })
	_, err = d.Link(f, d.root, "g")
	must(t, err)
	_, _, err = d.Create(d.root, "s", NewAttr(syscall.S_IFLNK|0o777, 0, 0), "d/f")
	must(t, err)
	_, err = d.Save()
	must(t, err)
	d, err = Open(backing, Options{})
	must(t, err)
	f, err = d.Find("d/f")
	must(t, err)
	g, err := d.Find("g")
	must(t, err)
	s, err := d.Find("s")
	must(t, err)
	if st := f.Stat(); f != g || st.Nlink != 2 || st.Size != 1<<20+5 || !st.Mtime.Equal(when) || st.Mode != syscall.S_IFREG|0o750 {
		t.Fatalf("%+v", st)
	}
	if s.Target() != "d/f" {
		t.Fatalf("target %q", s.Target())
	}
	if _, err := Open(backing, Options{}); err == nil {
		t.Fatal("a disk whose process was killed was opened as if nothing had been")
	}
}
