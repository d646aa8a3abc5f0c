package fsm

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// model is the state as anyone would write it down: a tree of maps, contents as
// bytes. It shares no code with the machine beyond the vocabulary.
type model struct {
	now     twofold.Time
	buckets map[twofold.BucketName]*mbucket
	uploads map[twofold.UploadID]*mupload
	nodes   map[*mnode]bool // those that exist, also without a name
	config  map[string]string
}

type mbucket struct {
	id   twofold.BucketID // learned from the machine
	root *mnode

	limit int64
}

type mnode struct {
	ino      twofold.Ino // learned from the machine
	bucket   *mbucket
	typ      metadata.Type
	attr     metadata.Inode // modes, owners, times, headers
	up       *mnode         // directories: the one above; nil: a root, or removed
	children map[string]*mnode
	data     mdata
	explicit bool
	etag     string // "?": any of the opaque form
	version  uint64
	links    int
	charged  bool  // it grew after it lost its last name
	reserve  int64 // size that it may grow to
}

// mdata is content: its bytes other than zero.
type mdata struct {
	size  int64
	bytes map[int64]byte
}

func (d mdata) clone() mdata { return mdata{d.size, maps.Clone(d.bytes)} }

// cut is [off, off+n), moved to start at 0.
func (d mdata) cut(off, n int64) mdata {
	out := mdata{n, map[int64]byte{}}
	for at, c := range d.bytes {
		if at >= off && at < off+n {
			out.bytes[at-off] = c
		}
	}
	return out
}

func (d *mdata) punch(off, n int64) {
	for at := range d.bytes {
		if at >= off && at < off+n {
			delete(d.bytes, at)
		}
	}
}

func (d *mdata) put(off int64, src mdata) {
	d.punch(off, src.size)
	for at, c := range src.bytes {
		d.bytes[off+at] = c
	}
	d.size = max(d.size, off+src.size)
}

func dataOf(size int64, exts []metadata.Extent) mdata {
	d := mdata{0, map[int64]byte{}}
	for _, e := range exts {
		d.put(e.Off, extentData(e))
	}
	d.size = size
	return d
}

// extentData is what a reader finds in an extent. A blob's bytes follow from its id.
func extentData(e metadata.Extent) mdata {
	d := mdata{e.Len, map[int64]byte{}}
	for n := range e.Len {
		c := byte(0)
		if e.Blob == nil {
			c = e.Data[n]
		} else {
			c = blobByte(e.Blob.ID, e.BlobOff+n)
		}
		if c != 0 {
			d.bytes[n] = c
		}
	}
	return d
}

func blobByte(id twofold.BlobID, off int64) byte {
	return byte(binary.BigEndian.Uint64(id[8:])*31+uint64(off)*7) | 1
}

type mupload struct {
	metadata.Upload
	parts map[int]mpart
}

type mpart struct {
	etag string
	data mdata
}

func newModel() *model {
	return &model{buckets: map[twofold.BucketName]*mbucket{}, uploads: map[twofold.UploadID]*mupload{}, nodes: map[*mnode]bool{}, config: map[string]string{}}
}

// outcome is what the model says of a command: a kind, where it fails.
type outcome struct {
	failed bool
	kind   errs.Kind
}

var good = outcome{}

func bad(k errs.Kind) outcome { return outcome{true, k} }

func (m *model) byIno(ino twofold.Ino) *mnode {
	for n := range m.nodes {
		if n.ino == ino {
			return n
		}
	}
	return nil
}

func (m *model) bucketByID(id twofold.BucketID) *mbucket {
	for _, b := range m.buckets {
		if b.id == id {
			return b
		}
	}
	return nil
}

func (m *model) newNode(b *mbucket, t metadata.Type) *mnode {
	n := &mnode{bucket: b, typ: t, version: 1, data: mdata{0, map[int64]byte{}}, children: map[string]*mnode{}}
	n.attr.Mtime, n.attr.Ctime, n.attr.Atime = m.now, m.now, m.now
	m.nodes[n] = true
	return n
}

func suffix(comp string, dir bool) string {
	if dir {
		return comp + "/"
	}
	return comp
}

func (m *model) add(dir *mnode, comp string, n *mnode) {
	dir.children[suffix(comp, n.typ == metadata.TypeDir)] = n
	dir.attr.Mtime, dir.attr.Ctime = m.now, m.now
	if n.typ == metadata.TypeDir {
		n.up = dir
	}
	n.links++
}

func (m *model) remove(dir *mnode, comp string, n *mnode) {
	delete(dir.children, suffix(comp, n.typ == metadata.TypeDir))
	dir.attr.Mtime, dir.attr.Ctime = m.now, m.now
	n.attr.Ctime = m.now
	n.up = nil
	n.links--
}

func (m *model) makeExplicit(n *mnode) {
	if n.typ == metadata.TypeDir && !n.explicit {
		n.explicit = true
		n.etag = emptyMD5
	}
}

func (m *model) prune(dir *mnode) {
	for dir.up != nil && !dir.explicit && len(dir.children) == 0 {
		up := dir.up
		for s, n := range up.children {
			if n == dir {
				m.remove(up, strings.TrimSuffix(s, "/"), dir)
			}
		}
		dir = up
	}
}

// at finds what a key names: its directory, its last component ("" for "dir/") and
// the object there.
func (m *model) at(b *mbucket, key string, mkdir bool) (dir *mnode, base string, old *mnode) {
	comps := strings.Split(key, "/")
	dir, base = b.root, comps[len(comps)-1]
	for _, c := range comps[:len(comps)-1] {
		next := dir.children[c+"/"]
		if next == nil {
			if !mkdir {
				return nil, "", nil
			}
			next = m.newNode(b, metadata.TypeDir)
			m.inherit(next, dir, 0o777)
			m.add(dir, c, next)
		}
		dir = next
	}
	if base != "" {
		return dir, base, dir.children[base]
	}
	if dir.explicit {
		old = dir
	}
	return dir, base, old
}

func (m *model) cond(c metadata.Conditions, old *mnode) outcome {
	if c.IfMatch != "" {
		if old == nil {
			return bad(errs.NotFound)
		}
		if c.IfMatch != "*" && c.IfMatch != old.etag {
			return bad(errs.Precondition)
		}
	}
	if old != nil && (c.IfNoneMatch == "*" || c.IfNoneMatch != "" && c.IfNoneMatch == old.etag) {
		return bad(errs.Precondition)
	}
	return good
}

// place is PutObject, CopyObject and CompleteUpload, once the data is known.
func (m *model) place(b *mbucket, key string, c metadata.Content, d mdata, cond metadata.Conditions) outcome {
	_, _, old := m.at(b, key, false)
	if o := m.cond(cond, old); o.failed {
		return o
	}
	dir, base, old := m.at(b, key, true)
	n := dir
	if base == "" {
		n.explicit = true
		n.version++
	} else {
		n = m.newNode(b, metadata.TypeFile)
		if old == nil || old.typ != metadata.TypeFile {
			m.inherit(n, dir, 0o666)
		}
		if old != nil {
			if old.typ == metadata.TypeFile {
				o := old.attr
				n.attr.ACL = o.ACL
				n.attr.Mode, n.attr.ModeSet = o.Mode&^0o6000, o.ModeSet
				n.attr.UID, n.attr.UIDSet, n.attr.GID, n.attr.GIDSet = o.UID, o.UIDSet, o.GID, o.GIDSet
			}
			m.remove(dir, base, old)
		}
		m.add(dir, base, n)
	}
	n.data, n.etag = d, c.ETag
	m.headers(n, c)
	return good
}

func (m *model) headers(n *mnode, c metadata.Content) {
	n.attr.Headers, n.attr.UserMeta = c.Headers, c.UserMeta
	n.attr.Ctime = m.now
	if n.typ != metadata.TypeDir {
		n.attr.Mtime = m.now
	}
	if p := c.Posix; p != nil && p.Mode != nil {
		m.chmod(n, *p.Mode&0o777)
	}
	if p := c.Posix; p != nil && p.UID != nil {
		n.attr.UID, n.attr.UIDSet = *p.UID, true
	}
	if p := c.Posix; p != nil && p.Mtime != nil {
		n.attr.Mtime = *p.Mtime
	}
}

func (m *model) putObject(c metadata.PutObject) outcome {
	b := m.bucketByID(c.Bucket)
	if b == nil {
		return bad(errs.NoBucket)
	}
	if c.Key == "" {
		return bad(errs.Invalid)
	}
	return m.place(b, string(c.Key), c.Content, dataOf(c.Content.Size, c.Extents), c.Cond)
}

func (m *model) copyObject(c metadata.CopyObject) outcome {
	src := m.byIno(c.Src)
	if src == nil || src.version != c.SrcVersion || src.typ == metadata.TypeDir && !src.explicit {
		return bad(errs.Conflict)
	}
	if c.SrcBucket != 0 {
		sb := m.bucketByID(c.SrcBucket)
		if sb == nil || src.attr.Ctime != c.SrcCtime {
			return bad(errs.Conflict)
		}
		if _, _, old := m.at(sb, string(c.SrcKey), false); old != src {
			return bad(errs.Conflict)
		}
	}
	b := m.bucketByID(c.Bucket)
	if b == nil {
		return bad(errs.NoBucket)
	}
	if _, _, old := m.at(b, string(c.Key), false); old == src {
		if o := m.cond(c.Cond, src); o.failed {
			return o
		}
		m.headers(src, c.Content)
		return good
	}
	if c.Content.ETag == "" {
		c.Content.ETag = src.etag
	}
	return m.place(b, string(c.Key), c.Content, src.data.clone(), c.Cond)
}

func (m *model) deleteObject(c metadata.DeleteObject) outcome {
	b := m.bucketByID(c.Bucket)
	if b == nil {
		return bad(errs.NoBucket)
	}
	dir, base, old := m.at(b, string(c.Key), false)
	if o := m.cond(c.Cond, old); o.failed || old == nil {
		return o
	}
	if base != "" {
		m.remove(dir, base, old)
		m.prune(dir)
		return good
	}
	dir.explicit = false
	dir.version++
	dir.etag, dir.data = "", mdata{0, map[int64]byte{}}
	dir.attr.Headers, dir.attr.UserMeta = nil, nil
	dir.attr.Ctime = m.now
	m.prune(dir)
	return good
}

func (m *model) createBucket(c metadata.CreateBucket) outcome {
	if m.buckets[c.Name] != nil {
		return bad(errs.BucketExists)
	}
	b := &mbucket{}
	b.root = m.newNode(b, metadata.TypeDir)
	b.root.explicit, b.root.links = true, 1
	m.buckets[c.Name] = b
	return good
}

func (m *model) deleteBucket(c metadata.DeleteBucket) outcome {
	b := m.buckets[c.Name]
	if b == nil {
		return bad(errs.NoBucket)
	}
	if len(b.root.children) > 0 {
		return bad(errs.BucketNotEmpty)
	}
	delete(m.buckets, c.Name)
	b.root.links = 0
	b.root.attr.Ctime = m.now
	for id, u := range m.uploads {
		if u.Bucket == b.id {
			delete(m.uploads, id)
		}
	}
	return good
}

func (m *model) createUpload(c metadata.CreateUpload) outcome {
	if m.bucketByID(c.Upload.Bucket) == nil {
		return bad(errs.NoBucket)
	}
	m.uploads[c.Upload.ID] = &mupload{c.Upload, map[int]mpart{}}
	return good
}

func (m *model) putPart(c metadata.PutPart) outcome {
	u := m.uploads[c.Upload]
	if u == nil {
		return bad(errs.NoUpload)
	}
	d := dataOf(c.Part.Size, c.Part.Extents)
	if c.Src != 0 {
		src := m.byIno(c.Src)
		if src == nil || src.version != c.SrcVersion {
			return bad(errs.Conflict)
		}
		if c.SrcOff+c.Part.Size > src.data.size {
			return bad(errs.Range)
		}
		d = src.data.cut(c.SrcOff, c.Part.Size)
	}
	u.parts[c.Part.Number] = mpart{c.Part.ETag, d}
	return good
}

func (m *model) completeUpload(c metadata.CompleteUpload) outcome {
	u := m.uploads[c.Upload]
	if u == nil {
		return bad(errs.NoUpload)
	}
	if len(c.Parts) == 0 {
		return bad(errs.InvalidPart)
	}
	all := mdata{0, map[int64]byte{}}
	for i, ref := range c.Parts {
		if i > 0 && ref.Number <= c.Parts[i-1].Number {
			return bad(errs.InvalidPartOrder)
		}
	}
	for i, ref := range c.Parts {
		p, ok := u.parts[ref.Number]
		if !ok || p.etag != ref.ETag {
			return bad(errs.InvalidPart)
		}
		if i < len(c.Parts)-1 && p.data.size < twofold.MinPartLen {
			return bad(errs.PartTooSmall)
		}
		all.put(all.size, p.data)
	}
	content := c.Content
	content.Headers, content.UserMeta, content.Posix = u.Headers, u.UserMeta, u.Posix
	o := m.place(m.bucketByID(u.Bucket), string(u.Key), content, all, c.Cond)
	if !o.failed {
		delete(m.uploads, c.Upload)
	}
	return o
}

func md5hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
