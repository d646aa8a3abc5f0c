package history

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// cell is the unit of content: so many bytes as the round's cell size, a multiple of 8.
// The first word is head, all others are body, so that a store of one word through a
// mapping is an operation of its own. Every write has a token of its own; 0 is a hole.
type cell struct{ head, body uint32 }

// content is what a file holds: eight bytes for each cell. Being a string it is
// immutable, and compared and hashed as it is.
type content string

func makeContent(cells ...cell) content {
	b := make([]byte, 0, 8*len(cells))
	for _, c := range cells {
		b = binary.BigEndian.AppendUint32(b, c.head)
		b = binary.BigEndian.AppendUint32(b, c.body)
	}
	return content(b)
}

// fill is n cells of one token.
func fill(token uint32, n int) content {
	cells := make([]cell, n)
	for i := range cells {
		cells[i] = cell{token, token}
	}
	return makeContent(cells...)
}

// len is in cells, as are all offsets.
func (c content) len() int { return len(c) / 8 }

func (c content) at(i int) cell {
	return cell{binary.BigEndian.Uint32([]byte(c[8*i:])), binary.BigEndian.Uint32([]byte(c[8*i+4:]))}
}

// cut is the part of c from off on, n cells at most: what read(2) returns.
func (c content) cut(off, n int) content {
	off = min(off, c.len())
	return c[8*off : 8*min(off+n, c.len())]
}

// truncate is ftruncate(2).
func (c content) truncate(n int) content {
	if n <= c.len() {
		return c[:8*n]
	}
	return c + fill(0, n-c.len())
}

// write is pwrite(2).
func (c content) write(off int, w content) content {
	out := c.truncate(max(c.len(), off+w.len()))
	return out[:8*off] + w + out[8*(off+w.len()):]
}

// store puts a word at the start of a cell; behind the end nothing is stored.
func (c content) store(at int, head uint32) content {
	if at >= c.len() {
		return c
	}
	return c.write(at, makeContent(cell{head, c.at(at).body}))
}

// render is c in bytes, size for each cell.
func (c content) render(size int) []byte {
	b := make([]byte, c.len()*size)
	for i := range c.len() {
		p, x := b[i*size:(i+1)*size], c.at(i)
		for at := 0; at < size; at += 8 {
			binary.BigEndian.PutUint64(p[at:], uint64(x.body))
		}
		binary.BigEndian.PutUint64(p, uint64(x.head))
	}
	return b
}

// parse is the inverse of render. Bytes that no operation can have left behind are an
// error: parts of cells, and cells of two writes.
func parse(b []byte, size int) (content, error) {
	if len(b)%size != 0 {
		return "", fmt.Errorf("%d bytes are no number of cells of %d", len(b), size)
	}
	out := make([]byte, 0, len(b)/size*8)
	for i := 0; i < len(b); i += size {
		p := b[i : i+size]
		head, body := binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
		for at := 16; at < size; at += 8 {
			if x := binary.BigEndian.Uint64(p[at:]); x != body {
				return "", fmt.Errorf("cell %d of %d bytes begins with #%d and has #%d at %d", i/size, size, body, x, at)
			}
		}
		if head>>32 != 0 || body>>32 != 0 {
			return "", fmt.Errorf("cell %d has a word that was never written: %x, %x", i/size, head, body)
		}
		out = binary.BigEndian.AppendUint32(out, uint32(head))
		out = binary.BigEndian.AppendUint32(out, uint32(body))
	}
	return content(out), nil
}

// String is a token for each cell: head/body where they differ.
func (c content) String() string {
	var s strings.Builder
	s.WriteByte('[')
	for i := range c.len() {
		if i > 0 {
			s.WriteByte(' ')
		}
		x := c.at(i)
		fmt.Fprint(&s, x.body)
		if x.head != x.body {
			fmt.Fprintf(&s, "/%d", x.head)
		}
	}
	s.WriteByte(']')
	return s.String()
}

// MarshalText implements encoding.TextMarshaler: the form of String.
func (c content) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *content) UnmarshalText(b []byte) error {
	var cells []cell
	for _, w := range strings.Fields(strings.Trim(string(b), "[]")) {
		body, head, two := strings.Cut(w, "/")
		if !two {
			head = body
		}
		x, err := strconv.ParseUint(body, 10, 32)
		if err != nil {
			return err
		}
		y, err := strconv.ParseUint(head, 10, 32)
		if err != nil {
			return err
		}
		cells = append(cells, cell{uint32(y), uint32(x)})
	}
	*c = makeContent(cells...)
	return nil
}
