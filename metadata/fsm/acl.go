package fsm

import (
	"fmt"

	"twofold/internal/acl"
	"twofold/internal/errs"
	"twofold/metadata"
)

func (a *applier) setACL(c *metadata.SetACL) (*metadata.Result, error) {
	i, err := a.mustBe(c.Ino)
	if err != nil {
		return nil, err
	}
	if i.Type == metadata.TypeSymlink {
		return nil, refuse(errs.Unsupported)
	}
	if c.Default && i.Type != metadata.TypeDir {
		return nil, refuse(errs.Access)
	}
	var list acl.ACL
	if len(c.Value) > 0 {
		if list, err = acl.Parse(c.Value); err != nil {
			return nil, refusef(errs.KindOf(err), "%v", err)
		}
	}
	at := &i.ACL
	if c.Default {
		at = &i.DefaultACL
	}
	switch {
	case list == nil:
		*at = nil
	case c.Default:
		*at = list.Encode()
	default:
		setAccess(i, list, c.KillSetGID)
	}
	if attrBytes(i) > maxXattrs {
		return nil, refuse(errs.NoSpace)
	}
	i.Ctime = a.cmd.Now
	a.touch(i)
	a.explicit(i)
	return &metadata.Result{Inode: i}, nil
}

// setAccess gives an inode an access ACL and the mode that goes with it, as
// posix_acl_update_mode does.
func setAccess(i *metadata.Inode, list acl.ACL, killSetGID bool) {
	perm, equivalent := list.Mode()
	i.Mode, i.ModeSet = i.Mode&^permBits|perm, true
	if killSetGID {
		i.Mode &^= setGID
	}
	i.ACL = nil
	if !equivalent {
		i.ACL = list.Encode()
	}
}

// chmod sets the mode, and the ACL with it.
func (a *applier) chmod(i *metadata.Inode, mode uint32) error {
	i.Mode, i.ModeSet = mode, true
	list, err := kept(i, i.ACL)
	if err == nil && list != nil {
		i.ACL = list.Chmod(mode).Encode()
	}
	return err
}

// inheritACL gives a new inode what its directory's default ACL says, with mode's
// permission bits, which no umask was applied to; mode's other bits stay with i.
func (a *applier) inheritACL(i, dir *metadata.Inode, mode uint32) error {
	if i.Type == metadata.TypeSymlink {
		return nil
	}
	list, err := kept(dir, dir.DefaultACL)
	if err != nil || list == nil {
		return err
	}
	access, perm := list.Inherit(mode)
	i.Mode, i.ModeSet = i.Mode&^permBits|perm, true
	if access != nil {
		i.ACL = access.Encode()
	}
	if i.Type == metadata.TypeDir {
		i.DefaultACL = dir.DefaultACL
	}
	return nil
}

// kept reads an ACL of the state; nil where there is none.
func kept(i *metadata.Inode, b []byte) (acl.ACL, error) {
	if b == nil {
		return nil, nil
	}
	list, err := acl.Parse(b)
	if err != nil {
		err = fmt.Errorf("an ACL of inode %d: %w", i.Ino, err)
	}
	return list, err
}
