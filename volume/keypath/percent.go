package keypath

import (
	"strings"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// percent writes %XX for '%', '/', NUL and bytes that are no part of valid UTF-8;
// the result is valid UTF-8.
func percent(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 8)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if c := s[i]; c == '%' || c == '/' || c == 0 || r == utf8.RuneError && n == 1 {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
			i++
			continue
		}
		b.WriteString(s[i : i+n])
		i += n
	}
	return b.String()
}

// unpercent is the inverse; canonical tells that percent would have written s.
func unpercent(s string) (raw string, canonical bool) {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	raw = b.String()
	return raw, percent(raw) == s
}
