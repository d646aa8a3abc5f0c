package fsm

import (
	"twofold/internal/acl"
	"twofold/internal/errs"
	"twofold/metadata"
)

// The model keeps ACLs in their encoded form. Their arithmetic is internal/acl's, which
// has tests of its own; what the model says is where it is done.

func (m *model) setACL(c metadata.SetACL) outcome {
	n := m.byIno(c.Ino)
	switch {
	case n == nil:
		return bad(errs.Stale)
	case n.typ == metadata.TypeSymlink:
		return bad(errs.Unsupported)
	case c.Default && n.typ != metadata.TypeDir:
		return bad(errs.Access)
	}
	list, err := acl.Parse(c.Value)
	if err != nil && len(c.Value) > 0 {
		return bad(errs.Invalid)
	}
	switch {
	case list == nil && c.Default:
		n.attr.DefaultACL = nil
	case list == nil:
		n.attr.ACL = nil
	case c.Default:
		n.attr.DefaultACL = c.Value
	default:
		perm, same := list.Mode()
		n.attr.Mode, n.attr.ModeSet = n.attr.Mode&0o7000|perm, true
		if c.KillSetGID {
			n.attr.Mode &= 0o5777
		}
		if n.attr.ACL = c.Value; same {
			n.attr.ACL = nil
		}
	}
	n.attr.Ctime = m.now
	m.makeExplicit(n)
	return good
}

func (m *model) chmod(n *mnode, mode uint32) {
	n.attr.Mode, n.attr.ModeSet = mode, true
	if n.attr.ACL != nil {
		list, _ := acl.Parse(n.attr.ACL)
		n.attr.ACL = list.Chmod(mode).Encode()
	}
}

func (m *model) inherit(n, dir *mnode, mode uint32) {
	if dir.attr.DefaultACL == nil {
		return
	}
	list, _ := acl.Parse(dir.attr.DefaultACL)
	access, perm := list.Inherit(mode)
	n.attr.Mode, n.attr.ModeSet = n.attr.Mode&0o7000|perm, true
	if access != nil {
		n.attr.ACL = access.Encode()
	}
	if n.typ == metadata.TypeDir {
		n.attr.DefaultACL = dir.attr.DefaultACL
	}
}

func (d *duel) aclStep() {
	perm := func() uint16 { return uint16(d.rnd.IntN(8)) }
	list := acl.ACL{{Tag: acl.UserObj, Perm: perm(), ID: acl.NoID}}
	named := d.rnd.IntN(3) > 0
	if named {
		list = append(list, acl.Entry{Tag: acl.User, Perm: perm(), ID: 7})
	}
	list = append(list, acl.Entry{Tag: acl.GroupObj, Perm: perm(), ID: acl.NoID})
	if named && d.rnd.IntN(9) > 0 { // without a mask it is not valid
		list = append(list, acl.Entry{Tag: acl.Mask, Perm: perm(), ID: acl.NoID})
	}
	list = append(list, acl.Entry{Tag: acl.Other, Perm: perm(), ID: acl.NoID})
	if d.rnd.IntN(4) == 0 {
		list = nil
	}
	both(d, metadata.OpSetACL, metadata.SetACL{
		Ino: d.ino(), Default: d.rnd.IntN(2) == 0, Value: list.Encode(), KillSetGID: d.rnd.IntN(3) == 0,
	}, d.m.setACL)
}
