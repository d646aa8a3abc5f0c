package crash

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// lineLen is the unit in which bytes describe themselves: the first word is the tag
// of the write, the second the line's number in the object, the rest follow from both.
const lineLen = 64

// run is n bytes written under one tag; tag 0 is a hole: zeros.
type run struct {
	tag uint64
	n   int64
}

// content is what a file holds, byte for byte. Immutable: operations return new ones.
type content []run

func (c content) size() (n int64) {
	for _, r := range c {
		n += r.n
	}
	return n
}

// join appends a run to c, merging it with the last.
func (c content) join(r run) content {
	if r.n <= 0 {
		return c
	}
	if len(c) > 0 && c[len(c)-1].tag == r.tag {
		c[len(c)-1].n += r.n
		return c
	}
	return append(c, r)
}

// cut is the part of c from off on, n bytes at most.
func (c content) cut(off, n int64) (out content) {
	for _, r := range c {
		skip := min(off, r.n)
		off -= skip
		take := min(r.n-skip, n)
		n -= take
		out = out.join(run{r.tag, take})
	}
	return out
}

// truncate makes c n bytes long.
func (c content) truncate(n int64) content {
	return c.cut(0, n).join(run{0, n - c.size()})
}

// write puts n bytes of tag at off.
func (c content) write(off, n int64, tag uint64) content {
	size := c.size()
	out := c.truncate(off).join(run{tag, n})
	for _, r := range c.cut(off+n, size) {
		out = out.join(r)
	}
	return out
}

func (c content) equal(d content) bool {
	if len(c) != len(d) {
		return false
	}
	for i := range c {
		if c[i] != d[i] {
			return false
		}
	}
	return true
}

func (c content) String() string {
	var s strings.Builder
	for _, r := range c {
		fmt.Fprintf(&s, "[%d×#%d]", r.n, r.tag)
	}
	if len(c) == 0 {
		return "[]"
	}
	return s.String()
}

// bytes renders c.
func (c content) bytes() []byte {
	b := make([]byte, c.size())
	at := int64(0)
	for _, r := range c {
		fill(b[at:at+r.n], at, r.tag)
		at += r.n
	}
	return b
}

// fill writes what tag has at off.
func fill(p []byte, off int64, tag uint64) {
	if tag == 0 {
		clear(p)
		return
	}
	var line [lineLen]byte
	for len(p) > 0 {
		makeLine(&line, tag, uint64(off/lineLen))
		n := copy(p, line[off%lineLen:])
		p, off = p[n:], off+int64(n)
	}
}

const lineMagic = 0x5f01_dc4a_0000_0000 // in the upper bits of the line number

func makeLine(line *[lineLen]byte, tag, number uint64) {
	binary.LittleEndian.PutUint64(line[0:], tag)
	binary.LittleEndian.PutUint64(line[8:], number^lineMagic)
	x := tag*0x9e3779b97f4a7c15 ^ number*0xd1b54a32d192ed03
	for i := 16; i < lineLen; i += 8 {
		x ^= x >> 31
		x *= 0xbf58476d1ce4e5b9
		x ^= x >> 27
		binary.LittleEndian.PutUint64(line[i:], x+uint64(i))
	}
}

// is reports whether b is exactly c.
func (c content) is(b []byte) bool {
	if int64(len(b)) != c.size() {
		return false
	}
	want := c.bytes()
	return string(want) == string(b)
}

// decode reads back by which writes b came: runs of whole lines by their tags. Lines
// that are damaged, or across the border of two writes, get the tag torn.
func decode(b []byte) (c content) {
	for at := 0; at < len(b); at += lineLen {
		l := b[at:min(at+lineLen, len(b))]
		c = c.join(run{lineTag(l, uint64(at/lineLen)), int64(len(l))})
	}
	return c
}

// torn is the tag of bytes that are no line of any write.
const torn = ^uint64(0)

func lineTag(l []byte, number uint64) uint64 {
	zero := true
	for _, x := range l {
		zero = zero && x == 0
	}
	if zero {
		return 0
	}
	if len(l) < 16 {
		return torn
	}
	var want [lineLen]byte
	tag := binary.LittleEndian.Uint64(l)
	makeLine(&want, tag, number)
	if string(want[:len(l)]) != string(l) {
		return torn
	}
	return tag
}

// explain says how b differs from c.
func (c content) explain(b []byte) string {
	want := c.bytes()
	at := 0
	for at < len(b) && at < len(want) && b[at] == want[at] {
		at++
	}
	d := decode(b)
	s := d.String()
	if len(d) > 24 {
		s = d[:24].String() + "..."
	}
	return fmt.Sprintf("%d bytes, which differ at %d; they are %s (#%d: no line of any write)", len(b), at, s, torn)
}
