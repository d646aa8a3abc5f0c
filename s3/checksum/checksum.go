// Package checksum has the flexible checksums of S3: the algorithms, and how the
// checksum of a multipart object follows from its parts'.
//
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
package checksum

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"strconv"

	"github.com/minio/crc64nvme"
)

// Algorithm names a checksum algorithm as S3's XML does.
type Algorithm string

const (
	CRC32     Algorithm = "CRC32"
	CRC32C    Algorithm = "CRC32C"
	CRC64NVME Algorithm = "CRC64NVME"
	SHA1      Algorithm = "SHA1"
	SHA256    Algorithm = "SHA256"
)

// Types of a multipart object's checksum.
const (
	FullObject = "FULL_OBJECT"
	Composite  = "COMPOSITE"
)

// All lists the algorithms.
func All() [5]Algorithm { return [...]Algorithm{CRC32, CRC32C, CRC64NVME, SHA1, SHA256} }

// Valid reports whether a is one of them.
func (a Algorithm) Valid() bool { return a.Size() > 0 }

// Size is the length of a's sum in bytes, 0 for an unknown algorithm.
func (a Algorithm) Size() int {
	switch a {
	case CRC32, CRC32C:
		return 4
	case CRC64NVME:
		return 8
	case SHA1:
		return sha1.Size
	case SHA256:
		return sha256.Size
	}
	return 0
}

// Header is the canonical name of the header (or trailer) with a value of a.
func (a Algorithm) Header() string {
	switch a {
	case CRC32:
		return "X-Amz-Checksum-Crc32"
	case CRC32C:
		return "X-Amz-Checksum-Crc32c"
	case CRC64NVME:
		return "X-Amz-Checksum-Crc64nvme"
	case SHA1:
		return "X-Amz-Checksum-Sha1"
	case SHA256:
		return "X-Amz-Checksum-Sha256"
	}
	return ""
}

// New returns a hash for a valid algorithm, else nil.
func (a Algorithm) New() hash.Hash {
	switch a {
	case CRC32:
		return crc32.NewIEEE()
	case CRC32C:
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case CRC64NVME:
		return crc64nvme.New()
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	}
	return nil
}

// ValidValue reports whether v is the base64 of a sum of a.
func (a Algorithm) ValidValue(v string) bool {
	_, ok := a.decode(v)
	return ok
}

func (a Algorithm) decode(v string) ([]byte, bool) {
	if len(v) != base64.StdEncoding.EncodedLen(a.Size()) {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(v)
	return b, err == nil && len(b) == a.Size()
}

// ValidType reports whether a multipart object can have this type of checksum.
func (a Algorithm) ValidType(typ string) bool {
	switch typ {
	case FullObject:
		return a == CRC32 || a == CRC32C || a == CRC64NVME
	case Composite:
		return a == CRC32 || a == CRC32C || a == SHA1 || a == SHA256
	}
	return false
}

// DefaultType is the type where a client asks for none.
func (a Algorithm) DefaultType() string {
	if a == CRC64NVME {
		return FullObject
	}
	return Composite
}

// Part is a part's checksum, base64, and its length in bytes.
type Part struct {
	Value string
	Size  int64
}

// Composite is the checksum of the parts' checksums, with "-n" behind it. ok is
// false where a part's value is not one of a.
func (a Algorithm) Composite(parts []Part) (value string, ok bool) {
	h := a.New()
	if h == nil {
		return "", false
	}
	for _, p := range parts {
		b, ok := a.decode(p.Value)
		if !ok {
			return "", false
		}
		h.Write(b)
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts)), true
}

// Full is the checksum of the parts' contents one behind the other. ok is false
// where a part's value is not one of a, or a is not a CRC.
func (a Algorithm) Full(parts []Part) (value string, ok bool) {
	poly, ok := a.polynomial()
	if !ok {
		return "", false
	}
	var crc uint64
	for _, p := range parts {
		b, ok := a.decode(p.Value)
		if !ok || p.Size < 0 {
			return "", false
		}
		var next uint64
		for _, c := range b {
			next = next<<8 | uint64(c)
		}
		crc = poly.combine(crc, next, p.Size)
	}
	b := make([]byte, a.Size())
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte(crc)
		crc >>= 8
	}
	return base64.StdEncoding.EncodeToString(b), true
}
