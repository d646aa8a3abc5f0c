package api

import (
	"github.com/fxamacker/cbor/v2"

	"twofold"
	"twofold/metadata"
)

// On the wire an Attr is an array of its fields. Mounts and servers of before read
// leases know one without the last two: it is what is sent where neither is set, and
// they are only set for sessions that asked for read leases. Both are understood.

type attrFields struct {
	_       struct{} `cbor:",toarray"`
	Ino     twofold.Ino
	Type    metadata.Type
	Mode    uint32
	UID     uint32
	GID     uint32
	ModeSet bool
	UIDSet  bool
	GIDSet  bool
	Nlink   uint32
	Rdev    uint32
	Size    int64
	Stored  int64
	Atime   twofold.Time
	Mtime   twofold.Time
	Ctime   twofold.Time
	Btime   twofold.Time
	Version uint64
	ETag    string

	Leased     bool `cbor:"-"`
	NameLeased bool `cbor:"-"`
}

// attrLeased has the same fields as Attr without its methods.
type attrLeased Attr

// attrLen is the number of array elements without the leases.
const attrLen = 18

// MarshalCBOR implements cbor.Marshaler.
func (a Attr) MarshalCBOR() ([]byte, error) {
	if a.Leased || a.NameLeased {
		return cbor.Marshal(attrLeased(a))
	}
	return cbor.Marshal(attrFields(a))
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (a *Attr) UnmarshalCBOR(p []byte) error {
	// An array of fewer than 24 elements says their number in its first byte (RFC 8949, 3).
	if len(p) > 0 && p[0] == 0x80|attrLen {
		return cbor.Unmarshal(p, (*attrFields)(a))
	}
	return cbor.Unmarshal(p, (*attrLeased)(a))
}
