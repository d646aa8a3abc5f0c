// Package acl has the rules of POSIX access control lists: their form as extended
// attributes, what makes one valid, and how they go together with the mode. It is
// pure: no clock, no disk, no kernel.
//
// The rules are those of acl(5) (POSIX 1003.1e draft 17) as Linux has them on ext4
// (fs/posix_acl.c). Who may do what is not decided here: the kernel of the mount
// does that (FUSE_POSIX_ACL).
package acl

import (
	"encoding/binary"

	"twofold/internal/errs"
)

// Names of the extended attributes that carry ACLs, acl(5).
const (
	AccessName  = "system.posix_acl_access"
	DefaultName = "system.posix_acl_default" // of directories
)

// IsName reports whether an extended attribute is an ACL.
func IsName(name string) bool { return name == AccessName || name == DefaultName }

// Tag says whom an entry is about.
type Tag uint16

// Tags of linux/posix_acl.h. They are ordered as the entries of a valid ACL are.
const (
	UserObj  Tag = 0x01 // the file's owner
	User     Tag = 0x02 // the user ID
	GroupObj Tag = 0x04 // the file's group
	Group    Tag = 0x08 // the group ID
	Mask     Tag = 0x10 // bounds User, GroupObj and Group
	Other    Tag = 0x20
)

// Entry gives somebody permissions.
type Entry struct {
	Tag  Tag
	Perm uint16 // 0-7: read 4, write 2, execute 1
	ID   uint32 // of User and Group; NoID with the other tags
}

// NoID is the id of an entry that is not about a user or group by number.
const NoID = 1<<32 - 1

// ACL is a list of entries; Check says what makes a valid one. nil is none.
type ACL []Entry

// The form of linux/posix_acl_xattr.h, version 2, little-endian:
//
//	+---------+     +-----+------+----+
//	| version |  +  | tag | perm | id |  for each entry
//	|   u32   |     | u16 | u16  | u32|
//	+---------+     +-----+------+----+
const (
	version  = 2
	headLen  = 4
	entryLen = 8
)

// MaxLen is the most bytes of an ACL as an attribute: a page, which is what the kernel
// has room for when it asks a FUSE file system for one (fs/fuse/acl.c).
const MaxLen = 4096

// Parse reads and checks an attribute's value. One without entries is none: nil.
// errs.Invalid where it is malformed or not valid, errs.TooLarge over MaxLen,
// errs.Unsupported for another version.
func Parse(b []byte) (ACL, error) {
	const op = "acl.Parse"
	switch {
	case len(b) > MaxLen:
		return nil, errs.Newf(op, errs.TooLarge, "an ACL has at most %d bytes", MaxLen)
	case len(b) < headLen || (len(b)-headLen)%entryLen != 0:
		return nil, errs.Newf(op, errs.Invalid, "%d bytes are no ACL", len(b))
	case binary.LittleEndian.Uint32(b) != version:
		return nil, errs.Newf(op, errs.Unsupported, "an ACL of version %d", binary.LittleEndian.Uint32(b))
	case len(b) == headLen:
		return nil, nil
	}
	a := make(ACL, 0, (len(b)-headLen)/entryLen)
	for b = b[headLen:]; len(b) > 0; b = b[entryLen:] {
		e := Entry{
			Tag:  Tag(binary.LittleEndian.Uint16(b)),
			Perm: binary.LittleEndian.Uint16(b[2:]),
			ID:   binary.LittleEndian.Uint32(b[4:]),
		}
		if e.Tag != User && e.Tag != Group {
			e.ID = NoID // Linux ignores what is there
		}
		a = append(a, e)
	}
	return a, a.Check()
}

// Encode is the reverse of Parse. Equal lists have equal bytes.
func (a ACL) Encode() []byte {
	b := make([]byte, 0, headLen+entryLen*len(a))
	b = binary.LittleEndian.AppendUint32(b, version)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, uint16(e.Tag))
		b = binary.LittleEndian.AppendUint16(b, e.Perm)
		b = binary.LittleEndian.AppendUint32(b, e.ID)
	}
	return b
}

// Check is posix_acl_valid: one UserObj, any Users, one GroupObj, any Groups, a Mask
// (needed where there are Users or Groups), one Other, in this order. errs.Invalid.
func (a ACL) Check() error {
	var count [Other + 1]int
	last := Tag(0)
	for _, e := range a {
		switch e.Tag {
		case UserObj, User, GroupObj, Group, Mask, Other:
		default:
			return invalid("unknown tag %#x", uint16(e.Tag))
		}
		switch named := e.Tag == User || e.Tag == Group; {
		case e.Tag < last || e.Tag == last && !named:
			return invalid("an entry of tag %#x is not in its place", uint16(e.Tag))
		case e.Perm > 7:
			return invalid("permissions %#o", e.Perm)
		case named == (e.ID == NoID):
			return invalid("id %d in an entry of tag %#x", e.ID, uint16(e.Tag))
		}
		last = e.Tag
		count[e.Tag]++
	}
	if count[UserObj] != 1 || count[GroupObj] != 1 || count[Other] != 1 {
		return invalid("owner, group or others are missing")
	}
	if count[User]+count[Group] > 0 && count[Mask] == 0 {
		return invalid("entries of users or groups take a mask")
	}
	return nil
}

func invalid(format string, args ...any) error {
	return errs.Newf("acl.Check", errs.Invalid, format, args...)
}
