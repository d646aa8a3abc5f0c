package fusefs

import (
	"context"
	"testing"

	"twofold/internal/acl"
	"twofold/metadata"
	"twofold/volume/api"
)

// TestBehindACLOfMode: an ACL that says what a mode says is a chmod (`cp -p` sets one on each
// file), and needs no call where the inode was made; any other goes to the volume.
func TestBehindACLOfMode(t *testing.T) {
	ctx := context.Background()
	v := newFakeVolume()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	file, _, err := r.Create(ctx, dir, "f", fileOf(06600))
	must(t, err)
	sub, _, err := r.Create(ctx, dir, "s", api.Create{Type: metadata.TypeDir, Mode: 02700, Exclusive: true})
	must(t, err)
	mode := acl.ACL{{Tag: acl.UserObj, Perm: 7, ID: acl.NoID}, {Tag: acl.GroupObj, Perm: 5, ID: acl.NoID}, {Tag: acl.Other, Perm: 4, ID: acl.NoID}}
	wants := func(what string, ino api.Attr, want uint32) {
		t.Helper()
		if got, err := r.GetAttr(ctx, ino.Ino); err != nil || got.Mode != want || got.Ctime <= ino.Ctime {
			t.Errorf("%s: mode %#o, %v, want %#o; ctime %d after %d", what, got.Mode, err, want, got.Ctime, ino.Ctime)
		}
	}
	must(t, r.SetXattr(ctx, file.Ino, acl.AccessName, mode.Encode(), 0))
	wants("a file", file, 06754)
	must(t, r.SetXattr(ctx, file.Ino, acl.AccessName, mode.Encode(), api.XattrKillSetGID))
	wants("a file of a foreign group", file, 04754)
	must(t, r.SetXattr(ctx, sub.Ino, acl.AccessName, mode.Encode(), 0))
	wants("a directory", sub, 02754)
	if n := r.s.count("SetXattr"); n != 0 {
		t.Errorf("%d calls", n)
	}
	must(t, r.SyncAll(ctx))
	other := somebody{v.session()}
	for _, a := range []api.Attr{file, sub} {
		mine, err := r.GetAttr(ctx, a.Ino)
		must(t, err)
		if theirs, err := other.GetAttr(ctx, a.Ino); err != nil || theirs.Mode != mine.Mode {
			t.Errorf("somebody else is shown mode %#o, %v, not %#o", theirs.Mode, err, mine.Mode)
		}
	}

	dir = r.leased(t, "e")
	file, _, err = r.Create(ctx, dir, "f", fileOf(0600))
	must(t, err)
	must(t, r.SetXattr(ctx, file.Ino, acl.AccessName, letIn4000, 0))
	if n := r.s.count("SetXattr"); n != 1 {
		t.Errorf("an ACL that names a user: %d calls", n)
	}
	if b, err := r.GetXattr(ctx, file.Ino, acl.AccessName); err != nil || string(b) != string(letIn4000) {
		t.Errorf("an ACL that names a user: kept %x, %v", b, err)
	}
}
