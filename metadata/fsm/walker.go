package fsm

import (
	"strings"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// walker walks a bucket's keys in byte order, depth first, with one cursor over the
// entries. It stands at a node: an entry, or (self) the directory it just opened,
// for the directory's own key.
type walker struct {
	it    kv.Iterator
	valid bool    // the cursor is at an entry, of the top directory or not
	self  bool    // the node is the top directory itself
	stack []level // open directories, the bucket's root first
	path  string  // key of the top directory
	err   error
	look  func(twofold.Ino) // told of directories that are walked; nil: nobody
	floor int               // directories with shorter paths are not gone back to
}

type level struct {
	ino     twofold.Ino
	suffix  string // its entry's name in the directory above, with "/"
	pathLen int    // of the path of the directory above
}

// node is where a walker stands. A directory's key ends in "/".
type node struct {
	key string
	metadata.Entry
}

func newWalker(r kv.Reader, root twofold.Ino) *walker {
	prefix := string(rune(pEntry))
	return &walker{
		it:    r.Iter([]byte(prefix), bound(prefixEnd(prefix))),
		stack: []level{{ino: root}},
	}
}

func (w *walker) close() error {
	if err := w.it.Close(); w.err == nil {
		w.err = err
	}
	return w.err
}

func (w *walker) top() *level { return &w.stack[len(w.stack)-1] }

// seek moves to the first node with a key >= target: down the directories of
// target that are there, then to its last name or what comes next.
func (w *walker) seek(target string) {
	w.stack, w.path, w.self = w.stack[:1], "", false
	for {
		i := strings.IndexByte(target, '/')
		if i < 0 {
			break
		}
		key := entryKey(w.top().ino, target[:i+1])
		if w.valid = w.it.Seek([]byte(key)); !w.valid || string(w.it.Key()) != key {
			return // no such directory: the cursor is at what follows
		}
		e, ok := w.entry()
		if !ok {
			return
		}
		w.push(e.Ino, target[:i+1])
		if target = target[i+1:]; target == "" {
			w.self = true
		}
	}
	w.valid = w.it.Seek([]byte(entryKey(w.top().ino, target)))
}

func (w *walker) push(ino twofold.Ino, suffix string) {
	w.stack = append(w.stack, level{ino, suffix, len(w.path)})
	w.path += suffix
}

func (w *walker) entry() (e metadata.Entry, ok bool) {
	v, err := w.it.Value()
	if err == nil {
		e, err = metadata.DecodeEntry(v)
	}
	if err != nil {
		w.err, w.valid = err, false
	}
	return e, err == nil
}

// node returns where the walker stands; false at the end, and after an error.
func (w *walker) node() (node, bool) {
	if w.self {
		return node{w.path, metadata.Entry{Ino: w.top().ino, Type: metadata.TypeDir}}, w.err == nil
	}
	for w.err == nil {
		if w.look != nil {
			w.look(w.top().ino)
		}
		prefix := num(pEntry, uint64(w.top().ino))
		if w.valid && strings.HasPrefix(string(w.it.Key()), prefix) {
			e, ok := w.entry()
			return node{w.path + string(w.it.Key()[len(prefix):]), e}, ok
		}
		if len(w.stack) == 1 {
			break
		}
		done := *w.top()
		if done.pathLen < w.floor {
			break
		}
		w.stack = w.stack[:len(w.stack)-1]
		w.path = w.path[:done.pathLen]
		w.valid = w.it.Seek([]byte(after(entryKey(w.top().ino, done.suffix))))
	}
	return node{}, false
}

// next moves on to the node behind n, not into it where it is a directory.
func (w *walker) next() { w.valid = w.it.Next() }

// enter moves on to the first node in n, a directory that the walker stands at.
func (w *walker) enter(n node) {
	if w.self {
		w.self = false // the cursor is there already
		return
	}
	w.push(n.Ino, n.key[len(w.path):])
	w.valid = w.it.Seek([]byte(entryKey(n.Ino, "")))
}
