package fusefs

import (
	"context"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// leased is api.Files that answers from the cache what the mount has read leases of, and
// keeps what the volume answers. Changes are bracketed: the kernel forgets what they are
// of before they are sent, and nothing of it is cached while they are under way. What a
// change does to inodes that its call does not name (what a name stands for) is found
// out first.
type leased struct {
	to  api.Files
	c   *cache
	ctx context.Context // ends with the mount
	// tell makes the kernel forget attributes, and returns when it has.
	tell func(inos []twofold.Ino)
}

var _ api.Files = (*leased)(nil)

// begin starts a change that is about to be sent.
func (l *leased) begin(ctx context.Context, keys ...key) *ownChange {
	ch, told, until := l.c.begin(keys...)
	if len(told) > 0 {
		l.tell(told)
	}
	if d := time.Until(until); d > 0 {
		sleep(ctx, d)
	}
	return ch
}

func (l *leased) end(ch *ownChange, result *api.Attr, err error, dirs ...api.Attr) {
	if err != nil {
		result, dirs = nil, nil
	}
	ch.end(result, dirs...)
}

// Lookup returns an Attr with Ino 0 for a name that is known not to be there.
func (l *leased) Lookup(ctx context.Context, dir twofold.Ino, name string) (api.Attr, error) {
	m := l.c.now()
	if ino, ok := l.c.lookup(dir, name); ok {
		if ino == 0 {
			return api.Attr{NameLeased: true}, nil
		}
		a, err := l.GetAttr(ctx, ino)
		if err == nil && l.c.still(m, key{dir, name}, key{dir, allNames}) {
			return a, nil
		}
	}
	m = l.c.now()
	a, err := l.to.Lookup(ctx, dir, name)
	if err != nil {
		return a, err
	}
	if a.NameLeased {
		l.c.putName(dir, name, a.Ino, m)
	}
	if a.Ino != 0 {
		l.c.putAttr(a, m)
	}
	return a, nil
}

func (l *leased) GetAttr(ctx context.Context, ino twofold.Ino) (api.Attr, error) {
	if a, ok := l.c.attr(ino); ok {
		return a, nil
	}
	m := l.c.now()
	a, err := l.to.GetAttr(ctx, ino)
	if err == nil {
		l.c.putAttr(a, m)
	}
	return a, err
}

func (l *leased) SetAttr(ctx context.Context, ino twofold.Ino, s api.SetAttr) (api.Attr, error) {
	ch := l.begin(ctx, key{ino: ino})
	a, err := l.to.SetAttr(ctx, ino, s)
	l.end(ch, &a, err)
	return a, err
}

func (l *leased) Create(ctx context.Context, dir twofold.Ino, name string, c api.Create) (api.Attr, bool, error) {
	m := l.c.now()
	ch := l.begin(ctx, key{ino: dir}, key{dir, name})
	ctx, dirs := api.WithDirs(ctx)
	a, existed, err := l.to.Create(ctx, dir, name, c)
	l.end(ch, &a, err, dirs.Attrs()...)
	if err == nil {
		l.c.putAttr(a, m)
		if c.Type == metadata.TypeDir && !existed {
			l.c.putNewDir(a, m)
		}
	}
	return a, existed, err
}

func (l *leased) Tmpfile(ctx context.Context, dir twofold.Ino, c api.Create) (api.Attr, error) {
	return l.to.Tmpfile(ctx, dir, c)
}

func (l *leased) Link(ctx context.Context, ino, dir twofold.Ino, name string) (api.Attr, error) {
	ch := l.begin(ctx, key{ino: ino}, key{ino: dir}, key{dir, name})
	a, err := l.to.Link(ctx, ino, dir, name)
	l.end(ch, &a, err)
	return a, err
}

func (l *leased) Unlink(ctx context.Context, dir twofold.Ino, name string) error {
	keys, err := l.named(ctx, key{dir, name})
	if err != nil {
		return err
	}
	ch := l.begin(ctx, keys...)
	ctx, dirs := api.WithDirs(ctx)
	err = l.to.Unlink(ctx, dir, name)
	l.end(ch, nil, err, dirs.Attrs()...)
	return err
}

func (l *leased) Rmdir(ctx context.Context, dir twofold.Ino, name string) error {
	keys, err := l.named(ctx, key{dir, name})
	if err != nil {
		return err
	}
	ch := l.begin(ctx, keys...)
	ctx, dirs := api.WithDirs(ctx)
	err = l.to.Rmdir(ctx, dir, name)
	l.end(ch, nil, err, dirs.Attrs()...)
	return err
}

func (l *leased) Rename(ctx context.Context, oldDir twofold.Ino, oldName string, newDir twofold.Ino, newName string, flags uint32) error {
	keys, err := l.named(ctx, key{oldDir, oldName}, key{newDir, newName})
	if err != nil {
		return err
	}
	ch := l.begin(ctx, keys...)
	ctx, dirs := api.WithDirs(ctx)
	err = l.to.Rename(ctx, oldDir, oldName, newDir, newName, flags)
	l.end(ch, nil, err, dirs.Attrs()...)
	return err
}

// named returns what a change of entries is of: the entries, their directories, and the
// inodes that they stand for. Those of them that are open here with a lazy pin are
// pinned: the volume asks nobody when it is this mount that removes the last name.
func (l *leased) named(ctx context.Context, entries ...key) ([]key, error) {
	keys := make([]key, 0, 6)
	for _, e := range entries {
		keys = append(keys, e)
		if d := (key{ino: e.ino}); len(keys) == 1 || keys[1] != d {
			keys = append(keys, d)
		}
	}
	if l.c.empty() {
		return keys, nil
	}
	for _, e := range entries {
		ino, ok := l.c.lookup(e.ino, e.name)
		if !ok {
			a, err := l.to.Lookup(ctx, e.ino, e.name)
			if err != nil && !errs.Is(err, errs.NotFound) {
				continue // the change itself will say what is wrong
			}
			ino = a.Ino
		}
		if ino == 0 {
			continue
		}
		if err := l.pin(ctx, ino); err != nil {
			return nil, err
		}
		keys = append(keys, key{ino: ino})
		l.c.disturb(ino)
	}
	return keys, nil
}

func (l *leased) Readlink(ctx context.Context, ino twofold.Ino) (string, error) {
	if target, _, ok := l.c.content(ino); ok {
		return string(target), nil
	}
	m := l.c.now()
	s, err := l.to.Readlink(ctx, ino)
	if err == nil {
		l.c.putContent(ino, []byte(s), m)
	}
	return s, err
}

func (l *leased) ReadDir(ctx context.Context, dir twofold.Ino, cursor string, max int, attrs bool) ([]api.DirEntry, bool, error) {
	if es, eof, ok := l.c.readDir(dir, cursor, max, attrs); ok {
		return es, eof, nil
	}
	m := l.c.now()
	es, eof, err := l.to.ReadDir(ctx, dir, cursor, max, attrs)
	if err != nil {
		return es, eof, err
	}
	if cursor == "" && eof {
		l.c.putListing(dir, es, m)
	}
	if !attrs {
		return es, eof, nil
	}
	for i := range es {
		a := &es[i].Attr
		if a.NameLeased {
			l.c.putName(dir, es[i].Name, a.Ino, m)
		}
		l.c.putAttr(*a, m)
	}
	return es, eof, err
}

// Read answers from a small file's content, and reads one as a whole. At or behind the
// end of a file nothing is read.
func (l *leased) Read(ctx context.Context, ino twofold.Ino, off int64, p []byte) (int, error) {
	m := l.c.now()
	data, size, ok := l.c.content(ino)
	if ok {
		return copy(p, data[min(off, size):]), nil
	}
	if size >= 0 && off >= size {
		return 0, nil
	}
	if size < 0 || size > maxContent {
		return l.to.Read(ctx, ino, off, p)
	}
	data = make([]byte, size)
	n, err := l.to.Read(ctx, ino, 0, data)
	if err != nil {
		return 0, err
	}
	if int64(n) == size && l.c.still(m, key{ino: ino}) {
		l.c.putContent(ino, data, m)
		return copy(p, data[off:]), nil
	}
	// It has changed meanwhile, and perhaps grown.
	return l.to.Read(ctx, ino, off, p)
}

func (l *leased) Write(ctx context.Context, ino twofold.Ino, w api.Write) (api.Attr, error) {
	ch := l.begin(ctx, key{ino: ino})
	a, err := l.to.Write(ctx, ino, w)
	l.end(ch, &a, err)
	if err == nil {
		if len(w.Segments) == 1 && w.Segments[0].Off == 0 && int64(len(w.Segments[0].Data)) == a.Size {
			l.c.putWritten(a, w.Segments[0].Data)
		}
	}
	return a, err
}

func (l *leased) Seek(ctx context.Context, ino twofold.Ino, off int64, hole bool) (int64, error) {
	return l.to.Seek(ctx, ino, off, hole)
}

func (l *leased) CopyRange(ctx context.Context, c api.CopyRange) (api.Attr, int64, error) {
	ch := l.begin(ctx, key{ino: c.Dst})
	a, n, err := l.to.CopyRange(ctx, c)
	l.end(ch, &a, err)
	return a, n, err
}

// AcquireWrite has the kernel forget attributes: from now on this mount decides what they
// are, and the kernel does not know of all that a write changes (set-id bits).
func (l *leased) AcquireWrite(ctx context.Context, ino twofold.Ino) (api.Lease, error) {
	a, err := l.to.AcquireWrite(ctx, ino)
	if err == nil && l.c.ungrant(ino) {
		l.tell([]twofold.Ino{ino})
	}
	return a, err
}

func (l *leased) ReleaseWrite(ctx context.Context, ino twofold.Ino, token uint64) error {
	return l.to.ReleaseWrite(ctx, ino, token)
}

func (l *leased) GetXattr(ctx context.Context, ino twofold.Ino, name string) ([]byte, error) {
	return l.to.GetXattr(ctx, ino, name)
}

func (l *leased) SetXattr(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) error {
	ch := l.begin(ctx, key{ino: ino})
	err := l.to.SetXattr(ctx, ino, name, value, flags)
	l.end(ch, nil, err)
	return err
}

func (l *leased) ListXattr(ctx context.Context, ino twofold.Ino) ([]string, error) {
	return l.to.ListXattr(ctx, ino)
}

func (l *leased) RemoveXattr(ctx context.Context, ino twofold.Ino, name string) error {
	ch := l.begin(ctx, key{ino: ino})
	err := l.to.RemoveXattr(ctx, ino, name)
	l.end(ch, nil, err)
	return err
}

func (l *leased) Promise(ctx context.Context, n int64) (int64, error) { return l.to.Promise(ctx, n) }

func (l *leased) GetLock(ctx context.Context, ino twofold.Ino, k api.Lock) (api.Lock, bool, error) {
	return l.to.GetLock(ctx, ino, k)
}

// SetLock pins the inode in earnest first: locks end with the last open file that the
// volume knows of, and that must not be another one, nor may there be none.
func (l *leased) SetLock(ctx context.Context, ino twofold.Ino, k api.Lock, wait bool) error {
	if k.Type != api.LockNone {
		if err := l.pin(ctx, ino); err != nil {
			return err
		}
	}
	return l.to.SetLock(ctx, ino, k, wait)
}

func (l *leased) Reserve(ctx context.Context, ino twofold.Ino, token uint64, size, slack int64) (int64, error) {
	return l.to.Reserve(ctx, ino, token, size, slack)
}

func (l *leased) StatFS(ctx context.Context, ino twofold.Ino) (api.StatFS, error) {
	return l.to.StatFS(ctx, ino)
}

func (l *leased) Forget(ctx context.Context, inos []twofold.Ino) error { return l.to.Forget(ctx, inos) }

func (l *leased) AcquireDir(ctx context.Context, dir twofold.Ino) (api.DirLease, error) {
	return l.to.AcquireDir(ctx, dir)
}

func (l *leased) Inos(ctx context.Context, n int) (twofold.Ino, int, error) { return l.to.Inos(ctx, n) }

func (l *leased) Batch(ctx context.Context, b api.Batch) (api.BatchResult, error) {
	return l.to.Batch(ctx, b)
}
