package drive

import (
	"bytes"
	"context"
	"sync"

	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// span is a run of pieces of a block: what is read of it at once.
type span struct {
	block    int64
	first    int64 // number of the first piece
	n        int   // pieces
	size     int   // bytes of a piece; the block's last may have fewer
	from, to int   // the bytes of the block that the pieces have
	at       int64 // in the file, of the first piece's hash
}

// span returns the pieces of block i that have some of [from, to), which is not empty
// and in the block.
func (r *reader) span(i int64, from, to int) span {
	h := &r.info.Header
	block := BlockLen(*h, r.info.Trailer.Size, i)
	size := pieceLen(h, block)
	first, last := int64(from)/size, int64(to-1)/size
	return span{
		block: i, first: first, n: int(last - first + 1), size: int(size),
		from: int(first * size), to: int(min((last+1)*size, block)),
		at: blockOffset(h, i) + first*(hashLen+size),
	}
}

// piece returns where piece j of the span is in the block.
func (s *span) piece(j int) (from, to int) {
	from = s.from + j*s.size
	return from, min(from+s.size, s.to)
}

// matches reports whether p is piece j of the span, by the hash that the file has of it.
func (r *reader) matches(s *span, j int, hash, p []byte) bool {
	want := sum(p, pieceSeed(&r.info.Header, s.block, s.first+int64(j)))
	return bytes.Equal(want[:], hash)
}

func (r *reader) corrupt(op string, s *span, j int) error {
	return errs.Newf(op, errs.Corrupt, "piece %d of block %d of blob %s on %s does not match its hash",
		s.first+int64(j), s.block, r.info.Header.Blob, r.d)
}

// hasRange reports whether [from, to) is not empty and in block i.
func (r *reader) hasRange(i int64, from, to int) bool {
	return i >= 0 && 0 <= from && from < to && int64(to) <= BlockLen(r.info.Header, r.info.Trailer.Size, i)
}

// ReadBlocks reads and verifies blocks, see ShardReader. Blocks behind the end are
// left out.
func (r *reader) ReadBlocks(ctx context.Context, first, n int64, p []byte) (int, error) {
	const op = "drive.ReadBlocks"
	h, size := r.info.Header, r.info.Trailer.Size
	blocks := Blocks(h, size)
	if first < 0 || n < 0 || first > blocks || r.closed.Load() {
		return 0, errs.Newf(op, errs.Invalid, "%d blocks from block %d of %d", n, first, blocks)
	}
	n = min(n, blocks-first)
	if n == 0 {
		return 0, nil
	}
	if want := (n-1)*BlockLen(h, size, 0) + BlockLen(h, size, first+n-1); int64(len(p)) < want {
		return 0, errs.Newf(op, errs.Invalid, "%d bytes of room for %d bytes of blocks", len(p), want)
	}
	got := 0
	for i := first; i < first+n; i++ {
		data, release, err := r.LendBlock(ctx, i, 0, int(BlockLen(h, size, i)))
		if err != nil {
			return got, err
		}
		got += copy(p[got:], data)
		release()
	}
	return got, nil
}

// LendBlock lends verified bytes of a block, see ShardReader.
func (r *reader) LendBlock(ctx context.Context, i int64, from, to int) (p []byte, release func(), err error) {
	const op = "drive.LendBlock"
	if !r.hasRange(i, from, to) || r.closed.Load() {
		return nil, nil, errs.Newf(op, errs.Invalid, "[%d, %d) of block %d", from, to, i)
	}
	s := r.span(i, from, to)
	if r.all != nil && s.n == 1 {
		raw := r.all[s.at:]
		hash, data := raw[:hashLen], raw[hashLen:][:s.to-s.from]
		if !r.matches(&s, 0, hash, data) {
			return nil, nil, r.corrupt(op, &s, 0)
		}
		return data[from-s.from : to-s.from], func() {}, nil
	}
	b := r.d.buffers.scatter(s.to-s.from, s.n)
	if r.all != nil {
		b.split(r.all[s.at:], &s)
	} else if err := r.read(ctx, op, &s, b); err != nil {
		return nil, nil, err // the buffer is the task's
	}
	for j := range s.n {
		at, end := s.piece(j)
		if !r.matches(&s, j, b.hash(j), b.data[at-s.from:end-s.from]) {
			r.d.buffers.putScatter(b)
			return nil, nil, r.corrupt(op, &s, j)
		}
	}
	return b.data[from-s.from : to-s.from], func() { r.d.buffers.putScatter(b) }, nil
}

// read fills b with a span, on a task that keeps b where its caller leaves before it
// ends; b is given back where it fails.
func (r *reader) read(ctx context.Context, op string, s *span, b *scatter) error {
	for j := range s.n {
		at, end := s.piece(j)
		b.vec = append(b.vec, b.hash(j), b.data[at-s.from:end-s.from])
	}
	at := s.at
	t, err := r.d.guard.start(ctx, op, r.d.opt.Deadline,
		func() error {
			if err := readVFull(r.f, b.vec, at); err != nil {
				r.d.buffers.putScatter(b)
				b = nil
				return r.readError(op, err)
			}
			return nil
		},
		func() { r.d.buffers.putScatter(b) })
	if err != nil {
		r.d.buffers.putScatter(b)
		return err
	}
	return r.d.guard.wait(ctx, op, t)
}

// ReadNow reads what is in memory, see ShardReader: in the page cache, or here. Pieces
// that the caller wants whole go to its memory at once.
func (r *reader) ReadNow(i int64, from int, p []byte) bool {
	to := from + len(p)
	if !r.hasRange(i, from, to) || r.closed.Load() || r.d.State() == Offline {
		return false
	}
	s := r.span(i, from, to)
	rest := 0 // bytes of pieces that are wanted in part
	for j := range s.n {
		if at, end := s.piece(j); at < from || end > to {
			rest += end - at
		}
	}
	b := r.d.buffers.scatter(rest, s.n)
	defer r.d.buffers.putScatter(b)
	rest = 0
	for j := range s.n {
		at, end := s.piece(j)
		piece := b.data[rest:]
		if at >= from && end <= to {
			piece = p[at-from:]
		} else {
			rest += end - at
		}
		b.vec = append(b.vec, b.hash(j), piece[:end-at])
	}
	if r.all != nil {
		raw := r.all[s.at:]
		for _, part := range b.vec {
			raw = raw[copy(part, raw):]
		}
	} else if !vfs.ReadVNow(r.f, b.vec, s.at) {
		return false
	}
	for j := range s.n {
		piece := b.vec[2*j+1]
		if !r.matches(&s, j, b.hash(j), piece) {
			return false
		}
		if at, end := s.piece(j); at < from || end > to {
			copy(p[max(0, at-from):], piece[max(0, from-at):min(end, to)-at])
		}
	}
	return true
}

// scatter is memory for pieces and their hashes, which lie between them in the file.
type scatter struct {
	data   []byte
	hashes []byte
	vec    [][]byte // parts of both, in the file's order; elements may be appended
}

func (b *scatter) hash(j int) []byte { return b.hashes[j*hashLen : (j+1)*hashLen] }

// split copies a span's pieces and hashes from the file's bytes that begin with it.
func (b *scatter) split(raw []byte, s *span) {
	for j := range s.n {
		at, end := s.piece(j)
		raw = raw[copy(b.hash(j), raw):]
		raw = raw[copy(b.data[at-s.from:end-s.from], raw):]
	}
}

var scatters = sync.Pool{New: func() any { return new(scatter) }}

// scatter returns room for n bytes of pieces and their hashes.
func (b *buffers) scatter(n, pieces int) *scatter {
	s := scatters.Get().(*scatter)
	s.data, s.hashes = b.get(n)[:n], b.get(pieces * hashLen)[:pieces*hashLen]
	return s
}

// putScatter gives back what scatter returned; nil is fine.
func (b *buffers) putScatter(s *scatter) {
	if s == nil {
		return
	}
	b.put(s.data)
	b.put(s.hashes)
	clear(s.vec)
	s.data, s.hashes, s.vec = nil, nil, s.vec[:0]
	scatters.Put(s)
}
