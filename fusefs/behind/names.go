package behind

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"
)

// kind is what may be done here to a name's inode.
type kind uint8

const (
	odd    kind = iota // go the ordinary way
	simple             // no directory, and the directory is its home: it has no other name
	subdir
)

// entry is what a name stands for; without ino it is known to be free.
type entry struct {
	ino  twofold.Ino
	kind kind
}

// maxKnown is how many names all directories together may have known: of about 100 bytes.
const maxKnown = 256 << 10

// lookup returns what a name stands for, as far as that is known.
func (d *dir) lookup(name string) (e entry, known bool) {
	e, known = d.names[name]
	switch {
	case known:
		return e, !(e.ino == 0 && e.kind == odd)
	case d.whole:
		return entry{kind: simple}, true
	}
	return e, false
}

// set notes what a name stands for; b.mu is held.
func (b *Files) set(d *dir, name string, e entry) {
	if e.ino == 0 {
		e.kind = simple
	}
	b.record(d, name, e)
}

// unset notes that it is not known what a name stands for; b.mu is held.
func (b *Files) unset(d *dir, name string) {
	if d.whole {
		b.record(d, name, entry{})
	} else if _, ok := d.names[name]; ok {
		delete(d.names, name)
		b.known--
	}
}

func (b *Files) record(d *dir, name string, e entry) {
	if e.ino == 0 && e.kind == simple && d.whole { // as any name without a record
		if _, ok := d.names[name]; ok {
			delete(d.names, name)
			b.known--
		}
		return
	}
	if d.names == nil {
		d.names = make(map[string]entry)
	}
	if _, ok := d.names[name]; !ok {
		b.known++
	}
	d.names[name] = e
}

// empty reports whether a directory is known to have no names.
func (d *dir) empty() bool {
	if !d.whole || d.escapes {
		return false
	}
	for _, e := range d.names {
		if e.ino != 0 || e.kind == odd {
			return false
		}
	}
	return true
}

// forget drops all that is known of the names in a directory; b.mu is held.
func (b *Files) forget(d *dir) {
	b.known -= len(d.names)
	d.names, d.whole = nil, false
	d.rev++
}

// kindOf is what the volume says of an inode that a name in dir stands for.
func (b *Files) kindOf(dir twofold.Ino, name string, a *api.Attr) kind {
	if _, ok := b.shared[a.Ino]; ok || !keypath.Ordinary(name) {
		return odd
	}
	switch {
	case a.Type == metadata.TypeDir:
		return subdir
	case a.Home == dir:
		return simple
	}
	return odd
}

// ask looks a name up in the volume and notes what it stands for. b.mu is held, but not
// meanwhile.
func (b *Files) ask(ctx context.Context, d *dir, name string) (api.Attr, error) {
	rev := d.rev
	a, err := b.lookup(ctx, d.ino, name)
	b.place(d.ino, &a, err)
	absent := errs.Is(err, errs.NotFound) || err == nil && a.Ino == 0
	if err != nil && !absent || b.dirs[d.ino] != d || d.rev != rev || b.outside[d.ino] > 0 || b.known >= maxKnown {
		return a, err
	}
	if _, known := d.lookup(name); known {
		return a, err // an operation here was faster
	}
	if absent {
		b.set(d, name, entry{})
	} else {
		b.set(d, name, entry{a.Ino, b.kindOf(d.ino, name, &a)})
	}
	return a, err
}

// place notes which bucket a directory is in: that of its parent, which it never leaves.
// b.mu is held.
func (b *Files) place(parent twofold.Ino, a *api.Attr, err error) {
	if err != nil || a.Ino == 0 || a.Type != metadata.TypeDir {
		return
	}
	if _, ok := b.buckets[a.Ino]; ok {
		return
	}
	if len(b.buckets) >= maxBuckets {
		clear(b.buckets) // renames between directories then go the ordinary way
	}
	switch top, ok := b.buckets[parent]; {
	case parent == twofold.RootIno:
		b.buckets[a.Ino] = a.Ino
	case parent == b.root: // all of the mount is in its bucket
		b.buckets[a.Ino], b.buckets[parent] = parent, parent
	case ok:
		b.buckets[a.Ino] = top
	}
}

// maxBuckets is of how many directories the bucket is remembered.
const maxBuckets = 64 << 10

// oneBucket reports whether two directories are known to be in one bucket; b.mu is held.
func (b *Files) oneBucket(x, y twofold.Ino) bool {
	if x == y {
		return true
	}
	p, ok := b.buckets[x]
	q, ok2 := b.buckets[y]
	return ok && ok2 && p == q
}
