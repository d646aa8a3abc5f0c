package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// CreateUpload implements api.UploadOps.
func (v *Volume) CreateUpload(ctx context.Context, in *api.UploadInput) (twofold.UploadID, error) {
	if err := checkKey("volume.CreateUpload", in.Key); err != nil {
		return twofold.UploadID{}, err
	}
	if err := v.Placer.Writable(); err != nil {
		return twofold.UploadID{}, err
	}
	up := metadata.Upload{
		ID: twofold.NewUUID(), Key: in.Key, Created: v.now(),
		Headers: in.Headers, UserMeta: in.UserMeta, Class: in.Class, Posix: in.Posix,
		Algo: in.Algo, AlgoType: in.AlgoType,
	}
	err := v.withBucket(ctx, in.Bucket, func(b metadata.Bucket) error {
		up.Bucket = b.ID
		_, err := v.commit(ctx, metadata.OpCreateUpload, metadata.CreateUpload{Upload: up})
		return err
	})
	return up.ID, err
}

// upload finds an upload where the client says that it is.
func upload(w metadata.View, ref api.UploadRef) (*metadata.Upload, error) {
	b, err := w.Bucket(ref.Bucket)
	if err != nil {
		return nil, err
	}
	u, err := w.Upload(ref.ID)
	if err == nil && (u.Bucket != b.ID || u.Key != ref.Key) {
		err = errs.Newf("volume.upload", errs.NoUpload, "the upload is not one of %s/%s", ref.Bucket, ref.Key)
	}
	return u, err
}

func (v *Volume) upload(ctx context.Context, ref api.UploadRef) (up *metadata.Upload, err error) {
	err = v.Meta.View(ctx, func(w metadata.View) error {
		up, err = upload(w, ref)
		return err
	})
	return up, err
}

// GetUpload implements api.UploadOps.
func (v *Volume) GetUpload(ctx context.Context, ref api.UploadRef) (api.UploadInfo, error) {
	u, err := v.upload(ctx, ref)
	if err != nil {
		return api.UploadInfo{}, err
	}
	return uploadInfo(u), nil
}

func uploadInfo(u *metadata.Upload) api.UploadInfo {
	return api.UploadInfo{Key: u.Key, ID: u.ID, Created: u.Created, Class: u.Class, Algo: u.Algo, AlgoType: u.AlgoType}
}

// PutPart implements api.UploadOps.
func (v *Volume) PutPart(ctx context.Context, in *api.PartInput) (api.PartInfo, error) {
	up, err := v.upload(ctx, in.UploadRef)
	if err != nil {
		return api.PartInfo{}, err
	}
	if err := v.Placer.Writable(); err != nil {
		return api.PartInfo{}, err
	}
	if err := v.fits(ctx, up.Bucket, in.Size, replacesPart(in.ID, in.Number)); err != nil {
		return api.PartInfo{}, err
	}
	why := purpose{Bucket: in.Bucket, Key: in.Key, Upload: in.ID.String(), Part: in.Number}
	data, err := v.store(ctx, in.Body, in.Size, string(in.Key), up.Class, why.encode())
	if err != nil {
		return api.PartInfo{}, err
	}
	sum, err := in.Finish()
	if err != nil {
		data.settle(err)
		return api.PartInfo{}, err
	}
	part := metadata.Part{
		Number: in.Number, Size: in.Size, ETag: sum.ETag, Mtime: v.now(), Checksum: sum.Checksum, Extents: data.extents,
	}
	_, err = v.commit(ctx, metadata.OpPutPart, metadata.PutPart{Upload: in.ID, Part: part})
	data.settle(err)
	v.kick(v.kickTrash) // of a part that was replaced
	return partInfo(&part), err
}

// CopyPart implements api.UploadOps: the part shares the source's blobs.
func (v *Volume) CopyPart(ctx context.Context, in *api.PartCopyInput) (api.PartInfo, error) {
	if _, err := v.upload(ctx, in.UploadRef); err != nil {
		return api.PartInfo{}, err
	}
	if err := v.Placer.Writable(); err != nil {
		return api.PartInfo{}, err
	}
	for {
		var src *metadata.Inode
		if err := v.observeObject(ctx, in.SrcBucket, in.SrcKey, func(_ metadata.View, n *metadata.Inode) error {
			src = n
			return nil
		}); err != nil {
			return api.PartInfo{}, err
		}
		off, n, sum, err := in.Prepare(objectInfo(in.SrcKey, src))
		if err != nil {
			return api.PartInfo{}, err
		}
		end, ok, err := v.holdSource(ctx, in.SrcBucket, in.SrcKey, src)
		if err != nil {
			return api.PartInfo{}, err
		}
		if !ok {
			continue
		}
		part := metadata.Part{Number: in.Number, Size: n, ETag: sum.ETag, Mtime: v.now(), Checksum: sum.Checksum}
		_, err = v.commit(ctx, metadata.OpPutPart, metadata.PutPart{
			Upload: in.ID, Part: part, Src: src.Ino, SrcVersion: src.Version, SrcOff: off,
		})
		end()
		v.kick(v.kickTrash)
		if err != nil && (errs.Is(err, errs.Conflict) || errs.Is(err, errs.Stale)) {
			continue // the source changed between the look and the command
		}
		return partInfo(&part), err
	}
}

func partInfo(p *metadata.Part) api.PartInfo {
	return api.PartInfo{Number: p.Number, Size: p.Size, ETag: p.ETag, Modified: p.Mtime, Checksum: p.Checksum}
}

// ListParts implements api.UploadOps.
func (v *Volume) ListParts(ctx context.Context, ref api.UploadRef, after, max int) (parts []api.PartInfo, more bool, err error) {
	err = v.Meta.View(ctx, func(w metadata.View) error {
		if _, err := upload(w, ref); err != nil {
			return err
		}
		found, m, err := w.Parts(ref.ID, after, max)
		more = m
		parts = make([]api.PartInfo, len(found))
		for i := range found {
			parts[i] = partInfo(&found[i])
		}
		return err
	})
	return parts, more, err
}

// ListUploads implements api.UploadOps.
func (v *Volume) ListUploads(ctx context.Context, bn twofold.BucketName, prefix, afterKey string, afterID twofold.UploadID, max int) (ups []api.UploadInfo, more bool, err error) {
	err = v.Meta.View(ctx, func(w metadata.View) error {
		b, err := w.Bucket(bn)
		if err != nil {
			return err
		}
		found, m, err := w.Uploads(b.ID, twofold.Key(prefix), twofold.Key(afterKey), afterID, max)
		more = m
		ups = make([]api.UploadInfo, len(found))
		for i := range found {
			ups[i] = uploadInfo(&found[i])
		}
		return err
	})
	return ups, more, err
}

// CompleteUpload implements api.UploadOps: one command, no byte is copied.
func (v *Volume) CompleteUpload(ctx context.Context, in *api.CompleteInput) (api.ObjectInfo, error) {
	up, err := v.upload(ctx, in.UploadRef)
	if err != nil {
		return api.ObjectInfo{}, err
	}
	if err := v.Placer.Writable(); err != nil {
		return api.ObjectInfo{}, err
	}
	end, err := v.excludeKey(ctx, up.Bucket, up.Key, in.Cond)
	if err != nil {
		return api.ObjectInfo{}, err
	}
	defer end()
	cmd := metadata.CompleteUpload{
		Upload: in.ID, Parts: in.Parts, Cond: in.Cond, Crowd: crowd(),
		Content: metadata.Content{
			ETag: in.Sum.ETag, Checksum: in.Sum.Checksum,
			Headers: up.Headers, UserMeta: up.UserMeta, Class: up.Class, Posix: up.Posix,
		},
	}
	predict := atKey(up.Bucket, in.Bucket, up.Key, false)
	res, err := v.commitIn(ctx, up.Bucket, metadata.OpCompleteUpload, cmd, predict)
	for err == nil && res.More { // very many parts that are not listed go first
		res, err = v.commitIn(ctx, up.Bucket, metadata.OpCompleteUpload, cmd, predict)
	}
	v.kick(v.kickReaper)
	v.kick(v.kickTrash)
	if err != nil {
		return api.ObjectInfo{}, err
	}
	return objectInfo(up.Key, res.Inode), nil
}

// AbortUpload implements api.UploadOps.
func (v *Volume) AbortUpload(ctx context.Context, ref api.UploadRef) error {
	if _, err := v.upload(ctx, ref); err != nil {
		return err
	}
	defer v.kick(v.kickTrash)
	for {
		res, err := v.commit(ctx, metadata.OpAbortUpload, metadata.AbortUpload{Upload: ref.ID})
		if err != nil || !res.More {
			return err
		}
	}
}
