package s3

import (
	"strconv"
	"strings"

	"twofold"
	"twofold/s3/s3err"
	"twofold/s3/sigv4"
	"twofold/s3/wire"
)

func escapePath(p string) string { return sigv4.Escape(p) }

// listParts lists an upload's parts.
func (rq *request) listParts() error {
	ref, err := rq.uploadRef()
	if err != nil {
		return err
	}
	limit, err := rq.limit("max-parts")
	if err != nil {
		return err
	}
	after := 0
	if v := rq.q.Get("part-number-marker"); v != "" {
		if after, err = strconv.Atoi(v); err != nil || after < 0 {
			return s3err.Arg("part-number-marker", v, "Argument part-number-marker must be an integer between 0 and 2147483647")
		}
	}
	encoding, enc, err := rq.encoder()
	if err != nil {
		return err
	}
	up, err := rq.volume.GetUpload(rq.ctx(), ref)
	if err != nil {
		return err
	}
	var parts []PartInfo
	more := false
	if limit > 0 {
		if parts, more, err = rq.volume.ListParts(rq.ctx(), ref, after, limit); err != nil {
			return err
		}
	}
	const root = "ListPartsResult"
	w, buf := rq.xml(root)
	w.Text("Bucket", string(rq.bucket))
	w.Text("Key", enc(string(rq.key)))
	w.Opt("EncodingType", encoding)
	w.Text("UploadId", formatUploadID(ref.ID))
	writeOwner(w, "Initiator")
	writeOwner(w, "Owner")
	w.Text("StorageClass", className(up.Class))
	w.Int("PartNumberMarker", int64(after))
	if len(parts) > 0 {
		w.Int("NextPartNumberMarker", int64(parts[len(parts)-1].Number))
	}
	w.Int("MaxParts", int64(limit))
	w.Bool("IsTruncated", more)
	w.Opt("ChecksumAlgorithm", up.Algo)
	w.Opt("ChecksumType", up.AlgoType)
	for _, p := range parts {
		w.Open("Part")
		w.Int("PartNumber", int64(p.Number))
		w.Time("LastModified", p.Modified.Time())
		w.ETag("ETag", p.ETag)
		w.Int("Size", p.Size)
		writeChecksum(w, p.Checksum, false)
		w.Close("Part")
	}
	return rq.reply(w, root, buf)
}

// uploadsPage is a page of uploads and common prefixes.
type uploadsPage struct {
	uploads  []UploadInfo
	prefixes []string
	more     bool
	nextKey  string
	nextID   string // empty behind a common prefix
}

// listUploads lists the uploads in progress.
func (rq *request) listUploads() error {
	limit, err := rq.limit("max-uploads")
	if err != nil {
		return err
	}
	encoding, enc, err := rq.encoder()
	if err != nil {
		return err
	}
	q := rq.q
	prefix, delimiter, keyMarker, idMarker := q.Get("prefix"), q.Get("delimiter"), q.Get("key-marker"), q.Get("upload-id-marker")
	page, err := rq.collectUploads(prefix, delimiter, keyMarker, idMarker, limit)
	if err != nil {
		return err
	}
	const root = "ListMultipartUploadsResult"
	w, buf := rq.xml(root)
	w.Text("Bucket", string(rq.bucket))
	w.Text("KeyMarker", enc(keyMarker))
	w.Text("UploadIdMarker", idMarker)
	if page.more {
		w.Text("NextKeyMarker", enc(page.nextKey))
		w.Text("NextUploadIdMarker", page.nextID)
	}
	w.Text("Prefix", enc(prefix))
	w.Opt("Delimiter", enc(delimiter))
	w.Opt("EncodingType", encoding)
	w.Int("MaxUploads", int64(limit))
	w.Bool("IsTruncated", page.more)
	for i := range page.uploads {
		writeUpload(w, &page.uploads[i], enc)
	}
	for _, p := range page.prefixes {
		w.Open("CommonPrefixes")
		w.Text("Prefix", enc(p))
		w.Close("CommonPrefixes")
	}
	return rq.reply(w, root, buf)
}

func writeUpload(w *wire.Writer, u *UploadInfo, enc func(string) string) {
	w.Open("Upload")
	w.Text("Key", enc(string(u.Key)))
	w.Text("UploadId", formatUploadID(u.ID))
	writeOwner(w, "Initiator")
	writeOwner(w, "Owner")
	w.Text("StorageClass", className(u.Class))
	w.Time("Initiated", u.Created.Time())
	w.Opt("ChecksumAlgorithm", u.Algo)
	w.Opt("ChecksumType", u.AlgoType)
	w.Close("Upload")
}

// afterAllIDs is behind every upload id, and afterPrefix behind every key that
// begins with a common prefix: no UTF-8 has a byte 0xFF.
const afterPrefix = "\xff"

func afterAllIDs() (id twofold.UploadID) {
	for i := range id {
		id[i] = 0xff
	}
	return id
}

// collectUploads rolls keys with the delimiter up into common prefixes; the volume
// lists without.
func (rq *request) collectUploads(prefix, delimiter, keyMarker, idMarker string, limit int) (p uploadsPage, err error) {
	after, afterID := keyMarker, afterAllIDs()
	if keyMarker != "" && idMarker != "" {
		if afterID, err = parseUploadID(idMarker); err != nil {
			return p, s3err.Arg("upload-id-marker", idMarker, "Invalid uploadId marker")
		}
	}
	if idMarker == "" && delimiter != "" && strings.HasSuffix(keyMarker, delimiter) && strings.HasPrefix(keyMarker, prefix) {
		after += afterPrefix // it was the last common prefix
	}
	for n := 0; ; {
		ups, more, err := rq.volume.ListUploads(rq.ctx(), rq.bucket, prefix, after, afterID, max(limit-n, 1))
		if err != nil {
			return p, err
		}
		skipped := false
		for _, u := range ups {
			if n == limit {
				p.more = limit > 0
				return p, nil
			}
			n++
			key := string(u.Key)
			if cp, ok := commonPrefix(key, prefix, delimiter); ok {
				p.prefixes = append(p.prefixes, cp)
				p.nextKey, p.nextID = cp, ""
				after, afterID, skipped = cp+afterPrefix, afterAllIDs(), true
				break
			}
			p.uploads = append(p.uploads, u)
			p.nextKey, p.nextID = key, formatUploadID(u.ID)
			after, afterID = key, u.ID
		}
		if !skipped && !more {
			return p, nil
		}
	}
}

// commonPrefix returns what a key is rolled up into.
func commonPrefix(key, prefix, delimiter string) (string, bool) {
	if delimiter == "" {
		return "", false
	}
	i := strings.Index(key[len(prefix):], delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(prefix)+i+len(delimiter)], true
}
