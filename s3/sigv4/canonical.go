package sigv4

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const upperHex = "0123456789ABCDEF"

// unreserved are the bytes that RFC 3986 section 2.3 never encodes.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// appendEscaped is AWS's UriEncode: everything but the unreserved bytes (and "/"
// where keepSlash) as %XX.
func appendEscaped(b []byte, s string, keepSlash bool) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if unreserved(c) || c == '/' && keepSlash {
			b = append(b, c)
			continue
		}
		b = append(b, '%', upperHex[c>>4], upperHex[c&15])
	}
	return b
}

// Escape is AWS's UriEncode with "/" kept: what encoding-type=url asks for.
func Escape(s string) string {
	for i := 0; i < len(s); i++ {
		if !unreserved(s[i]) && s[i] != '/' {
			return string(appendEscaped(make([]byte, 0, len(s)+16), s, true))
		}
	}
	return s
}

// appendCanonicalQuery writes the parameters encoded and sorted by name, then by
// value. Without is left out: the signature of a presigned URL.
func appendCanonicalQuery(b []byte, ps Params, without string) []byte {
	type pair struct{ name, value []byte }
	var room [16]pair
	pairs := room[:0]
	for _, p := range ps {
		if without != "" && p.Name == without {
			continue
		}
		pairs = append(pairs, pair{appendEscaped(nil, p.Name, false), appendEscaped(nil, p.Value, false)})
	}
	slices.SortFunc(pairs, func(x, y pair) int {
		if c := bytes.Compare(x.name, y.name); c != 0 {
			return c
		}
		return bytes.Compare(x.value, y.value)
	})
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p.name...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b
}

// appendTrimmed writes a header's value without outer spaces and with runs of
// spaces inside as one.
func appendTrimmed(b []byte, s string) []byte {
	s = strings.Trim(s, " \t")
	space := false
	for i := 0; i < len(s); i++ {
		if s[i] == ' ' {
			if !space {
				b = append(b, ' ')
			}
			space = true
			continue
		}
		space = false
		b = append(b, s[i])
	}
	return b
}

// headerValues returns what the request had under a lower-case name. net/http
// moves some headers out of the map.
func headerValues(r *http.Request, name string) ([]string, bool) {
	switch name {
	case "host":
		return []string{r.Host}, true
	case "content-length":
		if r.ContentLength < 0 {
			return nil, false
		}
		return []string{strconv.FormatInt(r.ContentLength, 10)}, true
	case "transfer-encoding":
		return r.TransferEncoding, len(r.TransferEncoding) > 0
	}
	v, ok := r.Header[http.CanonicalHeaderKey(name)]
	return v, ok
}

// appendCanonicalHeaders writes "name:value\n" for each signed header; the names
// are in order already. It reports the first one that the request does not have.
func appendCanonicalHeaders(b []byte, r *http.Request, names []string) (_ []byte, missing string) {
	for _, name := range names {
		vs, ok := headerValues(r, name)
		if !ok {
			return b, name
		}
		b = append(b, name...)
		b = append(b, ':')
		for i, v := range vs {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendTrimmed(b, v)
		}
		b = append(b, '\n')
	}
	return b, ""
}

// appendCanonicalRequest writes what the signature covers. S3's own rule: the path
// is encoded once and not normalised.
func appendCanonicalRequest(b []byte, r *http.Request, ps Params, a *authorization, payload string) (_ []byte, missing string) {
	b = append(b, r.Method...)
	b = append(b, '\n')
	if r.URL.Path == "" {
		b = append(b, '/')
	} else {
		b = appendEscaped(b, r.URL.Path, true)
	}
	b = append(b, '\n')
	without := ""
	if a.presigned {
		without = "X-Amz-Signature"
	}
	b = appendCanonicalQuery(b, ps, without)
	b = append(b, '\n')
	if b, missing = appendCanonicalHeaders(b, r, a.headers()); missing != "" {
		return b, missing
	}
	b = append(b, '\n')
	b = append(b, a.signedHeaders...)
	b = append(b, '\n')
	b = append(b, payload...)
	return b, ""
}
