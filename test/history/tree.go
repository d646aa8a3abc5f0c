package history

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// tree is a state: immutable, so that the checker can keep many of them.
type tree struct {
	nodes []*node // by id
	names []name  // by directory and name
	// lossy has a bit for each mount that may lose what it holds unwritten.
	lossy uint64
	// losses says that mounts die, or fail, in this history: what they hold is tracked.
	losses bool
}

// node is an inode.
type node struct {
	id       uint64 // from the operation that made it: the same in every order
	num      uint64 // st_ino, 0 until somebody saw it
	dir      bool
	explicit bool // a directory that stays when it is empty
	links    int
	meta     uint32
	etag     string // "" until somebody saw it, since the content changed
	// now is what the content may be: one thing, but after a loss, of which nobody has
	// seen yet how far it went.
	now []content
	// olds is what the content was before writes of holder that may be lost with it.
	olds   []content
	holder int
}

// none is the holder of an inode that nobody has unwritten bytes of.
const none = -1

// name is a directory entry.
type name struct {
	dir  uint64
	name string
	id   uint64
}

// rootID is the id of the bucket's directory.
const rootID = 1

func newTree(root uint64, losses bool) *tree {
	return &tree{
		nodes:  []*node{{id: rootID, num: root, dir: true, explicit: true, links: 1, holder: none}},
		losses: losses,
	}
}

// clone is a tree to change: with edit, add and the like, which leave t alone.
func (t *tree) clone() *tree {
	c := *t
	c.nodes, c.names = slices.Clone(t.nodes), slices.Clone(t.names)
	return &c
}

func (t *tree) index(id uint64) int {
	i, _ := slices.BinarySearchFunc(t.nodes, id, func(n *node, id uint64) int { return cmp.Compare(n.id, id) })
	return i
}

func (t *tree) node(id uint64) *node { return t.nodes[t.index(id)] }

// byNum finds an inode by its number, nil if nobody has seen such a one.
func (t *tree) byNum(num uint64) *node {
	for _, n := range t.nodes {
		if n.num == num {
			return n
		}
	}
	return nil
}

// edit makes a copy of a node that belongs to t alone.
func (t *tree) edit(id uint64) *node {
	i := t.index(id)
	c := *t.nodes[i]
	t.nodes[i] = &c
	return &c
}

func (t *tree) nameIndex(dir uint64, s string) (int, bool) {
	return slices.BinarySearchFunc(t.names, name{dir: dir, name: s}, func(a, b name) int {
		return cmp.Or(cmp.Compare(a.dir, b.dir), strings.Compare(a.name, b.name))
	})
}

// child is what a name is in a directory, nil if nothing.
func (t *tree) child(dir uint64, s string) *node {
	if i, ok := t.nameIndex(dir, s); ok {
		return t.node(t.names[i].id)
	}
	return nil
}

// children are the entries of a directory, by name.
func (t *tree) children(dir uint64) []name {
	i, _ := t.nameIndex(dir, "")
	j := i
	for j < len(t.names) && t.names[j].dir == dir {
		j++
	}
	return t.names[i:j]
}

// make adds an inode without a name.
func (t *tree) make(n node) *node {
	p := &n
	t.nodes = slices.Insert(t.nodes, t.index(n.id), p)
	return p
}

func (t *tree) add(dir uint64, s string, id uint64) {
	i, _ := t.nameIndex(dir, s)
	t.names = slices.Insert(t.names, i, name{dir, s, id})
	t.edit(id).links++
}

// remove takes a name away, and an inode with it that nobody can ask for any more.
func (t *tree) remove(dir uint64, s string) {
	i, _ := t.nameIndex(dir, s)
	id := t.names[i].id
	t.names = slices.Delete(t.names, i, i+1)
	n := t.edit(id)
	n.links--
	if n.links == 0 && n.num == 0 {
		i := t.index(id)
		t.nodes = slices.Delete(t.nodes, i, i+1)
	}
}

// bind notes an inode's number, where it was seen; it reports whether it can be.
func (t *tree) bind(id, num uint64) bool {
	n := t.node(id)
	switch {
	case n.num == num:
		return true
	case n.num != 0 || t.byNum(num) != nil:
		return false
	}
	t.edit(id).num = num
	return true
}

// makeExplicit is what a change through a mount does to a directory.
func (t *tree) makeExplicit(id uint64) {
	if n := t.node(id); n.dir && !n.explicit {
		t.edit(id).explicit = true
	}
}

// parent finds the directory that a directory is in.
func (t *tree) parent(id uint64) (name, bool) {
	for _, e := range t.names {
		if e.id == id {
			return e, true
		}
	}
	return name{}, false
}

// prune removes implied directories that are empty, from dir upwards.
func (t *tree) prune(dir uint64) {
	for dir != rootID && !t.node(dir).explicit && len(t.children(dir)) == 0 {
		e, ok := t.parent(dir)
		if !ok {
			return
		}
		t.remove(e.dir, e.name)
		dir = e.dir
	}
}

// walk finds what a key names: the directory, 0 where it is not there, and the last
// component, "" for a directory's own key.
func (t *tree) walk(key string) (dir uint64, base string) {
	comps := strings.Split(key, "/")
	dir = rootID
	for _, c := range comps[:len(comps)-1] {
		n := t.child(dir, c)
		if n == nil {
			return 0, ""
		}
		dir = n.id
	}
	return dir, comps[len(comps)-1]
}

// object finds the file of a key, nil if there is none.
func (t *tree) object(key string) *node {
	dir, base := t.walk(key)
	if dir == 0 || base == "" {
		return nil
	}
	return t.child(dir, base)
}

func equalTrees(a, b any) bool {
	s, t := a.(*tree), b.(*tree)
	if s == t {
		return true
	}
	if s.lossy != t.lossy || len(s.nodes) != len(t.nodes) || !slices.Equal(s.names, t.names) {
		return false
	}
	for i, n := range s.nodes {
		if m := t.nodes[i]; n != m && !n.equal(m) {
			return false
		}
	}
	return true
}

func (n *node) equal(m *node) bool {
	return n.id == m.id && n.num == m.num && n.explicit == m.explicit && n.links == m.links && n.meta == m.meta &&
		n.etag == m.etag && n.holder == m.holder && slices.Equal(n.now, m.now) && slices.Equal(n.olds, m.olds)
}

var hashSeed = maphash.MakeSeed()

func hashTree(a any) uint64 {
	t := a.(*tree)
	var h maphash.Hash
	h.SetSeed(hashSeed)
	word := func(x uint64) { maphash.WriteComparable(&h, x) }
	for _, n := range t.nodes {
		word(n.id)
		word(n.num)
		word(uint64(n.links)<<32 | uint64(n.meta))
		h.WriteString(n.etag)
		for _, c := range n.now {
			h.WriteString(string(c))
		}
		word(uint64(len(n.olds)))
	}
	for _, e := range t.names {
		word(e.dir)
		h.WriteString(e.name)
		word(e.id)
	}
	return h.Sum64()
}

// String is the tree for a person.
func (t *tree) String() string {
	var s strings.Builder
	var show func(dir uint64, path string)
	show = func(dir uint64, path string) {
		for _, e := range t.children(dir) {
			n := t.node(e.id)
			if n.dir {
				fmt.Fprintf(&s, "%s%s/ i%d explicit=%v; ", path, e.name, n.num, n.explicit)
				show(n.id, path+e.name+"/")
				continue
			}
			fmt.Fprintf(&s, "%s%s %v; ", path, e.name, n)
		}
	}
	show(rootID, "")
	for _, n := range t.nodes {
		if n.links == 0 {
			fmt.Fprintf(&s, "(gone %v); ", n)
		}
	}
	return s.String()
}

func (n *node) String() string {
	s := fmt.Sprintf("i%d(%d)", n.num, n.links)
	for i, c := range n.now {
		if i > 0 {
			s += " or "
		}
		s += c.String()
	}
	if len(n.olds) > 0 {
		s += fmt.Sprintf(" held by m%d, was %v", n.holder, n.olds)
	}
	return s + fmt.Sprintf(" meta=%d %.6s", n.meta, n.etag)
}
