package fsm

import (
	"bytes"
	"testing"

	"twofold/internal/acl"
	"twofold/internal/errs"
	"twofold/metadata"
)

// aclFor lets user 7 in: with perm, under mask.
func aclFor(owner, perm, group, mask, other uint16) []byte {
	return acl.ACL{
		{Tag: acl.UserObj, Perm: owner, ID: acl.NoID}, {Tag: acl.User, Perm: perm, ID: 7}, {Tag: acl.GroupObj, Perm: group, ID: acl.NoID},
		{Tag: acl.Mask, Perm: mask, ID: acl.NoID}, {Tag: acl.Other, Perm: other, ID: acl.NoID},
	}.Encode()
}

func (r *rig) wantACL(what string, i *metadata.Inode, mode uint32, access, def []byte) {
	r.t.Helper()
	if i.Mode != mode || !i.ModeSet || !bytes.Equal(i.ACL, access) || !bytes.Equal(i.DefaultACL, def) {
		r.t.Errorf("%s: mode %#o, set %v\nACL     %x\nwant    %x (%#o)\ndefault %x\nwant    %x", what, i.Mode, i.ModeSet, i.ACL, access, mode, i.DefaultACL, def)
	}
}

func TestDefaultACL(t *testing.T) {
	r := newRig(t)
	b := r.bucket("one")
	create := metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "d"}, Type: metadata.TypeDir, Mode: 0o2750, UID: 1, GID: 2}
	d := r.ok(metadata.OpCreate, create).Inode
	def := aclFor(7, 7, 5, 7, 0)
	r.ok(metadata.OpSetACL, metadata.SetACL{Ino: d.Ino, Default: true, Value: def})

	create.Parent = d.Ino
	create.Type, create.Name.Comp, create.Mode, create.Asked = metadata.TypeFile, "f", 0o600, 0o666 // umask 077
	r.wantACL("a file", r.ok(metadata.OpCreate, create).Inode, 0o660, aclFor(6, 7, 5, 6, 0), nil)
	create.Name.Comp, create.Asked = "g", 0 // of a mount that says nothing of it
	r.wantACL("a file without Asked", r.ok(metadata.OpCreate, create).Inode, 0o600, aclFor(6, 7, 5, 0, 0), nil)
	create.Type, create.Name.Comp, create.Mode, create.Asked = metadata.TypeDir, "e", 0o700, 0o777
	r.wantACL("a directory", r.ok(metadata.OpCreate, create).Inode, 0o2770, aclFor(7, 7, 5, 7, 0), def)
	create.Type, create.Name.Comp, create.Mode, create.Target = metadata.TypeSymlink, "l", 0o777, "x"
	r.wantACL("a symlink", r.ok(metadata.OpCreate, create).Inode, 0o777, nil, nil)
	tmp := r.ok(metadata.OpTmpfile, metadata.Tmpfile{Parent: d.Ino, Mode: 0o600, Asked: 0o666, UID: 1, GID: 1}).Inode
	r.wantACL("a file without a name", tmp, 0o660, aclFor(6, 7, 5, 6, 0), nil)

	r.wantACL("an object", r.put(b, "d/o", "x"), 0o660, aclFor(6, 7, 5, 6, 0), nil)
	r.wantACL("an object in implied directories", r.put(b, "d/new/er/o", "x"), 0o660, aclFor(6, 7, 5, 6, 0), nil)
	r.view(func(v metadata.View) {
		i, err := v.Lookup(d.Ino, metadata.Name{Comp: "new"})
		if err != nil {
			t.Fatal(err)
		}
		r.wantACL("an implied directory", i, 0o770, aclFor(7, 7, 5, 7, 0), def)
	})
	mode := uint32(0o604)
	put := metadata.PutObject{Bucket: b.ID, Key: "d/m", Content: metadata.Content{ETag: "e", Posix: &metadata.PosixAttrs{Mode: &mode}}}
	r.wantACL("an object with a mode", r.ok(metadata.OpPutObject, put).Inode, 0o604, aclFor(6, 7, 5, 0, 4), nil)
	r.check()

	if res := r.do(metadata.OpSetACL, metadata.SetACL{Ino: tmp.Ino, Default: true, Value: def}); res.Kind != errs.Access {
		t.Errorf("a default ACL for a file: %+v", res)
	}
	r.wantACL("removed", r.ok(metadata.OpSetACL, metadata.SetACL{Ino: d.Ino, Default: true}).Inode, 0o2750, nil, nil)
}

func TestACLOfReplacedAndCopied(t *testing.T) {
	r := newRig(t)
	b := r.bucket("one")
	f := r.put(b, "f", "x")
	set := metadata.SetACL{Ino: f.Ino, Value: aclFor(6, 6, 4, 6, 0)}
	r.wantACL("set", r.ok(metadata.OpSetACL, set).Inode, 0o660, set.Value, nil)
	mode := uint32(0o6777)
	f = r.ok(metadata.OpSetAttr, metadata.SetAttr{Ino: f.Ino, Mode: &mode}).Inode
	want := aclFor(7, 6, 4, 7, 7)
	r.wantACL("chmod", f, 0o6777, want, nil)
	f = r.put(b, "f", "y")
	r.wantACL("a PUT over it", f, 0o777, want, nil)
	c := metadata.CopyObject{Src: f.Ino, SrcVersion: f.Version, Bucket: b.ID, Key: "g", Content: metadata.Content{ETag: "e"}}
	if g := r.ok(metadata.OpCopyObject, c).Inode; g.ACL != nil || g.ModeSet {
		t.Errorf("a copy has mode %#o, ACL %x", g.Mode, g.ACL)
	}
	// The set-group-ID bit stays but for somebody who is not in the group.
	r.ok(metadata.OpSetAttr, metadata.SetAttr{Ino: f.Ino, Mode: &mode})
	r.wantACL("set by a member", r.ok(metadata.OpSetACL, metadata.SetACL{Ino: f.Ino, Value: set.Value}).Inode, 0o6660, set.Value, nil)
	set.Ino, set.KillSetGID = f.Ino, true
	r.wantACL("set by others", r.ok(metadata.OpSetACL, set).Inode, 0o4660, set.Value, nil)
	minimal := acl.ACL{{Tag: acl.UserObj, Perm: 6, ID: acl.NoID}, {Tag: acl.GroupObj, Perm: 4, ID: acl.NoID}, {Tag: acl.Other, Perm: 4, ID: acl.NoID}}
	r.wantACL("one that the mode says", r.ok(metadata.OpSetACL, metadata.SetACL{Ino: f.Ino, Value: minimal.Encode()}).Inode, 0o4644, nil, nil)
	for _, bad := range [][]byte{{1}, minimal[:2].Encode(), append(set.Value, 0)} {
		if res := r.do(metadata.OpSetACL, metadata.SetACL{Ino: f.Ino, Value: bad}); res.Kind != errs.Invalid {
			t.Errorf("%x: %+v", bad, res)
		}
	}
	r.check()
}
