package s3

import (
	"context"
	"io"
	"net/url"
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/s3/checksum"
	"twofold/s3/s3err"
)

// copySource reads x-amz-copy-source: "[/]bucket/key[?versionId=null]", encoded.
func (rq *request) copySource() (twofold.BucketName, twofold.Key, error) {
	v := rq.r.Header.Get("X-Amz-Copy-Source")
	b, k, err := parseCopySource(v)
	if err != nil {
		return "", "", err
	}
	return twofold.BucketName(b), twofold.Key(k), nil
}

func parseCopySource(v string) (bucket, key string, err error) {
	bad := s3err.Arg("x-amz-copy-source", v, "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	path, version, versioned := strings.Cut(v, "?versionId=")
	path, err = url.PathUnescape(path)
	if err != nil {
		return "", "", bad
	}
	bucket, key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if bucket == "" || key == "" {
		return "", "", bad
	}
	if strings.HasPrefix(bucket, "arn:") {
		return "", "", s3err.Msg(s3err.NotImplemented, "", s3err.Field{Name: "Header", Value: "x-amz-copy-source"})
	}
	if !validBucketName(bucket) {
		return "", "", s3err.New(s3err.InvalidBucketName)
	}
	if err := checkKey(key); err != nil {
		return "", "", err
	}
	if versioned && version != "null" {
		return "", "", s3err.Msg(s3err.NoSuchVersion, "", s3err.Field{Name: "VersionId", Value: version})
	}
	return bucket, key, nil
}

// copyRequest is what a CopyObject asks for.
type copyRequest struct {
	srcBucket twofold.BucketName
	srcKey    twofold.Key
	replace   bool // take attrs of the request and not of the source
	attrs     Attrs
	algo      checksum.Algorithm // asked for; empty: the source's
	cond      conditions         // on the source
	self      bool
	classed   bool // the request names a storage class
}

func (rq *request) parseCopy() (c copyRequest, err error) {
	if c.srcBucket, c.srcKey, err = rq.copySource(); err != nil {
		return c, err
	}
	h := rq.r.Header
	switch v := h.Get("X-Amz-Metadata-Directive"); v {
	case "", "COPY":
	case "REPLACE":
		c.replace = true
	default:
		return c, s3err.Arg("x-amz-metadata-directive", v, "Unknown metadata directive.")
	}
	if c.attrs, err = rq.attrs(); err != nil {
		return c, err
	}
	if c.algo = checksum.Algorithm(strings.ToUpper(h.Get("X-Amz-Checksum-Algorithm"))); c.algo != "" && !c.algo.Valid() {
		return c, s3err.Msg(s3err.InvalidRequest, "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
	}
	c.cond = rq.copyConditions()
	c.self = c.srcBucket == rq.bucket && c.srcKey == rq.key
	_, c.classed = h["X-Amz-Storage-Class"]
	if c.self && !c.replace && !c.classed {
		return c, s3err.Msg(s3err.InvalidRequest, "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	}
	return c, nil
}

// target decides what the copy of a source version gets.
func (c *copyRequest) target(src *ObjectInfo) (Attrs, Sum, error) {
	if err := c.cond.checkCopy(src); err != nil {
		return Attrs{}, Sum{}, err
	}
	if src.Size > twofold.MaxPartLen {
		return Attrs{}, Sum{}, s3err.Msg(s3err.InvalidRequest, "The specified copy source is larger than the maximum allowable size for a copy source: "+itoa(twofold.MaxPartLen))
	}
	a := c.attrs
	if !c.replace {
		a.Headers = src.Headers
		a.UserMeta = withPosix(src.UserMeta, src.Posix)
		a.Posix = posixOf(a.UserMeta)
	}
	return a, Sum{ETag: src.ETag, Checksum: src.Checksum}, nil
}

// copyObject copies without moving bytes, unless a checksum has to be computed
// that the source does not have.
func (rq *request) copyObject() error {
	c, err := rq.parseCopy()
	if err != nil {
		return err
	}
	cond, err := rq.writeConditions()
	if err != nil {
		return err
	}
	needsBytes := s3err.New(s3err.InternalError) // never answered, only compared
	info, err := rq.volume.CopyObject(rq.ctx(), &CopyInput{
		SrcBucket: c.srcBucket, SrcKey: c.srcKey, Bucket: rq.bucket, Key: rq.key, Cond: cond,
		Prepare: func(src ObjectInfo) (Attrs, Sum, error) {
			attrs, sum, err := c.target(&src)
			if err == nil && c.algo != "" && (sum.Checksum == nil || sum.Checksum.Algorithm != string(c.algo)) {
				err = needsBytes
			}
			return attrs, sum, err
		},
	})
	if s3err.As(err) == needsBytes {
		info, err = rq.copyBytes(&c)
	}
	if err != nil {
		return rq.sourceError(err, c.srcBucket, c.srcKey)
	}
	const root = "CopyObjectResult"
	w, buf := rq.xml(root)
	w.Time("LastModified", info.Modified.Time())
	w.ETag("ETag", info.ETag)
	writeChecksum(w, info.Checksum, true)
	return rq.reply(w, root, buf)
}

// sourceError names the source where that is what was not found.
func (rq *request) sourceError(err error, b twofold.BucketName, k twofold.Key) error {
	if errs.Is(err, errs.NotFound) {
		return s3err.Msg(s3err.NoSuchKey, "", s3err.Field{Name: "SourceBucket", Value: string(b)}, s3err.Field{Name: "SourceKey", Value: string(k)})
	}
	return err
}

// copyBytes reads one version of the source and writes it as a new object.
func (rq *request) copyBytes(c *copyRequest) (ObjectInfo, error) {
	cond, err := rq.writeConditions()
	if err != nil {
		return ObjectInfo{}, err
	}
	src, rd, err := rq.volume.GetObject(rq.ctx(), c.srcBucket, c.srcKey)
	if err != nil {
		return ObjectInfo{}, err
	}
	defer rd.Close()
	attrs, _, err := c.target(&src)
	if err != nil {
		return ObjectInfo{}, err
	}
	b, stop := rq.pipe(rd, 0, src.Size, c.algo)
	defer stop()
	return rq.volume.PutObject(rq.ctx(), &PutInput{Bucket: rq.bucket, Key: rq.key,
		Body: b, Size: b.size, Finish: b.finish, Attrs: attrs, Cond: cond})
}

// pipe makes a range of a pinned version a body. stop ends the copying.
func (rq *request) pipe(rd ObjectReader, off, n int64, algo checksum.Algorithm) (b *body, stop func()) {
	ctx, cancel := context.WithCancel(rq.ctx())
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		if n > 0 {
			err = rd.WriteRange(ctx, pw, off, n)
		}
		pw.CloseWithError(err)
	}()
	b = &body{src: pr, size: n, left: n, hashes: newHashes()}
	b.startMD5(rq.md5)
	if algo != "" {
		b.compute(algo)
	}
	return b, func() {
		cancel()
		pr.CloseWithError(io.ErrClosedPipe)
		<-done
		b.endMD5()
	}
}
