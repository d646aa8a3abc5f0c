package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// AcquireDir implements api.Files: for sessions that take read leases, of what has a place in
// the tree. What the directory is like is read behind the grant: from then on nobody else
// changes it.
func (s *Session) AcquireDir(ctx context.Context, dir twofold.Ino) (api.DirLease, error) {
	const op = "volume.AcquireDir"
	if dir == twofold.RootIno || dir&levelBit != 0 || !s.caches.Load() {
		return api.DirLease{}, errs.Newf(op, errs.Unsupported, "no write lease is given of this directory")
	}
	if err := s.v.Placer.Writable(); err != nil {
		return api.DirLease{}, err
	}
	n, _, err := s.dirNow(ctx, dir)
	if err != nil {
		return api.DirLease{}, err
	}
	token, fresh, err := s.v.leases.AcquireDir(ctx, s, n.Bucket, dir)
	if err != nil {
		return api.DirLease{}, err
	}
	l, err := s.dirLease(ctx, dir, token)
	if err == nil && fresh && !l.Attr.Leased {
		err = errs.Newf(op, errs.Busy, "no read lease of directory %d", dir)
	}
	if err != nil {
		if fresh {
			s.v.leases.Release(s, dir, token)
		}
		return api.DirLease{}, err
	}
	return l, nil
}

// dirLease is what the session is told of a lease that it has.
func (s *Session) dirLease(ctx context.Context, dir twofold.Ino, token uint64) (api.DirLease, error) {
	end, err := s.v.leases.Use(ctx, s, dir, token)
	if err != nil { // recalled, and given back: the session did not know of it
		return api.DirLease{}, errs.E("volume.AcquireDir", errs.Busy, err)
	}
	defer end()
	gen, err := s.v.leases.Generation(ctx)
	if err != nil {
		return api.DirLease{}, err
	}
	n, u, err := s.dirNow(ctx, dir)
	if err != nil {
		return api.DirLease{}, err
	}
	l := api.DirLease{Token: token, Attr: s.attrOf(n), Unlimited: u.Limit == 0, DefaultACL: n.DefaultACL != nil}
	s.grant(gen, n, &l.Attr)
	return l, nil
}

// dirNow reads a directory, and how much is in its bucket. errs.Stale, errs.NotDir.
func (s *Session) dirNow(ctx context.Context, dir twofold.Ino) (n *metadata.Inode, u metadata.Usage, err error) {
	err = s.v.Meta.View(ctx, func(w metadata.View) (err error) {
		if n, err = w.Inode(dir); err != nil {
			return err
		}
		switch {
		case n.Type != metadata.TypeDir:
			return errs.Newf("volume.AcquireDir", errs.NotDir, "inode %d is not a directory", dir)
		case n.Nlink == 0:
			return errs.Newf("volume.AcquireDir", errs.Stale, "directory %d was removed", dir)
		}
		u, _, err = w.Usage(n.Bucket)
		return err
	})
	return n, u, err
}
