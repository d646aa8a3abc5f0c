package api

import (
	"github.com/fxamacker/cbor/v2"

	"twofold"
	"twofold/metadata"
)

// On the wire an Attr is an array of its fields. Mounts and servers of before read
// leases know one without the last three, those of before directory leases one without
// the last: that is what is sent where these are not set, and they are only set for
// sessions that asked for them. All are understood.

// attrOld are the fields that all know.
type attrOld struct {
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

	Leased     bool        `cbor:"-"`
	NameLeased bool        `cbor:"-"`
	Home       twofold.Ino `cbor:"-"`
}

// attrLeased has the leases as well.
type attrLeased struct {
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

	Leased     bool
	NameLeased bool
	Home       twofold.Ino `cbor:"-"`
}

// attrAll has the same fields as Attr without its methods.
type attrAll Attr

// Numbers of array elements. An array of fewer than 24 says it in its first byte (RFC 8949, 3).
const (
	attrOldLen    = 18
	attrLeasedLen = 20
)

// MarshalCBOR implements cbor.Marshaler.
func (a Attr) MarshalCBOR() ([]byte, error) {
	switch {
	case a.Home != 0:
		return cbor.Marshal(attrAll(a))
	case a.Leased || a.NameLeased:
		return cbor.Marshal(attrLeased(a))
	}
	return cbor.Marshal(attrOld(a))
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (a *Attr) UnmarshalCBOR(p []byte) error {
	if len(p) > 0 {
		switch p[0] {
		case 0x80 | attrOldLen:
			return cbor.Unmarshal(p, (*attrOld)(a))
		case 0x80 | attrLeasedLen:
			return cbor.Unmarshal(p, (*attrLeased)(a))
		}
	}
	return cbor.Unmarshal(p, (*attrAll)(a))
}
