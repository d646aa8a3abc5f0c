package s3

import (
	"strconv"
	"strings"

	"twofold/s3/s3err"
)

// byteRange is [off, off+n) of an object.
type byteRange struct{ off, n int64 }

// contentRange is the header's value.
func (b byteRange) contentRange(size int64) string {
	buf := append(make([]byte, 0, 64), "bytes "...)
	buf = strconv.AppendInt(buf, b.off, 10)
	buf = append(buf, '-')
	buf = strconv.AppendInt(buf, b.off+b.n-1, 10)
	buf = append(buf, '/')
	return string(strconv.AppendInt(buf, size, 10))
}

// parseRange reads a Range header against an object's size. As S3 does it ignores
// (ok is false) what is not a single well-formed range of bytes. InvalidRange where
// the range has no byte of the object.
func parseRange(v string, size int64) (r byteRange, ok bool, err error) {
	spec, found := strings.CutPrefix(v, "bytes=")
	if !found {
		return r, false, nil
	}
	from, to, found := strings.Cut(strings.TrimSpace(spec), "-")
	if !found {
		return r, false, nil
	}
	if from == "" {
		n, ok := parseOffset(to)
		if !ok {
			return r, false, nil
		}
		if n = min(n, size); n == 0 {
			return r, false, invalidRange(v, size)
		}
		return byteRange{size - n, n}, true, nil
	}
	first, ok := parseOffset(from)
	if !ok {
		return r, false, nil
	}
	last := size - 1
	if to != "" {
		if last, ok = parseOffset(to); !ok || last < first {
			return r, false, nil
		}
		last = min(last, size-1)
	}
	if first >= size {
		return r, false, invalidRange(v, size)
	}
	return byteRange{first, last - first + 1}, true, nil
}

// parseOffset reads digits alone; what does not fit is as large as can be.
func parseOffset(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	return n, true
}

func invalidRange(v string, size int64) error {
	return s3err.Msg(s3err.InvalidRange, "",
		s3err.Field{Name: "RangeRequested", Value: v},
		s3err.Field{Name: "ActualObjectSize", Value: itoa(size)})
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
