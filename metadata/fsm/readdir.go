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
	if err := v.name(d, items, more); err != nil {
		return nil, false, err
	}
	if attrs {
		err = v.fill(items)
	}
	return items, more, err
}

// name gives items their names. An object whose name a directory has as well is known by
// that: the directory's entry comes behind its own, among the items unless they end before.
func (v *view) name(d *metadata.Inode, items []metadata.DirItem, more bool) (err error) {
	dirs := map[string]struct{}{}
	for n := range items {
		if it := &items[n]; it.Type == metadata.TypeDir {
			it.Name.Comp = it.Cursor[:len(it.Cursor)-1]
			dirs[it.Name.Comp] = struct{}{}
		} else {
			it.Name.Comp = it.Cursor
		}
	}
	for n := range items {
		it := &items[n]
		if it.Type == metadata.TypeDir || d.Subdirs == 0 {
			continue
		}
		if more && entrySuffix(it.Name.Comp, true) > items[len(items)-1].Cursor {
			_, it.Name.File, err = v.entry(d.Ino, it.Name.Comp, true)
			if err != nil {
				return err
			}
			continue
		}
		_, it.Name.File = dirs[it.Name.Comp]
	}
	return nil
}

// fill gives items their inodes.
func (v *view) fill(items []metadata.DirItem) error {
	inos := make([]twofold.Ino, len(items))
	for n := range items {
		inos[n] = items[n].Ino
	}
	inodes := make([]*metadata.Inode, len(items))
	if err := v.mustInodes(inos, inodes); err != nil {
		return err
	}
	for n := range items {
		items[n].Inode = inodes[n]
	}
	return nil
}
