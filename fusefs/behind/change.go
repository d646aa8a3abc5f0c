package behind

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"
)

// Changes of names that are made here. Each returns done false where it has to go the
// ordinary way; then nothing has happened. b.mu is held.

// named returns a directory to change a name in, and what the name stands for, which it asks
// for where that is not known; nil: go the ordinary way.
func (b *Files) named(ctx context.Context, ino twofold.Ino, name string) (*dir, entry, error) {
	if !keypath.Ordinary(name) || b.dirs[ino] == nil {
		return nil, entry{}, nil
	}
	for range 4 {
		d, err := b.writable(ctx, ino)
		if d == nil || err != nil {
			return nil, entry{}, err
		}
		if e, known := d.lookup(name); known {
			return d, e, nil
		}
		if d.state == dirBorn {
			return nil, entry{}, nil // the volume does not know it
		}
		if _, err := b.ask(ctx, d, name); err != nil && !errs.Is(err, errs.NotFound) {
			return nil, entry{}, err
		}
	}
	return nil, entry{}, nil
}

func (b *Files) createHere(ctx context.Context, ino twofold.Ino, name string, c *api.Create) (a api.Attr, done bool, err error) {
	d, e, err := b.named(ctx, ino, name)
	switch {
	case d == nil || err != nil:
		return a, err != nil, err
	case e.ino != 0 && c.Exclusive:
		return a, true, errs.Newf("behind.Create", errs.Exists, "%q is there already", name)
	case e.ino != 0 || !creatable(c) || c.Type == metadata.TypeDir && len(b.dirs) >= maxDirs || b.known >= maxKnown:
		return a, false, nil
	}
	n := b.number()
	if n == 0 {
		return a, false, nil
	}
	at := now(d.attr.Ctime)
	a = made(&d.attr, n, c, at)
	dirs := []twofold.Ino{ino}
	o := b.push(api.BatchOp{Now: at, Create: &api.BatchCreate{
		Dir: ino, Name: name, Ino: n, Type: c.Type, Mode: c.Mode & permMask, UID: c.UID, GID: c.GID, Rdev: c.Rdev, Target: c.Target,
	}}, dirs, ino, n)
	d.attr.Mtime, d.attr.Ctime = at, at
	k := simple
	if c.Type == metadata.TypeDir {
		k = subdir
		d.attr.Nlink++
		b.dirs[n] = &dir{
			ino: n, state: dirBorn, born: o.seq, used: o.at, attr: a, valid: true, reader: d.reader, plain: true, whole: true, unlimited: d.unlimited,
		}
		b.place(ino, &a, nil)
	} else {
		b.keep(&inode{attr: a, target: c.Target, born: o.seq, reader: d.reader})
		d.below = o.seq
	}
	b.set(d, name, entry{n, k})
	a.Leased, a.NameLeased = d.reader, d.reader
	b.tell(api.DirsOf(ctx), d)
	return a, true, nil
}

// creatable reports whether the volume is sure to take it.
func creatable(c *api.Create) bool {
	if c.Type < metadata.TypeFile || c.Type > metadata.TypeBlock {
		return false
	}
	return (c.Type == metadata.TypeSymlink) == (c.Target != "") && len(c.Target) <= maxTarget
}

// maxTarget is the longest target of a symbolic link (PATH_MAX less its end).
const maxTarget = 4095

func (b *Files) unlinkHere(ctx context.Context, ino twofold.Ino, name string) (done bool, err error) {
	d, e, err := b.named(ctx, ino, name)
	switch {
	case d == nil || err != nil:
		return err != nil, err
	case e.ino == 0:
		return true, errs.Newf("behind.Unlink", errs.NotFound, "no such file or directory")
	case !b.single(e):
		return false, nil
	}
	at := now(d.attr.Ctime)
	o := b.push(api.BatchOp{Now: at, Unlink: &api.BatchName{Dir: ino, Name: name, Ino: e.ino}}, []twofold.Ino{ino}, ino, e.ino)
	b.gone(d, e.ino, at, o)
	b.set(d, name, entry{})
	d.attr.Mtime, d.attr.Ctime = at, at
	b.tell(api.DirsOf(ctx), d)
	return true, nil
}

// single reports whether a name is the only one of a non-directory, and nothing else is under
// way with that; b.mu is held.
func (b *Files) single(e entry) bool {
	_, shared := b.shared[e.ino]
	return e.kind == simple && !shared && b.outside[e.ino] == 0
}

// gone notes that an inode has lost its name; b.mu is held.
func (b *Files) gone(d *dir, ino twofold.Ino, at twofold.Time, o *op) {
	d.below = o.seq
	if in := b.inodes[ino]; in != nil {
		in.attr.Nlink, in.attr.Ctime = 0, at
	}
}

func (b *Files) rmdirHere(ctx context.Context, ino twofold.Ino, name string) (done bool, err error) {
	d, e, err := b.named(ctx, ino, name)
	switch {
	case d == nil || err != nil:
		return err != nil, err
	case e.ino == 0:
		return true, errs.Newf("behind.Rmdir", errs.NotFound, "no such file or directory")
	case e.kind != subdir || d.escapes || !d.whole: // else an object beside it may get its name
		return false, nil
	}
	// It may have to wait, and everything is to be looked at again behind that.
	if sub, err := b.writable(ctx, e.ino); sub == nil || err != nil {
		return err != nil, err
	}
	sub := b.dirs[e.ino]
	again, known := d.lookup(name)
	if d, err = b.stillWritable(d); d == nil || !known || again != e || !sub.usable() || !sub.empty() || b.outside[e.ino] > 0 {
		return false, err
	}
	at := now(d.attr.Ctime)
	b.push(api.BatchOp{Now: at, Rmdir: &api.BatchName{Dir: ino, Name: name, Ino: e.ino}}, []twofold.Ino{ino, e.ino}, ino, e.ino)
	b.set(d, name, entry{})
	d.attr.Mtime, d.attr.Ctime = at, at
	d.attr.Nlink--
	sub.gone = true
	b.close(sub)
	b.tell(api.DirsOf(ctx), d)
	return true, nil
}

// stillWritable is writable for a directory that was, without waiting; nil where it would
// have to.
func (b *Files) stillWritable(d *dir) (*dir, error) {
	switch {
	case b.dirs[d.ino] != d || !d.usable() || !d.valid || !b.alive() || b.outside[d.ino] > 0:
		return nil, nil
	case b.queue.failing != nil:
		return nil, b.queue.failing
	}
	return d, nil
}

// renameNoReplace is RENAME_NOREPLACE, renameat2(2).
const renameNoReplace = 1

func (b *Files) renameHere(ctx context.Context, oldDir twofold.Ino, oldName string, newDir twofold.Ino, newName string, flags uint32) (done bool, err error) {
	if flags&^renameNoReplace != 0 || !b.oneBucket(oldDir, newDir) {
		return false, nil
	}
	from, what, err := b.named(ctx, oldDir, oldName)
	if from == nil || err != nil {
		return err != nil, err
	}
	to, over, err := b.named(ctx, newDir, newName)
	if to == nil || err != nil {
		return err != nil, err
	}
	again, known := from.lookup(oldName) // named may have waited
	if from, err = b.stillWritable(from); from == nil || !known || again != what {
		return err != nil, err
	}
	switch {
	case what.ino == 0:
		return true, errs.Newf("behind.Rename", errs.NotFound, "no such file or directory")
	case what.ino == over.ino:
		return false, nil
	case over.ino != 0 && flags&renameNoReplace != 0:
		return true, errs.Newf("behind.Rename", errs.Exists, "%q is there already", newName)
	case !b.single(what) || over.ino != 0 && !b.single(over):
		return false, nil
	}
	at := now(from.attr.Ctime, to.attr.Ctime)
	of := []twofold.Ino{oldDir, newDir, what.ino}
	if over.ino != 0 {
		of = append(of, over.ino)
	}
	o := b.push(api.BatchOp{Now: at, Rename: &api.BatchRename{
		OldDir: oldDir, OldName: oldName, NewDir: newDir, NewName: newName, Ino: what.ino, Replaced: over.ino,
	}}, []twofold.Ino{oldDir, newDir}, of...)
	if over.ino != 0 {
		b.gone(to, over.ino, at, o)
	}
	from.below, to.below = o.seq, o.seq
	if in := b.inodes[what.ino]; in != nil {
		in.attr.Ctime = at
		b.move(in, newDir)
	}
	b.set(from, oldName, entry{})
	b.set(to, newName, what)
	from.attr.Mtime, from.attr.Ctime = at, at
	to.attr.Mtime, to.attr.Ctime = at, at
	b.tell(api.DirsOf(ctx), from, to)
	return true, nil
}
