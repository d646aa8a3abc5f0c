package fsm

import (
	"bytes"
	"crypto/sha256"

	"twofold/internal/errs"
	"twofold/metadata"
)

// relocate is ReplaceExtents on a file that was written to after its extents had been
// read. What still comes from where it was read from is replaced; what was written,
// punched or truncated since stays. So a file that somebody writes to all the time is
// compacted all the same, and no writer is ever made to wait for it.
//
// That the source is the same says that the bytes are: a blob never changes and its id
// is never used twice, and inline bytes are compared by their SHA-256.
func (a *applier) relocate(i *metadata.Inode, c *metadata.ReplaceExtents) (*metadata.Result, error) {
	if c.Off < 0 || c.Len <= 0 || c.Len > maxFileLen-min(c.Off, maxFileLen) {
		return nil, refusef(errs.Invalid, "[%d, +%d) is not within a file", c.Off, c.Len)
	}
	if err := checkExtents(c.Extents, c.Off, c.Off+c.Len); err != nil {
		return nil, err
	}
	if len(c.Extents) > maxWriteExts || len(c.Was) > maxDrop {
		return nil, refuse(errs.TooLarge)
	}
	if err := a.mayReferAll(c.Extents); err != nil {
		return nil, err
	}
	runs, err := a.unchanged(i, c)
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		return nil, refusef(errs.Conflict, "all of the content changed")
	}
	for _, r := range runs {
		end := r.Off + r.Len
		// Fewer than maxDrop in all: unchanged has counted them.
		if _, _, err := a.punch(i, r.Off, end, maxDrop); err != nil {
			return nil, err
		}
		for _, e := range c.Extents {
			if e.Off < end && e.Off+e.Len > r.Off {
				e = clip(e, r.Off, end)
				a.putExtent(i, &e)
			}
		}
	}
	return &metadata.Result{Inode: i}, nil
}

// unchanged finds the runs of [c.Off, c.Off+c.Len) that are as c.Was says and that
// c.Extents has bytes for, in order; neighbours are one run.
func (a *applier) unchanged(i *metadata.Inode, c *metadata.ReplaceExtents) (runs []metadata.Range, err error) {
	was, now, n := c.Was, c.Extents, 0
	add := func(off, end int64) {
		for len(now) > 0 && now[0].Off+now[0].Len <= off {
			now = now[1:]
		}
		for _, e := range now {
			if e.Off >= end {
				break
			}
			from, to := max(off, e.Off), min(end, e.Off+e.Len)
			if last := len(runs) - 1; last >= 0 && runs[last].Off+runs[last].Len == from {
				runs[last].Len += to - from
			} else {
				runs = append(runs, metadata.Range{Off: from, Len: to - from})
			}
		}
	}
	end := min(c.Off+c.Len, i.Size)
	err = a.extents(i.Ino, c.Off, end, func(e metadata.Extent) (bool, error) {
		if n++; n > maxDrop {
			return false, refusef(errs.Conflict, "more than %d extents by now", maxDrop)
		}
		e = clip(e, c.Off, end)
		for len(was) > 0 && was[0].Off+was[0].Len <= e.Off {
			was = was[1:]
		}
		for _, w := range was {
			if w.Off >= e.Off+e.Len {
				break
			}
			if from, to := max(w.Off, e.Off), min(w.Off+w.Len, e.Off+e.Len); from < to && sameSource(&w, &e) {
				add(from, to)
			}
		}
		return true, nil
	})
	return runs, err
}

// sameSource reports whether an extent's bytes come from where they came from when
// they were read: from the same place of the same blob, or they are the same inline
// bytes. An inline extent of which a part was cut off counts as another one.
func sameSource(w *metadata.ExtentSource, e *metadata.Extent) bool {
	if e.Blob != nil {
		return w.Blob != nil && *w.Blob == e.Blob.ID && w.BlobOff-w.Off == e.BlobOff-e.Off
	}
	if w.Blob != nil || w.Off != e.Off || w.Len != e.Len {
		return false
	}
	sum := sha256.Sum256(e.Data)
	return bytes.Equal(w.Sum, sum[:])
}
