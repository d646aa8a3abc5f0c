package s3

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// fakeVolume is a Volume in memory.
type fakeVolume struct {
	mu      sync.Mutex
	buckets map[twofold.BucketName]*fakeBucket
	uploads map[twofold.UploadID]*fakeUpload
	now     twofold.Time
	failGet error // WriteRange fails with it behind failAt bytes
	failAt  int64
	failPut error // PutObject fails with it before it reads
}

type fakeBucket struct {
	info    BucketInfo
	objects map[string]*fakeObject
}

type fakeObject struct {
	info ObjectInfo
	data []byte
}

type fakeUpload struct {
	bucket twofold.BucketName
	info   UploadInfo
	attrs  Attrs
	parts  map[int]*fakePart
}

type fakePart struct {
	info PartInfo
	data []byte
}

var _ Volume = (*fakeVolume)(nil)

func newFakeVolume() *fakeVolume {
	return &fakeVolume{buckets: map[twofold.BucketName]*fakeBucket{}, uploads: map[twofold.UploadID]*fakeUpload{},
		now: 1700000000e9}
}

func (v *fakeVolume) tick() twofold.Time { v.now += 1e9; return v.now }

func (v *fakeVolume) bucket(b twofold.BucketName) (*fakeBucket, error) {
	if fb := v.buckets[b]; fb != nil {
		return fb, nil
	}
	return nil, errs.E("fake", errs.NoBucket, nil)
}

func (v *fakeVolume) ListBuckets(ctx context.Context) (out []BucketInfo, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, b := range v.buckets {
		out = append(out, b.info)
	}
	slices.SortFunc(out, func(a, b BucketInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func (v *fakeVolume) HeadBucket(ctx context.Context, b twofold.BucketName) (BucketInfo, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fb, err := v.bucket(b)
	if err != nil {
		return BucketInfo{}, err
	}
	return fb.info, nil
}

func (v *fakeVolume) CreateBucket(ctx context.Context, b twofold.BucketName, region string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.buckets[b] != nil {
		return errs.E("fake", errs.BucketExists, nil)
	}
	v.buckets[b] = &fakeBucket{BucketInfo{Name: b, Created: v.tick(), Region: region}, map[string]*fakeObject{}}
	return nil
}

func (v *fakeVolume) DeleteBucket(ctx context.Context, b twofold.BucketName) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	fb, err := v.bucket(b)
	if err != nil {
		return err
	}
	if len(fb.objects) > 0 {
		return errs.E("fake", errs.BucketNotEmpty, nil)
	}
	delete(v.buckets, b)
	return nil
}

func (v *fakeVolume) find(b twofold.BucketName, k twofold.Key) (*fakeObject, error) {
	fb, err := v.bucket(b)
	if err != nil {
		return nil, err
	}
	if o := fb.objects[string(k)]; o != nil {
		return o, nil
	}
	return nil, errs.E("fake", errs.NotFound, nil)
}

func (v *fakeVolume) cond(fb *fakeBucket, k twofold.Key, c metadata.Conditions) error {
	o := fb.objects[string(k)]
	switch {
	case c.IfMatch != "" && o == nil:
		return errs.E("fake", errs.NotFound, nil)
	case c.IfMatch != "" && c.IfMatch != "*" && c.IfMatch != o.info.ETag, c.IfNoneMatch == "*" && o != nil:
		return errs.E("fake", errs.Precondition, nil)
	}
	return nil
}

func (v *fakeVolume) put(b twofold.BucketName, k twofold.Key, data []byte, a Attrs, s Sum, c metadata.Conditions, parts []int64) (ObjectInfo, error) {
	fb, err := v.bucket(b)
	if err != nil {
		return ObjectInfo{}, err
	}
	if err := v.cond(fb, k, c); err != nil {
		return ObjectInfo{}, err
	}
	o := &fakeObject{data: data, info: ObjectInfo{Key: k, Size: int64(len(data)), ETag: s.ETag, Modified: v.tick(),
		Headers: a.Headers, UserMeta: maps.Clone(a.UserMeta), Checksum: s.Checksum, Class: a.Class, Parts: parts}}
	if a.Posix != nil {
		o.info.Posix = *a.Posix
	}
	fb.objects[string(k)] = o
	return o.info, nil
}

// drain reads a body as the contract says.
func drain(r io.Reader, size int64, finish func() (Sum, error)) ([]byte, Sum, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, Sum{}, errs.E("fake.drain", errs.Other, err)
	}
	if int64(len(data)) != size {
		panic("the body did not have its size")
	}
	s, err := finish()
	return data, s, err
}

func (v *fakeVolume) PutObject(ctx context.Context, in *PutInput) (ObjectInfo, error) {
	if _, err := v.HeadBucket(ctx, in.Bucket); err != nil {
		return ObjectInfo{}, err
	}
	if v.failPut != nil {
		return ObjectInfo{}, v.failPut
	}
	data, s, err := drain(in.Body, in.Size, in.Finish)
	if err != nil {
		return ObjectInfo{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.put(in.Bucket, in.Key, data, in.Attrs, s, in.Cond, nil)
}

type fakeReader struct {
	v    *fakeVolume
	data []byte
}

func (r *fakeReader) Close() error { return nil }
func (r *fakeReader) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	if r.v.failGet != nil && n > r.v.failAt {
		if r.v.failAt > 0 {
			w.Write(r.data[off : off+r.v.failAt])
		}
		return r.v.failGet
	}
	_, err := w.Write(r.data[off : off+n])
	return err
}

func (v *fakeVolume) GetObject(ctx context.Context, b twofold.BucketName, k twofold.Key) (ObjectInfo, ObjectReader, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	o, err := v.find(b, k)
	if err != nil {
		return ObjectInfo{}, nil, err
	}
	return o.info, &fakeReader{v, o.data}, nil
}

func (v *fakeVolume) HeadObject(ctx context.Context, b twofold.BucketName, k twofold.Key) (ObjectInfo, error) {
	info, _, err := v.GetObject(ctx, b, k)
	return info, err
}

func (v *fakeVolume) DeleteObject(ctx context.Context, b twofold.BucketName, k twofold.Key, cond metadata.Conditions) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	fb, err := v.bucket(b)
	if err != nil {
		return err
	}
	if err := v.cond(fb, k, cond); err != nil {
		return err
	}
	delete(fb.objects, string(k))
	return nil
}

func (v *fakeVolume) CopyObject(ctx context.Context, in *CopyInput) (ObjectInfo, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	src, err := v.find(in.SrcBucket, in.SrcKey)
	if err != nil {
		return ObjectInfo{}, err
	}
	a, s, err := in.Prepare(src.info)
	if err != nil {
		return ObjectInfo{}, err
	}
	return v.put(in.Bucket, in.Key, src.data, a, s, in.Cond, src.info.Parts)
}

// List is the naive listing: every key, rolled up.
func (v *fakeVolume) List(ctx context.Context, b twofold.BucketName, q metadata.ListQuery) (p ListPage, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fb, err := v.bucket(b)
	if err != nil {
		return p, err
	}
	for _, k := range slices.Sorted(maps.Keys(fb.objects)) {
		if !strings.HasPrefix(k, q.Prefix) {
			continue
		}
		it := ListItem{Key: k}
		if cp, ok := commonPrefix(k, q.Prefix, q.Delimiter); ok {
			it = ListItem{Key: cp, IsPrefix: true}
			if len(p.Items) > 0 && p.Items[len(p.Items)-1].Key == cp {
				continue
			}
		}
		if it.Key <= q.After {
			continue
		}
		if len(p.Items) == q.Max {
			p.More = true
			return p, nil
		}
		if o := fb.objects[k]; !it.IsPrefix {
			it.Size, it.ETag, it.Modified, it.Class, it.Checksum = o.info.Size, o.info.ETag, o.info.Modified, o.info.Class, o.info.Checksum
		}
		p.Items = append(p.Items, it)
	}
	return p, nil
}

func (v *fakeVolume) CreateUpload(ctx context.Context, in *UploadInput) (twofold.UploadID, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.bucket(in.Bucket); err != nil {
		return twofold.UploadID{}, err
	}
	id := twofold.NewUUID()
	v.uploads[id] = &fakeUpload{in.Bucket, UploadInfo{Key: in.Key, ID: id, Created: v.tick(), Class: in.Class, Algo: in.Algo, AlgoType: in.AlgoType}, in.Attrs, map[int]*fakePart{}}
	return id, nil
}

func (v *fakeVolume) upload(r UploadRef) (*fakeUpload, error) {
	u := v.uploads[r.ID]
	if u == nil || u.bucket != r.Bucket || u.info.Key != r.Key {
		return nil, errs.E("fake", errs.NoUpload, nil)
	}
	return u, nil
}

func (v *fakeVolume) GetUpload(ctx context.Context, r UploadRef) (UploadInfo, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	u, err := v.upload(r)
	if err != nil {
		return UploadInfo{}, err
	}
	return u.info, nil
}

func (v *fakeVolume) PutPart(ctx context.Context, in *PartInput) (PartInfo, error) {
	data, s, err := drain(in.Body, in.Size, in.Finish)
	if err != nil {
		return PartInfo{}, err
	}
	return v.storePart(in.UploadRef, in.Number, data, s)
}

func (v *fakeVolume) storePart(r UploadRef, number int, data []byte, s Sum) (PartInfo, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	u, err := v.upload(r)
	if err != nil {
		return PartInfo{}, err
	}
	p := &fakePart{PartInfo{Number: number, Size: int64(len(data)), ETag: s.ETag, Modified: v.tick(), Checksum: s.Checksum}, data}
	u.parts[number] = p
	return p.info, nil
}

func (v *fakeVolume) CopyPart(ctx context.Context, in *PartCopyInput) (PartInfo, error) {
	v.mu.Lock()
	src, err := v.find(in.SrcBucket, in.SrcKey)
	v.mu.Unlock()
	if err != nil {
		return PartInfo{}, err
	}
	off, n, s, err := in.Prepare(src.info)
	if err != nil {
		return PartInfo{}, err
	}
	return v.storePart(in.UploadRef, in.Number, src.data[off:off+n], s)
}

func (v *fakeVolume) ListParts(ctx context.Context, r UploadRef, after, max int) (out []PartInfo, more bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	u, err := v.upload(r)
	if err != nil {
		return nil, false, err
	}
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		if n <= after {
			continue
		}
		if len(out) == max {
			return out, true, nil
		}
		out = append(out, u.parts[n].info)
	}
	return out, false, nil
}

func (v *fakeVolume) ListUploads(ctx context.Context, b twofold.BucketName, prefix, afterKey string, afterID twofold.UploadID, max int) (out []UploadInfo, more bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.bucket(b); err != nil {
		return nil, false, err
	}
	for _, u := range v.uploads {
		k := string(u.info.Key)
		if u.bucket == b && strings.HasPrefix(k, prefix) && (k > afterKey || k == afterKey && bytes.Compare(u.info.ID[:], afterID[:]) > 0) {
			out = append(out, u.info)
		}
	}
	slices.SortFunc(out, func(a, b UploadInfo) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), bytes.Compare(a.ID[:], b.ID[:]))
	})
	if len(out) > max {
		return out[:max], true, nil
	}
	return out, false, nil
}

func (v *fakeVolume) CompleteUpload(ctx context.Context, in *CompleteInput) (ObjectInfo, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	u, err := v.upload(in.UploadRef)
	if err != nil {
		return ObjectInfo{}, err
	}
	var data []byte
	var sizes []int64
	for i, p := range in.Parts {
		fp := u.parts[p.Number]
		if fp == nil || fp.info.ETag != p.ETag {
			return ObjectInfo{}, errs.E("fake", errs.InvalidPart, nil)
		}
		if i < len(in.Parts)-1 && fp.info.Size < twofold.MinPartLen {
			return ObjectInfo{}, errs.E("fake", errs.PartTooSmall, nil)
		}
		data = append(data, fp.data...)
		sizes = append(sizes, fp.info.Size)
	}
	info, err := v.put(in.Bucket, in.Key, data, u.attrs, in.Sum, in.Cond, sizes)
	if err == nil {
		delete(v.uploads, in.ID)
	}
	return info, err
}

func (v *fakeVolume) AbortUpload(ctx context.Context, r UploadRef) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.upload(r); err != nil {
		return err
	}
	delete(v.uploads, r.ID)
	return nil
}
