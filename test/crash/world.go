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
	now  content   // what everybody has to see while the mount lives
	olds []content // what it may be again if the mount dies: states since the last fsync
	// mounts is how many mounts had been killed when the first of the unsynced
	// writes began: when more are, olds are possible.
	mounts int64
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

// change makes c the content of an inode, by a write that is not synced.
func (w *world) change(id int, c content, mounts int64) {
	n := w.inodes[id]
	if len(n.olds) == 0 {
		n.mounts = mounts
	}
	n.olds = append(slices.Clip(n.olds), n.now)
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

// allowed lists the contents that an inode may have. While drives fail, what was not
// synced may be lost in a mount that lives.
func (w *world) allowed(id int, mounts int64, failing bool) []content {
	n := w.inodes[id]
	out := []content{n.now}
	if failing || mounts > n.mounts {
		out = append(out, n.olds...)
	}
	return out
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
// sure of everything that t shows.
func (w *world) match(t *tree, mounts int64, failing bool) string {
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
		c, why := pick(w.allowed(id, mounts, failing), b)
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
		w.saw(id, c, t.view, mounts)
	}
	return ""
}

// pick finds the content that b is.
func pick(may []content, b []byte) (content, string) {
	for _, c := range may {
		if c.is(b) {
			return c, ""
		}
	}
	s := fmt.Sprintf("it is %s; right would be", may[0].explain(b))
	for _, c := range may {
		s += " " + c.String()
	}
	return nil, s
}
