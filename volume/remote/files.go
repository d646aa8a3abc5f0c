package remote

import (
	"cmp"
	"context"
	"slices"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// Lookup implements api.Files.
func (c *Client) Lookup(ctx context.Context, dir twofold.Ino, name string) (a api.Attr, err error) {
	_, err = c.ask(ctx, mLookup, nameReq{dir, name}, &a, nil)
	return a, err
}

// GetAttr implements api.Files.
func (c *Client) GetAttr(ctx context.Context, ino twofold.Ino) (a api.Attr, err error) {
	_, err = c.ask(ctx, mGetAttr, inoReq{ino}, &a, nil)
	return a, err
}

// SetAttr implements api.Files.
func (c *Client) SetAttr(ctx context.Context, ino twofold.Ino, s api.SetAttr) (a api.Attr, err error) {
	// Under a lease it may be part of what a recall waits for.
	err = do(ctx, c, change{method: mSetAttr, urgent: s.Token != 0, reply: &a}, setAttrReq{ino, s})
	return a, err
}

// Create implements api.Files.
func (c *Client) Create(ctx context.Context, dir twofold.Ino, name string, cr api.Create) (api.Attr, bool, error) {
	var a createAns
	err := do(ctx, c, change{method: mCreate, reply: &a, dirs: &a.dirsAns}, createReq{dir, name, cr})
	return a.Attr, a.Existed, err
}

// Tmpfile implements api.Files.
func (c *Client) Tmpfile(ctx context.Context, dir twofold.Ino, cr api.Create) (a api.Attr, err error) {
	err = do(ctx, c, change{method: mTmpfile, reply: &a}, tmpfileReq{dir, cr})
	return a, err
}

// Link implements api.Files.
func (c *Client) Link(ctx context.Context, ino, dir twofold.Ino, name string) (a api.Attr, err error) {
	err = do(ctx, c, change{method: mLink, reply: &a}, linkReq{ino, dir, name})
	return a, err
}

// Unlink implements api.Files.
func (c *Client) Unlink(ctx context.Context, dir twofold.Ino, name string) error {
	return do(ctx, c, change{method: mUnlink, dirs: new(dirsAns)}, nameReq{dir, name})
}

// Rmdir implements api.Files.
func (c *Client) Rmdir(ctx context.Context, dir twofold.Ino, name string) error {
	return do(ctx, c, change{method: mRmdir, dirs: new(dirsAns)}, nameReq{dir, name})
}

// Rename implements api.Files.
func (c *Client) Rename(ctx context.Context, oldDir twofold.Ino, oldName string, newDir twofold.Ino, newName string, flags uint32) error {
	return do(ctx, c, change{method: mRename, dirs: new(dirsAns)}, renameReq{oldDir, oldName, newDir, newName, flags})
}

// Readlink implements api.Files.
func (c *Client) Readlink(ctx context.Context, ino twofold.Ino) (target string, err error) {
	_, err = c.ask(ctx, mReadlink, inoReq{ino}, &target, nil)
	return target, err
}

// ReadDir implements api.Files. An answer may have fewer entries than max before
// the end.
func (c *Client) ReadDir(ctx context.Context, dir twofold.Ino, cursor string, max int, attrs bool) ([]api.DirEntry, bool, error) {
	var a readDirAns
	_, err := c.ask(ctx, mReadDir, readDirReq{dir, cursor, max, attrs}, &a, nil)
	return a.Entries, a.EOF, err
}

// Open implements api.Files. One whose context ended is released in the background.
func (c *Client) Open(ctx context.Context, ino twofold.Ino) (a api.Attr, err error) {
	// A mount may have to pin what is taken back from it: others wait for that.
	err = do(ctx, c, change{method: mOpen, urgent: true, reply: &a, pin: 1, ino: ino}, inoReq{ino})
	return a, err
}

// Release implements api.Files. It goes on in the background when ctx ends.
func (c *Client) Release(ctx context.Context, ino twofold.Ino) error {
	done := make(chan error, 1)
	if !c.background(func() {
		done <- do(c.ctx, c, change{method: mRelease, urgent: true, pin: -1, ino: ino}, inoReq{ino})
	}) {
		return errs.Newf("remote.Release", errs.Unavailable, "the mount is shutting down")
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errs.E("remote.Release", errs.Canceled, ctx.Err())
	}
}

// Read implements api.Files: the bytes come from the socket right into p. After an
// error p's content is unspecified.
func (c *Client) Read(ctx context.Context, ino twofold.Ino, off int64, p []byte) (int, error) {
	return c.ask(ctx, mRead, readReq{ino, off, len(p)}, nil, p)
}

// Write implements api.Files: the segments' bytes go to the socket as they are.
func (c *Client) Write(ctx context.Context, ino twofold.Ino, w api.Write) (a api.Attr, err error) {
	r := writeReq{
		Ino: ino, Token: w.Token, Punch: w.Punch, Size: w.Size, Mtime: w.Mtime, Atime: w.Atime, ETag: w.ETag, KillPriv: w.KillPriv,
		Segments: make([]segment, 0, len(w.Segments)),
	}
	segs := inOrder(w.Segments)
	payload := make([][]byte, 0, len(segs))
	size := int64(0)
	for _, s := range segs {
		if len(s.Data) > 0 {
			r.Segments = append(r.Segments, segment{Off: s.Off, Len: len(s.Data)})
			payload = append(payload, s.Data)
			size += int64(len(s.Data))
		}
	}
	// Under a lease it may be the flush that a recall waits for.
	space := func() { c.promised = max(0, c.promised-size) }
	err = do(ctx, c, change{method: mWrite, urgent: w.Token != 0, payload: payload, reply: &a, space: space}, r)
	return a, err
}

// inOrder are the segments by offset, in a slice of their own if they were not.
func inOrder(segs []api.Segment) []api.Segment {
	byOffset := func(a, b api.Segment) int { return cmp.Compare(a.Off, b.Off) }
	if slices.IsSortedFunc(segs, byOffset) {
		return segs
	}
	segs = slices.Clone(segs)
	slices.SortFunc(segs, byOffset)
	return segs
}

// Seek implements api.Files.
func (c *Client) Seek(ctx context.Context, ino twofold.Ino, off int64, hole bool) (pos int64, err error) {
	_, err = c.ask(ctx, mSeek, seekReq{ino, off, hole}, &pos, nil)
	return pos, err
}

// CopyRange implements api.Files.
func (c *Client) CopyRange(ctx context.Context, r api.CopyRange) (api.Attr, int64, error) {
	var a copyAns
	// Under a lease a recall may wait for it.
	urgent := r.SrcToken != 0 || r.DstToken != 0
	err := do(ctx, c, change{method: mCopyRange, urgent: urgent, reply: &a}, copyReq{r})
	return a.Attr, a.Copied, err
}

// AcquireWrite implements api.Files.
func (c *Client) AcquireWrite(ctx context.Context, ino twofold.Ino) (l api.Lease, err error) {
	var a acquireAns
	_, err = c.ask(ctx, mAcquireLease, inoReq{ino}, &a, nil)
	l, l.Allowed = a.Lease, a.Allowed
	if errs.Is(err, errs.Unsupported) { // an older server, without quotas
		_, err = c.ask(ctx, mAcquireWrite, inoReq{ino}, &l, nil)
		l.Allowed = twofold.MaxFileLen
	}
	return l, err
}

// Reserve implements api.Files.
func (c *Client) Reserve(ctx context.Context, ino twofold.Ino, token uint64, size, slack int64) (allowed int64, err error) {
	_, err = c.ask(ctx, mReserve, reserveReq{ino, token, size, slack}, &allowed, nil)
	if errs.Is(err, errs.Unsupported) {
		return twofold.MaxFileLen, nil
	}
	return allowed, err
}

// ReleaseWrite implements api.Files.
func (c *Client) ReleaseWrite(ctx context.Context, ino twofold.Ino, token uint64) error {
	return do(ctx, c, change{method: mReleaseWrite, urgent: true}, leaseReq{ino, token})
}

// GetXattr implements api.Files.
func (c *Client) GetXattr(ctx context.Context, ino twofold.Ino, name string) (v []byte, err error) {
	_, err = c.ask(ctx, mGetXattr, xattrReq{ino, name}, &v, nil)
	return v, err
}

// SetXattr implements api.Files.
func (c *Client) SetXattr(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) error {
	return do(ctx, c, change{method: mSetXattr}, setXattrReq{ino, name, value, flags})
}

// ListXattr implements api.Files.
func (c *Client) ListXattr(ctx context.Context, ino twofold.Ino) (names []string, err error) {
	_, err = c.ask(ctx, mListXattr, inoReq{ino}, &names, nil)
	return names, err
}

// RemoveXattr implements api.Files.
func (c *Client) RemoveXattr(ctx context.Context, ino twofold.Ino, name string) error {
	return do(ctx, c, change{method: mRemoveXattr}, xattrReq{ino, name})
}

// Promise implements api.Files.
func (c *Client) Promise(ctx context.Context, n int64) (granted int64, err error) {
	space := func() {
		if c.promised += granted; n == 0 {
			c.promised = 0
		}
	}
	err = do(ctx, c, change{method: mPromise, reply: &granted, space: space}, promiseReq{n})
	return granted, err
}

// Forget implements api.Files.
func (c *Client) Forget(ctx context.Context, inos []twofold.Ino) error {
	return do(ctx, c, change{method: mForget}, forgetReq{inos})
}

// StatFS implements api.Files.
func (c *Client) StatFS(ctx context.Context, ino twofold.Ino) (s api.StatFS, err error) {
	_, err = c.ask(ctx, mStatFS, inoReq{ino}, &s, nil)
	return s, err
}
