package fsm

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"twofold"
	"twofold/metadata"
)

// TestLooked: a view tells of the directories that decide about its answers: of those in which
// names were looked for, not of those that only lead there, and of homes.
func TestLooked(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	f := r.put(b, "d/f", "x")
	g := r.put(b, "d/sub/g", "x")
	link := r.put(b, "d/link", "x")
	sub := g.Parent
	d := f.Parent
	r.ok(metadata.OpLink, metadata.Link{Ino: link.Ino, Parent: sub, Name: metadata.Name{Comp: "link"}})
	called := map[twofold.Ino]string{b.Root: "root", d: "d", sub: "sub"}
	for _, c := range []struct {
		what string
		do   func(v metadata.View)
		want string
	}{
		{"a lookup", func(v metadata.View) { v.Lookup(d, metadata.Name{Comp: "f"}) }, "[d]"},
		{"a lookup of a directory", func(v metadata.View) { v.Lookup(d, metadata.Name{Comp: "sub"}) }, "[sub]"},
		{"a lookup of nothing", func(v metadata.View) { v.Lookup(d, metadata.Name{Comp: "x"}) }, "[d]"},
		{"a lookup of nothing beside", func(v metadata.View) { v.Lookup(sub, metadata.Name{Comp: "g", File: true}) }, "[sub]"},
		{"a file", func(v metadata.View) { v.Inode(f.Ino) }, "[d]"},
		{"a directory", func(v metadata.View) { v.Inode(d) }, "[d]"},
		{"a file with two names", func(v metadata.View) { v.Inode(link.Ino) }, "[]"},
		{"a key", func(v metadata.View) { v.Resolve(b.ID, "d/sub/g") }, "[sub]"},
		{"no key", func(v metadata.View) { v.Resolve(b.ID, "d/x") }, "[d]"},
		{"no way", func(v metadata.View) { v.Resolve(b.ID, "d/x/y") }, "[d]"},
		{"a directory's key", func(v metadata.View) { v.Resolve(b.ID, "d/") }, "[d]"},
		{"the key of a file", func(v metadata.View) { v.KeyOf(g.Ino) }, "[d root sub]"},
		{"a directory's names", func(v metadata.View) { v.ReadDir(d, "", 1, false) }, "[d]"},
		{"all keys", func(v metadata.View) { v.List(b.ID, metadata.ListQuery{Max: 10}) }, "[d root sub]"},
		{"first keys", func(v metadata.View) { v.List(b.ID, metadata.ListQuery{Max: 1}) }, "[d root]"},
		{"what is in the root", func(v metadata.View) { v.List(b.ID, metadata.ListQuery{Max: 10, Delimiter: "/"}) }, "[root]"},
		{"keys below", func(v metadata.View) { v.List(b.ID, metadata.ListQuery{Max: 10, Prefix: "d/sub/"}) }, "[sub]"},
		{"keys behind the last", func(v metadata.View) { v.List(b.ID, metadata.ListQuery{Max: 10, Prefix: "d/sub/", After: "d/sub/z"}) }, "[sub]"},
		{"keys that begin so", func(v metadata.View) { v.List(b.ID, metadata.ListQuery{Max: 10, Prefix: "d/su", Delimiter: "/"}) }, "[d]"},
		{"no keys", func(v metadata.View) { v.List(b.ID, metadata.ListQuery{Max: 10, Prefix: "d/x/"}) }, "[d]"},
	} {
		r.view(func(v metadata.View) {
			seen := map[string]bool{}
			v.Looked(func(dir twofold.Ino) { seen[called[dir]] = true })
			c.do(v)
			if got := fmt.Sprint(slices.Sorted(maps.Keys(seen))); got != c.want {
				t.Errorf("%s: %s, want %s", c.what, got, c.want)
			}
		})
	}
}
