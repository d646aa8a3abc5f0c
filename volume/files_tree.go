package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"
)

// Create implements api.Files. In the root it makes a bucket.
func (s *Session) Create(ctx context.Context, dir twofold.Ino, name string, c api.Create) (a api.Attr, existed bool, err error) {
	if err := s.v.Placer.Writable(); err != nil {
		return api.Attr{}, false, err
	}
	if dir == twofold.RootIno {
		a, err := s.createBucket(ctx, name, c)
		return a, false, err
	}
	d, n, err := s.v.target("volume.Create", dir, name)
	if err != nil {
		return api.Attr{}, false, err
	}
	if c.Type != metadata.TypeDir && !keypath.CanBeFile(n.Comp) {
		return api.Attr{}, false, errs.Newf("volume.Create", errs.Invalid, "%q can only be a directory: it stands for an empty part of a key", name)
	}
	ch, err := s.changeNames(ctx, false, []twofold.Ino{dir}, []nameAt{{d, n}})
	if err != nil {
		return api.Attr{}, false, err
	}
	defer func() { ch.done(err) }()
	res, err := s.send(ctx, ch, d, metadata.OpCreate, metadata.Create{
		Parent: d, Name: n, Type: c.Type, Mode: c.Mode, UID: c.UID, GID: c.GID,
		Rdev: c.Rdev, Target: c.Target, Exclusive: c.Exclusive, Asked: c.Asked,
	})
	if err != nil {
		return api.Attr{}, false, err
	}
	if res.ID == 1 { // it was there: others may have written to it
		if a, err = s.GetAttr(ctx, res.Inode.Ino); err != nil {
			return api.Attr{}, true, err
		}
	} else {
		a = s.granted(ctx, ch, res.Inode, s.entryIn(dir, d, n))
	}
	s.tellDirs(ctx, ch, d)
	return a, res.ID == 1, nil
}

func (s *Session) createBucket(ctx context.Context, name string, c api.Create) (a api.Attr, err error) {
	if c.Type != metadata.TypeDir {
		return api.Attr{}, errs.Newf("volume.Create", errs.Permission, "only buckets (directories) can be made here")
	}
	if !ValidBucketName(twofold.BucketName(name)) {
		return api.Attr{}, errs.Newf("volume.Create", errs.BadBucketName, "%q is not a bucket name", name)
	}
	ch, err := s.change(ctx, bucketEntry(twofold.BucketName(name)))
	if err != nil {
		return api.Attr{}, err
	}
	defer func() { ch.done(err) }()
	res, err := s.command(ctx, metadata.OpCreateBucket, metadata.CreateBucket{
		Name:  twofold.BucketName(name),
		Posix: &metadata.PosixAttrs{Mode: &c.Mode, UID: &c.UID, GID: &c.GID},
	})
	if err != nil {
		return api.Attr{}, err
	}
	return s.granted(ctx, ch, res.Inode, nil), nil
}

// entryIn is a name in the tree's directory d, where that is the directory dir as the mount
// knows it; nil in a synthetic level, whose names are not cached.
func (s *Session) entryIn(dir, d twofold.Ino, n metadata.Name) *nameAt {
	if dir != d {
		return nil
	}
	return &nameAt{d, n}
}

// Tmpfile implements api.Files. In the root there is no bucket that it could be in.
func (s *Session) Tmpfile(ctx context.Context, dir twofold.Ino, c api.Create) (a api.Attr, err error) {
	if err := s.v.Placer.Writable(); err != nil {
		return api.Attr{}, err
	}
	p, err := s.v.place(dir)
	if err != nil {
		return api.Attr{}, err
	}
	if dir == twofold.RootIno || p.prefix != "" {
		return api.Attr{}, errs.Newf("volume.Tmpfile", errs.Permission, "nothing can be made in this directory")
	}
	ch, err := s.v.beginChange(ctx, s) // of nothing that anybody caches; but the directory has to be there
	if err != nil {
		return api.Attr{}, err
	}
	defer func() { ch.done(err) }()
	if err = ch.exclude(ctx, metadata.Target{Ino: p.dir}); err != nil {
		return api.Attr{}, err
	}
	res, err := s.command(ctx, metadata.OpTmpfile, metadata.Tmpfile{Parent: p.dir, Mode: c.Mode, UID: c.UID, GID: c.GID, Asked: c.Asked})
	if err != nil {
		return api.Attr{}, err
	}
	return s.attrOf(res.Inode), nil
}

// Link implements api.Files.
func (s *Session) Link(ctx context.Context, ino, dir twofold.Ino, name string) (a api.Attr, err error) {
	if err := s.v.Placer.Writable(); err != nil {
		return api.Attr{}, err
	}
	if dir == twofold.RootIno || ino == twofold.RootIno || ino&levelBit != 0 {
		return api.Attr{}, errs.Newf("volume.Link", errs.Permission, "links are made within a bucket")
	}
	d, n, err := s.v.target("volume.Link", dir, name)
	if err != nil {
		return api.Attr{}, err
	}
	c, err := s.changeNames(ctx, false, []twofold.Ino{dir}, []nameAt{{d, n}})
	if err != nil {
		return api.Attr{}, err
	}
	defer func() { c.done(err) }()
	if err = c.add(ctx, false, metadata.Target{Ino: ino}); err != nil {
		return api.Attr{}, err
	}
	res, err := s.send(ctx, c, d, metadata.OpLink, metadata.Link{Ino: ino, Parent: d, Name: n})
	if err != nil {
		return api.Attr{}, err
	}
	return s.granted(ctx, c, res.Inode, s.entryIn(dir, d, n)), nil
}

// Unlink implements api.Files.
func (s *Session) Unlink(ctx context.Context, dir twofold.Ino, name string) error {
	if dir == twofold.RootIno {
		return errs.Newf("volume.Unlink", errs.IsDir, "a bucket is a directory")
	}
	d, n, err := s.v.target("volume.Unlink", dir, name)
	if err != nil {
		return err
	}
	err = s.remove(ctx, dir, nameAt{d, n}, metadata.OpUnlink, metadata.Unlink{Parent: d, Name: n})
	s.v.kick(s.v.kickReaper)
	return err
}

// remove sends a command that removes an entry which the mount knows in directory dir.
func (s *Session) remove(ctx context.Context, dir twofold.Ino, at nameAt, op metadata.Op, body any) error {
	c, err := s.changeNames(ctx, false, []twofold.Ino{dir}, []nameAt{at})
	if err != nil {
		return err
	}
	defer func() { c.done(err) }()
	if err = s.resolved(ctx, c, at); err != nil {
		return err
	}
	if _, err = s.send(ctx, c, at.dir, op, body); err == nil {
		s.tellDirs(ctx, c, at.dir)
	}
	return err
}

// Rmdir implements api.Files. In the root it removes an empty bucket.
func (s *Session) Rmdir(ctx context.Context, dir twofold.Ino, name string) error {
	if dir == twofold.RootIno {
		defer s.v.forgetBucket(twofold.BucketName(name))
		return s.removeBucket(ctx, twofold.BucketName(name))
	}
	d, n, err := s.v.target("volume.Rmdir", dir, name)
	if err != nil {
		return err
	}
	err = s.remove(ctx, dir, nameAt{d, n}, metadata.OpRmdir, metadata.Rmdir{Parent: d, Name: n})
	s.v.kick(s.v.kickReaper)
	return err
}

func (s *Session) removeBucket(ctx context.Context, name twofold.BucketName) error {
	c, err := s.change(ctx, bucketEntry(name))
	if err != nil {
		return err
	}
	defer func() { c.done(err) }()
	if err = s.v.addBucketRoot(ctx, c, name); err != nil {
		return err
	}
	res, err := c.send(ctx, noBucket, func(guard []metadata.Target) (*metadata.Result, error) {
		return s.commandGuarded(ctx, metadata.OpDeleteBucket, metadata.DeleteBucket{Name: name}, guard)
	})
	if err == nil && res.More {
		return s.v.DeleteBucket(ctx, name)
	}
	return err
}

// renameExchange is RENAME_EXCHANGE, renameat2(2).
const renameExchange = 2

// Rename implements api.Files. Buckets can't be renamed: mv falls back to copying.
func (s *Session) Rename(ctx context.Context, oldDir twofold.Ino, oldName string, newDir twofold.Ino, newName string, flags uint32) error {
	if oldDir == twofold.RootIno || newDir == twofold.RootIno {
		return errs.Newf("volume.Rename", errs.CrossBucket, "a bucket can't be renamed")
	}
	od, on, err := s.v.target("volume.Rename", oldDir, oldName)
	if err != nil {
		return err
	}
	nd, nn, err := s.v.target("volume.Rename", newDir, newName)
	if err != nil {
		return err
	}
	// An exchange can give a directory the place of an object beside one: names that the
	// mount does not know of.
	names := []nameAt{{od, on}, {nd, nn}}
	c, err := s.changeNames(ctx, flags&renameExchange != 0, []twofold.Ino{oldDir, newDir}, names)
	if err != nil {
		return err
	}
	defer func() { c.done(err) }()
	if err = s.resolved(ctx, c, names...); err != nil {
		return err
	}
	_, err = s.send(ctx, c, od, metadata.OpRename, metadata.Rename{
		OldParent: od, OldName: on, NewParent: nd, NewName: nn, Flags: flags,
	})
	if err == nil {
		s.tellDirs(ctx, c, od, nd)
	}
	s.v.kick(s.v.kickReaper)
	return err
}

// ReadDir implements api.Files.
func (s *Session) ReadDir(ctx context.Context, dir twofold.Ino, cursor string, max int, attrs bool) ([]api.DirEntry, bool, error) {
	if dir == twofold.RootIno {
		return s.readRoot(ctx, cursor, max)
	}
	p, err := s.v.place(dir)
	if err != nil {
		return nil, false, err
	}
	var out []api.DirEntry
	var items []metadata.DirItem
	var more bool
	gen, err := s.v.observeAt(ctx, s.id, func(w metadata.View) (inos []twofold.Ino, err error) {
		out, more, items, err = s.v.readPlace(w, p, cursor, max, attrs)
		for _, it := range items {
			if attrs && it.Inode != nil {
				inos = append(inos, it.Ino)
			}
		}
		return inos, err
	})
	if err == nil && attrs {
		s.grantItems(gen, p, out, items)
	}
	return out, !more, err
}

// grantItems is grant and grantName for the entries of a listing.
func (s *Session) grantItems(gen uint64, p place, out []api.DirEntry, items []metadata.DirItem) {
	for i, it := range items {
		if it.Inode == nil { // a synthetic level
			continue
		}
		s.grant(gen, it.Inode, &out[i].Attr)
		if p.prefix == "" {
			s.grantName(gen, it.Inode.Bucket, p.dir, it.Name.Comp, &out[i].Attr)
		}
	}
}

// readPlace lists a directory or a synthetic level in one snapshot. Each synthetic
// level below shows once: components that share it are next to each other, but for
// shorter ones with names of their own in between, so the last one shown is in the
// cursor's component. Of each entry there is the item, which is empty for a level.
func (v *Volume) readPlace(w metadata.View, p place, cursor string, max int, attrs bool) (out []api.DirEntry, more bool, shows []metadata.DirItem, err error) {
	depth := 1 // levels below p begin at this one
	if p.prefix != "" {
		depth += levelDepth(p.prefix)
		if cursor == "" {
			cursor = p.prefix
		}
	}
	shown := lastLevel(cursor, depth)
	for more = true; more && len(out) < max; {
		var items []metadata.DirItem
		items, more, err = w.ReadDir(p.dir, cursor, max-len(out), attrs)
		if err != nil {
			return nil, false, nil, err
		}
		for _, it := range items {
			cursor = it.Cursor
			if p.prefix != "" && !inLevel(it.Name, p.prefix) {
				if len(it.Name.Comp) >= len(p.prefix) && it.Name.Comp[:len(p.prefix)] > p.prefix {
					return out, false, shows, nil
				}
				continue
			}
			names := keypath.ToPosix(it.Name.Comp, it.Name.File)
			if deeper, ok := keypath.LongPrefix(it.Name.Comp, it.Name.File, depth); ok {
				if deeper != shown {
					shown = deeper
					out = append(out, api.DirEntry{Name: names[depth-1], Cursor: cursor, Attr: v.levelAttr(place{dir: p.dir, prefix: deeper})})
					shows = append(shows, metadata.DirItem{})
				}
				continue
			}
			e := api.DirEntry{Name: names[len(names)-1], Cursor: cursor, Attr: api.Attr{Ino: it.Ino, Type: it.Type}}
			if attrs && it.Inode != nil {
				e.Attr = attrOf(it.Inode)
			}
			out = append(out, e)
			shows = append(shows, it)
		}
	}
	return out, more, shows, nil
}

// levelDepth is how many levels deep the level with the prefix is.
func levelDepth(prefix string) int {
	for d := 1; ; d++ {
		got, ok := keypath.LongPrefix(prefix+longTail, false, d)
		if !ok || len(got) >= len(prefix) {
			return d
		}
	}
}

// longTail makes any level's prefix a component that is long enough to have it.
var longTail = string(make([]byte, 512))

// lastLevel is the synthetic level that a listing has shown before the cursor.
func lastLevel(cursor string, depth int) string {
	comp := cursor
	if n := len(comp); n > 0 && comp[n-1] == '/' {
		comp = comp[:n-1]
	}
	if p, ok := keypath.LongPrefix(comp, false, depth); ok {
		return p
	}
	return ""
}

// readRoot lists the buckets.
func (s *Session) readRoot(ctx context.Context, cursor string, max int) (out []api.DirEntry, eof bool, err error) {
	err = s.v.observe(ctx, s.id, func(w metadata.View) ([]twofold.Ino, error) {
		out, eof = nil, true
		all, err := w.Buckets()
		if err != nil {
			return nil, err
		}
		for i := range all {
			name := string(all[i].Name)
			if name <= cursor {
				continue
			}
			if len(out) == max {
				eof = false
				return nil, nil
			}
			in, err := w.Inode(all[i].Root)
			if err != nil {
				return nil, err
			}
			out = append(out, api.DirEntry{Name: name, Cursor: name, Attr: attrOf(in)})
		}
		return nil, nil
	})
	return out, eof, err
}
