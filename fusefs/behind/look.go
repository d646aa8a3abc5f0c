package behind

import (
	"context"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// Lookup implements api.Files.
func (b *Files) Lookup(ctx context.Context, dir twofold.Ino, name string) (a api.Attr, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seq := b.pending(dir)
	if d := b.dirs[dir]; d.usable() && b.alive() && b.outside[dir] == 0 { // else ReadDir may have shown more
		d.used = time.Now()
		e, known := d.lookup(name)
		switch {
		case !known && d.state == dirHeld:
			return b.ask(ctx, d, name) // no operation is queued of a name that is not known
		case known:
			if a, ok := b.found(d, e); ok {
				if a.Ino == 0 && !a.NameLeased {
					err = errs.Newf("behind.Lookup", errs.NotFound, "no such file or directory")
				}
				return a, err
			}
			seq = b.queue.touched[e.ino] // those of the name as well
		}
	}
	if err := b.settle(ctx, seq); err != nil {
		return a, err
	}
	a, err = b.lookup(ctx, dir, name)
	b.place(dir, &a, err)
	return a, err
}

// lookup asks the volume. Something may be queued of what it finds, which shows only then: of
// a directory that was changed in. b.mu is held, but not meanwhile.
func (b *Files) lookup(ctx context.Context, dir twofold.Ino, name string) (a api.Attr, err error) {
	b.call(func() { a, err = b.to.Lookup(ctx, dir, name) })
	if err != nil || b.queue.touched[a.Ino] == 0 {
		return a, err
	}
	if err := b.settle(ctx, b.queue.touched[a.Ino]); err != nil {
		return a, err
	}
	b.call(func() { a, err = b.to.Lookup(ctx, dir, name) })
	return a, err
}

// found is the answer for a name, if it is known here; b.mu is held.
func (b *Files) found(d *dir, e entry) (a api.Attr, ok bool) {
	if e.ino == 0 {
		return api.Attr{NameLeased: d.reader}, true
	}
	if in, home := b.ours(e.ino); in != nil && home == d && b.outside[e.ino] == 0 {
		return b.show(in), true
	}
	if sub := b.dirs[e.ino]; sub.usable() && sub.valid && b.outside[e.ino] == 0 {
		a := b.showDir(sub)
		a.NameLeased = d.reader
		return a, true
	}
	return a, false
}

// GetAttr implements api.Files.
func (b *Files) GetAttr(ctx context.Context, ino twofold.Ino) (a api.Attr, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.alive() && b.outside[ino] == 0 {
		// A directory that is given back may have been lost by the term: what was done in it
		// is not to show any more.
		if in, d := b.inodes[ino], b.dirs[ino]; in != nil && b.dirs[in.attr.Home].usable() && (in.attr.Nlink > 0 || b.queue.touched[ino] > 0) {
			return b.show(in), nil
		} else if d.usable() && d.valid {
			return b.showDir(d), nil
		}
	}
	if err := b.settle(ctx, b.queue.touched[ino]); err != nil {
		return a, err
	}
	b.call(func() { a, err = b.to.GetAttr(ctx, ino) })
	return a, err
}

// Readlink implements api.Files.
func (b *Files) Readlink(ctx context.Context, ino twofold.Ino) (target string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if in := b.inodes[ino]; in != nil && in.attr.Type == metadata.TypeSymlink && b.alive() {
		return in.target, nil
	}
	if err := b.settle(ctx, b.queue.touched[ino]); err != nil {
		return "", err
	}
	b.call(func() { target, err = b.to.Readlink(ctx, ino) })
	return target, err
}

// ReadDir implements api.Files.
func (b *Files) ReadDir(ctx context.Context, dir twofold.Ino, cursor string, most int, attrs bool) (list []api.DirEntry, eof bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seq := b.queue.touched[dir]
	if attrs {
		seq = b.pending(dir)
	}
	if err := b.settle(ctx, seq); err != nil {
		return nil, false, err
	}
	b.call(func() { list, eof, err = b.to.ReadDir(ctx, dir, cursor, most, attrs) })
	if attrs { // as in lookup
		seq = 0
		for i := range list {
			seq = max(seq, b.queue.touched[list[i].Attr.Ino])
		}
		if seq > 0 {
			if err := b.settle(ctx, seq); err != nil {
				return nil, false, err
			}
			b.call(func() { list, eof, err = b.to.ReadDir(ctx, dir, cursor, most, attrs) })
		}
	}
	for i := range list {
		b.place(dir, &list[i].Attr, err)
	}
	return list, eof, err
}

// of commits what is queued of an inode, and runs a call about it.
func (b *Files) of(ctx context.Context, ino twofold.Ino, fn func()) error {
	b.mu.Lock()
	err := b.settle(ctx, b.queue.touched[ino])
	b.mu.Unlock()
	if err == nil {
		fn()
	}
	return err
}

// Open implements api.Files.
func (b *Files) Open(ctx context.Context, ino twofold.Ino) (a api.Attr, err error) {
	if failed := b.of(ctx, ino, func() { a, err = b.to.Open(ctx, ino) }); failed != nil {
		return a, failed
	}
	return a, err
}

// Release implements api.Files.
func (b *Files) Release(ctx context.Context, ino twofold.Ino) error { return b.to.Release(ctx, ino) }

// Read implements api.Files.
func (b *Files) Read(ctx context.Context, ino twofold.Ino, off int64, p []byte) (n int, err error) {
	b.mu.Lock()
	if in, _ := b.ours(ino); in != nil && b.alive() && b.leases[ino] == nil && off >= in.attr.Size && b.outside[ino] == 0 {
		b.mu.Unlock()
		return 0, nil
	}
	b.mu.Unlock()
	if failed := b.of(ctx, ino, func() { n, err = b.to.Read(ctx, ino, off, p) }); failed != nil {
		return 0, failed
	}
	return n, err
}

// Seek implements api.Files.
func (b *Files) Seek(ctx context.Context, ino twofold.Ino, off int64, hole bool) (pos int64, err error) {
	if failed := b.of(ctx, ino, func() { pos, err = b.to.Seek(ctx, ino, off, hole) }); failed != nil {
		return 0, failed
	}
	return pos, err
}

// GetXattr implements api.Files. What was made here, where no default ACL is, has none.
func (b *Files) GetXattr(ctx context.Context, ino twofold.Ino, name string) (v []byte, err error) {
	if b.bare(ino) {
		return nil, errs.Newf("behind.GetXattr", errs.NoAttr, "no such attribute")
	}
	if failed := b.of(ctx, ino, func() { v, err = b.to.GetXattr(ctx, ino, name) }); failed != nil {
		return nil, failed
	}
	return v, err
}

// bare reports whether an inode is known to have no attributes: an ACL is what the kernel asks
// for when it checks permissions.
func (b *Files) bare(ino twofold.Ino) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.outside[ino] > 0 || !b.alive() {
		return false
	}
	in, _ := b.ours(ino)
	d := b.dirs[ino]
	return in != nil || d.usable() && d.plain
}

// ListXattr implements api.Files.
func (b *Files) ListXattr(ctx context.Context, ino twofold.Ino) (names []string, err error) {
	if failed := b.of(ctx, ino, func() { names, err = b.to.ListXattr(ctx, ino) }); failed != nil {
		return nil, failed
	}
	return names, err
}

// Promise implements api.Files. All of it is given back when nothing is queued that needs it.
func (b *Files) Promise(ctx context.Context, n int64) (int64, error) {
	if n == 0 {
		if err := b.SyncAll(ctx); err != nil {
			return 0, err
		}
	}
	return b.to.Promise(ctx, n)
}

// Forget implements api.Files.
func (b *Files) Forget(ctx context.Context, inos []twofold.Ino) error {
	b.mu.Lock()
	for _, ino := range inos {
		b.unread(ino)
	}
	b.mu.Unlock()
	return b.to.Forget(ctx, inos)
}

// unread notes that the session is no reader of an inode any more, nor by what a batch that
// is under way answers; b.mu is held.
func (b *Files) unread(ino twofold.Ino) {
	if b.queue.unread != nil {
		b.queue.unread[ino] = struct{}{}
	}
	if in := b.inodes[ino]; in != nil {
		in.reader = false
	}
	if d := b.dirs[ino]; d != nil {
		d.reader = false
	}
}

// StatFS implements api.Files.
func (b *Files) StatFS(ctx context.Context, ino twofold.Ino) (s api.StatFS, err error) {
	if failed := b.of(ctx, ino, func() { s, err = b.to.StatFS(ctx, ino) }); failed != nil {
		return s, failed
	}
	return s, err
}

// GetLock implements api.Files.
func (b *Files) GetLock(ctx context.Context, ino twofold.Ino, l api.Lock) (o api.Lock, found bool, err error) {
	if failed := b.of(ctx, ino, func() { o, found, err = b.to.GetLock(ctx, ino, l) }); failed != nil {
		return o, false, failed
	}
	return o, found, err
}

// SetLock implements api.Files.
func (b *Files) SetLock(ctx context.Context, ino twofold.Ino, l api.Lock, wait bool) (err error) {
	if failed := b.of(ctx, ino, func() { err = b.to.SetLock(ctx, ino, l, wait) }); failed != nil {
		return failed
	}
	return err
}

// AcquireDir implements api.Files, as Inos and Batch do: they are for whoever does what this
// package does.
func (b *Files) AcquireDir(ctx context.Context, dir twofold.Ino) (api.DirLease, error) {
	return api.DirLease{}, errs.Newf("behind.AcquireDir", errs.Unsupported, "leases of directories are taken already")
}

// Inos implements api.Files.
func (b *Files) Inos(context.Context, int) (twofold.Ino, int, error) {
	return 0, 0, errs.Newf("behind.Inos", errs.Unsupported, "leases of directories are taken already")
}

// Batch implements api.Files.
func (b *Files) Batch(context.Context, api.Batch) (api.BatchResult, error) {
	return api.BatchResult{Failed: -1}, errs.Newf("behind.Batch", errs.Unsupported, "leases of directories are taken already")
}
