package volume

import (
	"bytes"
	"context"
	"io"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// Open implements api.Files.
func (s *Session) Open(ctx context.Context, ino twofold.Ino) (api.Attr, error) {
	if ino == twofold.RootIno || ino&levelBit != 0 {
		return s.GetAttr(ctx, ino)
	}
	if !s.pin(ino) {
		return api.Attr{}, errs.Newf("volume.Open", errs.Stale, "inode %d is gone", ino)
	}
	attr := s.GetAttr
	if s.caches.Load() {
		attr = s.attrNow // it may be what a change or a write lease of the inode waits for
	}
	a, err := attr(ctx, ino)
	if err != nil {
		s.unpin(ino)
	}
	return a, err
}

// attrNow is GetAttr that waits for nobody: where it is not Leased others may have
// unflushed writes.
func (s *Session) attrNow(ctx context.Context, ino twofold.Ino) (a api.Attr, err error) {
	gen, err := s.v.leases.Generation(ctx)
	if err != nil {
		return a, err
	}
	var in *metadata.Inode
	err = s.v.Meta.View(ctx, func(w metadata.View) error {
		in, err = w.Inode(ino)
		return err
	})
	if err == nil {
		a = attrOf(in)
		s.grant(gen, in, &a)
	}
	return a, err
}

// Release implements api.Files.
func (s *Session) Release(_ context.Context, ino twofold.Ino) error {
	s.unpin(ino)
	return nil
}

func (s *Session) pin(ino twofold.Ino) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || !s.v.opens.add(ino, 1) {
		return false
	}
	s.opens[ino]++
	return true
}

// unpin takes one open back; one that isn't there is not an error: a Release comes
// again when its answer was lost.
func (s *Session) unpin(ino twofold.Ino) {
	s.mu.Lock()
	n := s.opens[ino]
	if n > 1 {
		s.opens[ino] = n - 1
	} else {
		delete(s.opens, ino)
	}
	s.mu.Unlock()
	if n == 0 {
		return
	}
	if n == 1 {
		s.v.locks.Closed(s, ino)
	}
	if s.v.opens.drop(ino, 1) {
		s.v.kick(s.v.kickReaper)
	}
}

// Read implements api.Files.
func (s *Session) Read(ctx context.Context, ino twofold.Ino, off int64, p []byte) (int, error) {
	if off < 0 || len(p) > api.MaxIO {
		return 0, errs.Newf("volume.Read", errs.Invalid, "offset %d, %d bytes", off, len(p))
	}
	leave := s.v.pins.enter()
	defer leave()
	var exts []metadata.Extent
	var n int64
	err := s.v.observe(ctx, s.id, func(w metadata.View) ([]twofold.Ino, error) {
		in, err := w.Inode(ino)
		if err != nil {
			return nil, err
		}
		if in.Type == metadata.TypeDir {
			return nil, errs.Newf("volume.Read", errs.IsDir, "inode %d is a directory", ino)
		}
		if n = min(int64(len(p)), in.Size-off); n <= 0 {
			n, exts = 0, nil
			return []twofold.Ino{ino}, nil
		}
		exts, err = w.Extents(ino, off, n, 0)
		return []twofold.Ino{ino}, err
	})
	if err != nil {
		return 0, err
	}
	if err := s.v.readExtents(ctx, exts, off, p[:n]); err != nil {
		return 0, err
	}
	return int(n), nil
}

const (
	maxInlineWrite = 64 << 10  // the most bytes that one flush puts into the metadata,
	tinySegment    = 256       // but for those of segments up to here: naming a blob takes about as many,
	maxTinyWrite   = 512 << 10 // and a read of them would have to open it
)

// Write implements api.Files: what the mount flushes becomes extents of the inode
// in one command. Segments that are large, or many, share one blob.
func (s *Session) Write(ctx context.Context, ino twofold.Ino, w api.Write) (a api.Attr, err error) {
	if err := s.v.Placer.Writable(); err != nil {
		return api.Attr{}, err
	}
	end, err := s.v.leases.Use(ctx, s, ino, w.Token)
	if err != nil {
		return api.Attr{}, err
	}
	defer end()
	var size int64
	for _, seg := range w.Segments {
		size += int64(len(seg.Data))
	}
	space, err := s.v.claim(ctx, s.id, size)
	if err != nil {
		return api.Attr{}, err
	}
	defer func() { space.done(err) }()
	data, err := s.v.storeSegments(ctx, ino, w.Segments)
	if err != nil {
		return api.Attr{}, err
	}
	ch, err := s.change(ctx, metadata.Target{Ino: ino})
	if err != nil {
		data.settle(err)
		return api.Attr{}, err
	}
	defer func() { ch.done(err) }()
	mtime := w.Mtime
	if mtime == 0 {
		mtime = s.v.now()
	}
	cmd := metadata.Write{
		Ino: ino, Extents: data.extents, Punch: w.Punch, Size: w.Size, Mtime: mtime, Atime: w.Atime, ETag: w.ETag, KillPriv: w.KillPriv,
	}
	if len(cmd.Extents) >= compactMany {
		cmd.Crowd = crowd()
	}
	res, err := s.command(ctx, metadata.OpWrite, cmd)
	if errs.Is(err, errs.Quota) && s.v.letIn(ctx, ino, w.Token) {
		cmd.Unbounded = true
		res, err = s.v.commit(ctx, metadata.OpWrite, cmd)
	}
	referred := false            // a command of the write has succeeded
	for err == nil && res.More { // it replaces very many extents: nobody else looks meanwhile
		referred = true
		res, err = s.v.commit(ctx, metadata.OpWrite, cmd)
	}
	if referred {
		data.settle(nil) // whatever became of the others: the file has the blob in part
	} else {
		data.settle(err)
	}
	s.v.kick(s.v.kickTrash)
	if err != nil {
		return api.Attr{}, err
	}
	if s.v.touched.note(res.Inode, w.Segments) {
		s.v.kick(s.v.kickCompact)
	}
	return s.granted(ctx, ch, res.Inode, nil), nil
}

// storeSegments makes segments durable: inline where they are few bytes, else one
// behind the other in a blob.
func (v *Volume) storeSegments(ctx context.Context, ino twofold.Ino, segs []api.Segment) (*stored, error) {
	d := &stored{v: v}
	limit := v.inlineLimit(segs)
	var parts [][]byte
	var size int64
	for _, s := range segs {
		n := int64(len(s.Data))
		switch {
		case n == 0:
		case n <= limit:
			d.extents = append(d.extents, metadata.Extent{Off: s.Off, Len: n, Data: s.Data})
		default:
			d.extents = append(d.extents, metadata.Extent{Off: s.Off, Len: n, Blob: &twofold.Blob{}, BlobOff: size})
			parts = append(parts, s.Data)
			size += n
		}
	}
	if size == 0 {
		return d, nil
	}
	why := purpose{Ino: ino, Off: segs[0].Off}
	b, err := v.writeParts(ctx, parts, size, inoName(ino), why.encode())
	if err != nil {
		return nil, err
	}
	d.blobs = []twofold.Blob{b}
	for i := range d.extents {
		if d.extents[i].Blob != nil {
			d.extents[i].Blob = &b
		}
	}
	return d, nil
}

// inlineLimit is up to how many bytes a segment of a write is inline.
func (v *Volume) inlineLimit(segs []api.Segment) int64 {
	var inline, tiny int64
	for _, s := range segs {
		n := int64(len(s.Data))
		if n <= v.InlineMax {
			inline += n
		}
		if n <= tinySegment {
			tiny += n
		}
	}
	switch {
	case inline <= maxInlineWrite:
		return v.InlineMax
	case tiny <= maxTinyWrite:
		return min(v.InlineMax, tinySegment)
	}
	return 0
}

// writeParts stores parts one behind the other in a blob. Space is promised of the
// whole store, so where a set turns out to be full it is tried again: the next set
// that is not gets it.
func (v *Volume) writeParts(ctx context.Context, parts [][]byte, size int64, name string, why []byte) (b twofold.Blob, err error) {
	for range 3 {
		readers := make([]io.Reader, len(parts))
		for i, p := range parts {
			readers[i] = bytes.NewReader(p)
		}
		b, err = v.writeBlob(ctx, io.MultiReader(readers...), size, name, "", why)
		if !errs.Is(err, errs.NoSpace) {
			break
		}
	}
	return b, err
}

// inoName places the blobs of a file: those of one inode go to one set.
func inoName(ino twofold.Ino) string {
	var b [8]byte
	for i := range b {
		b[i] = byte(ino >> (8 * i))
	}
	return string(b[:])
}

// SetAttr implements api.Files.
func (s *Session) SetAttr(ctx context.Context, ino twofold.Ino, a api.SetAttr) (now api.Attr, err error) {
	if ino == twofold.RootIno || ino&levelBit != 0 {
		return api.Attr{}, errs.Newf("volume.SetAttr", errs.Permission, "the attributes of this directory are fixed")
	}
	if a.Size != nil {
		if *a.Size < 0 || *a.Size > twofold.MaxFileLen {
			return api.Attr{}, errs.Newf("volume.SetAttr", errs.TooLarge, "%d is not a size that is possible", *a.Size)
		}
		if err := s.v.Placer.Writable(); err != nil {
			return api.Attr{}, err
		}
	}
	if a.Size != nil || a.Mtime != nil || a.Atime != nil {
		// Unflushed writes of others come first, and none meanwhile.
		end, err := s.v.leases.Use(ctx, s, ino, a.Token)
		if err != nil {
			return api.Attr{}, err
		}
		defer end()
	}
	cmd := metadata.SetAttr{Ino: ino, Mode: a.Mode, UID: a.UID, GID: a.GID, Size: a.Size, Atime: a.Atime, Mtime: a.Mtime, KillPriv: a.KillPriv}
	ch, err := s.change(ctx, metadata.Target{Ino: ino})
	if err != nil {
		return api.Attr{}, err
	}
	defer func() { ch.done(err) }()
	res, err := s.command(ctx, metadata.OpSetAttr, cmd)
	for err == nil && res.More { // the rest of a file of very many extents
		res, err = s.v.commit(ctx, metadata.OpSetAttr, metadata.SetAttr{Ino: ino, Size: a.Size})
	}
	if err != nil {
		return api.Attr{}, err
	}
	if a.Size != nil {
		s.v.touched.note(res.Inode, nil)
		s.v.kick(s.v.kickTrash)
	}
	return s.granted(ctx, ch, res.Inode, nil), nil
}

// AcquireWrite implements api.Files.
func (s *Session) AcquireWrite(ctx context.Context, ino twofold.Ino) (api.Lease, error) {
	if err := s.v.Placer.Writable(); err != nil {
		return api.Lease{}, err
	}
	// Its holder changes the file without telling: nobody else may cache it from now on.
	ch, err := s.change(ctx, metadata.Target{Ino: ino})
	if err != nil {
		return api.Lease{}, err
	}
	if ch.away.has(ino) { // as directories are, which have leases of another kind
		ch.done(nil)
		return api.Lease{}, errs.Newf("volume.AcquireWrite", errs.IsDir, "inode %d is a directory", ino)
	}
	token, err := s.v.leases.Acquire(ctx, s, ino)
	ch.done(nil)
	if err != nil {
		return api.Lease{}, err
	}
	a, err := s.GetAttr(ctx, ino)
	if err == nil && a.Type == metadata.TypeDir {
		err = errs.Newf("volume.AcquireWrite", errs.IsDir, "inode %d is a directory", ino)
	}
	var allowed int64
	if err == nil {
		allowed, err = s.v.allowed(ctx, ino)
	}
	if err != nil {
		s.v.leases.Release(s, ino, token)
		return api.Lease{}, err
	}
	return api.Lease{Token: token, Attr: a, Allowed: allowed}, nil
}

// ReleaseWrite implements api.Files.
func (s *Session) ReleaseWrite(ctx context.Context, ino twofold.Ino, token uint64) error {
	if token != 0 {
		if end, err := s.v.leases.Use(ctx, s, ino, token); err == nil {
			s.v.unreserve(ctx, ino)
			end()
		}
	}
	s.v.leases.Release(s, ino, token)
	return nil
}
