package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// inconsistent is what a view says when it contradicts itself: not an error of the
// machine, a broken promise.
type inconsistent struct{ text string }

func (e *inconsistent) Error() string { return e.text }

// get reads a whole object; absent tells that there is none.
func (r *rig) get(key string) (b []byte, etag string, absent bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	out, err := r.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key})
	if statusOf(err) == 404 {
		return nil, "", true, nil
	}
	if err != nil {
		return nil, "", false, err
	}
	defer out.Body.Close()
	b, err = io.ReadAll(out.Body)
	if err == nil && int64(len(b)) != aws.ToInt64(out.ContentLength) {
		err = &inconsistent{fmt.Sprintf("GET %s: %d bytes, %d announced", key, len(b), aws.ToInt64(out.ContentLength))}
	}
	return b, aws.ToString(out.ETag), false, err
}

func (r *rig) put(key string, b []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	_, err := r.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(b)})
	return err
}

func (r *rig) remove(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	_, err := r.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: &key})
	return err
}

func (r *rig) copy(from, to string) error {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	_, err := r.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: &to, CopySource: aws.String(bucket + "/" + from)})
	return err
}

// multipart uploads b in parts of size bytes.
func (r *rig) multipart(key string, b []byte, size int) error {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	up, err := r.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: &key})
	if err != nil {
		return err
	}
	var parts []types.CompletedPart
	for n := int32(1); len(b) > 0; n++ {
		p := b[:min(size, len(b))]
		b = b[len(p):]
		out, err := r.s3.UploadPart(ctx, &s3.UploadPartInput{Bucket: aws.String(bucket), Key: &key, UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader(p)})
		if err != nil {
			return err
		}
		parts = append(parts, types.CompletedPart{PartNumber: aws.Int32(n), ETag: out.ETag})
	}
	_, err = r.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(bucket), Key: &key, UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}

// list lists all keys with a prefix, by pages of a few.
func (r *rig) list(prefix string) (out []types.Object, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	in := &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: &prefix, MaxKeys: aws.Int32(7)}
	for {
		page, err := r.s3.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			if len(out) > 0 && aws.ToString(out[len(out)-1].Key) >= aws.ToString(o.Key) {
				return nil, &inconsistent{fmt.Sprintf("LIST %s: %q after %q", prefix, *o.Key, *out[len(out)-1].Key)}
			}
			out = append(out, o)
		}
		if !aws.ToBool(page.IsTruncated) {
			return out, nil
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// readS3 reads everything under a directory by LIST, HEAD and GET, which have to
// agree. Nobody may be writing there.
func (r *rig) readS3(dir string) (*tree, error) {
	t := &tree{view: viewS3, files: map[string][]byte{}, dirs: map[string]bool{}}
	keys, err := r.list(dir + "/")
	if err != nil {
		return nil, err
	}
	for _, o := range keys {
		key := *o.Key
		name := strings.TrimPrefix(key, dir+"/")
		if name == "" {
			continue
		}
		if d, ok := strings.CutSuffix(name, "/"); ok {
			t.dirs[d] = true
			continue
		}
		b, etag, absent, err := r.get(key)
		if err != nil {
			return nil, err
		}
		if absent || etag != aws.ToString(o.ETag) || int64(len(b)) != aws.ToInt64(o.Size) {
			return nil, &inconsistent{fmt.Sprintf("LIST has %s with %d bytes and ETag %s, GET has (absent=%v) %d bytes and ETag %s",
				key, aws.ToInt64(o.Size), aws.ToString(o.ETag), absent, len(b), etag)}
		}
		if err := r.headAgrees(key, b, etag); err != nil {
			return nil, err
		}
		t.files[name] = b
	}
	return t, nil
}

func (r *rig) headAgrees(key string, b []byte, etag string) error {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	h, err := r.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: &key})
	if err != nil && statusOf(err) != 404 {
		return err
	}
	if err != nil || aws.ToInt64(h.ContentLength) != int64(len(b)) || aws.ToString(h.ETag) != etag {
		return &inconsistent{fmt.Sprintf("HEAD %s: %v, and not %d bytes with ETag %s", key, err, len(b), etag)}
	}
	return nil
}

// readMount reads everything under a directory by readdir, stat and read.
func (r *rig) readMount(dir string) (*tree, error) {
	t := &tree{view: viewMount, files: map[string][]byte{}, dirs: map[string]bool{}}
	root := r.path(dir)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == root {
			return nil
		}
		name := strings.TrimPrefix(p, root+"/")
		if d.IsDir() {
			t.dirs[name] = true
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if st.Size() != int64(len(b)) {
			return &inconsistent{fmt.Sprintf("%s: stat says %d bytes, read gives %d", p, st.Size(), len(b))}
		}
		t.files[name] = b
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		// Nobody else works here: a name that was listed has to be there.
		return nil, &inconsistent{fmt.Sprintf("the mount lists what it does not find: %v", err)}
	}
	return t, err
}
