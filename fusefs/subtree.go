package fusefs

import (
	"context"

	"twofold"
	"twofold/volume/api"
)

// subtree is api.Files of which one directory is the root: the inode that the kernel
// knows as number 1 (FUSE_ROOT_ID) is that directory, and no other name or number of
// the mount leads to what is above it. Inodes below have their own numbers. The kernel
// resolves ".." by itself, up to the root; names that have a slash, "." and ".." in them
// are no names to the volume.
//
// The directory is meant by its number, not by its path: it may be renamed. When it is
// removed every call on it is answered errs.Stale.
type subtree struct {
	api.Files
	root twofold.Ino
}

// in is the volume's number of a number of the mount, out the reverse.
func (s subtree) in(ino twofold.Ino) twofold.Ino {
	if ino == twofold.RootIno {
		return s.root
	}
	return ino
}

func (s subtree) out(a api.Attr, err error) (api.Attr, error) {
	if a.Ino == s.root {
		a.Ino = twofold.RootIno
	}
	return a, err
}

// dirs has a call tell of directories (api.Dirs) by the mount's numbers: told is to be
// called when it was answered.
func (s subtree) dirs(ctx context.Context) (in context.Context, told func()) {
	to := api.DirsOf(ctx)
	if to == nil {
		return ctx, func() {}
	}
	in, dirs := api.WithDirs(ctx)
	return in, func() {
		for _, a := range dirs.Attrs() {
			a, _ = s.out(a, nil)
			to.Add(a)
		}
	}
}

// Lookup implements api.Files, as the others here do.
func (s subtree) Lookup(ctx context.Context, dir twofold.Ino, name string) (api.Attr, error) {
	return s.out(s.Files.Lookup(ctx, s.in(dir), name))
}

func (s subtree) GetAttr(ctx context.Context, ino twofold.Ino) (api.Attr, error) {
	return s.out(s.Files.GetAttr(ctx, s.in(ino)))
}

func (s subtree) SetAttr(ctx context.Context, ino twofold.Ino, a api.SetAttr) (api.Attr, error) {
	return s.out(s.Files.SetAttr(ctx, s.in(ino), a))
}

func (s subtree) Create(ctx context.Context, dir twofold.Ino, name string, c api.Create) (api.Attr, bool, error) {
	ctx, told := s.dirs(ctx)
	defer told()
	a, existed, err := s.Files.Create(ctx, s.in(dir), name, c)
	a, err = s.out(a, err)
	return a, existed, err
}

func (s subtree) Link(ctx context.Context, ino, dir twofold.Ino, name string) (api.Attr, error) {
	return s.out(s.Files.Link(ctx, s.in(ino), s.in(dir), name))
}

func (s subtree) Unlink(ctx context.Context, dir twofold.Ino, name string) error {
	ctx, told := s.dirs(ctx)
	defer told()
	return s.Files.Unlink(ctx, s.in(dir), name)
}

func (s subtree) Rmdir(ctx context.Context, dir twofold.Ino, name string) error {
	ctx, told := s.dirs(ctx)
	defer told()
	return s.Files.Rmdir(ctx, s.in(dir), name)
}

func (s subtree) Rename(ctx context.Context, oldDir twofold.Ino, oldName string, newDir twofold.Ino, newName string, flags uint32) error {
	ctx, told := s.dirs(ctx)
	defer told()
	return s.Files.Rename(ctx, s.in(oldDir), oldName, s.in(newDir), newName, flags)
}

func (s subtree) Readlink(ctx context.Context, ino twofold.Ino) (string, error) {
	return s.Files.Readlink(ctx, s.in(ino))
}

func (s subtree) Tmpfile(ctx context.Context, dir twofold.Ino, c api.Create) (api.Attr, error) {
	return s.out(s.Files.Tmpfile(ctx, s.in(dir), c))
}

func (s subtree) ReadDir(ctx context.Context, dir twofold.Ino, cursor string, max int, attrs bool) ([]api.DirEntry, bool, error) {
	return s.Files.ReadDir(ctx, s.in(dir), cursor, max, attrs)
}

func (s subtree) Open(ctx context.Context, ino twofold.Ino) (api.Attr, error) {
	return s.out(s.Files.Open(ctx, s.in(ino)))
}

func (s subtree) Release(ctx context.Context, ino twofold.Ino) error {
	return s.Files.Release(ctx, s.in(ino))
}

func (s subtree) AcquireWrite(ctx context.Context, ino twofold.Ino) (api.Lease, error) {
	return s.Files.AcquireWrite(ctx, s.in(ino)) // of the root it is refused: a directory
}

func (s subtree) GetXattr(ctx context.Context, ino twofold.Ino, name string) ([]byte, error) {
	return s.Files.GetXattr(ctx, s.in(ino), name)
}

func (s subtree) SetXattr(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) error {
	return s.Files.SetXattr(ctx, s.in(ino), name, value, flags)
}

func (s subtree) ListXattr(ctx context.Context, ino twofold.Ino) ([]string, error) {
	return s.Files.ListXattr(ctx, s.in(ino))
}

func (s subtree) RemoveXattr(ctx context.Context, ino twofold.Ino, name string) error {
	return s.Files.RemoveXattr(ctx, s.in(ino), name)
}

func (s subtree) Reserve(ctx context.Context, ino twofold.Ino, token uint64, size, slack int64) (int64, error) {
	return s.Files.Reserve(ctx, s.in(ino), token, size, slack)
}

func (s subtree) Forget(ctx context.Context, inos []twofold.Ino) error {
	for i := range inos {
		inos[i] = s.in(inos[i])
	}
	return s.Files.Forget(ctx, inos)
}

func (s subtree) StatFS(ctx context.Context, ino twofold.Ino) (api.StatFS, error) {
	return s.Files.StatFS(ctx, s.in(ino))
}
