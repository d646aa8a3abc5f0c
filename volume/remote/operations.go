package remote

import (
	"context"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// operations is the table of what a mount can ask for within a session.
func operations() map[rpc.Method]operation {
	return map[rpc.Method]operation{
		mAlive:  alive,
		mEnd:    end,
		mSettle: settle,
		mCache:  cache,
		mRead:   read,

		mLookup: plain(func(ctx context.Context, f api.Files, q nameReq) (any, error) {
			return f.Lookup(ctx, q.Dir, q.Name)
		}),
		mGetAttr: plain(func(ctx context.Context, f api.Files, q inoReq) (any, error) {
			return f.GetAttr(ctx, q.Ino)
		}),
		mReadlink: plain(func(ctx context.Context, f api.Files, q inoReq) (any, error) {
			return f.Readlink(ctx, q.Ino)
		}),
		mReadDir: plain(readDir),
		// A session that has the lease already gets the same again.
		mAcquireWrite: plain(func(ctx context.Context, f api.Files, q inoReq) (any, error) {
			return f.AcquireWrite(ctx, q.Ino)
		}),
		mAcquireLease: plain(func(ctx context.Context, f api.Files, q inoReq) (any, error) {
			l, err := f.AcquireWrite(ctx, q.Ino)
			return acquireAns{l, l.Allowed}, err
		}),
		// Likewise.
		mAcquireDir: plain(func(ctx context.Context, f api.Files, q inoReq) (any, error) {
			return f.AcquireDir(ctx, q.Ino)
		}),
		mReserve: plain(func(ctx context.Context, f api.Files, q reserveReq) (any, error) {
			return f.Reserve(ctx, q.Ino, q.Token, q.Size, q.Slack)
		}),
		mGetXattr: plain(func(ctx context.Context, f api.Files, q xattrReq) (any, error) {
			return f.GetXattr(ctx, q.Ino, q.Name)
		}),
		mListXattr: plain(func(ctx context.Context, f api.Files, q inoReq) (any, error) {
			return f.ListXattr(ctx, q.Ino)
		}),
		mSeek: plain(func(ctx context.Context, f api.Files, q seekReq) (any, error) {
			return f.Seek(ctx, q.Ino, q.Off, q.Hole)
		}),
		mStatFS: plain(func(ctx context.Context, f api.Files, q inoReq) (any, error) {
			return f.StatFS(ctx, q.Ino)
		}),

		mGetLock: locked(func(ctx context.Context, k api.Locks, q lockReq) (any, error) {
			l, found, err := k.Get(ctx, q.Ino, q.Lock)
			return getLockAns{l, found}, err
		}),
		mAwaitLock: locked(func(ctx context.Context, k api.Locks, q lockReq) (any, error) {
			return nil, k.Await(ctx, q.Ino, q.Lock, q.Ticket)
		}),
		mEndAwait: locked(func(ctx context.Context, k api.Locks, q lockReq) (any, error) {
			held, err := k.EndAwait(ctx, q.Ino, q.Lock, q.Ticket)
			return endAwaitAns{held}, err
		}),
		mSetLock: lockedOnce(func(ctx context.Context, k api.Locks, q lockReq) (any, error) {
			return k.Set(ctx, q.Ino, q.Lock)
		}),
		mReturnLocks: lockedOnce(func(ctx context.Context, k api.Locks, q returnLocksReq) (any, error) {
			return nil, k.Return(ctx, q.Held)
		}),

		mSetAttr: once(func(ctx context.Context, f api.Files, q setAttrReq, _ []byte) (any, error) {
			return f.SetAttr(ctx, q.Ino, q.Attr)
		}),
		mCreate: once(func(ctx context.Context, f api.Files, q createReq, _ []byte) (any, error) {
			a, existed, err := f.Create(ctx, q.Dir, q.Name, q.Create)
			return createAns{a, existed, dirsAns{api.DirsOf(ctx).Attrs()}}, err
		}),
		mTmpfile: once(func(ctx context.Context, f api.Files, q tmpfileReq, _ []byte) (any, error) {
			return f.Tmpfile(ctx, q.Dir, q.Create)
		}),
		mCopyRange: once(func(ctx context.Context, f api.Files, q copyReq, _ []byte) (any, error) {
			a, n, err := f.CopyRange(ctx, q.Range)
			return copyAns{a, n}, err
		}),
		mLink: once(func(ctx context.Context, f api.Files, q linkReq, _ []byte) (any, error) {
			return f.Link(ctx, q.Ino, q.Dir, q.Name)
		}),
		mUnlink: once(func(ctx context.Context, f api.Files, q nameReq, _ []byte) (any, error) {
			return withDirs(ctx, f.Unlink(ctx, q.Dir, q.Name))
		}),
		mRmdir: once(func(ctx context.Context, f api.Files, q nameReq, _ []byte) (any, error) {
			return withDirs(ctx, f.Rmdir(ctx, q.Dir, q.Name))
		}),
		mRename: once(func(ctx context.Context, f api.Files, q renameReq, _ []byte) (any, error) {
			return withDirs(ctx, f.Rename(ctx, q.OldDir, q.OldName, q.NewDir, q.NewName, q.Flags))
		}),
		mOpen: once(func(ctx context.Context, f api.Files, q inoReq, _ []byte) (any, error) {
			return f.Open(ctx, q.Ino)
		}),
		mRelease: once(func(ctx context.Context, f api.Files, q inoReq, _ []byte) (any, error) {
			return nil, f.Release(ctx, q.Ino)
		}),
		mWrite: once(write),
		mBatch: once(batch),
		mInos: once(func(ctx context.Context, f api.Files, q inosReq, _ []byte) (any, error) {
			first, n, err := f.Inos(ctx, q.N)
			return inosAns{first, n}, err
		}),
		mPromise: once(func(ctx context.Context, f api.Files, q promiseReq, _ []byte) (any, error) {
			return f.Promise(ctx, q.Bytes)
		}),
		mReleaseWrite: once(func(ctx context.Context, f api.Files, q leaseReq, _ []byte) (any, error) {
			return nil, f.ReleaseWrite(ctx, q.Ino, q.Token)
		}),
		mForget: once(func(ctx context.Context, f api.Files, q forgetReq, _ []byte) (any, error) {
			return nil, f.Forget(ctx, q.Inos)
		}),
		mSetXattr: once(func(ctx context.Context, f api.Files, q setXattrReq, _ []byte) (any, error) {
			return nil, f.SetXattr(ctx, q.Ino, q.Name, q.Value, q.Flags)
		}),
		mRemoveXattr: once(func(ctx context.Context, f api.Files, q xattrReq, _ []byte) (any, error) {
			return nil, f.RemoveXattr(ctx, q.Ino, q.Name)
		}),
	}
}

// withDirs is the answer of a change of entries: what became of directories, if that was
// asked for.
func withDirs(ctx context.Context, err error) (any, error) {
	if d := api.DirsOf(ctx).Attrs(); len(d) > 0 {
		return dirsAns{d}, err
	}
	return nil, err
}

func alive(_ context.Context, s *session, _ *rpc.Request) (rpc.Answer, error) {
	return rpc.Answer{}, s.vol.Alive()
}

func cache(_ context.Context, s *session, r *rpc.Request) (rpc.Answer, error) {
	var q cacheReq
	if r.HasHeader() {
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
	}
	if q.Homes {
		s.vol.Homes()
	}
	return rpc.Answer{Header: cacheAns{s.vol.Cache()}}, nil
}

func end(ctx context.Context, s *session, _ *rpc.Request) (rpc.Answer, error) {
	s.mu.Lock()
	s.bye = true
	s.mu.Unlock()
	return rpc.Answer{}, s.vol.End(ctx)
}

func settle(ctx context.Context, s *session, r *rpc.Request) (rpc.Answer, error) {
	var q settleReq
	if err := r.Decode(&q); err != nil {
		return rpc.Answer{}, err
	}
	done, err := s.calls.settle(ctx, q.Seq)
	return rpc.Answer{Header: settleAns{done}}, err
}

// readDirBytes keeps a listing's answer within rpc.MaxHeader.
const readDirBytes = rpc.MaxHeader / 2

func readDir(ctx context.Context, f api.Files, q readDirReq) (any, error) {
	entries, eof, err := f.ReadDir(ctx, q.Dir, q.Cursor, min(q.Max, maxEntries), q.Attrs)
	if err != nil {
		return nil, err
	}
	size := 0
	for i, e := range entries {
		// 200: an Attr's numbers in CBOR, each at its longest.
		if size += len(e.Name) + len(e.Cursor) + len(e.Attr.ETag) + 200; size > readDirBytes && i > 0 {
			return readDirAns{entries[:i], false}, nil // the rest is behind the last one's cursor
		}
	}
	return readDirAns{entries, eof}, nil
}

// read answers with bare payload, from a pooled buffer that goes straight to the
// socket.
func read(ctx context.Context, s *session, r *rpc.Request) (rpc.Answer, error) {
	var q readReq
	if err := r.Decode(&q); err != nil {
		return rpc.Answer{}, err
	}
	if err := q.check(); err != nil {
		return rpc.Answer{}, err
	}
	n := int64(q.Len)
	if !s.reads.TryAcquire(n) {
		if err := s.reads.Acquire(ctx, n); err != nil {
			return rpc.Answer{}, errs.E("remote.read", errs.Canceled, err)
		}
	}
	buf := r.Conn.Pool().Get(q.Len)
	// Also after an error: the transport frees once nothing needs the buffer.
	free := func() { buf.Free(); s.reads.Release(n) }
	returned := false
	defer func() {
		if !returned { // a panic, which the transport deals with
			s.reads.Release(n)
		}
	}()
	got, err := s.files.Read(ctx, q.Ino, q.Off, buf.B)
	returned = true
	return rpc.Answer{Payload: buf.B[:got], Free: free}, err
}

func write(ctx context.Context, f api.Files, q writeReq, payload []byte) (any, error) {
	segs, err := q.cut(payload)
	if err != nil {
		return nil, err
	}
	return f.Write(ctx, q.Ino, api.Write{
		Token: q.Token, Segments: segs, Punch: q.Punch, Size: q.Size, Mtime: q.Mtime, Atime: q.Atime, ETag: q.ETag, KillPriv: q.KillPriv,
	})
}
