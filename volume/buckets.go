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
	_, err := v.commit(ctx, metadata.OpCreateBucket, metadata.CreateBucket{Name: name, Region: region})
	return err
}

// DeleteBucket implements api.BucketOps.
func (v *Volume) DeleteBucket(ctx context.Context, name twofold.BucketName) error {
	defer v.kick(v.kickTrash)
	defer v.forgetBucket(name)
	for {
		res, err := v.commit(ctx, metadata.OpDeleteBucket, metadata.DeleteBucket{Name: name})
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
