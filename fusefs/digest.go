package fusefs

import (
	"crypto/md5"
	"encoding/hex"
	"hash"

	"twofold/volume/api"
)

// digest is the running MD5 of a file that is written from start to end: S3
// clients compare it with an object's ETag. A node has two: sum, of what is
// committed, and taken, of what was written as well. What is appended is hashed when it
// is written, while the flush before is on its way: a stream does not wait for both.
// While a flush runs sum's hash belongs to the flusher; others replace the whole
// digest, never feed it.
type digest struct {
	h     hash.Hash
	until int64 // bytes from the start that h has seen
	known bool  // h is the MD5 of the file's first until bytes

	version uint64 // of the content that this is the digest of
}

// adopt goes on from what the volume has: from where the digest was if that is the
// same version, else from nothing. An empty file's digest is known.
func (d *digest) adopt(a api.Attr) {
	if d.version != a.Version || d.until != a.Size {
		*d = digest{known: a.Size == 0, version: a.Version}
	}
}

// add takes a flush's runs, after which the file has size bytes, and returns the
// MD5 of the whole content, or "" where it is not known.
func (d *digest) add(segs []api.Segment, size int64) string {
	if len(segs) == 1 && segs[0].Off == 0 && end(segs[0]) == size {
		*d = digest{known: true} // the whole file, whatever was there
	}
	if !d.known || len(segs) != 1 || segs[0].Off != d.until || end(segs[0]) != size {
		d.known, d.h = false, nil
		return ""
	}
	if d.h == nil {
		d.h = md5.New()
	}
	d.h.Write(segs[0].Data)
	d.until = size
	return d.etag()
}

// feed takes bytes that were written at off. Unless they are behind all others the
// digest is not known any more.
func (d *digest) feed(off int64, p []byte) {
	switch {
	case len(p) == 0 || !d.known:
	case off != d.until:
		*d = digest{}
	default:
		if d.h == nil {
			d.h = md5.New()
		}
		d.h.Write(p)
		d.until += int64(len(p))
	}
}

// of reports whether this is the digest of a file of size bytes that has been fed.
func (d *digest) of(size int64) bool { return d.known && d.h != nil && d.until == size }

// etag is the digest in hexadecimal; h is there.
func (d *digest) etag() string { return hex.EncodeToString(d.h.Sum(nil)) }

// clone returns a digest that is fed on its own.
func (d *digest) clone() digest {
	c := *d
	if d.h != nil {
		h, err := d.h.(hash.Cloner).Clone()
		if err != nil {
			return digest{} // MD5 can be cloned
		}
		c.h = h
	}
	return c
}
