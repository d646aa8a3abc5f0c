package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// Check verifies that the whole state holds together: every count, link, claim,
// extent and index entry is recomputed from what it stands for. It reads all of it
// into memory, so it is for tests and for tools on stopped stores. The error lists
// what is wrong (at most 20 things); nil: nothing. The View must be a Machine's.
func Check(v metadata.View) error {
	raw, ok := v.(*view)
	if !ok {
		return errs.Newf("fsm.Check", errs.Unsupported, "%T is not a machine's view", v)
	}
	c := &checker{
		inodes: map[twofold.Ino]*metadata.Inode{}, names: map[twofold.Ino][]edge{}, links: map[twofold.Ino]map[string]bool{},
		children: map[twofold.Ino]uint64{}, subdirs: map[twofold.Ino]uint32{}, extents: map[twofold.Ino]*extentSum{},
		claims: map[string]int64{}, wanted: map[string]int64{}, trash: map[twofold.BlobID]bool{}, orphans: map[twofold.Ino]bool{},
		buckets: map[twofold.BucketID]*metadata.Bucket{}, ids: map[twofold.BucketID]string{}, numbers: map[string]uint64{},
		uploads: map[twofold.UploadID]*metadata.Upload{}, byKey: map[string]bool{}, sessions: map[twofold.SessionID]*metadata.Session{},
		nonces: map[twofold.UUID]twofold.SessionID{}, usage: map[twofold.BucketID]metadata.Usage{},
		partSizes: map[string]int64{}, reserved: map[twofold.Ino]bool{}, inos: map[twofold.SessionID][]inoRange{},
	}
	p, err := raw.progress()
	if err != nil {
		return err
	}
	if err := raw.scan("\x00", "", c.load); err != nil {
		return err
	}
	c.tree()
	c.blobs()
	c.rest()
	c.ranges()
	c.counts(p)
	return errors.Join(c.wrong...)
}

// edge is an entry, as its inode sees it.
type edge struct {
	dir    twofold.Ino
	suffix string
}

type extentSum struct {
	end, bytes int64
}

type checker struct {
	inodes   map[twofold.Ino]*metadata.Inode
	names    map[twofold.Ino][]edge
	links    map[twofold.Ino]map[string]bool // the link index: dir and component
	children map[twofold.Ino]uint64
	subdirs  map[twofold.Ino]uint32
	extents  map[twofold.Ino]*extentSum
	claims   map[string]int64 // as stored, by key
	wanted   map[string]int64 // as recomputed
	trash    map[twofold.BlobID]bool
	orphans  map[twofold.Ino]bool
	buckets  map[twofold.BucketID]*metadata.Bucket
	ids      map[twofold.BucketID]string
	numbers  map[string]uint64
	uploads  map[twofold.UploadID]*metadata.Upload
	parts    []twofold.UploadID
	byKey    map[string]bool
	sessions map[twofold.SessionID]*metadata.Session
	kept     []twofold.SessionID
	nonces   map[twofold.UUID]twofold.SessionID
	usage    map[twofold.BucketID]metadata.Usage

	partSizes map[string]int64 // by key
	reserved  map[twofold.Ino]bool
	inos      map[twofold.SessionID][]inoRange
	wrong     []error
}

func (c *checker) badf(format string, args ...any) {
	if len(c.wrong) < 20 {
		c.wrong = append(c.wrong, fmt.Errorf(format, args...))
	}
}

// load files a key away.
func (c *checker) load(k, v []byte) (bool, error) {
	key, id := string(k), uint64(0)
	if len(k) >= 9 {
		id = binary.BigEndian.Uint64(k[1:])
	}
	var err error
	switch k[0] {
	case pMeta:
		if len(v) == 8 {
			c.numbers[key] = binary.BigEndian.Uint64(v)
		}
	case pInode:
		c.inodes[twofold.Ino(id)], err = metadata.DecodeInode(v)
	case pEntry:
		var e metadata.Entry
		if e, err = metadata.DecodeEntry(v); err == nil {
			c.loadEntry(twofold.Ino(id), key[9:], e)
		}
	case pLink:
		m := c.links[twofold.Ino(id)]
		if m == nil {
			m = map[string]bool{}
			c.links[twofold.Ino(id)] = m
		}
		m[key[9:]] = true
	case pExtent:
		var e metadata.Extent
		if e, err = metadata.DecodeExtent(v); err == nil {
			c.loadExtent(twofold.Ino(id), key, e)
		}
	case pOrphan:
		c.orphans[twofold.Ino(id)] = true
	case pClaim:
		c.claims[key] = int64(binary.BigEndian.Uint64(v))
	case pTrash:
		var t *metadata.TrashBlob
		if t, err = metadata.DecodeTrashBlob(v); err == nil {
			c.trash[t.Blob.ID] = true
		}
	default:
		err = c.loadRest(key, id, v)
	}
	if err != nil {
		c.badf("%q: %w", k, err)
	}
	return true, nil
}

func (c *checker) loadRest(key string, id uint64, v []byte) (err error) {
	switch key[0] {
	case pBucket:
		var b *metadata.Bucket
		if b, err = metadata.DecodeBucket(v); err == nil {
			c.buckets[b.ID] = b
			if key != bucketKey(b.Name) {
				c.badf("bucket %q at key %q", b.Name, key)
			}
		}
	case pBucketID:
		c.ids[twofold.BucketID(id)] = string(v)
	case pUpload:
		var u *metadata.Upload
		if u, err = metadata.DecodeUpload(v); err == nil {
			c.uploads[u.ID] = u
		}
	case pUploadKey:
		c.byKey[key] = true
	case pPart:
		var p *metadata.Part
		if p, err = metadata.DecodePart(v); err == nil {
			c.loadPart(twofold.UploadID([]byte(key[1:17])), p)
			c.partSizes[key] = p.Size
		}
	case pSession:
		c.sessions[twofold.SessionID(id)], err = metadata.DecodeSession(v)
	case pAcked:
		c.kept = append(c.kept, twofold.SessionID(id))
	case pKept:
		c.kept = append(c.kept, twofold.SessionID(id))
		_, err = metadata.DecodeResult(v)
	case pNonce:
		c.nonces[twofold.UUID([]byte(key[1:]))] = twofold.SessionID(binary.BigEndian.Uint64(v))
	case pConfig:
	case pUsage:
		c.usage[twofold.BucketID(id)], err = metadata.DecodeUsage([]byte(v))
	case pInos:
		if c.inos[twofold.SessionID(id)], err = decodeRanges([]byte(v)); len(key) != 9 {
			c.badf("a key of inode numbers: %q", key)
		}
	case pReserve:
		c.reserved[twofold.Ino(id)] = true
	case pCompact:
		if len(key) != 9 || len(v) != 16 {
			c.badf("a mark for compaction: %q, %x", key, v)
		}
	default:
		c.badf("a key of no kind: %q", key)
	}
	return err
}

func (c *checker) loadEntry(dir twofold.Ino, suffix string, e metadata.Entry) {
	isDir := e.Type == metadata.TypeDir
	if suffix == "" || isDir != (suffix[len(suffix)-1] == '/') {
		c.badf("entry %d/%q of type %d", dir, suffix, e.Type)
	}
	c.children[dir]++
	if isDir {
		c.subdirs[dir]++
	}
	c.names[e.Ino] = append(c.names[e.Ino], edge{dir, suffix})
	if _, ok := c.inodes[e.Ino]; !ok {
		c.inodes[e.Ino] = nil // entries are loaded before inodes; tree tells what stays missing
	}
}

func (c *checker) loadExtent(ino twofold.Ino, key string, e metadata.Extent) {
	s := c.extents[ino]
	if s == nil {
		s = &extentSum{}
		c.extents[ino] = s
	}
	end := e.Off + e.Len
	if key != extentKey(ino, end) || e.Len <= 0 || e.Off < s.end || e.Blob == nil && int64(len(e.Data)) != e.Len {
		c.badf("extent [%d, %d) of inode %d is misplaced or overlaps one that ends at %d", e.Off, end, ino, s.end)
	}
	s.end = end
	s.bytes += e.Len
	if e.Blob != nil {
		c.wanted[inodeClaim(e.Blob.ID, ino)] += e.Len
	}
}

func (c *checker) loadPart(u twofold.UploadID, p *metadata.Part) {
	c.parts = append(c.parts, u)
	for _, e := range p.Extents {
		if e.Blob != nil {
			c.wanted[partClaim(e.Blob.ID, u, p.Number)] += e.Len
		}
	}
}
