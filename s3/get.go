package s3

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"twofold"
	"twofold/s3/s3err"
)

// headObject answers the attributes alone.
func (rq *request) headObject() error {
	info, err := rq.volume.HeadObject(rq.ctx(), rq.bucket, rq.key)
	if err != nil {
		return err
	}
	status, span, err := rq.prepareGet(&info)
	if err != nil {
		return err
	}
	rq.w.Header()["Content-Length"] = []string{itoa(span.n)}
	rq.writeHeader(status)
	return nil
}

// getObject serves one version: attributes, conditions, range and content are all
// of the same.
func (rq *request) getObject() error {
	info, rd, err := rq.volume.GetObject(rq.ctx(), rq.bucket, rq.key)
	if err != nil {
		return err
	}
	defer rd.Close()
	status, span, err := rq.prepareGet(&info)
	if err != nil {
		return err
	}
	rq.w.Header()["Content-Length"] = []string{itoa(span.n)}
	if span.n == 0 {
		rq.writeHeader(status)
		return nil
	}
	return rd.WriteRange(rq.ctx(), &content{rq: rq, status: status}, span.off, span.n)
}

// content is the response's body. The header goes out with the first bytes, so
// that a read that fails before any can still be answered as an error.
type content struct {
	rq     *request
	status int
}

var _ io.Writer = (*content)(nil)

// Write implements io.Writer.
func (c *content) Write(p []byte) (int, error) {
	if c.rq.status == 0 {
		c.rq.writeHeader(c.status)
	} else {
		c.rq.limitWrite()
	}
	n, err := c.rq.w.Write(p)
	c.rq.sent += int64(n)
	return n, err
}

// prepareGet evaluates the conditions and the range on a version, and sets the
// response's headers but for Content-Length.
func (rq *request) prepareGet(info *ObjectInfo) (status int, span byteRange, err error) {
	h := rq.w.Header()
	h["ETag"] = []string{quote(info.ETag)}
	h["Last-Modified"] = []string{httpTime(info.Modified)}
	if err := rq.readConditions().check(info); err != nil {
		return 0, span, err
	}
	status, span, err = rq.span(info)
	if err != nil {
		return 0, span, err
	}
	h["Accept-Ranges"] = rq.static.bytes
	if status == http.StatusPartialContent {
		h["Content-Range"] = []string{span.contentRange(info.Size)}
	}
	if err := rq.checkOverrides(); err != nil {
		return 0, span, err
	}
	rq.objectHeaders(h, info)
	if status == http.StatusOK && strings.EqualFold(rq.r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
		setChecksum(h, info.Checksum, true)
	}
	return status, span, nil
}

// objectHeaders writes what was stored with the object, and what the query
// overrides of it.
func (rq *request) objectHeaders(h http.Header, info *ObjectInfo) {
	for name, v := range info.Headers {
		if storedHeader(name) {
			h[name] = []string{v}
		}
	}
	if info.Headers["Content-Type"] == "" {
		h["Content-Type"] = []string{"binary/octet-stream"}
	}
	if info.Class != "" && info.Class != "STANDARD" {
		h["x-amz-storage-class"] = []string{info.Class}
	}
	if len(info.UserMeta) > 0 {
		setMeta(h, withPosix(info.UserMeta, info.Posix))
	}
	for i := range rq.q {
		if name := overridden(rq.q[i].Name); name != "" && rq.q[i].Value != "" {
			h[name] = []string{rq.q[i].Value}
		}
	}
}

// checkOverrides refuses what no header can carry, RFC 9110 section 5.5.
func (rq *request) checkOverrides() error {
	for i := range rq.q {
		name, v := rq.q[i].Name, rq.q[i].Value
		if overridden(name) != "" && strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return s3err.Arg(name, v, "Header value cannot be represented using ISO-8859-1.")
		}
	}
	return nil
}

// overridden returns the header that a response-* parameter sets.
func overridden(param string) string {
	switch param {
	case "response-content-type":
		return "Content-Type"
	case "response-content-language":
		return "Content-Language"
	case "response-expires":
		return "Expires"
	case "response-cache-control":
		return "Cache-Control"
	case "response-content-disposition":
		return "Content-Disposition"
	case "response-content-encoding":
		return "Content-Encoding"
	}
	return ""
}

// span decides which bytes are answered.
func (rq *request) span(info *ObjectInfo) (status int, span byteRange, err error) {
	whole := byteRange{0, info.Size}
	rangeHeader := rq.r.Header.Get("Range")
	if v, ok := rq.q.Lookup("partNumber"); ok {
		if rangeHeader != "" {
			return 0, whole, s3err.Msg(s3err.InvalidRequest, "Cannot specify both Range header and partNumber query parameter")
		}
		return rq.partSpan(info, v)
	}
	if rangeHeader == "" || !rq.ifRange(info) {
		return http.StatusOK, whole, nil
	}
	span, ok, err := parseRange(rangeHeader, info.Size)
	if err != nil {
		rq.w.Header()["Content-Range"] = []string{"bytes */" + itoa(info.Size)}
		return 0, span, err
	}
	if !ok {
		return http.StatusOK, whole, nil
	}
	return http.StatusPartialContent, span, nil
}

// ifRange reports whether If-Range lets a range be served, RFC 9110 section 13.1.5.
func (rq *request) ifRange(info *ObjectInfo) bool {
	v := rq.r.Header.Get("If-Range")
	if v == "" {
		return true
	}
	if t, err := http.ParseTime(v); err == nil {
		return seconds(info).Equal(t)
	}
	return v == quote(info.ETag)
}

// partSpan finds a part of what was a multipart upload; any other object is one part.
func (rq *request) partSpan(info *ObjectInfo, v string) (status int, span byteRange, err error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxPartNumber {
		return 0, span, badPartNumber(v)
	}
	parts := info.Parts
	if len(parts) == 0 {
		parts = []int64{info.Size}
	}
	if n > len(parts) {
		return 0, span, s3err.Msg(s3err.InvalidPartNumber, "", s3err.Field{Name: "PartNumberRequested", Value: v},
			s3err.Field{Name: "ActualPartCount", Value: strconv.Itoa(len(parts))})
	}
	for _, size := range parts[:n-1] {
		span.off += size
	}
	span.n = parts[n-1]
	if span.off+span.n > info.Size {
		return 0, span, s3err.New(s3err.InvalidPartNumber)
	}
	if len(info.Parts) > 0 {
		rq.w.Header()["x-amz-mp-parts-count"] = []string{strconv.Itoa(len(parts))}
	}
	if span.n == 0 {
		return http.StatusOK, span, nil
	}
	return http.StatusPartialContent, span, nil
}

func httpTime(t twofold.Time) string { return t.Time().Format(http.TimeFormat) }
