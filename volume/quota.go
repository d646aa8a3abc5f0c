package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// Quotas are kept by the metadata's commands (metadata/fsm/usage.go): whatever adds to a
// bucket is refused, when it is committed, where the bucket would be beyond its limit.
// So concurrent writers never get beyond it together. Here is what that needs around it:
//
//   - A mount reserves what a file may grow to before write(2) returns (Reserve). The
//     reserve is part of the file's record: it outlives the server, and a flush within it
//     is never refused. It goes with the write lease.
//   - A reserve without a lease is left behind by a mount that died: it is taken back now
//     and then, and before anybody is told that a quota is used up.
//   - A lease of before the quota was set has promised without it. It is recalled, and
//     what its holder has to write is let in.

// countBatch is how many inodes one command counts: some milliseconds.
const countBatch = 1000

// count has the metadata count what is in all buckets, if that was never done. It takes
// a time in proportion to the store; others are served meanwhile.
func (v *Volume) count(ctx context.Context) error {
	for {
		counted := false
		err := v.Meta.View(ctx, func(w metadata.View) (err error) {
			_, counted, err = w.Usage(0)
			return err
		})
		if err != nil || counted {
			return err
		}
		if ctx.Err() != nil {
			return errs.E("volume.count", errs.Canceled, ctx.Err())
		}
		if _, err := v.commit(ctx, metadata.OpCountUsage, metadata.CountUsage{Max: countBatch}); err != nil {
			return err
		}
	}
}

// Quota says how much is in a bucket, and how much may be. errs.NoBucket. The first
// call ever counts what is in the store.
func (v *Volume) Quota(ctx context.Context, name twofold.BucketName) (api.Quota, error) {
	q := api.Quota{Bucket: name}
	if _, err := v.HeadBucket(ctx, name); err != nil {
		return q, err
	}
	if err := v.count(ctx); err != nil {
		return q, err
	}
	err := v.Meta.View(ctx, func(w metadata.View) error {
		b, err := w.Bucket(name)
		if err != nil {
			return err
		}
		u, _, err := w.Usage(b.ID)
		q.Used, q.Reserved, q.Limit = u.Used, u.Reserved, u.Limit
		return err
	})
	return q, err
}

// SetQuota limits what is in a bucket to so many bytes; 0 ends that. It counts from when
// the call returns: what mounts hold unwritten then is in the bucket. errs.NoBucket,
// errs.Invalid; errs.Unwritten where a mount can't write what it has made.
func (v *Volume) SetQuota(ctx context.Context, name twofold.BucketName, limit int64) error {
	if _, err := v.HeadBucket(ctx, name); err != nil {
		return err
	}
	if err := v.count(ctx); err != nil {
		return err
	}
	if limit > 0 { // the names that a mount makes come with no reserve: none is out when it counts
		b, err := v.bucket(ctx, name)
		if err != nil {
			return err
		}
		end, err := v.leases.ExcludeDirs(ctx, b.ID)
		if err != nil {
			return err
		}
		defer end()
	}
	res, err := v.commit(ctx, metadata.OpSetQuota, metadata.SetQuota{Bucket: name, Limit: limit})
	if err != nil || limit == 0 {
		return err
	}
	v.mu.Lock()
	v.quotaSince[res.Bucket.ID] = v.leases.LastToken()
	v.mu.Unlock()
	return v.recallBucket(ctx, res.Bucket.ID)
}

// recallBucket recalls the write leases of a bucket's files.
func (v *Volume) recallBucket(ctx context.Context, b twofold.BucketID) error {
	gen, err := v.leases.Generation(ctx)
	if err != nil {
		return err
	}
	var inos []twofold.Ino
	err = v.Meta.View(ctx, func(w metadata.View) error {
		for _, ino := range v.leases.Held() {
			if n, err := w.Inode(ino); err == nil && n.Bucket == b {
				inos = append(inos, ino)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = v.leases.Settled(ctx, gen, 0, inos...)
	if errs.Is(err, errs.Unwritten) { // a full store: it is kept, and let in later
		err = nil
	}
	return err
}

// letIn reports whether a flush that the quota has refused is to be let in all the same:
// its lease is older than the quota, or than this process, which can't know.
func (v *Volume) letIn(ctx context.Context, ino twofold.Ino, token uint64) bool {
	if token == 0 {
		return false
	}
	if token <= v.firstToken {
		return true
	}
	var b twofold.BucketID
	if err := v.Meta.View(ctx, func(w metadata.View) error {
		n, err := w.Inode(ino)
		if err == nil {
			b = n.Bucket
		}
		return err
	}); err != nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return token <= v.quotaSince[b]
}

// fits refuses a body that can't become part of a bucket, before it is read. replaces
// says how much goes for it. That is a courtesy; what decides is the command. Small ones
// are not worth asking. errs.Quota.
func (v *Volume) fits(ctx context.Context, b twofold.BucketID, size int64, replaces func(metadata.View) int64) error {
	if size <= v.InlineMax {
		return nil
	}
	refused := func() (refused bool, err error) {
		err = v.Meta.View(ctx, func(w metadata.View) error {
			u, _, err := w.Usage(b)
			if err != nil || u.Limit == 0 || u.Used+u.Reserved <= u.Limit-size {
				return err
			}
			by := size - replaces(w)
			refused = by > 0 && u.Used+u.Reserved > u.Limit-by
			return nil
		})
		return refused, err
	}
	no, err := refused()
	if err == nil && no && v.returnReserves(ctx) > 0 {
		no, err = refused()
	}
	if err == nil && no {
		err = errs.Newf("volume.quota", errs.Quota, "the bucket's quota is used up")
	}
	return err
}

// replacesObject is what goes when the key is given to another object.
func replacesObject(b twofold.BucketID, key twofold.Key) func(metadata.View) int64 {
	return func(w metadata.View) int64 {
		n, err := w.Resolve(b, key)
		if err != nil || n.Type != metadata.TypeFile || n.Nlink != 1 || n.Reserve != 0 {
			return 0
		}
		return n.Size
	}
}

// replacesPart is what goes when a part is uploaded again.
func replacesPart(id twofold.UploadID, number int) func(metadata.View) int64 {
	return func(w metadata.View) int64 {
		parts, _, err := w.Parts(id, number-1, 1)
		if err != nil || len(parts) == 0 || parts[0].Number != number {
			return 0
		}
		return parts[0].Size
	}
}

// Reserve implements api.Files.
func (s *Session) Reserve(ctx context.Context, ino twofold.Ino, token uint64, size, slack int64) (int64, error) {
	end, err := s.v.leases.Use(ctx, s, ino, token)
	if err != nil {
		return 0, err
	}
	defer end()
	if size <= 0 {
		return 0, errs.Newf("volume.Reserve", errs.Invalid, "a size of %d", size)
	}
	res, err := s.v.commit(ctx, metadata.OpReserve, metadata.Reserve{Ino: ino, Size: size, Slack: slack})
	if err != nil {
		return 0, err
	}
	if res.Inode.Reserve > 0 {
		s.v.mu.Lock()
		s.v.reserved[ino] = struct{}{}
		s.v.mu.Unlock()
	}
	return int64(res.ID), nil
}

// allowed is the size that a file may grow to without a Reserve.
func (v *Volume) allowed(ctx context.Context, ino twofold.Ino) (size int64, err error) {
	err = v.Meta.View(ctx, func(w metadata.View) error {
		n, err := w.Inode(ino)
		if err != nil {
			return err
		}
		u, _, err := w.Usage(n.Bucket)
		if size = n.Reserve; u.Limit == 0 {
			size = twofold.MaxFileLen
		} else if size > 0 {
			v.mu.Lock()
			v.reserved[ino] = struct{}{}
			v.mu.Unlock()
		}
		return err
	})
	return size, err
}

// unreserve takes back what a file has reserved, before its lease goes.
func (v *Volume) unreserve(ctx context.Context, ino twofold.Ino) {
	v.mu.Lock()
	_, has := v.reserved[ino]
	delete(v.reserved, ino)
	v.mu.Unlock()
	if !has {
		return
	}
	if _, err := v.commit(ctx, metadata.OpReserve, metadata.Reserve{Ino: ino}); err != nil && !errs.Is(err, errs.Stale) {
		v.log.Debug("a reserve was not given back; that will be done later", "inode", ino, "err", err)
	}
}

// returnReserves takes back what is reserved for files that nobody has a lease of, and
// says of how many.
func (v *Volume) returnReserves(ctx context.Context) (n int) {
	var after twofold.Ino
	for {
		var inos []twofold.Ino
		err := v.Meta.View(ctx, func(w metadata.View) (err error) {
			inos, err = w.Reserved(after, 1000)
			return err
		})
		if err != nil || len(inos) == 0 {
			return n
		}
		for _, ino := range inos {
			after = ino
			end, ok := v.leases.TryExclude(ino)
			if !ok {
				continue
			}
			_, err := v.commitOnce(ctx, metadata.OpReserve, metadata.Reserve{Ino: ino}, nil)
			end()
			if err == nil {
				n++
				v.mu.Lock()
				delete(v.reserved, ino)
				v.mu.Unlock()
			}
		}
	}
}

// bucketOf is the bucket that a directory or a file of the mount is in; ok is false for
// the directory of all buckets.
func (v *Volume) bucketOf(w metadata.View, ino twofold.Ino) (b twofold.BucketID, ok bool, err error) {
	p, err := v.place(ino)
	if err != nil || p.dir == twofold.RootIno {
		return 0, false, err
	}
	n, err := w.Inode(p.dir)
	if err != nil {
		return 0, false, err
	}
	return n.Bucket, true, nil
}

// StatFS implements api.Files: within a bucket that has a quota, that.
func (s *Session) StatFS(ctx context.Context, ino twofold.Ino) (api.StatFS, error) {
	total, free, err := s.v.Placer.Space(ctx)
	if err != nil {
		return api.StatFS{}, err
	}
	err = s.v.Meta.View(ctx, func(w metadata.View) error {
		b, ok, err := s.v.bucketOf(w, ino)
		if err != nil || !ok {
			return err
		}
		u, _, err := w.Usage(b)
		if err == nil && u.Limit > 0 {
			total = uint64(u.Limit)
			free = min(free, uint64(max(0, u.Limit-u.Used-u.Reserved)))
		}
		return err
	})
	return api.StatFS{Total: total, Free: free}, err
}
