package fusefs

import (
	"sort"
	"time"

	"twofold"
	"twofold/volume/api"
)

// maxSegments is how many runs of bytes a layer takes before it has to be
// flushed: each may become an extent of the inode.
const maxSegments = 2048

// layer is what write(2) gave an inode since the last flush: runs of bytes in
// order of their offset that do not overlap. It is pure: no locks, no I/O.
type layer struct {
	segs  []api.Segment
	bytes int64        // in segs
	first time.Time    // when the oldest byte came; zero while empty
	seq   uint64       // number of the newest write in it, see node.wseq
	kill  bool         // a write in it clears set-id bits
	atime twofold.Time // is set with it, if not 0: see node.hold
}

func end(s api.Segment) int64 { return s.Off + int64(len(s.Data)) }

// find is the index of the first run that ends behind off.
func (l *layer) find(off int64) int {
	return sort.Search(len(l.segs), func(i int) bool { return end(l.segs[i]) > off })
}

// room reports whether n more bytes keep the layer within one api.Write.
func (l *layer) room(n int) bool {
	return l.bytes+int64(n) <= api.MaxIO && len(l.segs) < maxSegments
}

// write puts a copy of p at off, over what was there, and returns how many bytes
// the layer grew. from, for a stream, has buffers of a whole flush, so that appending
// doesn't copy; else it is nil.
func (l *layer) write(off int64, p []byte, from *buffers) (added int) {
	i := l.find(off)
	for len(p) > 0 {
		if i < len(l.segs) && l.segs[i].Off <= off { // over a run
			k := copy(l.segs[i].Data[off-l.segs[i].Off:], p)
			p, off = p[k:], off+int64(k)
			i++
			continue
		}
		k := len(p) // into the gap before the next run
		if i < len(l.segs) && l.segs[i].Off-off < int64(k) {
			k = int(l.segs[i].Off - off)
		}
		if i > 0 && end(l.segs[i-1]) == off {
			l.segs[i-1].Data = grow(l.segs[i-1].Data, p[:k])
		} else {
			l.insert(i, off, p[:k], from)
			i++
		}
		p, off, added = p[k:], off+int64(k), added+k
	}
	l.bytes += int64(added)
	return added
}

func (l *layer) insert(i int, off int64, p []byte, from *buffers) {
	var data []byte
	if from != nil && len(l.segs) == 0 && len(p) <= api.MaxIO {
		data = append(from.take(), p...)
	} else {
		data = append(make([]byte, 0, len(p)), p...)
	}
	l.segs = append(l.segs, api.Segment{})
	copy(l.segs[i+1:], l.segs[i:])
	l.segs[i] = api.Segment{Off: off, Data: data}
}

// grow appends p to b, doubling b's room up to one flush.
func grow(b, p []byte) []byte {
	need := len(b) + len(p)
	if need > cap(b) {
		room := max(need, min(2*cap(b), api.MaxIO))
		b = append(make([]byte, 0, room), b...)
	}
	return append(b, p...)
}

// gap is a range of a read, relative to its buffer, that is still to be filled.
type gap struct{ from, to int }

// fill copies what the layer has of the gaps into p, which stands for the bytes
// at off, and returns the gaps that are left.
func (l *layer) fill(off int64, p []byte, gaps []gap) []gap {
	if l == nil || len(l.segs) == 0 {
		return gaps
	}
	var left []gap
	for _, g := range gaps {
		at := g.from
		for i := l.find(off + int64(at)); i < len(l.segs) && at < g.to; i++ {
			s := l.segs[i]
			if s.Off >= off+int64(g.to) {
				break
			}
			if start := int(s.Off - off); start > at {
				left = append(left, gap{at, start})
				at = start
			}
			at += copy(p[at:g.to], s.Data[off+int64(at)-s.Off:])
		}
		if at < g.to {
			left = append(left, gap{at, g.to})
		}
	}
	return left
}

// truncate forgets what is at or behind size, and returns how many bytes that was.
func (l *layer) truncate(size int64) (removed int64) {
	i := l.find(size)
	for j := i; j < len(l.segs); j++ {
		s := l.segs[j]
		if s.Off < size {
			removed += end(s) - size
			l.segs[j].Data = s.Data[:size-s.Off]
			i = j + 1
			continue
		}
		removed += int64(len(s.Data))
	}
	clear(l.segs[i:])
	l.segs = l.segs[:i]
	l.bytes -= removed
	return removed
}

// joined returns the layer's runs with adjacent ones made one, so that a stretch
// that was written out of order is one run for the volume. l stays as it is.
func (l *layer) joined() []api.Segment {
	out := make([]api.Segment, 0, len(l.segs))
	for i := 0; i < len(l.segs); {
		j, n := i+1, len(l.segs[i].Data)
		for j < len(l.segs) && l.segs[j].Off == end(l.segs[j-1]) {
			n += len(l.segs[j].Data)
			j++
		}
		s := l.segs[i]
		if j > i+1 {
			b := make([]byte, 0, n)
			for _, t := range l.segs[i:j] {
				b = append(b, t.Data...)
			}
			s.Data = b
		}
		out = append(out, s)
		i = j
	}
	return out
}
