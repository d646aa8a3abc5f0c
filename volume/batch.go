package volume

import (
	"context"
	"slices"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"
)

// batch is a Batch on its way to be one command.
type batch struct {
	s       *Session
	ops     []metadata.BatchOp
	made    map[twofold.Ino]metadata.Type // inodes that it makes
	seen    map[twofold.Ino]struct{}      // those in all
	all     []twofold.Ino                 // inodes that it makes or changes, and the leased directories
	bytes   int64                         // of segments
	removes bool
	inline  bool                             // no blob can be written: all content goes into the metadata
	buckets map[twofold.Ino]twofold.BucketID // of the leased directories
	ends    []func()                         // of the leases in use
}

// read checks the operations and makes commands of them, those of writes without their
// extents yet. After an error it says which operation it is about, or -1.
func (b *batch) read(in api.Batch) (failed int, err error) {
	const op = "volume.Batch"
	if len(in.Ops) > api.MaxBatchOps || len(in.Dirs) > api.MaxBatchDirs {
		return -1, errs.Newf(op, errs.TooLarge, "%d operations in %d directories in one batch", len(in.Ops), len(in.Dirs))
	}
	dirs := make(map[twofold.Ino]struct{}, len(in.Dirs))
	for _, d := range in.Dirs {
		if d.Ino == twofold.RootIno || d.Ino&levelBit != 0 || d.Token == 0 {
			return -1, errs.Newf(op, errs.Invalid, "token %d of directory %d", d.Token, d.Ino)
		}
		dirs[d.Ino] = struct{}{}
		b.changes(d.Ino)
	}
	b.ops = make([]metadata.BatchOp, len(in.Ops))
	for i := range in.Ops {
		if err := b.readOp(&in.Ops[i], &b.ops[i], dirs); err != nil {
			return i, err
		}
	}
	if b.bytes > api.MaxIO {
		return -1, errs.Newf(op, errs.TooLarge, "%d bytes in one batch", b.bytes)
	}
	return -1, nil
}

// changes notes an inode of which the mount is told what becomes of it.
func (b *batch) changes(ino twofold.Ino) {
	if _, ok := b.seen[ino]; !ok && ino != 0 {
		b.seen[ino] = struct{}{}
		b.all = append(b.all, ino)
	}
}

func (b *batch) readOp(o *api.BatchOp, to *metadata.BatchOp, dirs map[twofold.Ino]struct{}) error {
	const op = "volume.Batch"
	to.Now = o.Now
	if to.Now == 0 {
		to.Now = b.s.v.now()
	}
	// in is a name in a directory that is leased, or made by an operation before.
	var wrong error
	in := func(dir twofold.Ino, name string) metadata.Name {
		if _, ok := dirs[dir]; !ok && b.made[dir] != metadata.TypeDir {
			wrong = errs.Newf(op, errs.Invalid, "directory %d is not among the leased ones", dir)
		}
		if !keypath.Ordinary(name) {
			wrong = errs.Newf(op, errs.Invalid, "%q is not its own name in keys", name)
		}
		return metadata.Name{Comp: name}
	}
	set := 0
	if c := o.Create; c != nil {
		set++
		to.Ino = c.Ino
		to.Body = &metadata.Create{Parent: c.Dir, Name: in(c.Dir, c.Name), Type: c.Type, Mode: c.Mode, UID: c.UID, GID: c.GID,
			Rdev: c.Rdev, Target: c.Target, Exclusive: true}
		b.made[c.Ino] = c.Type
		b.changes(c.Ino)
	}
	if c := o.Write; c != nil {
		set++
		to.Body = &metadata.Write{Ino: c.Ino, Size: c.Size, Mtime: c.Mtime, Atime: c.Atime, ETag: c.ETag, KillPriv: c.KillPriv}
		for _, seg := range c.Segments {
			b.bytes += int64(len(seg.Data))
		}
		b.changes(c.Ino)
	}
	if c := o.SetAttr; c != nil {
		set++
		a := c.Attr
		if a.Size != nil {
			wrong = errs.Newf(op, errs.Invalid, "a size in a batch")
		}
		to.Body = &metadata.SetAttr{Ino: c.Ino, Mode: a.Mode, UID: a.UID, GID: a.GID, Atime: a.Atime, Mtime: a.Mtime, KillPriv: a.KillPriv}
		b.changes(c.Ino)
	}
	if c := o.Unlink; c != nil {
		set++
		to.Ino, to.Body = c.Ino, &metadata.Unlink{Parent: c.Dir, Name: in(c.Dir, c.Name)}
		b.changes(c.Ino)
		b.removes = true
	}
	if c := o.Rmdir; c != nil {
		set++
		to.Ino, to.Body = c.Ino, &metadata.Rmdir{Parent: c.Dir, Name: in(c.Dir, c.Name)}
		b.changes(c.Ino)
		b.removes = true
	}
	if c := o.Rename; c != nil {
		set++
		to.Ino, to.Replaced = c.Ino, c.Replaced
		to.Body = &metadata.Rename{OldParent: c.OldDir, OldName: in(c.OldDir, c.OldName), NewParent: c.NewDir, NewName: in(c.NewDir, c.NewName)}
		b.changes(c.Ino)
		b.changes(c.Replaced)
		b.removes = b.removes || c.Replaced != 0
	}
	if wrong == nil && set != 1 {
		wrong = errs.Newf(op, errs.Invalid, "an operation that is %d ones", set)
	}
	return wrong
}

// useAll has the leases that the batch is sent under stay until release: those of the
// directories, and those that a Write or a SetAttr would need of its inode. It recalls none,
// for whoever recalls one of the directories waits for the batch: where another session has the
// lease of an inode it is the operation's errs.Conflict. failed is as of read.
func (b *batch) useAll(ctx context.Context, in api.Batch) (failed int, err error) {
	t := b.s.v.leases
	if err := t.Await(ctx); err != nil {
		return -1, err
	}
	use := func(ino twofold.Ino, token uint64) error {
		end, ok, err := func() (func(), bool, error) {
			if token == 0 {
				end, ok := t.TryUse(b.s, ino)
				return end, ok, nil
			}
			end, err := t.Use(ctx, b.s, ino, token)
			return end, true, err
		}()
		if err == nil && !ok {
			err = errs.Newf("volume.Batch", errs.Conflict, "another mount writes to inode %d", ino)
		}
		if err == nil {
			b.ends = append(b.ends, end)
		}
		return err
	}
	for _, d := range in.Dirs {
		if err := use(d.Ino, d.Token); err != nil {
			return -1, err
		}
	}
	type key struct {
		ino   twofold.Ino
		token uint64
	}
	used := map[key]struct{}{}
	for i := range in.Ops {
		var k key
		switch o := &in.Ops[i]; {
		case o.Write != nil:
			k = key{o.Write.Ino, o.Write.Token}
		case o.SetAttr != nil && (o.SetAttr.Attr.Mtime != nil || o.SetAttr.Attr.Atime != nil):
			k = key{o.SetAttr.Ino, o.SetAttr.Attr.Token}
		default:
			continue
		}
		_, mine := b.made[k.ino] // nobody else can have its lease
		if _, twice := used[k]; mine || twice {
			continue
		}
		if err := use(k.ino, k.token); err != nil {
			if k.token == 0 {
				return i, err
			}
			return -1, err
		}
		used[k] = struct{}{}
	}
	return -1, nil
}

// look reads what the leases are of: the buckets of directories, and that every directory that is
// moved, replaced or removed is leased itself, or made by the batch. Neither changes.
func (b *batch) look(ctx context.Context, in api.Batch) (failed int, err error) {
	failed = -1
	b.buckets = make(map[twofold.Ino]twofold.BucketID, len(in.Dirs))
	err = b.s.v.Meta.View(ctx, func(w metadata.View) error {
		for _, d := range in.Dirs {
			n, err := w.Inode(d.Ino)
			switch {
			case errs.Is(err, errs.Stale):
				b.buckets[d.Ino] = 0 // the batch comes again, and had removed it; else the command says so
			case err != nil:
				return err
			default:
				b.buckets[d.Ino] = n.Bucket
			}
		}
		leased := func(ino twofold.Ino) bool {
			if _, ok := b.buckets[ino]; ok || ino == 0 {
				return true
			}
			if _, ok := b.made[ino]; ok {
				return true
			}
			n, err := w.Inode(ino)
			return errs.Is(err, errs.Stale) || err == nil && n.Type != metadata.TypeDir
		}
		for i := range in.Ops {
			r, d := in.Ops[i].Rename, in.Ops[i].Rmdir
			if r != nil && !(leased(r.Ino) && leased(r.Replaced)) || d != nil && !leased(d.Ino) {
				failed = i
				return errs.Newf("volume.Batch", errs.Conflict, "the directory that is moved or removed is not leased")
			}
		}
		return nil
	})
	return failed, err
}

func (b *batch) release() {
	for _, end := range b.ends {
		end()
	}
}

// What of content one command takes: metadata/fsm's bounds on a command and on an extent.
const (
	maxInlineBatch   = 3 << 20
	maxInlineSegment = 256 << 10
)

// store makes the segments of all writes durable, and extents: those of small files inline, as
// far as one command takes them, the others one behind the other in one blob.
func (b *batch) store(ctx context.Context, in api.Batch) (*stored, error) {
	v := b.s.v
	d := &stored{v: v}
	shared := &twofold.Blob{}
	var parts [][]byte
	var size, inline int64
	why := purpose{}
	most := int64(api.MaxBatchInline)
	if b.inline {
		if most = maxInlineBatch; b.bytes > most {
			return nil, errs.Newf("volume.Batch", errs.TooLarge, "%d bytes while too few drives are online for a blob", b.bytes)
		}
	}
	for i := range in.Ops {
		w := in.Ops[i].Write
		if w == nil {
			continue
		}
		limit := v.inlineLimit(w.Segments)
		if b.inline {
			limit = maxInlineSegment
		}
		body := b.ops[i].Body.(*metadata.Write)
		body.Extents = make([]metadata.Extent, 0, len(w.Segments))
		for _, s := range w.Segments {
			n := int64(len(s.Data))
			switch {
			case n == 0:
			case n <= limit && inline+n <= most:
				inline += n
				body.Extents = append(body.Extents, metadata.Extent{Off: s.Off, Len: n, Data: s.Data})
			default:
				if size == 0 {
					why = purpose{Ino: w.Ino, Off: s.Off}
				}
				body.Extents = append(body.Extents, metadata.Extent{Off: s.Off, Len: n, Blob: shared, BlobOff: size})
				parts = append(parts, s.Data)
				size += n
			}
		}
		if len(body.Extents) >= compactMany {
			body.Crowd = crowd()
		}
	}
	if size == 0 {
		return d, nil
	}
	blob, err := v.writeParts(ctx, parts, size, inoName(why.Ino), why.encode())
	if err != nil {
		return nil, err
	}
	d.blobs = []twofold.Blob{blob}
	*shared = blob
	return d, nil
}

// targets are what the batch changes of what there was before.
func (b *batch) targets() []metadata.Target {
	ts := make([]metadata.Target, 0, len(b.all))
	for _, ino := range b.all {
		if _, ok := b.made[ino]; !ok {
			ts = append(ts, metadata.Target{Ino: ino})
		}
	}
	return ts
}

// leaseNew gives the session the write leases of inodes that are to be made, which nobody
// else can ask for before the commit. Of a batch that comes again others may have got some.
func (b *batch) leaseNew(in api.Batch) (tokens []api.HeldWrite) {
	for i := range in.Ops {
		c := in.Ops[i].Create
		if c == nil {
			continue
		}
		bucket := b.buckets[c.Dir]
		isDir := c.Type == metadata.TypeDir
		if isDir {
			b.buckets[c.Ino] = bucket
		}
		if !c.Lease {
			continue
		}
		if token, ok := b.s.v.leases.AcquireNew(b.s, bucket, c.Ino, isDir); ok {
			tokens = append(tokens, api.HeldWrite{Ino: c.Ino, Token: token})
		}
	}
	return tokens
}

func (b *batch) unlease(tokens []api.HeldWrite) {
	for _, t := range tokens {
		b.s.v.leases.Release(b.s, t.Ino, t.Token)
	}
}

// note counts what was written to files that had been there, as a flush does.
func (b *batch) note(in api.Batch, attrs []api.Attr) {
	for i := range in.Ops {
		w := in.Ops[i].Write
		if w == nil {
			continue
		}
		if _, made := b.made[w.Ino]; made {
			continue
		}
		k := slices.IndexFunc(attrs, func(a api.Attr) bool { return a.Ino == w.Ino })
		if k < 0 {
			continue
		}
		n := &metadata.Inode{Ino: w.Ino, Size: attrs[k].Size, Stored: attrs[k].Stored}
		if b.s.v.touched.note(n, w.Segments) {
			b.s.v.kick(b.s.v.kickCompact)
		}
	}
}
