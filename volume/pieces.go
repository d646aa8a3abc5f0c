package volume

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"slices"
	"sync"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// A file that was written over in small pieces has thousands of extents in a MiB, each
// a piece of one of many blobs. What one flush wrote lies in its blob in the order of
// the file, and what is left of the blob of before as well: so of each blob those that
// a read needs lie close together, and are read at once.

const (
	blobGap = 16 << 10 // bytes between two pieces of a blob that are rather read than left out
	blobRun = 1 << 20  // bytes of a blob that are read at once
)

// readExtents fills p with content at off: extents must be those of [off,
// off+len(p)), clipped. Gaps are zeros.
func (v *Volume) readExtents(ctx context.Context, exts []metadata.Extent, off int64, p []byte) error {
	at := off // up to where p is filled
	var pieces []*metadata.Extent
	for i := range exts {
		e := &exts[i]
		clear(p[at-off : e.Off-off])
		at = e.Off + e.Len
		switch dst := p[e.Off-off : at-off]; {
		case e.Blob == nil:
			copy(dst, e.Data)
		case len(exts) == 1:
			if err := v.readBlob(ctx, e.Blob, dst, e.BlobOff); err != nil {
				return err
			}
		default:
			if pieces == nil {
				pieces = make([]*metadata.Extent, 0, len(exts)-i)
			}
			pieces = append(pieces, e)
		}
	}
	clear(p[at-off:])
	slices.SortFunc(pieces, byPlace)
	for len(pieces) > 0 {
		n, end := run(pieces)
		if err := v.readRun(ctx, pieces[:n], end, off, p); err != nil {
			return err
		}
		pieces = pieces[n:]
	}
	return nil
}

// byPlace orders extents by where their bytes are.
func byPlace(a, b *metadata.Extent) int {
	if a.Blob != b.Blob {
		if c := bytes.Compare(a.Blob.ID[:], b.Blob.ID[:]); c != 0 {
			return c
		}
	}
	return cmp.Compare(a.BlobOff, b.BlobOff)
}

// run is how many of the first extents, ordered by place, are read at once, and where
// in the blob they end.
func run(pieces []*metadata.Extent) (n int, end int64) {
	first := pieces[0]
	for _, e := range pieces {
		last := max(end, e.BlobOff+e.Len)
		if n > 0 && (e.Blob.ID != first.Blob.ID || e.BlobOff > end+blobGap || last > first.BlobOff+blobRun) {
			break
		}
		n, end = n+1, last
	}
	return n, end
}

// readRun reads pieces of a blob that end at end, and puts each where it belongs in p,
// which stands for the bytes at off.
func (v *Volume) readRun(ctx context.Context, pieces []*metadata.Extent, end, off int64, p []byte) error {
	first := pieces[0]
	if len(pieces) == 1 {
		return v.readBlob(ctx, first.Blob, p[first.Off-off:][:first.Len], first.BlobOff)
	}
	buf := v.scratch.get()
	defer v.scratch.put(buf)
	b := buf[:end-first.BlobOff]
	if err := v.readBlob(ctx, first.Blob, b, first.BlobOff); err != nil {
		return err
	}
	for _, e := range pieces {
		copy(p[e.Off-off:][:e.Len], b[e.BlobOff-first.BlobOff:])
	}
	return nil
}

// readBlob fills p with a blob's bytes at off. errs.Corrupt where it ends before.
func (v *Volume) readBlob(ctx context.Context, b *twofold.Blob, p []byte, off int64) error {
	n, err := v.Blobs.ReadAt(ctx, *b, p, off)
	if n == len(p) && (err == nil || err == io.EOF) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = errs.Newf("volume.read", errs.Corrupt, "blob %v is shorter than what refers to it", b.ID)
	}
	return err
}

// scratch lends buffers of blobRun bytes. Safe for concurrent use.
type scratch struct{ pool sync.Pool }

func (s *scratch) get() []byte {
	if p, ok := s.pool.Get().(*[blobRun]byte); ok {
		return p[:]
	}
	return make([]byte, blobRun)
}

func (s *scratch) put(p []byte) { s.pool.Put((*[blobRun]byte)(p)) }
