package fsm

import (
	"strings"

	"twofold"
	"twofold/metadata"
)

// List reads about as many entries as it returns: it seeks past what a common
// prefix stands for, and with delimiter "/" never looks into directories.
func (v *view) List(b twofold.BucketID, q metadata.ListQuery) (*metadata.ListPage, error) {
	bucket, err := v.BucketByID(b)
	if err != nil {
		return nil, err
	}
	page := &metadata.ListPage{}
	start, ok := firstKey(q)
	if !ok || q.Max <= 0 {
		return page, nil
	}
	l := &lister{view: v, q: q, page: page, w: newWalker(v.r, bucket.Root)}
	l.w.look, l.w.floor = v.looked, strings.LastIndexByte(q.Prefix, '/')+1
	l.w.seek(start)
	err = l.run()
	if cerr := l.w.close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = l.fill()
	}
	if err != nil {
		return nil, err
	}
	return page, nil
}

// firstKey is where a listing begins; false where nothing can follow.
func firstKey(q metadata.ListQuery) (string, bool) {
	if q.After == "" || q.After < q.Prefix {
		return q.Prefix, true
	}
	if cp, ok := commonPrefix(q, q.After); ok {
		end := prefixEnd(cp) // it was returned before, or comes before After
		return end, end != ""
	}
	return after(q.After), strings.HasPrefix(q.After, q.Prefix)
}

// commonPrefix is what stands for key in a listing with a delimiter, if anything.
func commonPrefix(q metadata.ListQuery, key string) (string, bool) {
	if q.Delimiter == "" || !strings.HasPrefix(key, q.Prefix) {
		return "", false
	}
	i := strings.Index(key[len(q.Prefix):], q.Delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(q.Prefix)+i+len(q.Delimiter)], true
}

type lister struct {
	*view
	q    metadata.ListQuery
	page *metadata.ListPage
	w    *walker
	objs []listed // items that have no inode yet
}

// listed is an item of which only the inode's number is known.
type listed struct {
	ino twofold.Ino
	at  int // in the page
}

func (l *lister) run() error {
	for {
		n, ok := l.w.node()
		if !ok || !strings.HasPrefix(n.key, l.q.Prefix) {
			return nil
		}
		var done bool
		var err error
		if cp, ok := commonPrefix(l.q, n.key); ok {
			done = l.prefix(n, cp)
		} else {
			done, err = l.visit(n)
		}
		if done || err != nil {
			return err
		}
	}
}

// prefix emits a common prefix and moves behind all it stands for. A directory has
// at least one key in it, so its entry is enough to know.
func (l *lister) prefix(n node, cp string) (done bool) {
	if l.emit(cp, nil) {
		return true
	}
	if n.Type == metadata.TypeDir && n.key == cp && !l.w.self {
		l.w.next()
		return false
	}
	end := prefixEnd(cp)
	if end != "" {
		l.w.seek(end)
	}
	return end == ""
}

// visit emits a key and moves on to the next node.
func (l *lister) visit(n node) (done bool, err error) {
	if n.Type != metadata.TypeDir {
		if l.emit(n.key, nil) {
			return true, nil
		}
		l.objs = append(l.objs, listed{n.Ino, len(l.page.Items) - 1})
		l.w.next()
		return false, nil
	}
	i, err := l.mustInode(n.Ino)
	if err != nil {
		return false, err
	}
	if i.Explicit && n.key != "" && l.emit(n.key, i) {
		return true, nil
	}
	l.w.enter(n)
	return false, nil
}

// fill gives the objects of the page their inodes, read together.
func (l *lister) fill() error {
	inos := make([]twofold.Ino, len(l.objs))
	for n, o := range l.objs {
		inos[n] = o.ino
	}
	inodes := make([]*metadata.Inode, len(l.objs))
	if err := l.mustInodes(inos, inodes); err != nil {
		return err
	}
	for n, o := range l.objs {
		l.page.Items[o.at].Inode = inodes[n]
	}
	return nil
}

// emit adds an item, or reports that the page is full. Keys of deep paths are over
// MaxKeyLen bytes; this is the one place where a key gets its form.
func (l *lister) emit(key string, i *metadata.Inode) (full bool) {
	if len(l.page.Items) == l.q.Max {
		l.page.More = true
		return true
	}
	l.page.Items = append(l.page.Items, metadata.ListItem{Key: key, Inode: i})
	return false
}
