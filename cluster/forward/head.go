package forward

import (
	"net/http"
	"strings"
)

// appendHead writes the request's head as it came, with the mark, and with an expectation
// where expect is set.
func (h *Handler) appendHead(b []byte, r *http.Request, expect bool) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.RequestURI...)
	b = append(b, " HTTP/1.1\r\n"...)
	b = appendField(b, "Host", r.Host)
	for name, values := range r.Header {
		if hopByHop(name, r.Header) {
			continue
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	if chunked(r) {
		b = appendField(b, "Transfer-Encoding", "chunked")
		if len(r.Trailer) > 0 {
			b = append(b, "Trailer: "...)
			sep := ""
			for name := range r.Trailer {
				b = append(append(b, sep...), name...)
				sep = ", "
			}
			b = append(b, "\r\n"...)
		}
	}
	if expect {
		b = appendField(b, "Expect", "100-continue")
	}
	b = append(b, markHeader+": "...)
	b = append(b, h.mark...)
	b = append(b, ' ')
	b = append(b, r.RemoteAddr...)
	return append(b, "\r\n\r\n"...)
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// hopByHop reports whether a field is about one connection, RFC 9110 section 7.6.1: it is
// not passed on. Content-Length is: net/http has checked it, and where it has a meaning.
func hopByHop(name string, h http.Header) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect",
		markHeader, elsewhereHeader:
		return true
	}
	for _, v := range h["Connection"] {
		for token := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(token), name) {
				return !endToEnd(name)
			}
		}
	}
	return false
}

// endToEnd names what Connection must not name, RFC 9110 section 7.6.1: a signature may
// be over it.
func endToEnd(name string) bool {
	return name == "Authorization" || name == "Content-Length" || name == "Content-Type" || strings.HasPrefix(name, "X-Amz-")
}

// chunked reports whether the body comes without a length.
func chunked(r *http.Request) bool { return r.ContentLength < 0 }

func expectsContinue(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Expect"), "100-continue")
}
