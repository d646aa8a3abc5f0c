package volume

import (
	"context"
	"io"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// ListBuckets implements api.BucketOps.
func (v *Volume) ListBuckets(ctx context.Context) ([]api.BucketInfo, error) {
	var out []api.BucketInfo
	err := v.Meta.View(ctx, func(w metadata.View) error {
		all, err := w.Buckets()
		out = make([]api.BucketInfo, len(all))
		for i, b := range all {
			out[i] = bucketInfo(&b)
		}
		return err
	})
	return out, err
}

// HeadBucket implements api.BucketOps.
func (v *Volume) HeadBucket(ctx context.Context, name twofold.BucketName) (api.BucketInfo, error) {
	var out api.BucketInfo
	err := v.Meta.View(ctx, func(w metadata.View) error {
		b, err := w.Bucket(name)
		if err == nil {
			out = bucketInfo(b)
		}
		return err
	})
	return out, err
}

// CreateBucket implements api.BucketOps.
func (v *Volume) CreateBucket(ctx context.Context, name twofold.BucketName, region string) error {
	if !ValidBucketName(name) {
		return errs.Newf("volume.CreateBucket", errs.BadBucketName, "%q is not a bucket name: 3-63 characters of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit", name)
	}
	if err := v.Placer.Writable(); err != nil {
		return err
	}
	c, err := v.beginChange(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { c.done(err) }()
	if err = c.add(ctx, false, bucketEntry(name)); err != nil {
		return err
	}
	_, err = v.commit(ctx, metadata.OpCreateBucket, metadata.CreateBucket{Name: name, Region: region})
	return err
}

// bucketEntry is a bucket's name in the directory of buckets.
func bucketEntry(name twofold.BucketName) metadata.Target {
	return metadata.Target{Ino: twofold.RootIno, Names: []string{string(name)}}
}

// addBucketRoot adds what becomes of a bucket's root when the bucket is removed.
func (v *Volume) addBucketRoot(ctx context.Context, c *change, name twofold.BucketName) error {
	var root twofold.Ino
	if err := v.Meta.View(ctx, func(w metadata.View) error {
		b, err := w.Bucket(name)
		if err == nil {
			root = b.Root
		}
		return err
	}); err != nil {
		return err
	}
	return c.add(ctx, true, metadata.Target{Ino: root})
}

// noBucket is for a change that is not of one bucket.
func noBucket() (twofold.BucketID, error) {
	return 0, errs.Newf("volume.change", errs.Unavailable, "the bucket is removed and made again by others")
}

// DeleteBucket implements api.BucketOps.
func (v *Volume) DeleteBucket(ctx context.Context, name twofold.BucketName) error {
	defer v.kick(v.kickTrash)
	defer v.forgetBucket(name)
	c, err := v.beginChange(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { c.done(err) }()
	if err = c.add(ctx, false, bucketEntry(name)); err != nil {
		return err
	}
	if err = v.addBucketRoot(ctx, c, name); err != nil {
		return err
	}
	for {
		var res *metadata.Result
		res, err = c.send(ctx, noBucket, func(guard []metadata.Target) (*metadata.Result, error) {
			return v.commitGuarded(ctx, metadata.OpDeleteBucket, metadata.DeleteBucket{Name: name}, guard)
		})
		if err != nil || !res.More {
			return err
		}
	}
}

func bucketInfo(b *metadata.Bucket) api.BucketInfo {
	return api.BucketInfo{Name: b.Name, Created: b.Created, Region: b.Region}
}

// ValidBucketName follows AWS's rules for general purpose buckets.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
func ValidBucketName(n twofold.BucketName) bool {
	if len(n) < 3 || len(n) > 63 {
		return false
	}
	digitsAndDots, dots := true, 0
	for i := 0; i < len(n); i++ {
		c := n[i]
		switch {
		case c >= '0' && c <= '9':
		case c >= 'a' && c <= 'z':
			digitsAndDots = false
		case c == '-' && i > 0 && i < len(n)-1:
			digitsAndDots = false
		case c == '.' && i > 0 && i < len(n)-1 && n[i-1] != '.':
			dots++
		default:
			return false
		}
	}
	return !(digitsAndDots && dots == 3) // not like an IP address
}

// pipe runs fill in a goroutine of its own and returns what it writes as a reader.
// Closing the reader makes fill's writes fail.
func pipe(fill func(io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(fill(w)) }()
	return r
}
