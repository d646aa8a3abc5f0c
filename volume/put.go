package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"

	"github.com/fxamacker/cbor/v2"
)

// purpose is what a blob's trailer says of it, for salvage only.
type purpose struct {
	Bucket twofold.BucketName `cbor:"1,keyasint,omitempty"`
	Key    twofold.Key        `cbor:"2,keyasint,omitempty"`
	Upload string             `cbor:"3,keyasint,omitempty"`
	Part   int                `cbor:"4,keyasint,omitempty"`
	Ino    twofold.Ino        `cbor:"5,keyasint,omitempty"`
	Off    int64              `cbor:"6,keyasint,omitempty"`
}

func (p purpose) encode() []byte {
	b, err := cbor.Marshal(p)
	if err != nil {
		return nil // plain values always marshal
	}
	return b
}

// PutObject implements api.ObjectOps.
func (v *Volume) PutObject(ctx context.Context, in *api.PutInput) (api.ObjectInfo, error) {
	if err := checkKey("volume.PutObject", in.Key); err != nil {
		return api.ObjectInfo{}, err
	}
	b, err := v.bucket(ctx, in.Bucket)
	if err != nil {
		return api.ObjectInfo{}, err
	}
	if err := v.Placer.Writable(); err != nil {
		return api.ObjectInfo{}, err
	}
	if err := v.fits(ctx, b.ID, in.Size, replacesObject(b.ID, in.Key)); err != nil {
		return api.ObjectInfo{}, err
	}
	data, err := v.store(ctx, in.Body, in.Size, string(in.Key), in.Class, purpose{Bucket: in.Bucket, Key: in.Key}.encode())
	if err != nil {
		return api.ObjectInfo{}, err
	}
	sum, err := in.Finish()
	if err != nil {
		data.settle(err)
		return api.ObjectInfo{}, err
	}
	cmd := metadata.PutObject{
		Key: in.Key, Content: content(in.Attrs, sum), Extents: data.extents, Cond: in.Cond,
	}
	cmd.Content.Size = in.Size
	var info api.ObjectInfo
	err = v.withBucket(ctx, in.Bucket, func(b metadata.Bucket) error {
		cmd.Bucket = b.ID
		end, err := v.excludeKey(ctx, b.ID, in.Key, in.Cond)
		if err != nil {
			return err
		}
		defer end()
		res, err := v.commitIn(ctx, b.ID, metadata.OpPutObject, cmd, atKey(b.ID, b.Name, in.Key, false))
		if err == nil {
			info = objectInfo(in.Key, res.Inode)
		}
		return err
	})
	data.settle(err)
	v.kick(v.kickReaper) // a replaced object's inode may be free now
	return info, err
}

// checkKey refuses what can't be a key of an object that is made. errs.NameTooLong, Invalid.
func checkKey(op string, k twofold.Key) error {
	if err := keypath.ValidKey(string(k)); err != nil {
		return err
	}
	if keypath.ReservedKey(string(k)) {
		return errs.Newf(op, errs.Invalid, "a part of the key has the form %sino-..., which is kept for files of the mount whose paths are too long for keys", keypath.Marker)
	}
	return nil
}

// content joins what a request gives an object.
func content(a api.Attrs, sum api.Sum) metadata.Content {
	return metadata.Content{
		ETag: sum.ETag, Checksum: sum.Checksum,
		Headers: a.Headers, UserMeta: a.UserMeta, Class: a.Class, Posix: a.Posix,
	}
}

// excludeKey keeps write leases away from what a key names now, and from where it is, while a
// conditional command is on its way: the condition must see what write(2) and other calls
// had returned for. It does nothing without a condition.
func (v *Volume) excludeKey(ctx context.Context, b twofold.BucketID, k twofold.Key, c metadata.Conditions) (end func(), err error) {
	if c == (metadata.Conditions{}) {
		return func() {}, nil
	}
	away := exclusion{v: v}
	for {
		ino, err := away.resolve(ctx, b, k)
		if errs.Is(err, errs.NotFound) {
			return away.end, nil
		}
		if err != nil {
			away.end()
			return nil, err
		}
		end, err := v.leases.Exclude(ctx, ino)
		if err != nil {
			away.end()
			return nil, err
		}
		// The key may have been given to another inode meanwhile, whose lease is not kept away.
		again, err := away.resolve(ctx, b, k)
		if err == nil && again == ino {
			return func() {
				end()
				away.end()
			}, nil
		}
		end()
		if err != nil && !errs.Is(err, errs.NotFound) {
			away.end()
			return nil, err
		}
	}
}

// resolve finds what a key names, and keeps away who could have given it to something else.
func (x *exclusion) resolve(ctx context.Context, b twofold.BucketID, k twofold.Key) (ino twofold.Ino, err error) {
	err = x.look(ctx, func(w metadata.View) error {
		n, err := w.Resolve(b, k)
		if err == nil {
			ino = n.Ino
		}
		return err
	})
	return ino, err
}

// objectInfo is an inode as S3 shows it.
func objectInfo(k twofold.Key, n *metadata.Inode) api.ObjectInfo {
	o := api.ObjectInfo{
		Key: k, Size: n.Size, ETag: n.ETag, Modified: n.Ctime,
		Headers: n.Headers, UserMeta: n.UserMeta, Checksum: n.Checksum, Class: n.Class, Parts: n.Parts,
	}
	if n.ModeSet {
		o.Posix.Mode = &n.Mode
	}
	if n.UIDSet {
		o.Posix.UID = &n.UID
	}
	if n.GIDSet {
		o.Posix.GID = &n.GID
	}
	o.Posix.Mtime = &n.Mtime
	return o
}
