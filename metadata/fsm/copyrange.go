package fsm

import (
	"twofold/internal/errs"
	"twofold/metadata"
)

// copyRange makes a range of one file share the blobs of a range of another. As much
// is done as one command may do; the caller comes again for the rest, as a program
// does when copy_file_range(2) returns fewer bytes than it asked for.
func (a *applier) copyRange(c *metadata.CopyRange) (*metadata.Result, error) {
	src, err := a.mustBe(c.Src)
	if err != nil {
		return nil, err
	}
	dst, err := a.mustBe(c.Dst)
	if err != nil {
		return nil, err
	}
	if err := checkCopyRange(c, src, dst); err != nil {
		return nil, err
	}
	n := min(c.Len, src.Size-c.SrcOff)
	if n <= 0 {
		return &metadata.Result{Inode: dst}, nil
	}
	exts, n, err := a.shareSome(src, c.SrcOff, n)
	if err != nil {
		return nil, err
	}
	stored := dst.Stored
	// The same bytes from start to end have the same ETag.
	etag := ""
	if c.SrcOff == 0 && c.DstOff == 0 && n == src.Size && n >= dst.Size {
		etag = src.ETag
	}
	done, err := a.layOver(dst, exts, c.DstOff, n)
	if err != nil {
		return nil, err
	}
	if done < n {
		etag = ""
	}
	if done > 0 && (stored > 0 || crowded(exts, c.Crowd)) {
		a.markCompaction(dst.Ino)
	}
	a.contentChanged(dst, etag)
	dst.Mtime, dst.Ctime = a.cmd.Now, a.cmd.Now
	if c.Mtime != 0 {
		dst.Mtime = c.Mtime
	}
	if c.KillPriv {
		killPriv(dst)
	}
	return &metadata.Result{Inode: dst, ID: uint64(done)}, nil
}

func checkCopyRange(c *metadata.CopyRange, src, dst *metadata.Inode) error {
	switch {
	case src.Type == metadata.TypeDir || dst.Type == metadata.TypeDir:
		return refuse(errs.IsDir)
	case src.Type != metadata.TypeFile || dst.Type != metadata.TypeFile:
		return refuse(errs.Invalid)
	case c.SrcOff < 0 || c.DstOff < 0 || c.Len < 0:
		return refusef(errs.Invalid, "%d bytes at %d to %d", c.Len, c.SrcOff, c.DstOff)
	case c.DstOff > maxFileLen-min(c.Len, maxFileLen):
		return refuse(errs.TooLarge)
	case src == dst && c.SrcOff < c.DstOff+c.Len && c.DstOff < c.SrcOff+c.Len:
		return refusef(errs.Invalid, "the ranges overlap")
	}
	return nil
}

// shareSome lists the extents of [off, off+n) of an inode, moved to start at 0, as
// many as one command may bring; n is cut to what they and the holes cover.
func (a *applier) shareSome(src *metadata.Inode, off, n int64) ([]metadata.Extent, int64, error) {
	var exts []metadata.Extent
	inline, end := 0, off+n
	err := a.state.extents(src.Ino, off, end, func(e metadata.Extent) (bool, error) {
		e = clip(e, off, end)
		if len(exts) == maxWriteExts || inline+len(e.Data) > maxInlineBytes {
			n = e.Off - off
			return false, nil
		}
		inline += len(e.Data)
		e.Off -= off
		exts = append(exts, e)
		return true, nil
	})
	return exts, n, err
}

// layOver makes [off, off+n) of a file what extents that start at 0 and the holes
// between them are. It returns how many bytes it got to within one command's bound.
func (a *applier) layOver(i *metadata.Inode, exts []metadata.Extent, off, n int64) (done int64, err error) {
	left := maxDrop
	// hole punches [at, end); it reports whether it got there.
	hole := func(at, end int64) (bool, error) {
		if end = min(end, i.Size); at >= end {
			return true, nil
		}
		cut, k, err := a.punch(i, at, end, left)
		left -= k
		done = cut - off
		return cut == end, err
	}
	at := off
	for _, e := range exts {
		e.Off += off
		if ok, err := hole(at, e.Off); err != nil || !ok {
			return done, err
		}
		end := e.Off + e.Len
		cut, k, err := a.overwrite(i, e, left+1)
		if err != nil {
			return done, err
		}
		left = max(0, left-k)
		i.Size = max(i.Size, cut)
		if done = cut - off; cut < end {
			return done, nil
		}
		at = end
	}
	if ok, err := hole(at, off+n); err != nil || !ok {
		return done, err
	}
	i.Size = max(i.Size, off+n)
	return n, nil
}
