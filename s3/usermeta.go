package s3

import (
	"encoding/base64"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// User metadata is any text; a header's value is not. S3 decodes what comes as
// RFC 2047 has it before it is stored, and encodes what a header can't carry before
// it is returned.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html#UserMetadata

// decodeMeta undoes RFC 2047.
func decodeMeta(v string) string {
	if !strings.Contains(v, "=?") {
		return v
	}
	if d, err := new(mime.WordDecoder).DecodeHeader(v); err == nil {
		return d
	}
	return v
}

// encodeMeta makes any value fit for a header, so that decodeMeta gives it back. A
// value that is not UTF-8 comes back as the text that it is in ISO-8859-1, which is
// what a header's bytes over 0x7F are (RFC 9110 section 5.5).
func encodeMeta(v string) string {
	switch {
	case asHeader(v) && decodeMeta(v) == v:
		return v
	case utf8.ValidString(v):
		return encodedWords("UTF-8", v)
	}
	return encodedWords("ISO-8859-1", v)
}

// asHeader reports whether a header carries v as it is: printable ASCII, and spaces
// and tabs inside, which a recipient takes away from both ends.
func asHeader(v string) bool {
	for i := 0; i < len(v); i++ {
		if c := v[i]; c >= 0x7f || c < ' ' && c != '\t' {
			return false
		}
	}
	return v == strings.Trim(v, " \t")
}

// encodedWords writes v in words of at most 75 characters, none of which splits a
// character: RFC 2047 section 2. mime.BEncoding leaves tabs and spaces at the ends.
func encodedWords(charset, v string) string {
	const most = 45 // bytes in a word: 60 characters of base64, and 18 around them at most
	var out strings.Builder
	for len(v) > 0 {
		n := min(len(v), most-(len(charset)-len("UTF-8")))
		for charset == "UTF-8" && n < len(v) && !utf8.RuneStart(v[n]) {
			n--
		}
		if out.Len() > 0 {
			out.WriteByte(' ')
		}
		out.WriteString("=?" + charset + "?B?" + base64.StdEncoding.EncodeToString([]byte(v[:n])) + "?=")
		v = v[n:]
	}
	return out.String()
}

// setMeta writes user metadata. Names that no header can have (a mount can set any
// attribute) are counted, as S3 does.
func setMeta(h http.Header, meta map[string]string) {
	missing := 0
	for name, v := range meta {
		if !token(name) {
			missing++
			continue
		}
		h["x-amz-meta-"+name] = []string{encodeMeta(v)}
	}
	if missing > 0 {
		h["x-amz-missing-meta"] = []string{itoa(int64(missing))}
	}
}

// token reports whether s can be a header's name, RFC 9110 section 5.6.2.
func token(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
