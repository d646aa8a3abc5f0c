// Package wire has the XML of the S3 API: an appending writer for responses, and
// the bodies of requests.
package wire

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Namespace is what every response's root element declares, errors excepted.
const Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// Header is the XML declaration that every response begins with.
const Header = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// Writer appends XML to a buffer. It is a listing's inner loop, so nothing here
// reflects or allocates per element. The zero Writer is empty. Element names are
// the program's own and are not checked.
type Writer struct{ b []byte }

// NewWriter begins a document whose root is tag, in S3's namespace.
func NewWriter(buf []byte, root string) *Writer {
	w := &Writer{append(buf[:0], Header...)}
	w.raw("<", root, ` xmlns="`, Namespace, `">`)
	return w
}

// Bytes is what was written.
func (w *Writer) Bytes() []byte { return w.b }

func (w *Writer) raw(parts ...string) {
	for _, p := range parts {
		w.b = append(w.b, p...)
	}
}

// Open writes <tag>.
func (w *Writer) Open(tag string) {
	w.b = append(w.b, '<')
	w.b = append(w.b, tag...)
	w.b = append(w.b, '>')
}

// Close writes </tag>.
func (w *Writer) Close(tag string) {
	w.b = append(w.b, '<', '/')
	w.b = append(w.b, tag...)
	w.b = append(w.b, '>')
}

// Text writes <tag>text</tag>, escaped.
func (w *Writer) Text(tag, text string) {
	w.Open(tag)
	w.b = AppendEscaped(w.b, text)
	w.Close(tag)
}

// Opt writes the element where text is not empty.
func (w *Writer) Opt(tag, text string) {
	if text != "" {
		w.Text(tag, text)
	}
}

// Int writes a number.
func (w *Writer) Int(tag string, n int64) {
	w.Open(tag)
	w.b = strconv.AppendInt(w.b, n, 10)
	w.Close(tag)
}

// Bool writes true or false.
func (w *Writer) Bool(tag string, v bool) {
	w.Open(tag)
	w.b = strconv.AppendBool(w.b, v)
	w.Close(tag)
}

// ETag writes an entity tag in its quotes, as S3 does: &quot;...&quot;.
func (w *Writer) ETag(tag, etag string) {
	w.Open(tag)
	w.b = append(w.b, "&quot;"...)
	w.b = AppendEscaped(w.b, etag)
	w.b = append(w.b, "&quot;"...)
	w.Close(tag)
}

// Time writes a moment as S3 does, to the millisecond.
func (w *Writer) Time(tag string, t time.Time) {
	w.Open(tag)
	w.b = appendTime(w.b, t.UTC())
	w.Close(tag)
}

// appendTime is AppendFormat("2006-01-02T15:04:05.000Z"), which was 40 % of a listing.
func appendTime(b []byte, t time.Time) []byte {
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return append(b, "1970-01-01T00:00:00.000Z"...)
	}
	hour, minute, second := t.Clock()
	b = appendTwo(appendTwo(b, year/100, 0), year%100, '-')
	b = appendTwo(b, int(month), '-')
	b = appendTwo(b, day, 'T')
	b = appendTwo(b, hour, ':')
	b = appendTwo(b, minute, ':')
	b = appendTwo(b, second, '.')
	ms := t.Nanosecond() / 1e6
	return append(appendTwo(append(b, byte('0'+ms/100)), ms%100, 0), 'Z')
}

// appendTwo writes two digits and what follows them.
func appendTwo(b []byte, n int, next byte) []byte {
	b = append(b, byte('0'+n/10), byte('0'+n%10))
	if next != 0 {
		b = append(b, next)
	}
	return b
}

// AppendEscaped writes s as XML 1.0 character data. What XML 1.0 cannot carry at
// all, not even as a reference (control characters, bytes that are not UTF-8),
// becomes U+FFFD: one odd key must not make the whole listing unreadable. A client
// that wants such keys exactly asks for encoding-type=url, as AWS documents.
func AppendEscaped(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 || r == 0xFFFE || r == 0xFFFF {
				b = append(b, s[start:i]...)
				b = append(b, "\uFFFD"...)
				start = i + n
			}
			i += n
			continue
		}
		if c >= ' ' && c != '<' && c != '>' && c != '&' && c != '"' && c != 0x7f {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		b = append(b, entity(c)...)
		i++
		start = i
	}
	return append(b, s[start:]...)
}

func entity(c byte) string {
	switch c {
	case '<':
		return "&lt;"
	case '>':
		return "&gt;"
	case '&':
		return "&amp;"
	case '"':
		return "&quot;"
	case '\t':
		return "&#x9;"
	case '\n':
		return "&#xA;"
	case '\r':
		return "&#xD;"
	case 0x7f:
		return "&#x7F;"
	}
	return "\uFFFD"
}
