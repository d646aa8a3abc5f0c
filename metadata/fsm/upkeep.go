package fsm

import (
	"bytes"

	"twofold/internal/errs"
	"twofold/metadata"
)

func (a *applier) freeInode(c *metadata.FreeInode) (*metadata.Result, error) {
	i, err := a.load(c.Ino)
	if err != nil || i == nil {
		return &metadata.Result{}, err
	}
	if i.Nlink > 0 {
		return nil, refusef(errs.Busy, "inode %d has links", c.Ino)
	}
	_, more, err := a.free(i, dropLimit(c.Max))
	if err != nil || !more {
		return &metadata.Result{}, err
	}
	return &metadata.Result{Inode: i, More: true}, nil
}

func (a *applier) freeInodes(c *metadata.FreeInodes) (*metadata.Result, error) {
	if len(c.Inos) > maxFrees {
		return nil, refusef(errs.TooLarge, "%d inodes in one command", len(c.Inos))
	}
	a.batched = true
	left := dropLimit(c.Max)
	for _, ino := range c.Inos {
		i, err := a.load(ino)
		if err != nil {
			return nil, err
		}
		if i == nil || i.Nlink > 0 {
			continue
		}
		if left == 0 {
			return &metadata.Result{More: true}, nil
		}
		n, more, err := a.free(i, left)
		if err != nil || more {
			return &metadata.Result{More: more}, err
		}
		left -= n
	}
	return &metadata.Result{}, nil
}

// dropLimit is how many extents a command may drop that asks for max.
func dropLimit(max int) int {
	if max <= 0 || max > maxDrop {
		return maxDrop
	}
	return max
}

// free drops up to limit extents of an inode without links, and then the inode. It returns
// how many they were, and whether there are more.
func (a *applier) free(i *metadata.Inode, limit int) (n int, more bool, err error) {
	if i.Stored > 0 {
		var cut int64
		a.leaving = true
		cut, n, err = a.punch(i, 0, maxFileLen, limit)
		a.leaving = false
		if err != nil {
			return 0, false, err
		}
		if cut < maxFileLen {
			i.Unnamed = false // with part of its content gone it can't be linked any more
			a.touch(i)
			return n, true, nil
		}
	}
	a.erase(i.Ino)
	a.del(orphanKey(i.Ino))
	return n, false, nil
}

func (a *applier) trashDone(c *metadata.TrashDone) (*metadata.Result, error) {
	if len(c.Blobs) > maxDrop {
		return nil, refuse(errs.TooLarge)
	}
	for _, b := range c.Blobs {
		a.del(trashKey(b))
	}
	return &metadata.Result{}, nil
}

func (a *applier) replaceExtents(c *metadata.ReplaceExtents) (*metadata.Result, error) {
	i, err := a.load(c.Ino)
	if err != nil {
		return nil, err
	}
	if i == nil || i.Version != c.Version && len(c.Was) == 0 {
		return nil, refusef(errs.Conflict, "the content changed")
	}
	if i.Version != c.Version {
		return a.relocate(i, c)
	}
	if c.Off < 0 || c.Len <= 0 || c.Len > i.Size-c.Off {
		return nil, refusef(errs.Invalid, "[%d, +%d) is not within the content", c.Off, c.Len)
	}
	end := c.Off + c.Len
	if err := checkExtents(c.Extents, c.Off, end); err != nil {
		return nil, err
	}
	if len(c.Extents) > maxWriteExts {
		return nil, refuse(errs.TooLarge)
	}
	if err := a.mayReferAll(c.Extents); err != nil {
		return nil, err
	}
	cut, _, err := a.punch(i, c.Off, end, maxDrop)
	if err != nil {
		return nil, err
	}
	if cut < end {
		return nil, refusef(errs.TooLarge, "more than %d extents to replace", maxDrop)
	}
	for n := range c.Extents {
		a.putExtent(i, &c.Extents[n])
	}
	return &metadata.Result{Inode: i}, nil
}

func (a *applier) setConfig(c *metadata.SetConfig) (*metadata.Result, error) {
	if c.Name == "" || len(c.Name) > maxComponent {
		return nil, refuse(errs.Invalid)
	}
	if len(c.Value) > maxConfig {
		return nil, refuse(errs.TooLarge)
	}
	if c.Value == nil {
		a.del(configKey(c.Name))
	} else {
		a.set(configKey(c.Name), bytes.Clone(c.Value))
	}
	return &metadata.Result{}, nil
}
