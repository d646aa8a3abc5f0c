package volume

import (
	"context"
	"io"
	"slices"
	"sort"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/plant"
	"twofold/metadata"
	"twofold/volume/api"
)

// GetObject implements api.ObjectOps.
func (v *Volume) GetObject(ctx context.Context, b twofold.BucketName, k twofold.Key) (api.ObjectInfo, api.ObjectReader, error) {
	leave := v.pins.enter()
	defer leave()
	var inode *metadata.Inode
	var exts []metadata.Extent
	err := v.observeObject(ctx, b, k, func(w metadata.View, n *metadata.Inode) (err error) {
		inode = n
		exts, err = w.Extents(n.Ino, 0, n.Size, 0)
		return err
	})
	if err != nil {
		return api.ObjectInfo{}, nil, err
	}
	return objectInfo(k, inode), &objectReader{v: v, size: inode.Size, exts: exts, unpin: v.pins.pin(exts)}, nil
}

// HeadObject implements api.ObjectOps.
func (v *Volume) HeadObject(ctx context.Context, b twofold.BucketName, k twofold.Key) (api.ObjectInfo, error) {
	var info api.ObjectInfo
	err := v.observeObject(ctx, b, k, func(_ metadata.View, n *metadata.Inode) error {
		info = objectInfo(k, n)
		return nil
	})
	return info, err
}

// observeObject finds an object and calls fn in the same snapshot, until it is settled.
func (v *Volume) observeObject(ctx context.Context, b twofold.BucketName, k twofold.Key, fn func(metadata.View, *metadata.Inode) error) error {
	return v.observe(ctx, 0, func(w metadata.View) ([]twofold.Ino, error) {
		n, err := resolveKey(w, b, k)
		if err != nil {
			return nil, err
		}
		if plant.Is(plant.GetSkipsRecall) {
			return nil, fn(w, n)
		}
		return []twofold.Ino{n.Ino}, fn(w, n)
	})
}

// resolveKey finds what a key of S3 names. errs.NoBucket, errs.NotFound.
func resolveKey(w metadata.View, b twofold.BucketName, k twofold.Key) (*metadata.Inode, error) {
	bucket, err := w.Bucket(b)
	if err != nil {
		return nil, err
	}
	full, err := realKey(w, bucket.ID, k)
	if err != nil {
		return nil, err
	}
	return w.Resolve(bucket.ID, full)
}

// objectReader reads one version of an object: the extents it had at one moment,
// whose blobs stay while it is open.
type objectReader struct {
	v     *Volume
	size  int64
	exts  []metadata.Extent // in order, not overlapping
	unpin func()
}

var _ api.ObjectReader = (*objectReader)(nil)

// Close implements api.ObjectReader.
func (r *objectReader) Close() error {
	if r.unpin != nil {
		r.unpin()
		r.unpin = nil
	}
	return nil
}

// WriteRange implements api.ObjectReader.
func (r *objectReader) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	if off < 0 || n < 0 || off+n > r.size || off+n < off {
		return errs.Newf("volume.WriteRange", errs.Range, "[%d, %d) is outside of %d bytes", off, off+n, r.size)
	}
	end := off + n
	i := sort.Search(len(r.exts), func(i int) bool { return r.exts[i].Off+r.exts[i].Len > off })
	for off < end {
		if i == len(r.exts) || r.exts[i].Off >= end {
			return writeZeros(w, end-off)
		}
		e := &r.exts[i]
		if e.Off > off {
			if err := writeZeros(w, e.Off-off); err != nil {
				return err
			}
			off = e.Off
		}
		if to, next := r.pieces(i, off, end); next > i+1 {
			if err := r.writePieces(ctx, w, r.exts[i:next], off, to); err != nil {
				return err
			}
			off, i = to, next
			continue
		}
		m := min(e.Off+e.Len, end) - off
		if err := r.writeExtent(ctx, w, e, off-e.Off, m); err != nil {
			return err
		}
		off += m
		i++
	}
	return nil
}

const (
	pieceLen = 256 << 10 // an extent up to here is a piece: it is read with its neighbours
	pieceBuf = blobRun   // bytes of pieces, and of the small holes between them, that are read at once
	pieceGap = 16 << 10  // a hole up to here
)

// pieces finds the extents from i on that are to be read at once, of [off, end): those
// before next, whose bytes, and the holes between them, end at to. An extent that is
// none of them, or only in part, is the next one's matter.
func (r *objectReader) pieces(i int, off, end int64) (to int64, next int) {
	end = min(end, off+pieceBuf)
	for to, next = off, i; next < len(r.exts); next++ {
		e := &r.exts[next]
		last := e.Off + e.Len
		if e.Len > pieceLen || last > end || e.Off-to > pieceGap {
			break
		}
		to = last
	}
	return to, next
}

// writePieces writes [off, to), which is what extents have and the holes between them.
func (r *objectReader) writePieces(ctx context.Context, w io.Writer, exts []metadata.Extent, off, to int64) error {
	p := r.v.scratch.get()
	defer r.v.scratch.put(p)
	skip := off - exts[0].Off
	if skip > 0 { // only the first one can begin earlier
		exts = slices.Clone(exts)
		first := &exts[0]
		first.Off, first.Len = off, first.Len-skip
		if first.Blob != nil {
			first.BlobOff += skip
		} else {
			first.Data = first.Data[skip:]
		}
	}
	if err := r.v.readExtents(ctx, exts, off, p[:to-off]); err != nil {
		return err
	}
	_, err := w.Write(p[:to-off])
	return err
}

// writeExtent writes n bytes of an extent, from skip on.
func (r *objectReader) writeExtent(ctx context.Context, w io.Writer, e *metadata.Extent, skip, n int64) error {
	if e.Blob == nil {
		_, err := w.Write(e.Data[skip : skip+n])
		return err
	}
	if n <= pieceLen { // small enough to be read at once from readers that are kept open
		p := make([]byte, n)
		if err := r.v.readBlob(ctx, e.Blob, p, e.BlobOff+skip); err != nil {
			return err
		}
		_, err := w.Write(p)
		return err
	}
	br, err := r.v.Blobs.Open(ctx, *e.Blob)
	if err != nil {
		return err
	}
	defer br.Close()
	_, err = br.WriteRange(ctx, w, e.BlobOff+skip, n)
	return err
}

// writeZeros writes a hole.
func writeZeros(w io.Writer, n int64) error {
	var zeros [32 << 10]byte
	for n > 0 {
		m := min(n, int64(len(zeros)))
		if _, err := w.Write(zeros[:m]); err != nil {
			return err
		}
		n -= m
	}
	return nil
}
