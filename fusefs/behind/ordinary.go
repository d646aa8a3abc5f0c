package behind

import (
	"context"
	"slices"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// ordinary is a change that goes to the volume. Until its end nothing is done here to the
// inodes, and in the directories, that it is of.
type ordinary struct {
	b    *Files
	inos []twofold.Ino
}

// ordinary begins one: when it returns, everything is committed that was done before.
// b.mu is held, but not while it waits.
func (b *Files) ordinary(ctx context.Context, inos ...twofold.Ino) (*ordinary, error) {
	o := &ordinary{b, inos}
	for _, ino := range inos {
		b.outside[ino]++
		if d := b.dirs[ino]; d != nil {
			d.rev++
		}
	}
	if err := b.settle(ctx, b.queue.seq); err != nil {
		o.end(err)
		return nil, err
	}
	return o, nil
}

// end ends it; b.mu is held. What is known of its inodes is not known any more, but for what
// the caller puts in its place.
func (o *ordinary) end(err error) {
	b := o.b
	for _, ino := range o.inos {
		if b.outside[ino]--; b.outside[ino] == 0 {
			delete(b.outside, ino)
		}
		if d := b.dirs[ino]; d != nil {
			d.rev++
			d.valid = false
			if errs.Is(err, errs.UnknownOutcome) {
				b.close(d) // it may happen later
			}
		}
	}
	b.broadcast()
}

// call runs fn, a call, without b.mu, which is held.
func (b *Files) call(fn func()) {
	b.mu.Unlock()
	defer b.mu.Lock()
	fn()
}

// nameAt is a name in a directory.
type nameAt struct {
	dir  twofold.Ino
	name string
}

// meant is what a name that is about to change stands for, as far as it matters here: it may
// be a directory whose lease is held. b.mu is held, but not while the volume is asked.
func (b *Files) meant(ctx context.Context, n nameAt, kills bool) (ino twofold.Ino) {
	if d := b.dirs[n.dir]; d != nil {
		if e, known := d.lookup(n.name); known {
			return e.ino
		}
	}
	if !kills {
		return 0
	}
	for _, d := range b.dirs {
		if !d.whole || d.empty() { // else it can't be removed
			b.call(func() {
				if a, err := b.to.Lookup(ctx, n.dir, n.name); err == nil {
					ino = a.Ino
				}
			})
			return ino
		}
	}
	return 0
}

// changeNames sends a change of names, of one inode or of what the names stand for; kills tells
// that directories may be removed.
func (b *Files) changeNames(ctx context.Context, kills bool, names []nameAt, ino twofold.Ino, send func(ctx context.Context) error) error {
	var inos []twofold.Ino
	for _, n := range names {
		inos = append(inos, n.dir)
		if ino := b.meant(ctx, n, kills); ino != 0 {
			inos = append(inos, ino)
		}
	}
	if ino != 0 {
		inos = append(inos, ino)
	}
	o, err := b.ordinary(ctx, inos...)
	if err != nil {
		return err
	}
	to := api.DirsOf(ctx)
	ctx, dirs := api.WithDirs(ctx)
	b.call(func() { err = send(ctx) })
	o.end(err)
	for _, ino := range inos {
		b.unkeep(ino)
		if d := b.dirs[ino]; d != nil && kills && !slices.ContainsFunc(names, func(n nameAt) bool { return n.dir == ino }) {
			b.close(d) // it may be gone
		}
	}
	for _, n := range names {
		if d := b.dirs[n.dir]; d != nil {
			b.unset(d, n.name)
		}
		if err == nil {
			b.changedNames(n.dir)
		}
	}
	for _, a := range dirs.Attrs() {
		if d := b.dirs[a.Ino]; d != nil && b.outside[a.Ino] == 0 && b.queue.touched[a.Ino] == 0 {
			d.attr, d.valid = a, true
		}
		to.Add(a)
	}
	return err
}

// Create implements api.Files.
func (b *Files) Create(ctx context.Context, dir twofold.Ino, name string, c api.Create) (a api.Attr, existed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, done, err := b.createHere(ctx, dir, name, &c); done {
		return a, false, err
	}
	err = b.changeNames(ctx, false, []nameAt{{dir, name}}, 0, func(ctx context.Context) (err error) {
		a, existed, err = b.to.Create(ctx, dir, name, c)
		return err
	})
	b.place(dir, &a, err)
	return a, existed, err
}

// Unlink implements api.Files.
func (b *Files) Unlink(ctx context.Context, dir twofold.Ino, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.makeWay(ctx); err != nil {
		return err
	}
	if done, err := b.unlinkHere(ctx, dir, name); done {
		return err
	}
	return b.changeNames(ctx, false, []nameAt{{dir, name}}, 0, func(ctx context.Context) error {
		return b.to.Unlink(ctx, dir, name)
	})
}

// Rmdir implements api.Files.
func (b *Files) Rmdir(ctx context.Context, dir twofold.Ino, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.makeWay(ctx); err != nil {
		return err
	}
	if done, err := b.rmdirHere(ctx, dir, name); done {
		return err
	}
	return b.changeNames(ctx, true, []nameAt{{dir, name}}, 0, func(ctx context.Context) error {
		return b.to.Rmdir(ctx, dir, name)
	})
}

// Rename implements api.Files.
func (b *Files) Rename(ctx context.Context, oldDir twofold.Ino, oldName string, newDir twofold.Ino, newName string, flags uint32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if done, err := b.renameHere(ctx, oldDir, oldName, newDir, newName, flags); done {
		return err
	}
	return b.changeNames(ctx, true, []nameAt{{oldDir, oldName}, {newDir, newName}}, 0, func(ctx context.Context) error {
		return b.to.Rename(ctx, oldDir, oldName, newDir, newName, flags)
	})
}

// maxShared is how many inodes are remembered that may have more than one name.
const maxShared = 64 << 10

// share notes an inode that has, or may get, more than one name; b.mu is held.
func (b *Files) share(ino twofold.Ino) {
	if len(b.shared) >= maxShared {
		clear(b.shared)
		for _, d := range b.dirs {
			b.close(d) // what is known of names is not to be relied on
		}
	}
	b.shared[ino] = struct{}{}
}

// Link implements api.Files.
func (b *Files) Link(ctx context.Context, ino, dir twofold.Ino, name string) (a api.Attr, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.share(ino)
	err = b.changeNames(ctx, false, []nameAt{{dir, name}}, ino, func(ctx context.Context) error {
		a, err = b.to.Link(ctx, ino, dir, name)
		return err
	})
	return a, err
}

// Tmpfile implements api.Files.
func (b *Files) Tmpfile(ctx context.Context, dir twofold.Ino, c api.Create) (a api.Attr, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.settle(ctx, b.queue.touched[dir]); err != nil {
		return a, err
	}
	b.call(func() { a, err = b.to.Tmpfile(ctx, dir, c) })
	if err == nil {
		b.share(a.Ino)
	}
	return a, err
}

// SetAttr implements api.Files.
func (b *Files) SetAttr(ctx context.Context, ino twofold.Ino, s api.SetAttr) (a api.Attr, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, done, err := b.setAttrHere(ctx, ino, s); done {
		return a, err
	}
	return b.changeInode(ctx, ino, s.Token, func(token uint64) (api.Attr, error) {
		s.Token = token
		return b.to.SetAttr(ctx, ino, s)
	})
}

// Write implements api.Files.
func (b *Files) Write(ctx context.Context, ino twofold.Ino, w api.Write) (api.Attr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, done, err := b.writeHere(ctx, ino, w); done {
		return a, err
	}
	return b.changeInode(ctx, ino, w.Token, func(token uint64) (api.Attr, error) {
		w.Token = token
		return b.to.Write(ctx, ino, w)
	})
}

// changeInode sends a change of one inode, under the volume's token for one that was given
// here. What is known of the inode is what it answers. b.mu is held.
func (b *Files) changeInode(ctx context.Context, ino twofold.Ino, token uint64, send func(token uint64) (api.Attr, error)) (a api.Attr, err error) {
	o, err := b.ordinary(ctx, ino)
	if err != nil {
		return a, err
	}
	if token, err = b.translate(ino, token); err != nil {
		o.end(err)
		return a, err
	}
	b.call(func() { a, err = send(token) })
	alone := b.outside[ino] == 1
	o.end(err)
	in, d := b.inodes[ino], b.dirs[ino]
	switch {
	case err != nil || !alone || a.Ino != ino:
		b.unkeep(ino)
	case in != nil && b.dirs[in.attr.Home] != nil:
		a.Home = in.attr.Home
		in.attr, in.reader = a, a.Leased
	case d != nil:
		d.attr, d.valid = a, true
		d.reader = d.reader && a.Leased
	}
	return a, err
}

// CopyRange implements api.Files.
func (b *Files) CopyRange(ctx context.Context, c api.CopyRange) (a api.Attr, n int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err = b.changeInode(ctx, c.Dst, c.DstToken, func(token uint64) (a api.Attr, err error) {
		c.DstToken = token
		b.mu.Lock()
		c.SrcToken, err = b.translate(c.Src, c.SrcToken)
		b.mu.Unlock()
		if err != nil {
			return a, errs.E("behind.CopyRange", errs.Conflict, err)
		}
		a, n, err = b.to.CopyRange(ctx, c)
		return a, err
	})
	return a, n, err
}

// SetXattr implements api.Files.
func (b *Files) SetXattr(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) error {
	b.mu.Lock()
	done, err := b.setACLHere(ctx, ino, name, value, flags)
	b.mu.Unlock()
	if done {
		return err
	}
	return b.changeXattr(ctx, ino, func() error { return b.to.SetXattr(ctx, ino, name, value, flags) })
}

// RemoveXattr implements api.Files.
func (b *Files) RemoveXattr(ctx context.Context, ino twofold.Ino, name string) error {
	return b.changeXattr(ctx, ino, func() error { return b.to.RemoveXattr(ctx, ino, name) })
}

func (b *Files) changeXattr(ctx context.Context, ino twofold.Ino, send func() error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, err := b.ordinary(ctx, ino)
	if err != nil {
		return err
	}
	b.call(func() { err = send() })
	o.end(err)
	b.unkeep(ino)
	if d := b.dirs[ino]; d != nil {
		b.close(d) // it may have a default ACL now
	}
	return err
}
