package fsm

import (
	"encoding/binary"
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// View runs fn on a snapshot of what was applied when it was called. fn must not
// keep the View. It does not ask anyone whether the state is the newest.
func (m *Machine) View(fn func(metadata.View) error) error {
	return m.store.View(func(r kv.Reader) error {
		v, err := newView(r, m)
		if err != nil {
			return err
		}
		return fn(v)
	})
}

type view struct {
	state
	values  recentSnapshot // what state reads
	r       kv.Reader
	applied uint64
	recent  *recentExtents
	looked  func(twofold.Ino) // nil: nobody wants to know
}

var _ metadata.View = (*view)(nil)

func newView(r kv.Reader, m *Machine) (*view, error) {
	s := snapshot{r}
	index, _, err := appliedIn(s)
	values := recentSnapshot{s, m.recent, m.known, index}
	return &view{state: state{values}, values: values, r: r, applied: index, recent: m.extents}, err
}

func (v *view) Applied() uint64 { return v.applied }

func (v *view) Looked(fn func(twofold.Ino)) { v.looked = fn }

// look tells of a directory.
func (v *view) look(dir twofold.Ino) {
	if v.looked != nil {
		v.looked(dir)
	}
}

// seen tells of an inode that is going to be answered.
func (v *view) seen(i *metadata.Inode) {
	switch {
	case v.looked == nil || i == nil:
	case i.Type == metadata.TypeDir:
		v.looked(i.Ino)
	case i.Home() != 0:
		v.looked(i.Home())
	}
}

// mustInode is state's, told of.
func (v *view) mustInode(ino twofold.Ino) (*metadata.Inode, error) {
	i, err := v.state.mustInode(ino)
	v.seen(i)
	return i, err
}

func (v *view) Bucket(name twofold.BucketName) (*metadata.Bucket, error) {
	b, err := v.bucket(name)
	if b == nil && err == nil {
		err = errs.E("fsm.Bucket", errs.NoBucket, nil)
	}
	return b, err
}

func (v *view) BucketByID(id twofold.BucketID) (*metadata.Bucket, error) {
	b, err := v.bucketByID(id)
	if b == nil && err == nil {
		err = errs.E("fsm.BucketByID", errs.NoBucket, nil)
	}
	return b, err
}

// prefixed calls fn for each value under a prefix from start on, until fn returns
// false.
func (v *view) prefixed(prefix, start string, fn func(key, value []byte) (bool, error)) error {
	return v.scan(max(prefix, start), prefixEnd(prefix), fn)
}

func (v *view) Buckets() (all []metadata.Bucket, err error) {
	err = v.prefixed(bucketKey(""), "", func(_, b []byte) (bool, error) {
		rec, err := metadata.DecodeBucket(b)
		if err == nil {
			all = append(all, *rec)
		}
		return true, err
	})
	return all, err
}

func (v *view) Inode(ino twofold.Ino) (*metadata.Inode, error) {
	i, err := v.there(ino)
	v.seen(i)
	return i, err
}

// there is Inode that nobody is told of.
func (v *view) there(ino twofold.Ino) (*metadata.Inode, error) {
	i, err := v.inode(ino)
	if i == nil && err == nil {
		err = errs.Newf("fsm.Inode", errs.Stale, "no inode %d", ino)
	}
	return i, err
}

// dir loads an inode that is to be a directory, of which the caller looks at names.
func (v *view) dir(ino twofold.Ino) (*metadata.Inode, error) {
	d, err := v.there(ino)
	if err == nil && d.Type != metadata.TypeDir {
		err = errs.E("fsm.View", errs.NotDir, nil)
	}
	return d, err
}

func (v *view) Lookup(dir twofold.Ino, n metadata.Name) (*metadata.Inode, error) {
	d, err := v.dir(dir)
	if err != nil {
		return nil, err
	}
	s, err := v.lookup(d, n)
	if !s.isDir() {
		v.look(dir)
	}
	if err == nil && !s.found {
		err = errs.E("fsm.Lookup", errs.NotFound, nil)
	}
	if err != nil {
		return nil, err
	}
	return v.mustInode(s.Ino)
}

func (v *view) Resolve(b twofold.BucketID, k twofold.Key) (*metadata.Inode, error) {
	bucket, err := v.BucketByID(b)
	if err != nil {
		return nil, err
	}
	ino, rest, err := v.walk(bucket.Root, string(k))
	if err != nil {
		return nil, err
	}
	if rest != "" {
		v.look(ino)
	}
	missing := errs.E("fsm.Resolve", errs.NotFound, nil)
	if k == "" || strings.IndexByte(rest, '/') >= 0 || len(rest) > maxComponent {
		return nil, missing
	}
	if rest != "" {
		e, found, err := v.entry(ino, rest, false)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, missing
		}
		return v.mustInode(e.Ino)
	}
	i, err := v.mustInode(ino)
	if err == nil && !i.Explicit {
		return nil, missing
	}
	return i, err
}

func (v *view) KeyOf(ino twofold.Ino) (twofold.Key, error) {
	var comps []string // from the last one
	for range maxDepth {
		i, err := v.Inode(ino)
		if err != nil {
			return "", err
		}
		if i.Parent == twofold.RootIno {
			return joinKey(comps), nil
		}
		if i.Parent == 0 {
			return "", errs.Newf("fsm.KeyOf", errs.Stale, "inode %d has no link", ino)
		}
		if i.Type == metadata.TypeDir {
			comps = append(comps, "/")
		}
		comps = append(comps, i.Name)
		ino = i.Parent
	}
	return "", errs.Newf("fsm.KeyOf", errs.NameTooLong, "more than %d levels deep", maxDepth)
}

func joinKey(comps []string) twofold.Key {
	var b strings.Builder
	for n := len(comps) - 1; n >= 0; n-- {
		b.WriteString(comps[n])
	}
	return twofold.Key(b.String())
}

func (v *view) Extents(ino twofold.Ino, off, n int64, max int) (exts []metadata.Extent, err error) {
	if off < 0 || n <= 0 {
		return nil, nil
	}
	end := off + min(n, maxFileLen-min(off, maxFileLen))
	if e, ok := v.recent.find(ino, off, end, v.applied); ok {
		return []metadata.Extent{clip(e, off, end)}, nil
	}
	var blobs map[twofold.BlobID]*twofold.Blob // thousands of extents may refer to few: they share the record
	err = v.extents(ino, off, end, func(e metadata.Extent) (bool, error) {
		if e.Blob != nil && e.Off <= off && e.Off+e.Len >= end {
			v.recent.put(ino, e, v.applied)
		}
		if e.Blob != nil && len(exts) > 0 {
			if b := blobs[e.Blob.ID]; b != nil && *b == *e.Blob {
				e.Blob = b
			} else {
				if blobs == nil {
					blobs = map[twofold.BlobID]*twofold.Blob{}
				}
				blobs[e.Blob.ID] = e.Blob
			}
		}
		exts = append(exts, clip(e, off, end))
		return len(exts) != max, nil
	})
	return exts, err
}

func (v *view) Session(id twofold.SessionID) (*metadata.Session, error) {
	s, err := v.session(id)
	if s == nil && err == nil {
		err = errs.Newf("fsm.Session", errs.Fenced, "no session %d", id)
	}
	return s, err
}

func (v *view) Sessions() (all []metadata.Session, err error) {
	err = v.prefixed(string(rune(pSession)), "", func(_, b []byte) (bool, error) {
		s, err := metadata.DecodeSession(b)
		if err == nil {
			all = append(all, *s)
		}
		return true, err
	})
	return all, err
}

// after is the start of a scan behind a key.
func after(key string) string { return key + "\x00" }

func (v *view) Orphans(last twofold.Ino, max int) (all []twofold.Ino, err error) {
	err = v.prefixed(string(rune(pOrphan)), after(orphanKey(last)), func(k, _ []byte) (bool, error) {
		if len(k) != 9 {
			return false, errNumber
		}
		all = append(all, twofold.Ino(binary.BigEndian.Uint64(k[1:])))
		return len(all) != max, nil
	})
	return all, err
}

func (v *view) Trash(last twofold.BlobID, max int) (all []metadata.TrashBlob, err error) {
	start := after(trashKey(last))
	if last == (twofold.BlobID{}) {
		start = ""
	}
	err = v.prefixed(string(rune(pTrash)), start, func(_, b []byte) (bool, error) {
		t, err := metadata.DecodeTrashBlob(b)
		if err != nil {
			return false, err
		}
		all = append(all, *t)
		return len(all) != max, nil
	})
	return all, err
}

func (v *view) Claimed(b twofold.BlobID) (bool, error) {
	used, err := v.referred(b)
	if used || err != nil {
		return used, err
	}
	t, err := v.get(trashKey(b))
	return t != nil, err
}

func (v *view) Claims(b twofold.BlobID) (map[twofold.Ino]int64, error) {
	claims := map[twofold.Ino]int64{}
	prefix := id16(pClaim, b) + "i"
	err := v.prefixed(prefix, "", func(k, n []byte) (bool, error) {
		if len(k) != len(prefix)+8 || len(n) != 8 {
			return false, errNumber
		}
		claims[inoOf(string(k[len(prefix):]))] = int64(binary.BigEndian.Uint64(n))
		return true, nil
	})
	return claims, err
}

func (v *view) Config(name string) ([]byte, error) {
	b, err := v.get(configKey(name))
	if b != nil {
		b = append([]byte{}, b...)
	}
	return b, err
}
