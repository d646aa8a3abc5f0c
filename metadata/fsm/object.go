package fsm

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

func (a *applier) putObject(c *metadata.PutObject) (*metadata.Result, error) {
	if c.Content.Size < 0 || c.Content.Size > twofold.MaxObjectLen {
		return nil, refuse(errs.TooLarge)
	}
	if err := checkExtents(c.Extents, 0, c.Content.Size); err != nil {
		return nil, err
	}
	if err := a.mayReferAll(c.Extents); err != nil {
		return nil, err
	}
	i, dir, err := a.place(c.Bucket, c.Key, &c.Content, c.Cond)
	if err != nil {
		return nil, err
	}
	for n := range c.Extents {
		a.putExtent(i, &c.Extents[n])
	}
	return &metadata.Result{Inode: i, Parent: dir}, nil
}

// place makes key a new object with the attributes of c, and no data yet, in the
// place of what is there. It returns the inode and its directory.
func (a *applier) place(b twofold.BucketID, key twofold.Key, c *metadata.Content, cond metadata.Conditions) (i, dir *metadata.Inode, err error) {
	t, err := a.find(b, key, true)
	if err != nil {
		return nil, nil, err
	}
	if err := allows(cond, t.old); err != nil {
		return nil, nil, err
	}
	if t.base == "" {
		i, err = t.dir, a.refill(t.dir, c)
		if err == nil && i.Parent != twofold.RootIno {
			dir, err = a.mustLoad(i.Parent)
		}
		return i, dir, err
	}
	if i, err = a.newInode(b, metadata.TypeFile); err != nil {
		return nil, nil, err
	}
	if t.old != nil && t.old.Type == metadata.TypeFile {
		inherit(i, t.old)
	} else if err := a.inheritACL(i, t.dir, 0o666); err != nil {
		return nil, nil, err
	}
	if t.old != nil {
		if err := a.release(t.dir, t.base, t.old); err != nil {
			return nil, nil, err
		}
	}
	a.name(t.dir, t.base, i)
	return i, t.dir, a.setContent(i, c)
}

// inherit keeps mode, ACL and owner of a file that is replaced; not the set-id bits,
// which the new content has no right to.
func inherit(i, old *metadata.Inode) {
	i.ACL = old.ACL
	i.Mode, i.ModeSet = old.Mode&^(setUID|setGID), old.ModeSet
	i.UID, i.UIDSet = old.UID, old.UIDSet
	i.GID, i.GIDSet = old.GID, old.GIDSet
}

// setContent gives an inode what a PUT says, all but the data.
func (a *applier) setContent(i *metadata.Inode, c *metadata.Content) error {
	i.Size, i.ETag, i.Parts = c.Size, c.ETag, c.Parts
	if i.ETag == "" {
		i.ETag = opaqueETag(i.Ino, i.Version)
	}
	i.Checksum = c.Checksum
	return a.setHeaders(i, c)
}

// setHeaders gives an inode what describes its content.
func (a *applier) setHeaders(i *metadata.Inode, c *metadata.Content) error {
	i.Headers, i.UserMeta, i.Class = c.Headers, c.UserMeta, c.Class
	i.Ctime = a.cmd.Now
	if i.Type != metadata.TypeDir {
		i.Mtime = a.cmd.Now
	}
	if err := a.setPosix(i, c.Posix); err != nil {
		return err
	}
	a.touch(i)
	if attrBytes(i) > maxXattrs {
		return refusef(errs.TooLarge, "headers and metadata over %d bytes", maxXattrs)
	}
	return nil
}

// setPosix applies the attributes that a PUT may bring. Never set-id bits.
func (a *applier) setPosix(i *metadata.Inode, p *metadata.PosixAttrs) error {
	if p == nil {
		return nil
	}
	if p.Mode != nil {
		if err := a.chmod(i, *p.Mode&permBits); err != nil {
			return err
		}
	}
	if p.UID != nil {
		i.UID, i.UIDSet = *p.UID, true
	}
	if p.GID != nil {
		i.GID, i.GIDSet = *p.GID, true
	}
	if p.Mtime != nil {
		i.Mtime = *p.Mtime
	}
	return nil
}

// refill makes a directory explicit and replaces the content of its key "dir/".
func (a *applier) refill(dir *metadata.Inode, c *metadata.Content) error {
	if err := a.empty(dir); err != nil {
		return err
	}
	dir.Explicit = true
	dir.Version++
	return a.setContent(dir, c)
}

// empty drops a directory's content: it has no more than one command may bring.
func (a *applier) empty(dir *metadata.Inode) error {
	if dir.Stored == 0 {
		return nil
	}
	_, _, err := a.punch(dir, 0, maxFileLen, maxExtents+1)
	return err
}

// opaqueETag is a content's ETag where its MD5 is not known: of the multipart form,
// different for each version of each inode.
func opaqueETag(ino twofold.Ino, version uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(ino))
	binary.BigEndian.PutUint64(b[8:], version)
	sum := md5.Sum(b[:])
	return hex.EncodeToString(sum[:]) + "-1"
}

// allows evaluates the conditions of a PUT or DELETE on what is there now.
func allows(c metadata.Conditions, old *metadata.Inode) error {
	if c.IfMatch != "" {
		if old == nil {
			return refuse(errs.NotFound)
		}
		if !matches(c.IfMatch, old.ETag) {
			return refuse(errs.Precondition)
		}
	}
	if c.IfNoneMatch != "" && old != nil && matches(c.IfNoneMatch, old.ETag) {
		return refuse(errs.Precondition)
	}
	return nil
}

func matches(cond, etag string) bool {
	for one := range strings.SplitSeq(cond, ",") {
		one = strings.Trim(strings.TrimSpace(one), `"`)
		if one == "*" || one == etag {
			return true
		}
	}
	return false
}

func (a *applier) deleteObject(c *metadata.DeleteObject) (*metadata.Result, error) {
	t, err := a.find(c.Bucket, c.Key, false)
	if err != nil {
		return nil, err
	}
	if err := allows(c.Cond, t.old); err != nil {
		return nil, err
	}
	if t.old == nil {
		return &metadata.Result{}, nil
	}
	if t.base == "" {
		return a.deleteDir(t.dir)
	}
	if err := a.release(t.dir, t.base, t.old); err != nil {
		return nil, err
	}
	return &metadata.Result{Inode: t.old, Parent: t.dir}, a.prune(t.dir)
}

// deleteDir deletes the key "dir/": what is left is implied by what is in it.
func (a *applier) deleteDir(dir *metadata.Inode) (*metadata.Result, error) {
	if dir.Parent == twofold.RootIno {
		return nil, refuse(errs.Invalid)
	}
	parent, err := a.mustLoad(dir.Parent)
	if err != nil {
		return nil, err
	}
	if err := a.empty(dir); err != nil {
		return nil, err
	}
	dir.Explicit = false
	dir.Version++
	dir.Size, dir.ETag, dir.Class = 0, "", ""
	dir.Headers, dir.UserMeta, dir.Checksum, dir.Parts = nil, nil, nil, nil
	dir.Ctime = a.cmd.Now
	a.touch(dir)
	return &metadata.Result{Inode: dir, Parent: parent}, a.prune(dir)
}

func (a *applier) copyObject(c *metadata.CopyObject) (*metadata.Result, error) {
	src, err := a.load(c.Src)
	if err != nil {
		return nil, err
	}
	if src == nil || src.Version != c.SrcVersion || src.Type == metadata.TypeDir && !src.Explicit {
		return nil, refusef(errs.Conflict, "the source changed")
	}
	if c.SrcBucket != 0 {
		t, err := a.find(c.SrcBucket, c.SrcKey, false)
		var refused *refusal
		if err != nil && !errors.As(err, &refused) {
			return nil, err
		}
		if err != nil || t.old != src || src.Ctime != c.SrcCtime {
			return nil, refusef(errs.Conflict, "the source's name or attributes changed")
		}
	}
	t, err := a.find(c.Bucket, c.Key, false)
	if err != nil {
		return nil, err
	}
	if t.old == src {
		if err := allows(c.Cond, src); err != nil {
			return nil, err
		}
		if c.Content.Checksum != nil {
			src.Checksum = c.Content.Checksum
		}
		return &metadata.Result{Inode: src}, a.setHeaders(src, &c.Content)
	}
	exts, err := a.share(src, 0, src.Size)
	if err != nil {
		return nil, err
	}
	content := c.Content
	content.Size = src.Size
	if content.ETag == "" {
		content.ETag = src.ETag
	}
	i, dir, err := a.place(c.Bucket, c.Key, &content, c.Cond)
	if err != nil {
		return nil, err
	}
	for n := range exts {
		a.putExtent(i, &exts[n])
	}
	if crowded(exts, c.Crowd) {
		a.markCompaction(i.Ino)
	}
	return &metadata.Result{Inode: i, Parent: dir}, nil
}

// share lists the extents of [off, off+n) of an inode, moved to start at 0, for
// somebody else to refer to.
func (a *applier) share(src *metadata.Inode, off, n int64) ([]metadata.Extent, error) {
	var exts []metadata.Extent
	inline := 0
	err := a.state.extents(src.Ino, off, off+n, func(e metadata.Extent) (bool, error) {
		e = clip(e, off, off+n)
		e.Off -= off
		exts = append(exts, e)
		inline += len(e.Data)
		if len(exts) > maxExtents || inline > maxInlineBytes {
			return false, refusef(errs.TooLarge, "too many extents to copy")
		}
		return true, nil
	})
	return exts, err
}
