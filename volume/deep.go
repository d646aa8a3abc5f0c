package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/keypath"
)

// The mount has paths that are too long to be keys. S3 shows and takes such a file
// under a deep key, which names its inode: see keypath.DeepKey. Listings show it at
// the place that its real key has.

// realKey is the key at which the tree has what k names: k itself, but for a deep
// key. errs.NotFound where a deep key names nothing.
func realKey(w metadata.View, b twofold.BucketID, k twofold.Key) (twofold.Key, error) {
	if !keypath.ReservedKey(string(k)) {
		return k, nil
	}
	notFound := errs.Newf("volume.realKey", errs.NotFound, "no such key")
	_, ino, _, ok := keypath.ParseDeepKey(string(k))
	if !ok {
		return k, notFound
	}
	n, err := w.Inode(ino)
	if errs.Is(err, errs.Stale) || err == nil && n.Bucket != b {
		return k, notFound
	}
	if err != nil {
		return k, err
	}
	full, err := w.KeyOf(ino)
	if err != nil || keypath.DeepKey(string(full), ino) != string(k) {
		return k, notFound
	}
	return full, nil
}

// realKey is the same outside of a snapshot.
func (v *Volume) realKey(ctx context.Context, b twofold.BucketID, k twofold.Key) (full twofold.Key, err error) {
	if !keypath.ReservedKey(string(k)) {
		return k, nil
	}
	err = v.observe(ctx, 0, func(w metadata.View) (_ []twofold.Ino, err error) {
		full, err = realKey(w, b, k)
		return nil, err
	})
	return full, err
}

// realMarker turns a marker of a listing into one of the tree.
func realMarker(w metadata.View, b twofold.BucketID, after string) (string, error) {
	full, err := realKey(w, b, twofold.Key(after))
	if errs.Is(err, errs.NotFound) {
		return after, nil // it went since: what follows may come twice, nothing is left out
	}
	return string(full), err
}
