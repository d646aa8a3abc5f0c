package disk

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func open(t rapidTB, backing string, opts Options) *Disk {
	d, err := Open(backing, opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type rapidTB interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// fileModel is all the contents a file may be found with: for each page the ones
// it had since the last sync, and the sizes.
type fileModel struct {
	live  []byte
	since [][]byte // every live content since the last sync, that one included
}

func (m *fileModel) changed() { m.since = append(m.since, bytes.Clone(m.live)) }
func (m *fileModel) synced()  { m.since = [][]byte{bytes.Clone(m.live)} }

// page returns a page of a content, zero-padded.
func page(b []byte, n int) []byte {
	p := make([]byte, PageSize)
	if n*PageSize < len(b) {
		copy(p, b[n*PageSize:])
	}
	return p
}

// allows checks that each sector of got is a sector the page had at some moment
// since the last sync, cut off at some size it had; that at most one page mixes
// two of those; and that the size is possible.
func (m *fileModel) allows(got []byte) error {
	lo, hi := len(m.since[0]), len(m.since[0])
	for _, s := range m.since {
		lo, hi = min(lo, len(s)), max(hi, len(s))
	}
	if len(got) < lo || len(got) > hi {
		return fmt.Errorf("size %d, it was between %d and %d", len(got), lo, hi)
	}
	torn := 0
	for n := 0; n*PageSize < len(got); n++ {
		if whole, sectors := m.pageIs(page(got, n), n); !sectors {
			return fmt.Errorf("page %d was never like this", n)
		} else if !whole {
			torn++
		}
	}
	if torn > 1 {
		return fmt.Errorf("%d pages are torn", torn)
	}
	return nil
}

// pageIs reports whether p is page n of one content, or its sectors are of some.
func (m *fileModel) pageIs(p []byte, n int) (whole, sectors bool) {
	found := 0
	for s := 0; s < PageSize; s += SectorSize {
		for _, c := range m.candidates(n) {
			if bytes.Equal(p[s:s+SectorSize], c[s:s+SectorSize]) {
				found++
				break
			}
		}
	}
	for _, c := range m.candidates(n) {
		whole = whole || bytes.Equal(p, c)
	}
	return whole, found == PageSize/SectorSize
}

// candidates are the contents page n had, each also with its tail cut off by every
// size the file had.
func (m *fileModel) candidates(n int) (all [][]byte) {
	for _, s := range m.since {
		p := page(s, n)
		all = append(all, p)
		for _, other := range m.since {
			cut := bytes.Clone(p)
			clear(cut[min(max(len(other)-n*PageSize, 0), PageSize):])
			all = append(all, cut)
		}
	}
	return all
}

// TestFileModel: random writes, truncations and syncs of one file; after the cut
// its content is one the model allows, and exactly the live one after a sync.
func TestFileModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backing, remove := scratch(t)
		defer remove()
		d := open(t, backing, Options{})
		i, _, err := d.Create(d.root, "f", NewAttr(syscall.S_IFREG|0o644, 0, 0), "")
		if err != nil {
			t.Fatal(err)
		}
		d.root.SyncDir()
		m := &fileModel{}
		m.synced()
		const maxSize = 4 * PageSize
		for n := range rapid.IntRange(1, 12).Draw(t, "ops") {
			switch rapid.SampledFrom([]string{"write", "write", "truncate", "sync", "punch"}).Draw(t, "op") {
			case "write":
				off := rapid.IntRange(0, maxSize).Draw(t, "off")
				p := bytes.Repeat([]byte{byte(n + 1)}, rapid.IntRange(1, 2*PageSize).Draw(t, "len"))
				if err := i.WriteAt(p, int64(off)); err != nil {
					t.Fatal(err)
				}
				if need := off + len(p) - len(m.live); need > 0 {
					m.live = append(m.live, make([]byte, need)...)
				}
				copy(m.live[off:], p)
			case "truncate":
				size := rapid.IntRange(0, maxSize).Draw(t, "size")
				if err := i.Truncate(int64(size)); err != nil {
					t.Fatal(err)
				}
				if size > len(m.live) {
					m.live = append(m.live, make([]byte, size-len(m.live))...)
				}
				m.live = m.live[:size:size]
			case "punch":
				off := rapid.IntRange(0, maxSize).Draw(t, "off")
				n := rapid.IntRange(1, 2*PageSize).Draw(t, "len")
				if err := i.Fallocate(3, int64(off), int64(n)); err != nil {
					t.Fatal(err)
				}
				if off < len(m.live) {
					clear(m.live[off:min(off+n, len(m.live))])
				}
			case "sync":
				i.Sync()
				m.synced()
			}
			m.changed()
			got := make([]byte, 8*PageSize)
			if n, err := i.ReadAt(got, 0); err != nil || !bytes.Equal(got[:n], m.live) {
				t.Fatalf("the live content is wrong (%v)", err)
			}
		}
		gen, err := d.PowerCut(rapid.Uint64().Draw(t, "seed"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(gen, "f"))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.allows(got); err != nil {
			t.Fatal(err)
		}
	})
}

// names lists the tree of names, as path → the file's number.
func names(dir *Inode, of func(*Inode) map[string]*Inode, prefix string, out map[string]uint64) {
	for name, i := range of(dir) {
		out[prefix+name] = i.No
		if i.IsDir() {
			names(i, of, prefix+name+"/", out)
		}
	}
}

func tree(d *Disk, of func(*Inode) map[string]*Inode) string {
	m := make(map[string]uint64)
	names(d.root, of, "", m)
	var lines []string
	for p, no := range m {
		lines = append(lines, fmt.Sprintf("%s=%d", p, no))
	}
	sort.Strings(lines)
	return strings.Join(lines, " ")
}

func liveNames(i *Inode) map[string]*Inode    { return i.live }
func durableNames(i *Inode) map[string]*Inode { return i.durable }

// randomNameOp does one directory operation that may fail, on a few names in a few
// directories.
func randomNameOp(t *rapid.T, d *Disk) {
	dirs := []*Inode{d.root}
	for _, i := range d.Files() {
		if i.IsDir() && i != d.root && len(i.links) > 0 {
			dirs = append(dirs, i)
		}
	}
	dir := rapid.SampledFrom(dirs).Draw(t, "dir")
	to := rapid.SampledFrom(dirs).Draw(t, "to")
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
	toName := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "toName")
	switch rapid.SampledFrom([]string{"create", "mkdir", "unlink", "rmdir", "rename", "rename", "exchange", "link", "fsync"}).Draw(t, "op") {
	case "create":
		d.Create(dir, name, NewAttr(syscall.S_IFREG|0o644, 0, 0), "")
	case "mkdir":
		d.Create(dir, name, NewAttr(syscall.S_IFDIR|0o755, 0, 0), "")
	case "unlink":
		d.Remove(dir, name, false)
	case "rmdir":
		d.Remove(dir, name, true)
	case "rename":
		d.Rename(dir, name, to, toName, false, false)
	case "exchange":
		d.Rename(dir, name, to, toName, false, true)
	case "link":
		if i := dir.live[name]; i != nil {
			d.Link(i, to, toName)
		}
	case "fsync":
		dir.SyncDir()
	}
}

// TestNamesModel: whatever the operations, every cut leaves a tree in which each
// directory has one name and can be read; a synced directory has its live names;
// a journal (Ordered) leaves exactly one of the states there were since.
func TestNamesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backing, remove := scratch(t)
		defer remove()
		opts := Options{Ordered: rapid.Bool().Draw(t, "ordered")}
		d := open(t, backing, opts)
		states := map[string]bool{tree(d, liveNames): true}
		for range rapid.IntRange(1, 40).Draw(t, "ops") {
			randomNameOp(t, d)
			states[tree(d, liveNames)] = true
			checkLinks(t, d)
		}
		for _, i := range d.Files() {
			if i.IsDir() && rapid.IntRange(0, 9).Draw(t, "sync") == 0 {
				i.SyncDir()
				for name, e := range i.live {
					if i.durable[name] != e {
						t.Fatalf("a synced directory lacks %s", name)
					}
				}
				if len(i.durable) != len(i.live) {
					t.Fatal("a synced directory has a name that was removed")
				}
			}
		}
		d.surviveNames(newPolicy(rapid.Uint64().Draw(t, "seed"), opts))
		got := tree(d, durableNames) // an endless loop, were a directory in itself
		if opts.Ordered && !states[got] {
			t.Fatalf("%q was never the state", got)
		}
		seen := make(map[uint64]string)
		m := make(map[string]uint64)
		names(d.root, durableNames, "", m)
		for p, no := range m {
			if q := seen[no]; q != "" && d.inodes[no].IsDir() {
				t.Fatalf("directory %d is at %s and at %s", no, p, q)
			}
			seen[no] = p
		}
		if _, err := d.rest(); err != nil {
			t.Fatal(err)
		}
		again := open(t, backing, opts)
		if n := len(seen) + 1; len(again.inodes) != n {
			t.Fatalf("the tree at rest has %d inodes, want %d", len(again.inodes), n)
		}
	})
}

// checkLinks checks the book-keeping of names against the tree.
func checkLinks(t *rapid.T, d *Disk) {
	links, durable := make(map[*Inode]int), make(map[*Inode]int)
	for _, i := range d.inodes {
		for _, e := range i.live {
			links[e]++
		}
		for _, e := range i.durable {
			durable[e]++
		}
	}
	for e := range links {
		if d.inodes[e.No] != e {
			t.Fatalf("inode %d has a name and is freed", e.No)
		}
	}
	for e := range durable {
		if d.inodes[e.No] != e {
			t.Fatalf("inode %d has a durable name and is freed", e.No)
		}
	}
	for _, i := range d.inodes {
		if len(i.links) != links[i] || i.durableLinks != durable[i] {
			t.Fatalf("inode %d: %d names, %d durable; the books say %d, %d", i.No, links[i], durable[i], len(i.links), i.durableLinks)
		}
	}
}
