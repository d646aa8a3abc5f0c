package fsm

import (
	"encoding/binary"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

func (a *applier) createUpload(c *metadata.CreateUpload) (*metadata.Result, error) {
	u := &c.Upload
	b, err := a.mustBucket(u.Bucket)
	if err != nil {
		return nil, err
	}
	if u.Key == "" || u.ID.IsZero() {
		return nil, refuse(errs.Invalid)
	}
	if len(u.Key) > maxKey {
		return nil, refuse(errs.NameTooLong)
	}
	old, err := a.upload(u.ID)
	if err != nil {
		return nil, err
	}
	if old != nil {
		return nil, refuse(errs.Exists)
	}
	v, err := metadata.EncodeUpload(u)
	if err != nil {
		return nil, err
	}
	a.set(uploadKey(u.ID), v)
	a.set(uploadByKey(u.Bucket, u.Key, u.ID), []byte{})
	return &metadata.Result{Bucket: b}, nil
}

func (a *applier) mustUpload(id twofold.UploadID) (*metadata.Upload, error) {
	u, err := a.upload(id)
	if u == nil && err == nil {
		err = refuse(errs.NoUpload)
	}
	return u, err
}

func (a *applier) putPart(c *metadata.PutPart) (*metadata.Result, error) {
	p := c.Part
	if p.Number < 1 || p.Number > twofold.MaxParts {
		return nil, refusef(errs.Invalid, "part %d", p.Number)
	}
	if p.Size < 0 || p.Size > twofold.MaxPartLen {
		return nil, refuse(errs.TooLarge)
	}
	u, err := a.mustUpload(c.Upload)
	if err != nil {
		return nil, err
	}
	if c.Src != 0 {
		p.Extents, err = a.partOf(c)
	} else if err = checkExtents(p.Extents, 0, p.Size); err == nil {
		err = a.mayReferAll(p.Extents)
	}
	if err != nil {
		return nil, err
	}
	old, err := a.part(c.Upload, p.Number)
	if err != nil {
		return nil, err
	}
	by := p.Size
	if old != nil {
		a.claimPart(c.Upload, old, -1)
		by -= old.Size
	}
	if err := a.growPart(u, p.Number, by); err != nil {
		return nil, err
	}
	v, err := metadata.EncodePart(&p)
	if err != nil {
		return nil, err
	}
	a.set(partKey(c.Upload, p.Number), v)
	a.claimPart(c.Upload, &p, 1)
	return &metadata.Result{}, nil
}

// partOf takes a part's extents from another inode (UploadPartCopy).
func (a *applier) partOf(c *metadata.PutPart) ([]metadata.Extent, error) {
	src, err := a.load(c.Src)
	if err != nil {
		return nil, err
	}
	if src == nil || src.Version != c.SrcVersion {
		return nil, refusef(errs.Conflict, "the source changed")
	}
	if c.SrcOff < 0 || c.SrcOff > src.Size || c.Part.Size > src.Size-c.SrcOff {
		return nil, refuse(errs.Range)
	}
	return a.share(src, c.SrcOff, c.Part.Size)
}

// claimPart notes the blobs that a part gains (sign 1) or loses (sign -1).
func (a *applier) claimPart(u twofold.UploadID, p *metadata.Part, sign int64) {
	for i := range p.Extents {
		if e := &p.Extents[i]; e.Blob != nil {
			a.claims.add(partClaim(e.Blob.ID, u, p.Number), e.Blob, sign*e.Len)
		}
	}
}

// dropPart removes a part.
func (a *applier) dropPart(u *metadata.Upload, p *metadata.Part) error {
	a.del(partKey(u.ID, p.Number))
	a.claimPart(u.ID, p, -1)
	return a.growPart(u, p.Number, -p.Size)
}

// dropUpload removes an upload that has no parts left.
func (a *applier) dropUpload(u *metadata.Upload) {
	a.del(uploadKey(u.ID))
	a.del(uploadByKey(u.Bucket, u.Key, u.ID))
}

// dropParts removes parts, other than those that keep says, as far as a command
// may; more tells that some are left.
func (a *applier) dropParts(u *metadata.Upload, keep func(n int) bool) (more bool, err error) {
	prefix := id16(pPart, u.ID)
	var drop []*metadata.Part
	extents := 0
	err = a.scan(prefix, prefixEnd(prefix), func(k, v []byte) (bool, error) {
		if len(k) != len(prefix)+4 {
			return false, errNumber
		}
		if keep != nil && keep(int(binary.BigEndian.Uint32(k[len(prefix):]))) {
			return true, nil
		}
		if more = extents >= maxDrop || len(drop) == maxReap; more {
			return false, nil
		}
		p, err := metadata.DecodePart(v)
		if err == nil {
			drop = append(drop, p)
			extents += len(p.Extents)
		}
		return true, err
	})
	if err != nil {
		return false, err
	}
	for _, p := range drop {
		if err := a.dropPart(u, p); err != nil {
			return false, err
		}
	}
	return more, nil
}

func (a *applier) abortUpload(c *metadata.AbortUpload) (*metadata.Result, error) {
	u, err := a.mustUpload(c.Upload)
	if err != nil {
		return nil, err
	}
	more, err := a.dropParts(u, nil)
	if err == nil && !more {
		a.dropUpload(u)
	}
	return &metadata.Result{More: more}, err
}

// abortUploads aborts uploads of a bucket, as far as a command may.
func (a *applier) abortUploads(b twofold.BucketID) (more bool, err error) {
	keys, more, err := a.someKeys(num(pUploadKey, uint64(b)), maxReap)
	if err != nil {
		return false, err
	}
	for _, k := range keys {
		if len(a.undo)+len(a.claims.deltas) > maxReap {
			return true, nil
		}
		u, err := a.mustUpload(twofold.UploadID([]byte(k[len(k)-16:])))
		if err != nil {
			return false, err
		}
		left, err := a.dropParts(u, nil)
		if err != nil || left {
			return left, err
		}
		a.dropUpload(u)
	}
	return more, nil
}

func (a *applier) completeUpload(c *metadata.CompleteUpload) (*metadata.Result, error) {
	u, err := a.mustUpload(c.Upload)
	if err != nil {
		return nil, err
	}
	parts, err := a.listed(c)
	if err != nil {
		return nil, err
	}
	t, err := a.find(u.Bucket, u.Key, false)
	if err != nil {
		return nil, err
	}
	if err := allows(c.Cond, t.old); err != nil {
		return nil, err
	}
	// Everything is decided. Parts that are not listed go first, by bounded steps.
	listed := make(map[int]bool, len(parts))
	for _, p := range parts {
		listed[p.Number] = true
	}
	more, err := a.dropParts(u, func(n int) bool { return listed[n] })
	if err != nil || more {
		return &metadata.Result{More: more}, err
	}
	return a.join(u, parts, contentOf(u, c, parts), c.Crowd)
}

// listed loads the parts that Complete lists, and checks them.
func (a *applier) listed(c *metadata.CompleteUpload) ([]*metadata.Part, error) {
	if len(c.Parts) == 0 {
		return nil, refusef(errs.InvalidPart, "no parts")
	}
	for i := 1; i < len(c.Parts); i++ {
		if c.Parts[i].Number <= c.Parts[i-1].Number {
			return nil, refuse(errs.InvalidPartOrder)
		}
	}
	parts := make([]*metadata.Part, len(c.Parts))
	extents, inline, size := 0, 0, int64(0)
	for i, ref := range c.Parts {
		if ref.Number < 1 || ref.Number > twofold.MaxParts {
			return nil, refusef(errs.InvalidPart, "part %d", ref.Number)
		}
		p, err := a.part(c.Upload, ref.Number)
		if err != nil {
			return nil, err
		}
		if p == nil || !matches(ref.ETag, p.ETag) {
			return nil, refusef(errs.InvalidPart, "part %d", ref.Number)
		}
		if p.Size < twofold.MinPartLen && i < len(c.Parts)-1 {
			return nil, refusef(errs.PartTooSmall, "part %d has %d bytes", p.Number, p.Size)
		}
		parts[i] = p
		extents += len(p.Extents)
		size += p.Size
		for n := range p.Extents {
			inline += len(p.Extents[n].Data)
		}
	}
	if extents > maxExtents || inline > maxInlineBytes || size > twofold.MaxObjectLen {
		return nil, refusef(errs.TooLarge, "%d bytes in %d extents", size, extents)
	}
	return parts, nil
}

// contentOf is the object that Complete makes: what was said at Create, unless
// Complete says otherwise.
func contentOf(u *metadata.Upload, c *metadata.CompleteUpload, parts []*metadata.Part) *metadata.Content {
	content := c.Content
	if content.Headers == nil {
		content.Headers = u.Headers
	}
	if content.UserMeta == nil {
		content.UserMeta = u.UserMeta
	}
	if content.Class == "" {
		content.Class = u.Class
	}
	if content.Posix == nil {
		content.Posix = u.Posix
	}
	content.Size, content.Parts = 0, nil
	for _, p := range parts {
		content.Size += p.Size
		content.Parts = append(content.Parts, p.Size)
	}
	return &content
}

// join makes the parts the content of the upload's key.
func (a *applier) join(u *metadata.Upload, parts []*metadata.Part, c *metadata.Content, crowd *metadata.Crowd) (*metadata.Result, error) {
	i, dir, err := a.place(u.Bucket, u.Key, c, metadata.Conditions{})
	if err != nil {
		return nil, err
	}
	var exts []metadata.Extent
	off := int64(0)
	for _, p := range parts {
		if err := a.dropPart(u, p); err != nil {
			return nil, err
		}
		for n := range p.Extents {
			e := p.Extents[n]
			e.Off += off
			a.putExtent(i, &e)
			exts = append(exts, e)
		}
		off += p.Size
	}
	if crowded(exts, crowd) {
		a.markCompaction(i.Ino)
	}
	a.dropUpload(u)
	return &metadata.Result{Inode: i, Parent: dir}, nil
}
