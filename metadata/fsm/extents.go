package fsm

import (
	"bytes"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// checkExtents refuses extents that can't be: of negative or no length, outside
// [off, end), behind their blob's end, overlapping or out of order, or too many.
func checkExtents(exts []metadata.Extent, off, end int64) error {
	if len(exts) > maxExtents {
		return refusef(errs.TooLarge, "%d extents in one command", len(exts))
	}
	inline, at := 0, off
	for i := range exts {
		e := &exts[i]
		if e.Len <= 0 || e.Off < at || e.Off > end || e.Len > end-e.Off {
			return refusef(errs.Invalid, "extent %d at %d, length %d, is out of place", i, e.Off, e.Len)
		}
		at = e.Off + e.Len
		inline += len(e.Data)
		if b := e.Blob; b != nil {
			if len(e.Data) != 0 || b.Size < 0 || e.BlobOff < 0 || e.BlobOff > b.Size || e.Len > b.Size-e.BlobOff {
				return refusef(errs.Invalid, "extent %d is not within its blob", i)
			}
		} else if int64(len(e.Data)) != e.Len || len(e.Data) > maxExtentData || e.BlobOff != 0 {
			return refusef(errs.Invalid, "extent %d has %d inline bytes for a length of %d", i, len(e.Data), e.Len)
		}
	}
	if inline > maxInlineBytes {
		return refusef(errs.TooLarge, "%d inline bytes in one command", inline)
	}
	return nil
}

// mayReferAll refuses extents whose blobs may be gone.
func (a *applier) mayReferAll(exts []metadata.Extent) error {
	for i := range exts {
		if b := exts[i].Blob; b != nil {
			if err := a.mayRefer(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// extents is state's, for commands that change what they look at: it is remembered, for
// what was changed is likely to be changed again.
func (a *applier) extents(ino twofold.Ino, off, end int64, fn func(metadata.Extent) (bool, error)) error {
	a.learn = !a.leaving
	defer func() { a.learn = false }()
	return a.state.extents(ino, off, end, fn)
}

// putExtent stores an extent where nothing is, and claims its blob.
func (a *applier) putExtent(i *metadata.Inode, e *metadata.Extent) {
	a.storeExtent(i.Ino, e)
	i.Stored += e.Len
	a.claimExtent(i.Ino, e, 1)
	a.touch(i)
}

func (a *applier) storeExtent(ino twofold.Ino, e *metadata.Extent) {
	a.set(extentKey(ino, e.Off+e.Len), metadata.EncodeExtent(e))
}

// punch makes [off, end) of an inode a hole: at most max extents are changed, from
// the front. It returns the offset it got to (end, when it is done) and how many.
func (a *applier) punch(i *metadata.Inode, off, end int64, max int) (cut int64, n int, err error) {
	var hit []metadata.Extent
	cut = end
	err = a.extents(i.Ino, off, end, func(e metadata.Extent) (bool, error) {
		if len(hit) == max {
			cut = e.Off
			if cut < off {
				cut = off
			}
			return false, nil
		}
		hit = append(hit, e)
		return true, nil
	})
	if err != nil {
		return off, 0, err
	}
	for _, e := range hit {
		a.cutExtent(i, e, off, cut)
	}
	return cut, len(hit), nil
}

// cutExtent takes [off, end) out of an extent, of which up to two pieces remain.
func (a *applier) cutExtent(i *metadata.Inode, e metadata.Extent, off, end int64) {
	eEnd := e.Off + e.Len
	if eEnd <= end { // no piece remains at this key
		a.del(extentKey(i.Ino, eEnd))
	} else {
		right := clip(e, end, eEnd)
		a.storeExtent(i.Ino, &right)
	}
	if e.Off < off {
		left := clip(e, e.Off, off)
		a.storeExtent(i.Ino, &left)
	}
	gone := clip(e, max(e.Off, off), min(eEnd, end))
	i.Stored -= gone.Len
	a.claimExtent(i.Ino, &gone, -1)
	a.touch(i)
}

// overwrite puts an extent over what an inode has there. At most max extents are
// replaced, from the front; it returns the offset it got to, and how many.
func (a *applier) overwrite(i *metadata.Inode, e metadata.Extent, max int) (end int64, n int, err error) {
	end = e.Off + e.Len
	if e.Off < i.Size { // nothing is behind the size
		if e.Blob == nil {
			if done, err := a.patch(i, &e); done || err != nil {
				return end, 0, err
			}
		}
		if end, n, err = a.punch(i, e.Off, end, max); err != nil || end == e.Off {
			return end, n, err
		}
		e = clip(e, e.Off, end)
	}
	if e.Blob == nil && e.Len < mergeInline && e.Off > 0 {
		if err := a.merge(i, &e); err != nil {
			return end, n, err
		}
	}
	a.putExtent(i, &e)
	return end, n, nil
}

// patch changes bytes within one inline extent in place.
func (a *applier) patch(i *metadata.Inode, e *metadata.Extent) (done bool, err error) {
	var in *metadata.Extent
	err = a.extents(i.Ino, e.Off, e.Off+1, func(x metadata.Extent) (bool, error) {
		if x.Blob == nil && x.Off+x.Len >= e.Off+e.Len {
			in = &x
		}
		return false, nil
	})
	if err != nil || in == nil {
		return false, err
	}
	copy(in.Data[e.Off-in.Off:], e.Data)
	a.storeExtent(i.Ino, in)
	a.touch(i)
	return true, nil
}

// merge takes a short inline extent that ends where e begins into e, so that a log
// appended line by line does not become an extent a line.
func (a *applier) merge(i *metadata.Inode, e *metadata.Extent) error {
	key := extentKey(i.Ino, e.Off)
	v, err := a.get(key)
	if v == nil || err != nil {
		return err
	}
	prev, err := metadata.DecodeExtent(v)
	if err != nil || prev.Blob != nil || prev.Len+e.Len > mergeInline {
		return err
	}
	a.del(key)
	i.Stored -= prev.Len
	e.Off, e.Len, e.Data = prev.Off, prev.Len+e.Len, bytes.Join([][]byte{prev.Data, e.Data}, nil)
	return nil
}
