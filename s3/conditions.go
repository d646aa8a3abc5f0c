package s3

import (
	"net/http"
	"strings"
	"time"

	"twofold/metadata"
	"twofold/s3/s3err"
)

// conditions are the preconditions of a read, RFC 9110 section 13, as strings of
// the request; empty ones were not given.
type conditions struct {
	match, noneMatch, modified, unmodified string
}

func (rq *request) readConditions() conditions {
	h := rq.r.Header
	return conditions{
		match:      h.Get("If-Match"),
		noneMatch:  h.Get("If-None-Match"),
		modified:   h.Get("If-Modified-Since"),
		unmodified: h.Get("If-Unmodified-Since"),
	}
}

func (rq *request) copyConditions() conditions {
	h := rq.r.Header
	return conditions{
		match:      h.Get("X-Amz-Copy-Source-If-Match"),
		noneMatch:  h.Get("X-Amz-Copy-Source-If-None-Match"),
		modified:   h.Get("X-Amz-Copy-Source-If-Modified-Since"),
		unmodified: h.Get("X-Amz-Copy-Source-If-Unmodified-Since"),
	}
}

func failed(condition string) error {
	return s3err.Msg(s3err.PreconditionFailed, "", s3err.Field{Name: "Condition", Value: condition})
}

// check evaluates in the order of RFC 9110 section 13.2.2: If-Match counts more
// than If-Unmodified-Since, If-None-Match more than If-Modified-Since. The error
// is PreconditionFailed or NotModified.
func (c conditions) check(info *ObjectInfo) error {
	switch {
	case c.match != "":
		if !etagIn(c.match, info.ETag) {
			return failed("If-Match")
		}
	case c.unmodified != "":
		if t, err := http.ParseTime(c.unmodified); err == nil && seconds(info).After(t) {
			return failed("If-Unmodified-Since")
		}
	}
	switch {
	case c.noneMatch != "":
		if etagIn(c.noneMatch, info.ETag) {
			return s3err.New(s3err.NotModified)
		}
	case c.modified != "":
		if t, err := http.ParseTime(c.modified); err == nil && !seconds(info).After(t) {
			return s3err.New(s3err.NotModified)
		}
	}
	return nil
}

// checkCopy is check for a copy's source, where every failure is 412.
func (c conditions) checkCopy(info *ObjectInfo) error {
	err := c.check(info)
	if e := s3err.As(err); e != nil && e.Code == s3err.NotModified {
		return failed("x-amz-copy-source-If-None-Match")
	}
	return err
}

// seconds is Last-Modified as a client knows it.
func seconds(info *ObjectInfo) time.Time { return info.Modified.Time().Truncate(time.Second) }

// etagIn reports whether a list of entity tags, or "*", has the tag.
func etagIn(list, etag string) bool {
	for tag := range strings.SplitSeq(list, ",") {
		if tag = unquote(tag); tag == etag || tag == "*" {
			return true
		}
	}
	return false
}

// unquote takes the quotes (and a weak tag's mark) off an entity tag.
func unquote(tag string) string {
	tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
	if len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		return tag[1 : len(tag)-1]
	}
	return tag
}

// writeConditions are those of a PUT, a Complete or a copy's target, which are
// evaluated where the change is committed.
func (rq *request) writeConditions() (c metadata.Conditions, err error) {
	h := rq.r.Header
	for _, name := range [...]string{"If-Modified-Since", "If-Unmodified-Since"} {
		if h.Get(name) != "" {
			return c, s3err.Msg(s3err.NotImplemented, "", s3err.Field{Name: "Header", Value: name})
		}
	}
	c.IfMatch, c.IfNoneMatch = unquote(h.Get("If-Match")), unquote(h.Get("If-None-Match"))
	if c.IfNoneMatch != "" && c.IfNoneMatch != "*" {
		return c, s3err.Msg(s3err.NotImplemented, "", s3err.Field{Name: "Header", Value: "If-None-Match"})
	}
	if c.IfMatch != "" && c.IfNoneMatch != "" {
		return c, s3err.Msg(s3err.InvalidRequest, "If-Match and If-None-Match cannot be used together.")
	}
	return c, nil
}
