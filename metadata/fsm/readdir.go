package fsm

import (
	"twofold"
	"twofold/metadata"
)

// ReadDir's cursor is an entry's name as it stands in its key: a directory's with
// its slash, so that it comes where its key sorts.
func (v *view) ReadDir(dir twofold.Ino, cursor string, limit int, attrs bool) (items []metadata.DirItem, more bool, err error) {
	d, err := v.dir(dir)
	if err != nil {
		return nil, false, err
	}
	v.look(dir)
	prefix, start := entryKey(dir, ""), ""
	if cursor != "" {
		start = after(entryKey(dir, cursor))
	}
	err = v.prefixed(prefix, start, func(k, b []byte) (bool, error) {
		if more = len(items) == limit; more {
			return false, nil
		}
		e, err := metadata.DecodeEntry(b)
		if err != nil {
			return false, err
		}
		suffix := string(k[len(prefix):])
		items = append(items, metadata.DirItem{Cursor: suffix, Ino: e.Ino, Type: e.Type})
		return true, nil
	})
	if err != nil {
		return nil, false, err
	}
	for n := range items {
		if err := v.fill(d, &items[n], attrs); err != nil {
			return nil, false, err
		}
	}
	return items, more, nil
}

// fill gives an item its name, and its inode where it is wanted.
func (v *view) fill(d *metadata.Inode, it *metadata.DirItem, attrs bool) (err error) {
	it.Name.Comp = it.Cursor
	if it.Type == metadata.TypeDir {
		it.Name.Comp = it.Cursor[:len(it.Cursor)-1]
	} else if d.Subdirs > 0 {
		if _, it.Name.File, err = v.entry(d.Ino, it.Name.Comp, true); err != nil {
			return err
		}
	}
	if attrs {
		it.Inode, err = v.mustInode(it.Ino)
	}
	return err
}
