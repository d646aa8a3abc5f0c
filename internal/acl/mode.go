package acl

// Mode is posix_acl_equiv_mode: the permission bits (0777) that go with a valid access
// ACL. equivalent reports that they say all that the ACL says, so that it need not be
// kept.
func (a ACL) Mode() (perm uint32, equivalent bool) {
	equivalent = true
	group := uint32(0)
	for _, e := range a {
		switch p := uint32(e.Perm); e.Tag {
		case UserObj:
			perm |= p << 6
		case GroupObj:
			group = p
		case Other:
			perm |= p
		case Mask: // behind GroupObj
			group, equivalent = p, false
		case User, Group:
			equivalent = false
		}
	}
	return perm | group<<3, equivalent
}

// Chmod is __posix_acl_chmod: the ACL after chmod(2). The group's bits of the mode are
// the mask, where there is one. a is not changed.
func (a ACL) Chmod(mode uint32) ACL {
	out, class := append(ACL(nil), a...), a.class()
	for i := range out {
		switch p := &out[i].Perm; out[i].Tag {
		case UserObj:
			*p = uint16(mode >> 6 & 7)
		case class:
			*p = uint16(mode >> 3 & 7)
		case Other:
			*p = uint16(mode & 7)
		}
	}
	return out
}

// class is the entry that the group's bits of the mode are: the mask, or where there is
// none the file's group.
func (a ACL) class() Tag {
	for _, e := range a {
		if e.Tag == Mask {
			return Mask
		}
	}
	return GroupObj
}

// Inherit is posix_acl_create: what a new inode gets in a directory with a, its default
// ACL, when it is asked for with mode, which no umask has been applied to. access is its
// ACL (nil where the mode says it all), perm its permission bits: those that both mode
// and the ACL give. a is not changed. A new directory takes a over as its own default.
func (a ACL) Inherit(mode uint32) (access ACL, perm uint32) {
	access = append(ACL(nil), a...)
	class := a.class()
	for i := range access {
		switch p := &access[i].Perm; access[i].Tag {
		case UserObj:
			*p &= uint16(mode >> 6)
		case class:
			*p &= uint16(mode >> 3)
		case Other:
			*p &= uint16(mode)
		}
	}
	perm, equivalent := access.Mode()
	if equivalent {
		return nil, perm
	}
	return access, perm
}
