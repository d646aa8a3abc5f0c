package fsm

import (
	"twofold/internal/errs"
	"twofold/metadata"
)

func (a *applier) write(c *metadata.Write) (*metadata.Result, error) {
	i, err := a.mustBe(c.Ino)
	if err != nil {
		return nil, err
	}
	if err := a.checkWrite(i, c); err != nil {
		return nil, err
	}
	a.unbounded = c.Unbounded
	stored := i.Stored
	more, err := a.punchAll(i, c.Punch)
	if err == nil && !more {
		more, err = a.overwriteAll(i, c.Extents)
	}
	if err != nil {
		return nil, err
	}
	etag := c.ETag
	if more {
		etag = ""
	} else {
		i.Size = max(i.Size, c.Size)
	}
	if len(c.Extents) > 0 && stored > 0 || crowded(c.Extents, c.Crowd) { // one extent more, at least
		a.markCompaction(i.Ino)
	}
	a.contentChanged(i, etag)
	i.Mtime, i.Ctime = a.cmd.Now, a.cmd.Now
	if c.Mtime != 0 {
		i.Mtime = c.Mtime
	}
	if c.Atime != 0 {
		i.Atime = c.Atime
	}
	if c.KillPriv {
		killPriv(i)
	}
	return &metadata.Result{Inode: i, More: more}, nil
}

func (a *applier) checkWrite(i *metadata.Inode, c *metadata.Write) error {
	switch {
	case i.Type == metadata.TypeDir:
		return refuse(errs.IsDir)
	case i.Type != metadata.TypeFile || c.Size < 0:
		return refuse(errs.Invalid)
	case c.Size > maxFileLen:
		return refuse(errs.TooLarge)
	}
	for _, r := range c.Punch {
		if r.Off < 0 || r.Len < 0 || r.Len > maxFileLen-r.Off {
			return refusef(errs.Invalid, "a hole at %d of length %d", r.Off, r.Len)
		}
	}
	if err := checkExtents(c.Extents, 0, maxFileLen); err != nil {
		return err
	}
	if len(c.Extents) > maxWriteExts {
		return refusef(errs.TooLarge, "%d extents in one write", len(c.Extents))
	}
	return a.mayReferAll(c.Extents)
}

// A command changes a bounded number of extents. Where that is used up, punchAll and
// overwriteAll return more, and the command, sent again, goes on from there: what it
// did is no work the second time. The content is then the new one up to some
// offset, and the old one behind it.

func (a *applier) punchAll(i *metadata.Inode, holes []metadata.Range) (more bool, err error) {
	left := maxDrop
	for _, h := range holes {
		end := min(h.Off+h.Len, i.Size)
		if h.Off >= end {
			continue
		}
		cut, n, err := a.punch(i, h.Off, end, left)
		if err != nil || cut < end {
			return err == nil, err
		}
		left -= n
	}
	return false, nil
}

func (a *applier) overwriteAll(i *metadata.Inode, exts []metadata.Extent) (more bool, err error) {
	left := maxDrop
	for _, e := range exts {
		end := e.Off + e.Len
		cut, n, err := a.overwrite(i, e, left+1)
		if err != nil {
			return false, err
		}
		i.Size = max(i.Size, cut)
		if cut < end {
			return true, nil
		}
		left -= max(0, n-1) // one is free: it may be what this command put there before
	}
	return false, nil
}
