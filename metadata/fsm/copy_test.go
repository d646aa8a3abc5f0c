package fsm

import (
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// TestCopyOfWhatTheKeyNames: a copy is of what the source's key names when the command
// is applied. What happens to the key, and to the metadata, leaves the inode's version as
// it was.
func TestCopyOfWhatTheKeyNames(t *testing.T) {
	changes := map[string]func(*rig, *metadata.Bucket, *metadata.Inode){
		"nothing": func(*rig, *metadata.Bucket, *metadata.Inode) {},
		"PUT":     func(r *rig, b *metadata.Bucket, _ *metadata.Inode) { r.put(b, "a", "other") },
		"delete": func(r *rig, b *metadata.Bucket, _ *metadata.Inode) {
			r.ok(metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: "a"})
		},
		"rename": func(r *rig, b *metadata.Bucket, _ *metadata.Inode) {
			r.ok(metadata.OpRename, metadata.Rename{OldParent: b.Root, OldName: metadata.Name{Comp: "a"}, NewParent: b.Root, NewName: metadata.Name{Comp: "b"}})
		},
		"xattr": func(r *rig, _ *metadata.Bucket, i *metadata.Inode) {
			r.ok(metadata.OpSetXattrs, metadata.SetXattrs{Ino: i.Ino, Name: "user.x", Value: []byte("y")})
		},
	}
	for what, change := range changes {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			b := r.bucket("b")
			src := r.put(b, "a", "content")
			c := metadata.CopyObject{
				Src: src.Ino, SrcVersion: src.Version, SrcBucket: b.ID, SrcKey: "a", SrcCtime: src.Ctime, Bucket: b.ID, Key: "copy",
			}
			change(r, b, src)
			if what == "nothing" {
				r.ok(metadata.OpCopyObject, c)
				return
			}
			r.mustFail(errs.Conflict, r.do(metadata.OpCopyObject, c))
			c.SrcBucket, c.SrcKey, c.SrcCtime = 0, "", twofold.Time(0)
			r.ok(metadata.OpCopyObject, c) // as commands were before
		})
	}
}
