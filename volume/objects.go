package volume

import (
	"context"
	"io"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/plant"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"
)

// DeleteObject implements api.ObjectOps.
func (v *Volume) DeleteObject(ctx context.Context, bn twofold.BucketName, k twofold.Key, cond metadata.Conditions) error {
	err := v.withBucket(ctx, bn, func(b metadata.Bucket) error {
		full, err := v.realKey(ctx, b.ID, k)
		if errs.Is(err, errs.NotFound) && cond == (metadata.Conditions{}) {
			return nil // deleting what isn't there is a success
		}
		if err != nil {
			return err
		}
		end, err := v.excludeKey(ctx, b.ID, full, cond)
		if err != nil {
			return err
		}
		defer end()
		if plant.Is(plant.EarlyCommit) {
			go v.commit(v.ctx, metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: full, Cond: cond})
			return nil
		}
		_, err = v.commitIn(ctx, b.ID, metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: full, Cond: cond},
			atKey(b.ID, b.Name, full, true))
		return err
	})
	v.kick(v.kickReaper)
	return err
}

// List implements api.ObjectOps.
func (v *Volume) List(ctx context.Context, bn twofold.BucketName, q metadata.ListQuery) (api.ListPage, error) {
	var page api.ListPage
	err := v.observe(ctx, 0, func(w metadata.View) ([]twofold.Ino, error) {
		b, err := w.Bucket(bn)
		if err != nil {
			return nil, err
		}
		tree := q
		if tree.After, err = realMarker(w, b.ID, q.After); err != nil {
			return nil, err
		}
		found, err := w.List(b.ID, tree)
		if err != nil {
			return nil, err
		}
		page = api.ListPage{Items: make([]api.ListItem, len(found.Items)), More: found.More}
		inos := make([]twofold.Ino, 0, len(found.Items))
		for i, it := range found.Items {
			if it.Inode == nil {
				page.Items[i] = api.ListItem{Key: it.Key, IsPrefix: true}
				continue
			}
			inos = append(inos, it.Inode.Ino)
			page.Items[i] = api.ListItem{
				Key: keypath.DeepKey(it.Key, it.Inode.Ino), Size: it.Inode.Size, ETag: it.Inode.ETag, Modified: it.Inode.Ctime,
				Class: it.Inode.Class, Checksum: it.Inode.Checksum,
			}
		}
		if plant.Is(plant.ListSkipsRecall) {
			return nil, nil
		}
		return inos, nil
	})
	return page, err
}

// CopyObject implements api.ObjectOps: the copy shares the source's blobs.
func (v *Volume) CopyObject(ctx context.Context, in *api.CopyInput) (api.ObjectInfo, error) {
	if err := checkKey("volume.CopyObject", in.Key); err != nil {
		return api.ObjectInfo{}, err
	}
	if err := v.Placer.Writable(); err != nil {
		return api.ObjectInfo{}, err
	}
	for {
		var src *metadata.Inode
		if err := v.observeObject(ctx, in.SrcBucket, in.SrcKey, func(_ metadata.View, n *metadata.Inode) error {
			src = n
			return nil
		}); err != nil {
			return api.ObjectInfo{}, err
		}
		attrs, sum, err := in.Prepare(objectInfo(in.SrcKey, src))
		if err != nil {
			return api.ObjectInfo{}, err
		}
		release, ok, err := v.holdSource(ctx, in.SrcBucket, in.SrcKey, src)
		if err != nil {
			return api.ObjectInfo{}, err
		}
		if !ok {
			continue
		}
		cmd := metadata.CopyObject{
			Src: src.Ino, SrcVersion: src.Version, Key: in.Key, Content: content(attrs, sum), Cond: in.Cond, Crowd: crowd(),
		}
		if !keypath.ReservedKey(string(in.SrcKey)) { // a deep key says the inode itself
			cmd.SrcBucket, cmd.SrcKey, cmd.SrcCtime = src.Bucket, in.SrcKey, src.Ctime
		}
		cmd.Content.Size, cmd.Content.Parts = src.Size, src.Parts
		var info api.ObjectInfo
		err = v.withBucket(ctx, in.Bucket, func(b metadata.Bucket) error {
			cmd.Bucket = b.ID
			end, err := v.excludeKey(ctx, b.ID, in.Key, in.Cond)
			if err != nil {
				return err
			}
			defer end()
			res, err := v.commitIn(ctx, b.ID, metadata.OpCopyObject, cmd, atKey(b.ID, b.Name, in.Key, false))
			if err == nil {
				info = objectInfo(in.Key, res.Inode)
			}
			return err
		})
		release()
		v.kick(v.kickReaper)
		switch errs.KindOf(err) {
		case errs.Conflict, errs.Stale: // the source changed or went between the look and the command
			if err != nil {
				continue
			}
		case errs.TooLarge:
			if err != nil {
				return v.copyBytes(ctx, in, attrs, sum)
			}
		}
		return info, err
	}
}

// holdSource keeps the source's write lease away, and those of where it is, until the copy is
// committed: the copy is as of its commit, and shows everything that write(2) and other calls
// have returned for by then. ok is false where the source has changed since it was looked at.
func (v *Volume) holdSource(ctx context.Context, b twofold.BucketName, k twofold.Key, src *metadata.Inode) (end func(), ok bool, err error) {
	away := exclusion{v: v}
	free, err := v.leases.Exclude(ctx, src.Ino)
	if err != nil {
		return nil, false, err
	}
	err = away.look(ctx, func(w metadata.View) error {
		n, err := resolveKey(w, b, k)
		ok = err == nil && n.Ino == src.Ino && n.Version == src.Version
		return err
	})
	end = func() {
		free()
		away.end()
	}
	if err == nil && ok {
		return end, true, nil
	}
	end()
	switch errs.KindOf(err) {
	case errs.Stale, errs.NotFound, errs.NoBucket: // whoever looks again is told
		err = nil
	}
	return nil, false, err
}

// copyBytes copies an object of too many extents to share: its bytes become a new blob.
func (v *Volume) copyBytes(ctx context.Context, in *api.CopyInput, attrs api.Attrs, sum api.Sum) (api.ObjectInfo, error) {
	info, r, err := v.GetObject(ctx, in.SrcBucket, in.SrcKey)
	if err != nil {
		return api.ObjectInfo{}, err
	}
	defer r.Close()
	if attrs, sum, err = in.Prepare(info); err != nil {
		return api.ObjectInfo{}, err
	}
	body := pipe(func(w io.Writer) error { return r.WriteRange(ctx, w, 0, info.Size) })
	defer body.Close()
	return v.PutObject(ctx, &api.PutInput{
		Bucket: in.Bucket, Key: in.Key, Body: body, Size: info.Size, Attrs: attrs, Cond: in.Cond,
		Finish: func() (api.Sum, error) { return sum, nil },
	})
}
