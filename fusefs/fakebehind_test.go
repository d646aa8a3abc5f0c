package fusefs

import (
	"context"
	"maps"
	"slices"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// Write leases of directories in the fake volume: they are holder and token of a directory.

// home is the directory whose lease decides about an inode; 0: none. v.mu is held.
func (v *fakeVolume) home(in *fakeInode) twofold.Ino {
	if in.entries != nil || in.attr.Nlink != 1 {
		return 0
	}
	if v.quick {
		return in.parent
	}
	if p := v.inodes[in.parent]; p != nil {
		for _, ino := range p.entries {
			if ino == in.attr.Ino {
				return in.parent
			}
		}
	}
	for _, p := range v.inodes {
		for _, ino := range p.entries {
			if ino == in.attr.Ino {
				in.parent = p.attr.Ino
				return in.parent
			}
		}
	}
	return 0
}

// alone takes the write leases of directories from others that decide about what is given. It
// reports whether it let go of v.mu for that, which is held.
func (s *fakeSession) alone(ctx context.Context, what []api.Stale) (dropped bool) {
	v := s.v
	for again := true; again; {
		again = false
		for _, w := range what {
			in := v.inodes[w.Ino]
			if in == nil {
				continue
			}
			dirs := []*fakeInode{in}
			if in.entries == nil {
				dirs = []*fakeInode{v.inodes[v.home(in)]}
			}
			for _, d := range dirs {
				if d == nil || d.entries == nil || d.holder == nil || d.holder == s {
					continue
				}
				h, token, ino := d.holder, d.token, d.attr.Ino
				v.mu.Unlock()
				h.holder.Recall(ctx, ino, token)
				v.mu.Lock()
				if d.holder == h && d.token == token {
					d.holder = nil // fenced off
				}
				again, dropped = true, true
			}
		}
	}
	return dropped
}

func (s *fakeSession) AcquireDir(ctx context.Context, dir twofold.Ino) (api.DirLease, error) {
	if err := s.before("AcquireDir", dir); err != nil {
		return api.DirLease{}, err
	}
	if dir == twofold.RootIno && !s.v.rootLease {
		return api.DirLease{}, fail(errs.Invalid)
	}
	end := s.change(ctx, 0, func() []api.Stale {
		all := itself(dir)()
		if d := s.v.inodes[dir]; d != nil {
			all = append(all, itself(slices.Collect(maps.Values(d.entries))...)()...)
		}
		return all
	})
	d, err := s.v.dir(dir)
	if err == nil && d.attr.Nlink == 0 {
		err = fail(errs.Stale)
	}
	if err != nil {
		end()
		return api.DirLease{}, err
	}
	if d.holder != s {
		s.v.token++
		d.holder, d.token = s, s.v.token
	}
	end()
	s.v.mu.Lock()
	l := api.DirLease{Token: d.token, Attr: s.grant(d), Unlimited: s.v.quota == 0}
	s.v.mu.Unlock()
	return l, s.before("granteddir", dir)
}

func (s *fakeSession) Inos(_ context.Context, n int) (twofold.Ino, int, error) {
	if err := s.before("Inos", 0); err != nil {
		return 0, 0, err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	first := s.v.last + 1
	s.v.last += twofold.Ino(n)
	return first, n, nil
}

// Batch applies operations to the tree, and takes everything back where one is refused.
func (s *fakeSession) Batch(ctx context.Context, b api.Batch) (r api.BatchResult, err error) {
	r.Failed = -1
	if err := s.before("Batch", 0); err != nil {
		return r, err
	}
	r, err = s.batch(b)
	if err == nil {
		err = s.before("batched", 0)
	}
	return r, err
}

func (s *fakeSession) batch(b api.Batch) (r api.BatchResult, err error) {
	r.Failed = -1
	v := s.v
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mostOps > 0 && len(b.Ops) > v.mostOps {
		r.Failed = v.mostOps
		return r, fail(errs.TooLarge)
	}
	under := make(map[twofold.Ino]bool)
	var of []twofold.Ino
	for _, h := range b.Dirs {
		d := v.inodes[h.Ino]
		if d == nil || h.Token == 0 || d.holder != s || d.token != h.Token {
			return r, fail(errs.Fenced)
		}
		under[h.Ino] = true
		of = append(of, h.Ino)
	}
	var before map[twofold.Ino]*fakeInode
	if !v.quick {
		before = v.copyTree()
	}
	for i := range b.Ops {
		inos, ok := s.op(&b.Ops[i], under)
		if !ok {
			v.inodes = before
			r.Failed = i
			return r, fail(errs.Conflict)
		}
		of = append(of, inos...)
	}
	v.batches++
	seen := make(map[twofold.Ino]bool)
	for _, ino := range of {
		in := v.inodes[ino]
		if in == nil || seen[ino] || in.attr.Nlink == 0 {
			continue
		}
		seen[ino] = true
		r.Attrs = append(r.Attrs, s.grant(in))
	}
	for i := range b.Ops {
		if c := b.Ops[i].Create; c != nil && c.Lease && v.inodes[c.Ino] != nil {
			r.Tokens = append(r.Tokens, api.HeldWrite{Ino: c.Ino, Token: v.inodes[c.Ino].token})
		}
	}
	return r, nil
}

// copyTree copies what operations change.
func (v *fakeVolume) copyTree() map[twofold.Ino]*fakeInode {
	all := make(map[twofold.Ino]*fakeInode, len(v.inodes))
	for ino, in := range v.inodes {
		c := *in
		c.data, c.entries, c.sorted = slices.Clone(in.data), maps.Clone(in.entries), nil
		all[ino] = &c
	}
	return all
}

// op applies an operation; ok is false where the tree is not what it expects.
func (s *fakeSession) op(o *api.BatchOp, under map[twofold.Ino]bool) (of []twofold.Ino, ok bool) {
	v := s.v
	at := func(dir twofold.Ino, name string, want twofold.Ino) (d, in *fakeInode) {
		d, in, _ = v.entry(dir, name)
		if d == nil || !under[dir] || d.attr.Nlink == 0 || (in == nil) != (want == 0) || in != nil && in.attr.Ino != want {
			return nil, nil
		}
		return d, in
	}
	moved := func(dirs ...*fakeInode) {
		for _, d := range dirs {
			d.attr.Mtime, d.attr.Ctime = o.Now, o.Now
		}
	}
	switch {
	case o.Create != nil:
		c := o.Create
		d, _ := at(c.Dir, c.Name, 0)
		if d == nil || v.inodes[c.Ino] != nil || c.Ino > v.last {
			return nil, false
		}
		in := v.add(api.Create{Type: c.Type, Mode: c.Mode, UID: c.UID, GID: c.GID, Rdev: c.Rdev, Target: c.Target}, c.Ino)
		in.attr.Atime, in.attr.Mtime, in.attr.Ctime, in.attr.Btime = o.Now, o.Now, o.Now, o.Now
		if c.Type == metadata.TypeDir {
			in.attr.Size = 4096
			under[c.Ino] = true
		}
		in.attr.Stored = int64(len(c.Target))
		if c.Lease {
			v.token++
			in.holder, in.token = s, v.token
		}
		v.link(d, c.Name, in)
		moved(d)
		return []twofold.Ino{c.Dir, c.Ino}, true
	case o.Write != nil:
		w := o.Write
		in := v.inodes[w.Ino]
		if in == nil || !under[v.home(in)] || in.holder != nil && in.holder != s || w.Token != 0 && in.token != w.Token {
			return nil, false
		}
		size := max(in.attr.Size, w.Size)
		for _, seg := range w.Segments {
			size = max(size, end(seg))
		}
		in.resize(size)
		for _, seg := range w.Segments {
			copy(in.data[seg.Off:], seg.Data)
		}
		s.use(int64(len(w.Segments)))
		in.attr.Version++
		in.attr.ETag, in.attr.Mtime, in.attr.Ctime = w.ETag, w.Mtime, o.Now
		if w.Atime != 0 {
			in.attr.Atime = w.Atime
		}
		if w.KillPriv {
			in.attr.Mode = withoutSetID(in.attr.Mode)
		}
		v.writes++
		return []twofold.Ino{w.Ino}, true
	case o.SetAttr != nil:
		c := o.SetAttr.Attr
		in := v.inodes[o.SetAttr.Ino]
		if in == nil || c.Size != nil || !under[v.home(in)] && !under[o.SetAttr.Ino] {
			return nil, false
		}
		set(&in.attr.Mode, c.Mode)
		set(&in.attr.UID, c.UID)
		set(&in.attr.GID, c.GID)
		if c.Mode == nil && in.entries == nil && (c.KillPriv || c.UID != nil || c.GID != nil) {
			in.attr.Mode = withoutSetID(in.attr.Mode)
		}
		set(&in.attr.Atime, c.Atime)
		set(&in.attr.Mtime, c.Mtime)
		in.attr.Ctime = o.Now
		return []twofold.Ino{o.SetAttr.Ino}, true
	case o.Unlink != nil, o.Rmdir != nil:
		n := o.Unlink
		if n == nil {
			n = o.Rmdir
		}
		d, in := at(n.Dir, n.Name, n.Ino)
		if in == nil || (in.entries != nil) != (o.Rmdir != nil) || len(in.entries) > 0 || in.entries == nil && v.home(in) != n.Dir || in.entries != nil && !under[n.Ino] {
			return nil, false
		}
		v.drop(d, n.Name, in)
		in.attr.Ctime = o.Now
		moved(d)
		return []twofold.Ino{n.Dir, n.Ino}, true
	case o.Rename != nil:
		r := o.Rename
		od, in := at(r.OldDir, r.OldName, r.Ino)
		nd, over := at(r.NewDir, r.NewName, r.Replaced)
		if in == nil || nd == nil || in.entries != nil || over != nil && over.entries != nil || v.home(in) != r.OldDir {
			return nil, false
		}
		if over != nil {
			v.drop(nd, r.NewName, over)
			over.attr.Ctime = o.Now
		}
		delete(od.entries, r.OldName)
		od.sorted = nil
		v.link(nd, r.NewName, in)
		in.attr.Ctime = o.Now
		moved(od, nd)
		return []twofold.Ino{r.OldDir, r.NewDir, r.Ino}, true
	}
	return nil, false
}
