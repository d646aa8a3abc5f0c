package s3

import (
	"crypto/md5"
	"encoding/hex"
	"strconv"
	"strings"

	"twofold"
	"twofold/s3/checksum"
	"twofold/s3/s3err"
)

// uploadPartCopy makes a part of a range of an object, without moving bytes where
// no checksum has to be computed.
func (rq *request) uploadPartCopy() error {
	ref, err := rq.uploadRef()
	if err != nil {
		return err
	}
	number, err := rq.partNumber()
	if err != nil {
		return err
	}
	srcBucket, srcKey, err := rq.copySource()
	if err != nil {
		return err
	}
	up, err := rq.volume.GetUpload(rq.ctx(), ref)
	if err != nil {
		return err
	}
	in := &PartCopyInput{UploadRef: ref, Number: number, SrcBucket: srcBucket, SrcKey: srcKey, Prepare: rq.partSource}
	var part PartInfo
	if up.Algo == "" {
		part, err = rq.volume.CopyPart(rq.ctx(), in)
	} else {
		part, err = rq.copyPartBytes(in, checksum.Algorithm(up.Algo))
	}
	if err != nil {
		return rq.sourceError(err, srcBucket, srcKey)
	}
	const root = "CopyPartResult"
	w, buf := rq.xml(root)
	w.Time("LastModified", part.Modified.Time())
	w.ETag("ETag", part.ETag)
	writeChecksum(w, part.Checksum, false)
	return rq.reply(w, root, buf)
}

// partSource picks the range of a source version. The part's entity tag is the
// source's where all of it is taken and that is an MD5; else one that names the
// source's content and the range.
func (rq *request) partSource(src ObjectInfo) (off, n int64, sum Sum, err error) {
	if err := rq.copyConditions().checkCopy(&src); err != nil {
		return 0, 0, sum, err
	}
	span := byteRange{0, src.Size}
	if v := rq.r.Header.Get("X-Amz-Copy-Source-Range"); v != "" {
		if span, err = parseCopyRange(v, src.Size); err != nil {
			return 0, 0, sum, err
		}
	}
	if span.n > twofold.MaxPartLen {
		return 0, 0, sum, s3err.Msg(s3err.InvalidRequest, "The specified copy source is larger than the maximum allowable size for a copy source: "+itoa(twofold.MaxPartLen))
	}
	if span.n == src.Size && len(src.ETag) == 2*md5.Size {
		return span.off, span.n, Sum{ETag: src.ETag}, nil
	}
	tag := md5.Sum([]byte(src.ETag + " " + itoa(span.off) + "+" + itoa(span.n)))
	return span.off, span.n, Sum{ETag: hex.EncodeToString(tag[:])}, nil
}

// parseCopyRange reads x-amz-copy-source-range: both ends, and within the object.
func parseCopyRange(v string, size int64) (byteRange, error) {
	bad := s3err.Arg("x-amz-copy-source-range", v, "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
	spec, ok := strings.CutPrefix(v, "bytes=")
	from, to, found := strings.Cut(spec, "-")
	first, ok1 := parseOffset(from)
	last, ok2 := parseOffset(to)
	if !ok || !found || !ok1 || !ok2 || last < first {
		return byteRange{}, bad
	}
	if last >= size {
		return byteRange{}, s3err.Arg("x-amz-copy-source-range", v, "Range specified is not valid for source object of size: "+strconv.FormatInt(size, 10))
	}
	return byteRange{first, last - first + 1}, nil
}

// copyPartBytes reads the source and writes the part, with the upload's checksum.
func (rq *request) copyPartBytes(in *PartCopyInput, algo checksum.Algorithm) (PartInfo, error) {
	src, rd, err := rq.volume.GetObject(rq.ctx(), in.SrcBucket, in.SrcKey)
	if err != nil {
		return PartInfo{}, err
	}
	defer rd.Close()
	off, n, _, err := in.Prepare(src)
	if err != nil {
		return PartInfo{}, err
	}
	b, stop := rq.pipe(rd, off, n, algo)
	defer stop()
	return rq.volume.PutPart(rq.ctx(), &PartInput{UploadRef: in.UploadRef, Number: in.Number, Body: b, Size: b.size, Finish: b.finish})
}
