package fusefs

import (
	"context"
	"log/slog"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// patient is api.Files that waits while the volume is Unavailable (it certainly
// did nothing then): a server that restarts leaves the mount waiting, not failing.
// Only the end of a call's context ends the wait, with errs.Canceled.
type patient struct {
	to  api.Files
	log *slog.Logger
}

var _ api.Files = (*patient)(nil)

const (
	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
)

func (p *patient) try(ctx context.Context, op string, call func() error) error {
	pause := firstPause
	for {
		err := call()
		if !errs.Is(err, errs.Unavailable) {
			return err
		}
		p.log.Debug("the store is unavailable, waiting", "op", op, "pause", pause, "err", err)
		if !sleep(ctx, pause) {
			return errs.E("fusefs."+op, errs.Canceled, err)
		}
		pause = min(2*pause, lastPause)
	}
}

// sleep waits for d, or until ctx ends: then it returns false.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *patient) Lookup(ctx context.Context, dir twofold.Ino, name string) (a api.Attr, err error) {
	err = p.try(ctx, "Lookup", func() error { a, err = p.to.Lookup(ctx, dir, name); return err })
	return a, err
}

func (p *patient) GetAttr(ctx context.Context, ino twofold.Ino) (a api.Attr, err error) {
	err = p.try(ctx, "GetAttr", func() error { a, err = p.to.GetAttr(ctx, ino); return err })
	return a, err
}

func (p *patient) SetAttr(ctx context.Context, ino twofold.Ino, s api.SetAttr) (a api.Attr, err error) {
	err = p.try(ctx, "SetAttr", func() error { a, err = p.to.SetAttr(ctx, ino, s); return err })
	return a, err
}

func (p *patient) Create(ctx context.Context, dir twofold.Ino, name string, c api.Create) (a api.Attr, existed bool, err error) {
	err = p.try(ctx, "Create", func() error { a, existed, err = p.to.Create(ctx, dir, name, c); return err })
	return a, existed, err
}

func (p *patient) Tmpfile(ctx context.Context, dir twofold.Ino, c api.Create) (a api.Attr, err error) {
	err = p.try(ctx, "Tmpfile", func() error { a, err = p.to.Tmpfile(ctx, dir, c); return err })
	return a, err
}

func (p *patient) Seek(ctx context.Context, ino twofold.Ino, off int64, hole bool) (pos int64, err error) {
	err = p.try(ctx, "Seek", func() error { pos, err = p.to.Seek(ctx, ino, off, hole); return err })
	return pos, err
}

func (p *patient) CopyRange(ctx context.Context, c api.CopyRange) (a api.Attr, n int64, err error) {
	err = p.try(ctx, "CopyRange", func() error { a, n, err = p.to.CopyRange(ctx, c); return err })
	return a, n, err
}

func (p *patient) Link(ctx context.Context, ino, dir twofold.Ino, name string) (a api.Attr, err error) {
	err = p.try(ctx, "Link", func() error { a, err = p.to.Link(ctx, ino, dir, name); return err })
	return a, err
}

func (p *patient) Unlink(ctx context.Context, dir twofold.Ino, name string) error {
	return p.try(ctx, "Unlink", func() error { return p.to.Unlink(ctx, dir, name) })
}

func (p *patient) Rmdir(ctx context.Context, dir twofold.Ino, name string) error {
	return p.try(ctx, "Rmdir", func() error { return p.to.Rmdir(ctx, dir, name) })
}

func (p *patient) Rename(ctx context.Context, oldDir twofold.Ino, oldName string, newDir twofold.Ino, newName string, flags uint32) error {
	return p.try(ctx, "Rename", func() error { return p.to.Rename(ctx, oldDir, oldName, newDir, newName, flags) })
}

func (p *patient) Readlink(ctx context.Context, ino twofold.Ino) (s string, err error) {
	err = p.try(ctx, "Readlink", func() error { s, err = p.to.Readlink(ctx, ino); return err })
	return s, err
}

func (p *patient) ReadDir(ctx context.Context, dir twofold.Ino, cursor string, max int, attrs bool) (e []api.DirEntry, eof bool, err error) {
	err = p.try(ctx, "ReadDir", func() error { e, eof, err = p.to.ReadDir(ctx, dir, cursor, max, attrs); return err })
	return e, eof, err
}

func (p *patient) Open(ctx context.Context, ino twofold.Ino) (a api.Attr, err error) {
	err = p.try(ctx, "Open", func() error { a, err = p.to.Open(ctx, ino); return err })
	return a, err
}

func (p *patient) Release(ctx context.Context, ino twofold.Ino) error {
	return p.try(ctx, "Release", func() error { return p.to.Release(ctx, ino) })
}

func (p *patient) Read(ctx context.Context, ino twofold.Ino, off int64, b []byte) (n int, err error) {
	err = p.try(ctx, "Read", func() error { n, err = p.to.Read(ctx, ino, off, b); return err })
	return n, err
}

func (p *patient) Write(ctx context.Context, ino twofold.Ino, w api.Write) (a api.Attr, err error) {
	err = p.try(ctx, "Write", func() error { a, err = p.to.Write(ctx, ino, w); return err })
	return a, err
}

func (p *patient) AcquireWrite(ctx context.Context, ino twofold.Ino) (l api.Lease, err error) {
	err = p.try(ctx, "AcquireWrite", func() error { l, err = p.to.AcquireWrite(ctx, ino); return err })
	return l, err
}

func (p *patient) ReleaseWrite(ctx context.Context, ino twofold.Ino, token uint64) error {
	return p.try(ctx, "ReleaseWrite", func() error { return p.to.ReleaseWrite(ctx, ino, token) })
}

func (p *patient) GetXattr(ctx context.Context, ino twofold.Ino, name string) (v []byte, err error) {
	err = p.try(ctx, "GetXattr", func() error { v, err = p.to.GetXattr(ctx, ino, name); return err })
	return v, err
}

func (p *patient) SetXattr(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) error {
	return p.try(ctx, "SetXattr", func() error { return p.to.SetXattr(ctx, ino, name, value, flags) })
}

func (p *patient) ListXattr(ctx context.Context, ino twofold.Ino) (l []string, err error) {
	err = p.try(ctx, "ListXattr", func() error { l, err = p.to.ListXattr(ctx, ino); return err })
	return l, err
}

func (p *patient) RemoveXattr(ctx context.Context, ino twofold.Ino, name string) error {
	return p.try(ctx, "RemoveXattr", func() error { return p.to.RemoveXattr(ctx, ino, name) })
}

func (p *patient) Promise(ctx context.Context, n int64) (granted int64, err error) {
	err = p.try(ctx, "Promise", func() error { granted, err = p.to.Promise(ctx, n); return err })
	return granted, err
}

func (p *patient) GetLock(ctx context.Context, ino twofold.Ino, l api.Lock) (b api.Lock, found bool, err error) {
	err = p.try(ctx, "GetLock", func() error { b, found, err = p.to.GetLock(ctx, ino, l); return err })
	return b, found, err
}

func (p *patient) SetLock(ctx context.Context, ino twofold.Ino, l api.Lock, wait bool) error {
	return p.try(ctx, "SetLock", func() error { return p.to.SetLock(ctx, ino, l, wait) })
}

func (p *patient) Forget(ctx context.Context, inos []twofold.Ino) error {
	return p.try(ctx, "Forget", func() error { return p.to.Forget(ctx, inos) })
}

func (p *patient) Reserve(ctx context.Context, ino twofold.Ino, token uint64, size, slack int64) (allowed int64, err error) {
	err = p.try(ctx, "Reserve", func() error { allowed, err = p.to.Reserve(ctx, ino, token, size, slack); return err })
	return allowed, err
}

func (p *patient) StatFS(ctx context.Context, ino twofold.Ino) (s api.StatFS, err error) {
	err = p.try(ctx, "StatFS", func() error { s, err = p.to.StatFS(ctx, ino); return err })
	return s, err
}

func (p *patient) AcquireDir(ctx context.Context, dir twofold.Ino) (l api.DirLease, err error) {
	err = p.try(ctx, "AcquireDir", func() error { l, err = p.to.AcquireDir(ctx, dir); return err })
	return l, err
}

func (p *patient) Inos(ctx context.Context, n int) (first twofold.Ino, count int, err error) {
	err = p.try(ctx, "Inos", func() error { first, count, err = p.to.Inos(ctx, n); return err })
	return first, count, err
}

func (p *patient) Batch(ctx context.Context, b api.Batch) (r api.BatchResult, err error) {
	err = p.try(ctx, "Batch", func() error { r, err = p.to.Batch(ctx, b); return err })
	return r, err
}
