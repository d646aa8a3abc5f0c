package crash

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
)

// inode is a file of the model.
type inode struct {
	now  content // what everybody has to see while the mount lives
	olds []old   // what it may be again if the mount dies: states since the last fsync
	// mounts is how many mounts had been killed when the first of the unsynced
	// writes began: when more are, olds are possible.
	mounts int64
}

// old is what an inode was, and the write(2) that changed it. The kernel makes one
// request of it or several, from its start to its end, so that an unsynced one may
// be there in part.
type old struct {
	was    content
	off, n int64 // n 0: no write, but a truncation
	tag    uint64
}

// world is one possible state of a worker's directory.
type world struct {
	names  map[string]int // path from the worker's directory -> inode; dirID for directories
	inodes map[int]inode
	next   int
}

const dirID = -1

func newWorld() *world { return &world{names: map[string]int{}, inodes: map[int]inode{}} }

func (w *world) clone() *world {
	return &world{names: maps.Clone(w.names), inodes: maps.Clone(w.inodes), next: w.next}
}

// create puts a new file at path, over whatever was there.
func (w *world) create(path string, c content) int {
	w.next++
	w.inodes[w.next] = inode{now: c}
	w.names[path] = w.next
	return w.next
}

// write writes to an inode, without fsync.
func (w *world) write(id int, off, size int64, tag uint64, mounts int64) {
	was := w.inodes[id].now
	w.change(id, was.write(off, size, tag), old{was, off, size, tag}, mounts)
}

// truncate makes an inode size bytes long, without fsync.
func (w *world) truncate(id int, size, mounts int64) {
	was := w.inodes[id].now
	w.change(id, was.truncate(size), old{was: was}, mounts)
}

// change makes c the content of an inode, by something that is not synced.
func (w *world) change(id int, c content, was old, mounts int64) {
	n := w.inodes[id]
	if len(n.olds) == 0 {
		n.mounts = mounts
	}
	n.olds = append(slices.Clip(n.olds), was)
	n.now = c
	w.inodes[id] = n
}

// settle says that what the inode is now is durable.
func (w *world) settle(id int) {
	n := w.inodes[id]
	n.olds = nil
	w.inodes[id] = n
}

// unsure reports whether a killed mount may have taken writes of the inode along.
func (w *world) unsure(id int, mounts int64) bool {
	n := w.inodes[id]
	return len(n.olds) > 0 && mounts > n.mounts
}

// anyUnsure is unsure of any file that has a name.
func (w *world) anyUnsure(mounts int64) bool {
	for _, id := range w.names {
		if id != dirID && w.unsure(id, mounts) {
			return true
		}
	}
	return false
}

// files and dirs list paths, sorted.
func (w *world) files() []string { return w.list(false) }
func (w *world) dirs() []string  { return w.list(true) }

func (w *world) list(dirs bool) (out []string) {
	for p, id := range w.names {
		if (id == dirID) == dirs {
			out = append(out, p)
		}
	}
	sort.Strings(out)
	return out
}

// below lists what is in a directory, at any depth.
func (w *world) below(dir string) (out []string) {
	for p := range w.names {
		if strings.HasPrefix(p, dir+"/") {
			out = append(out, p)
		}
	}
	sort.Strings(out)
	return out
}

// rename is rename(2); both are possible in the model.
func (w *world) rename(from, to string) {
	if there, ok := w.names[to]; ok && there != dirID && there == w.names[from] {
		return // two links of one file: nothing happens
	}
	moved := map[string]int{to: w.names[from]}
	for _, p := range w.below(from) {
		moved[to+strings.TrimPrefix(p, from)] = w.names[p]
		delete(w.names, p)
	}
	delete(w.names, from)
	maps.Copy(w.names, moved)
}

// find finds the content that b is, of those that an inode may have. While drives
// fail, what was not synced may be lost in a mount that lives.
func (w *world) find(id int, b []byte, mounts int64, failing bool) (content, string) {
	n := w.inodes[id]
	if n.now.is(b) {
		return n.now, ""
	}
	s := fmt.Sprintf("it is %s; right would be %s", n.now.explain(b), n.now)
	if failing || mounts > n.mounts {
		for i := len(n.olds) - 1; i >= 0; i-- {
			if c, ok := n.olds[i].find(b); ok {
				return c, ""
			}
			s += " or " + n.olds[i].was.String()
		}
	}
	if failing {
		if c, ok := n.salvaged(b); ok {
			return c, ""
		}
	}
	return nil, s
}

// salvaged reports whether b is what may be left where drives failed: then unsynced
// writes are lost singly, which close and fsync report, and later ones may be there
// all the same. So each byte has to be of the last synced content, of any of the
// writes since at that place, or a hole.
func (n inode) salvaged(b []byte) (c content, ok bool) {
	if len(n.olds) == 0 {
		return nil, false
	}
	layers := [][]byte{n.olds[0].was.bytes()}
	tags := []content{n.olds[0].was}
	for _, o := range n.olds {
		if o.n > 0 {
			w := content{}.write(o.off, o.n, o.tag)
			layers, tags = append(layers, w.bytes()), append(tags, w)
		}
	}
	last := uint64(0)
	for i, x := range b {
		found, tag := x == 0, uint64(0)
		for l := len(layers) - 1; l >= 0; l-- {
			if i >= len(layers[l]) || layers[l][i] != x {
				continue
			}
			t := tags[l].cut(int64(i), 1)[0].tag
			if t != 0 && (!found || tag == 0 || t == last) {
				found, tag = true, t
			}
		}
		if !found {
			return nil, false
		}
		c, last = c.join(run{tag, 1}), tag
	}
	return c, true
}

// find finds what b is: the content before, or with a part of the write from its start.
func (o old) find(b []byte) (content, bool) {
	if o.was.is(b) {
		return o.was, true
	}
	after := o.was.write(o.off, o.n, o.tag).bytes()
	same := 0
	for same < len(b) && same < len(after) && b[same] == after[same] {
		same++
	}
	c := o.was.write(o.off, max(0, min(o.n, int64(same)-o.off)), o.tag)
	return c, o.n > 0 && int64(same) > o.off && c.is(b)
}

// hasSize reports whether an inode may be so long.
func (w *world) hasSize(id int, size int64, mounts int64, failing bool) bool {
	n := w.inodes[id]
	ok := n.now.size() == size
	if failing || mounts > n.mounts {
		for _, o := range n.olds {
			least := max(o.was.size(), min(o.off, o.off+o.n))
			ok = ok || o.was.size() == size || o.n > 0 && size >= least && size <= max(o.was.size(), o.off+o.n)
		}
	}
	return ok
}

const (
	viewS3    = "S3"
	viewMount = "mount"
)

// tree is what a view shows of a worker's directory.
type tree struct {
	view  string
	files map[string][]byte
	dirs  map[string]bool
}

// doubt says that writes since the last fsync may be lost already: it failed.
func (w *world) doubt(id int) {
	n := w.inodes[id]
	n.mounts = -1
	w.inodes[id] = n
}

// saw notes what a view showed of an inode. S3 shows what is durable, and so does a
// mount that is not the one of the unsynced writes.
func (w *world) saw(id int, c content, view string, mounts int64) {
	if n := w.inodes[id]; view == viewS3 || mounts > n.mounts {
		w.inodes[id] = inode{now: c}
	}
}

// match reports what keeps t from being w; "" if nothing does, and then w has become
// sure of everything that t shows. So many mounts had been killed before t was read, and
// afterwards.
func (w *world) match(t *tree, before, mounts int64, failing bool) string {
	var wrong []string
	for _, p := range w.dirs() {
		if !t.dirs[p] {
			wrong = append(wrong, "the directory "+p+" is missing")
		}
	}
	for p := range t.dirs {
		if id, ok := w.names[p]; !ok || id != dirID {
			wrong = append(wrong, "there is a directory "+p)
		}
	}
	for p := range t.files {
		if id, ok := w.names[p]; !ok || id == dirID {
			wrong = append(wrong, fmt.Sprintf("there is a file %s: %s", p, decode(t.files[p])))
		}
	}
	seen := map[int]content{}
	for _, p := range w.files() {
		b, ok := t.files[p]
		if !ok {
			wrong = append(wrong, p+" is missing")
			continue
		}
		id := w.names[p]
		c, why := w.find(id, b, mounts, failing)
		if before, linked := seen[id]; why == "" && linked && !before.equal(c) {
			why = "two links of one file differ"
		}
		if why != "" {
			wrong = append(wrong, p+": "+why)
		}
		seen[id] = c
	}
	if len(wrong) > 0 {
		return strings.Join(wrong, "\n    ")
	}
	for id, c := range seen {
		w.saw(id, c, t.view, before)
	}
	return ""
}
