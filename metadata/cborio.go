package metadata

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
)

// The little of CBOR (RFC 8949) that the hot records need, written by hand: the
// bytes are the ones that the reflecting encoder makes (core deterministic
// encoding, section 4.2.1), at a fifth of its cost. codec_hot_test.go holds the
// two against each other.

// Major types, RFC 8949 section 3.1.
const (
	majorUint  = 0
	majorNeg   = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5

	cborFalse = 0xf4
	cborTrue  = 0xf5
	cborNull  = 0xf6
)

func appendHead(b []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(b, m|byte(n))
	case n <= math.MaxUint8:
		return append(b, m|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, m|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, m|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, m|27), n)
}

func appendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, majorNeg, uint64(-1-n))
	}
	return appendHead(b, majorUint, uint64(n))
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

func appendBytes(b, p []byte) []byte {
	return append(appendHead(b, majorBytes, uint64(len(p))), p...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, cborTrue)
	}
	return append(b, cborFalse)
}

// mapWriter writes a map whose number of pairs is known only at its end.
type mapWriter struct {
	b     []byte
	start int
	pairs int
}

func beginMap(b []byte) mapWriter { return mapWriter{b: append(b, 0), start: len(b)} }

func (w *mapWriter) key(k uint64) { w.b = appendHead(w.b, majorUint, k); w.pairs++ }

// The methods without "always" leave the pair out where the value is zero.
func (w *mapWriter) alwaysUint(k, v uint64) { w.key(k); w.b = appendHead(w.b, majorUint, v) }

func (w *mapWriter) alwaysInt(k uint64, v int64) { w.key(k); w.b = appendInt(w.b, v) }

func (w *mapWriter) uint(k, v uint64) {
	if v != 0 {
		w.alwaysUint(k, v)
	}
}

func (w *mapWriter) int(k uint64, v int64) {
	if v != 0 {
		w.alwaysInt(k, v)
	}
}

func (w *mapWriter) bool(k uint64, v bool) {
	if v {
		w.key(k)
		w.b = append(w.b, cborTrue)
	}
}

func (w *mapWriter) text(k uint64, v string) {
	if v != "" {
		w.key(k)
		w.b = appendText(w.b, v)
	}
}

func (w *mapWriter) bytes(k uint64, v []byte) {
	if len(v) > 0 {
		w.key(k)
		w.b = appendBytes(w.b, v)
	}
}

// strings writes a map of texts, its keys in canonical order.
func (w *mapWriter) strings(k uint64, m map[string]string) {
	if len(m) == 0 {
		return
	}
	w.key(k)
	w.b = appendHead(w.b, majorMap, uint64(len(m)))
	for _, name := range canonicalKeys(m) {
		w.b = appendText(appendText(w.b, name), m[name])
	}
}

func (w *mapWriter) byteStrings(k uint64, m map[string][]byte) {
	if len(m) == 0 {
		return
	}
	w.key(k)
	w.b = appendHead(w.b, majorMap, uint64(len(m)))
	for _, name := range canonicalKeys(m) {
		w.b = appendText(w.b, name)
		if m[name] == nil {
			w.b = append(w.b, cborNull)
		} else {
			w.b = appendBytes(w.b, m[name])
		}
	}
}

// end fills in the number of pairs and returns the buffer.
func (w *mapWriter) end() []byte {
	if w.pairs < 24 {
		w.b[w.start] = majorMap<<5 | byte(w.pairs)
		return w.b
	}
	w.b = slices.Insert(w.b, w.start+1, byte(w.pairs))
	w.b[w.start] = majorMap<<5 | 24
	return w.b
}

// canonicalKeys sorts by the encoded form: shorter first, then bytewise.
func canonicalKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return keys
}

var (
	errShort = errors.New("record ends early")
	errForm  = errors.New("record has an unexpected form")
	errRange = errors.New("record has a number out of range")
	errField = errors.New("record has an unknown, repeated or misplaced field")
	errRest  = errors.New("record has bytes behind its end")
)

// cborReader reads what the append functions wrote. The first error sticks; after
// it every value is zero.
type cborReader struct {
	b   []byte
	err error
}

func (r *cborReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// head reads an item's head: its major type and argument. Indefinite lengths,
// tags, floats and forms longer than needed are errors.
func (r *cborReader) head() (major byte, n uint64) {
	if len(r.b) == 0 {
		r.fail(errShort)
		return 0, 0
	}
	c := r.b[0]
	major, info := c>>5, c&0x1f
	if info < 24 {
		r.b = r.b[1:]
		return major, uint64(info)
	}
	if info > 27 {
		r.fail(errForm)
		return 0, 0
	}
	width := 1 << (info - 24)
	if len(r.b) < 1+width {
		r.fail(errShort)
		return 0, 0
	}
	for _, v := range r.b[1 : 1+width] {
		n = n<<8 | uint64(v)
	}
	if n < 24 || width > 1 && n>>(width*4) == 0 {
		r.fail(errForm)
		return 0, 0
	}
	r.b = r.b[1+width:]
	return major, n
}

func (r *cborReader) want(major byte) uint64 {
	m, n := r.head()
	if m != major {
		r.fail(errForm)
		return 0
	}
	return n
}

func (r *cborReader) uint(max uint64) uint64 {
	n := r.want(majorUint)
	if n > max {
		r.fail(errRange)
		return 0
	}
	return n
}

func (r *cborReader) int() int64 {
	m, n := r.head()
	if m > majorNeg {
		r.fail(errForm)
		return 0
	}
	if n > math.MaxInt64 {
		r.fail(errRange)
		return 0
	}
	if m == majorNeg {
		return -1 - int64(n)
	}
	return int64(n)
}

func (r *cborReader) bool() bool {
	if len(r.b) == 0 || r.b[0]&^1 != cborFalse {
		r.fail(errForm)
		return false
	}
	v := r.b[0] == cborTrue
	r.b = r.b[1:]
	return v
}

// null reports whether the next item is null, and skips it.
func (r *cborReader) null() bool {
	if len(r.b) > 0 && r.b[0] == cborNull {
		r.b = r.b[1:]
		return true
	}
	return false
}

// raw returns the next string of a major type, in place.
func (r *cborReader) raw(major byte) []byte {
	n := r.want(major)
	if n > uint64(len(r.b)) {
		r.fail(errShort)
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *cborReader) text() string { return string(r.raw(majorText)) }

// count reads the head of an array or a map, each of whose elements takes at
// least min bytes: a hostile count can't make anyone allocate more than it sent.
func (r *cborReader) count(major byte, min int) int {
	n := r.want(major)
	if n > uint64(len(r.b)/min) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

// fields calls fn for each pair of a map with ascending unsigned keys.
func (r *cborReader) fields(fn func(key uint64)) {
	last := uint64(0)
	for n := r.count(majorMap, 2); n > 0 && r.err == nil; n-- {
		k := r.want(majorUint)
		if k <= last {
			r.fail(errField)
			return
		}
		last = k
		fn(k)
	}
}

func (r *cborReader) strings() map[string]string {
	n := r.count(majorMap, 2)
	if r.err != nil {
		return nil
	}
	m := make(map[string]string, n)
	for range n {
		k := r.text()
		m[k] = r.text()
	}
	if len(m) != n {
		r.fail(errField)
	}
	return m
}

func (r *cborReader) byteStrings() map[string][]byte {
	n := r.count(majorMap, 2)
	if r.err != nil {
		return nil
	}
	m := make(map[string][]byte, n)
	for range n {
		k := r.text()
		if r.null() {
			m[k] = nil
		} else {
			m[k] = append([]byte{}, r.raw(majorBytes)...)
		}
	}
	if len(m) != n {
		r.fail(errField)
	}
	return m
}

// end returns the first error, which may be that something is left.
func (r *cborReader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = errRest
	}
	return r.err
}
