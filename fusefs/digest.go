package fusefs

import (
	"crypto/md5"
	"encoding/hex"
	"hash"

	"twofold/volume/api"
)

// digest is the running MD5 of a file that is written from start to end: S3
// clients compare it with an object's ETag. While a flush runs its hash belongs
// to the flusher; others replace the whole digest, never feed it.
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
	return hex.EncodeToString(d.h.Sum(nil))
}
