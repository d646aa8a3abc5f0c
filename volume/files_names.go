package volume

import (
	"context"
	"hash/maphash"
	"sync"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"
)

var _ api.Files = (*Session)(nil)

// place is a directory of the mount: the root of all buckets, a directory of the
// tree, or a synthetic level on the way to a long component in one.
type place struct {
	dir    twofold.Ino
	prefix string // of a synthetic level, else empty
}

// levelBit marks the inode numbers of synthetic levels.
const levelBit twofold.Ino = 1 << 63

// levels gives synthetic directories inode numbers. They last as long as the
// process: a mount that comes with one of before is answered ESTALE and looks it up
// again.
type levels struct {
	seed maphash.Seed
	mu   sync.Mutex
	at   map[twofold.Ino]place
}

func newLevels() *levels { return &levels{seed: maphash.MakeSeed(), at: map[twofold.Ino]place{}} }

func (l *levels) ino(p place) twofold.Ino {
	ino := twofold.Ino(maphash.Comparable(l.seed, p)) | levelBit
	l.mu.Lock()
	l.at[ino] = p
	l.mu.Unlock()
	return ino
}

// place finds what an inode number of the mount stands for.
func (v *Volume) place(ino twofold.Ino) (place, error) {
	if ino&levelBit == 0 {
		return place{dir: ino}, nil
	}
	v.levels.mu.Lock()
	defer v.levels.mu.Unlock()
	p, ok := v.levels.at[ino]
	if !ok {
		return p, errs.Newf("volume.place", errs.Stale, "no such directory")
	}
	return p, nil
}

// parse reads a name in a directory.
func (v *Volume) parse(dir twofold.Ino, name string) (place, metadata.Name, keypath.Kind, error) {
	p, err := v.place(dir)
	if err != nil {
		return p, metadata.Name{}, 0, err
	}
	if p.prefix != "" {
		n, k, err := keypath.LongLevel(p.prefix, name)
		if errs.Is(err, errs.Invalid) {
			err = errs.E("volume.parse", errs.NotFound, err)
		}
		return p, n, k, err
	}
	n, k, err := keypath.FromPosix(name)
	return p, n, k, err
}

// target reads a name that is to be made, removed or replaced: a whole one.
func (v *Volume) target(op string, dir twofold.Ino, name string) (twofold.Ino, metadata.Name, error) {
	p, n, k, err := v.parse(dir, name)
	if err != nil {
		return 0, n, err
	}
	if k == keypath.Level || keypath.Reserved(n.Comp) {
		return 0, n, errs.Newf(op, errs.Permission, "%q is part of a long name and can't be changed alone", name)
	}
	return p.dir, n, nil
}

// attrOf is an inode as stat(2) wants it.
func attrOf(n *metadata.Inode) api.Attr {
	a := api.Attr{
		Ino: n.Ino, Type: n.Type, Mode: n.Mode, UID: n.UID, GID: n.GID,
		ModeSet: n.ModeSet, UIDSet: n.UIDSet, GIDSet: n.GIDSet, Nlink: n.Nlink, Rdev: n.Rdev,
		Size: n.Size, Stored: n.Stored, Atime: n.Atime, Mtime: n.Mtime, Ctime: n.Ctime, Btime: n.Btime,
		Version: n.Version, ETag: n.ETag,
	}
	if n.Type == metadata.TypeDir {
		a.Nlink = 2 + n.Subdirs
		a.Size = 4096
	}
	return a
}

// rootAttr is the directory of buckets.
func rootAttr(buckets int) api.Attr {
	return api.Attr{Ino: twofold.RootIno, Type: metadata.TypeDir, Nlink: 2 + uint32(buckets), Size: 4096}
}

// levelAttr is a synthetic directory.
func (v *Volume) levelAttr(p place) api.Attr {
	return api.Attr{Ino: v.levels.ino(p), Type: metadata.TypeDir, Mode: 0555, ModeSet: true, Nlink: 2, Size: 4096}
}

// Lookup implements api.Files.
func (s *Session) Lookup(ctx context.Context, dir twofold.Ino, name string) (a api.Attr, err error) {
	if dir == twofold.RootIno {
		return s.lookupBucket(ctx, name)
	}
	p, n, kind, err := s.v.parse(dir, name)
	if err != nil {
		return a, err
	}
	if kind == keypath.Level {
		return s.lookupLevel(ctx, place{dir: p.dir, prefix: n.Comp})
	}
	var in, above *metadata.Inode
	gen, err := s.v.observeAt(ctx, s.id, func(w metadata.View) ([]twofold.Ino, error) {
		in, err = w.Lookup(p.dir, n)
		if errs.Is(err, errs.NotFound) && s.caches.Load() && p.prefix == "" {
			in = nil // that may be cached as well
			above, err = w.Inode(p.dir)
			return nil, err
		}
		if err != nil {
			return nil, err
		}
		return []twofold.Ino{in.Ino}, nil
	})
	switch {
	case err != nil:
		return a, err
	case in == nil:
		if s.grantName(gen, above.Bucket, p.dir, n.Comp, &a); !a.NameLeased {
			err = errs.Newf("volume.Lookup", errs.NotFound, "no such file or directory")
		}
		return a, err
	}
	a = attrOf(in)
	s.grant(gen, in, &a)
	if p.prefix == "" {
		s.grantName(gen, in.Bucket, p.dir, n.Comp, &a)
	}
	return a, nil
}

func (s *Session) lookupBucket(ctx context.Context, name string) (a api.Attr, err error) {
	var in *metadata.Inode
	gen, err := s.v.observeAt(ctx, s.id, func(w metadata.View) ([]twofold.Ino, error) {
		b, err := w.Bucket(twofold.BucketName(name))
		if err != nil {
			return nil, err
		}
		in, err = w.Inode(b.Root)
		return nil, err
	})
	switch {
	case errs.Is(err, errs.NoBucket):
		if s.grantName(gen, 0, twofold.RootIno, name, &a); a.NameLeased {
			err = nil
		}
	case err == nil:
		a = attrOf(in)
		s.grant(gen, in, &a)
		s.grantName(gen, 0, twofold.RootIno, name, &a)
	}
	return a, err
}

// lookupLevel finds a synthetic directory: it is there while a component of the
// directory begins with its prefix and has a level there.
func (s *Session) lookupLevel(ctx context.Context, p place) (a api.Attr, err error) {
	err = s.v.observe(ctx, s.id, func(w metadata.View) ([]twofold.Ino, error) {
		found := false
		cursor := p.prefix // everything that begins with the prefix is behind it
		for more := true; more && !found; {
			var items []metadata.DirItem
			items, more, err = w.ReadDir(p.dir, cursor, 64, false)
			if err != nil {
				return nil, err
			}
			for _, it := range items {
				cursor = it.Cursor
				if len(it.Name.Comp) < len(p.prefix) || it.Name.Comp[:len(p.prefix)] != p.prefix {
					more = false
					break
				}
				if inLevel(it.Name, p.prefix) {
					found = true
					break
				}
			}
		}
		if !found {
			return nil, errs.Newf("volume.Lookup", errs.NotFound, "no such directory")
		}
		return nil, nil
	})
	if err != nil {
		return a, err // without a number: they are kept
	}
	return s.v.levelAttr(p), nil
}

// inLevel reports whether a component's way in the mount leads through the level.
func inLevel(n metadata.Name, prefix string) bool {
	for depth := 1; ; depth++ {
		got, ok := keypath.LongPrefix(n.Comp, n.File, depth)
		if !ok || len(got) > len(prefix) {
			return false
		}
		if got == prefix {
			return true
		}
	}
}

// GetAttr implements api.Files.
func (s *Session) GetAttr(ctx context.Context, ino twofold.Ino) (a api.Attr, err error) {
	if ino == twofold.RootIno {
		gen, err := s.v.leases.Generation(ctx)
		if err != nil {
			return a, err
		}
		err = s.v.Meta.View(ctx, func(w metadata.View) error {
			all, err := w.Buckets()
			a = rootAttr(len(all))
			return err
		})
		if err == nil {
			s.grant(gen, &metadata.Inode{Ino: ino, Nlink: a.Nlink}, &a)
		}
		return a, err
	}
	p, err := s.v.place(ino)
	if err != nil {
		return a, err
	}
	if p.prefix != "" {
		return s.lookupLevel(ctx, p)
	}
	var in *metadata.Inode
	gen, err := s.v.observeAt(ctx, s.id, func(w metadata.View) (_ []twofold.Ino, err error) {
		in, err = w.Inode(ino)
		return []twofold.Ino{ino}, err
	})
	if err == nil {
		a = attrOf(in)
		s.grant(gen, in, &a)
	}
	return a, err
}

// Readlink implements api.Files.
func (s *Session) Readlink(ctx context.Context, ino twofold.Ino) (to string, err error) {
	err = s.v.Meta.View(ctx, func(w metadata.View) error {
		in, err := w.Inode(ino)
		if err == nil && in.Type != metadata.TypeSymlink {
			err = errs.Newf("volume.Readlink", errs.Invalid, "not a symbolic link")
		}
		if err == nil {
			to = in.Target
		}
		return err
	})
	return to, err
}
