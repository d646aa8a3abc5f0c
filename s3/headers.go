package s3

import (
	"net/http"
	"strings"

	"twofold/s3/s3err"
	"twofold/s3/sigv4"
)

// MaxUserMeta is the most bytes of an object's user metadata, names and values
// together, as AWS documents.
const MaxUserMeta = 2 << 10

const metaPrefix = "X-Amz-Meta-" // canonical

// checkHeaders refuses headers that ask for something that this server does not
// do: going on as if they were not there would be a wrong success.
func checkHeaders(h http.Header) error {
	for name, vs := range h {
		if len(name) < 6 || name[:6] != "X-Amz-" || len(vs) == 0 {
			continue
		}
		bad := false
		switch v := vs[0]; name {
		case "X-Amz-Acl":
			if v != "private" && v != "bucket-owner-full-control" {
				return s3err.New(s3err.AccessControlListNotSupported)
			}
		case "X-Amz-Bucket-Object-Lock-Enabled":
			bad = !strings.EqualFold(v, "false")
		case "X-Amz-Object-Ownership":
			bad = v != "BucketOwnerEnforced"
		case "X-Amz-Tagging", "X-Amz-Website-Redirect-Location", "X-Amz-Write-Offset-Bytes",
			"X-Amz-If-Match-Last-Modified-Time", "X-Amz-If-Match-Size", "X-Amz-Rename-Source":
			bad = true
		default:
			bad = strings.HasPrefix(name, "X-Amz-Server-Side-Encryption") ||
				strings.HasPrefix(name, "X-Amz-Copy-Source-Server-Side-Encryption") ||
				strings.HasPrefix(name, "X-Amz-Object-Lock-") ||
				strings.HasPrefix(name, "X-Amz-Grant-")
		}
		if bad {
			return s3err.Msg(s3err.NotImplemented, "", s3err.Field{Name: "Header", Value: strings.ToLower(name)})
		}
	}
	return nil
}

// hoist makes headers of the x-amz-* parameters of a presigned URL: SDKs move them
// there, and S3 takes them for the same.
func hoist(h http.Header, q sigv4.Params) {
	for i := range q {
		if name := q[i].Name; len(name) < 6 || !strings.EqualFold(name[:6], "x-amz-") {
			continue
		}
		name := http.CanonicalHeaderKey(q[i].Name)
		switch name {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signedheaders", "X-Amz-Signature",
			"X-Amz-Security-Token", "X-Amz-Content-Sha256":
			continue
		case "X-Amz-Sdk-Checksum-Algorithm": // it announces nothing by itself
			continue
		}
		if _, ok := h[name]; !ok {
			h[name] = []string{q[i].Value}
		}
	}
}

// attrs reads what a request says of the object that it makes.
func (rq *request) attrs() (a Attrs, err error) {
	size := 0
	for name, vs := range rq.r.Header {
		if len(vs) == 0 {
			continue
		}
		if meta, ok := strings.CutPrefix(name, metaPrefix); ok && meta != "" {
			v := decodeMeta(strings.Join(vs, ","))
			if a.UserMeta == nil {
				a.UserMeta = make(map[string]string, 4)
			}
			a.UserMeta[strings.ToLower(meta)] = v
			size += len(meta) + len(v)
			continue
		}
		if v := vs[0]; storedHeader(name) && v != "" {
			if name == "Content-Encoding" {
				if v = withoutChunked(v); v == "" {
					continue
				}
			}
			if a.Headers == nil {
				a.Headers = make(map[string]string, 2)
			}
			a.Headers[name] = v
		}
	}
	if size > MaxUserMeta {
		return a, s3err.Msg(s3err.MetadataTooLarge, "",
			s3err.Field{Name: "Size", Value: itoa(int64(size))}, s3err.Field{Name: "MaxSizeAllowed", Value: itoa(MaxUserMeta)})
	}
	if a.Class, err = storageClass(rq.r.Header); err != nil {
		return a, err
	}
	a.Posix = posixOf(a.UserMeta)
	return a, nil
}

// storedHeader tells the standard headers that stay with an object.
func storedHeader(name string) bool {
	switch name {
	case "Content-Type", "Content-Encoding", "Content-Disposition", "Content-Language", "Cache-Control", "Expires":
		return true
	}
	return false
}

// storageClass reads x-amz-storage-class; the default is the empty string.
func storageClass(h http.Header) (string, error) {
	switch v := h.Get("X-Amz-Storage-Class"); v {
	case "", "STANDARD":
		return "", nil
	case "REDUCED_REDUNDANCY":
		return v, nil
	default:
		return "", s3err.Msg(s3err.InvalidStorageClass, "", s3err.Field{Name: "StorageClassRequested", Value: v})
	}
}

// withoutChunked removes aws-chunked from a Content-Encoding: it is of the
// transfer and not of the content.
func withoutChunked(v string) string {
	if !strings.Contains(v, "aws-chunked") {
		return v
	}
	var kept []string
	for e := range strings.SplitSeq(v, ",") {
		if e = strings.TrimSpace(e); e != "aws-chunked" && e != "" {
			kept = append(kept, e)
		}
	}
	return strings.Join(kept, ",")
}
