package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// both runs a command on the machine and on the model, and compares.
func both[C any](d *duel, op metadata.Op, c C, run func(C) outcome) {
	d.t.Helper()
	counts := d.m.counts()
	probe := d.rnd.IntN(3) == 0 // it takes longer than the rest
	var before map[*mnode]visible
	var res metadata.Result
	var guard []metadata.Target
	if probe {
		before = d.m.visible()
		res, guard = d.guarded(op, c)
	} else {
		res = d.do(op, c)
	}
	if res.Failed && res.Kind == errs.Quota {
		defer d.lift(counts)()
		res = d.do(op, c)
		probe = false // before it was refused
	} else {
		defer d.within(counts)
	}
	if res.Failed && res.Kind == errs.Conflict && strings.Contains(res.Msg, "not referred to") {
		return // a blob that was given up is offered again: the model knows no blobs
	}
	grown := d.m.watch()
	want := run(c)
	grown()
	if got := (outcome{res.Failed, res.Kind}); got != want {
		d.t.Fatalf("step %d: %T %+v: got %+v %s, want %+v", d.seq, c, c, got, res.Msg, want)
	}
	if res.Bucket != nil && op == metadata.OpCreateBucket {
		d.m.buckets[res.Bucket.Name].id = res.Bucket.ID
	}
	if probe {
		d.checkGuard(fmt.Sprintf("%T %+v", c, c), before, guard)
	}
	d.compare()
	d.view(func(v metadata.View) { // what the result says is what is there
		for _, i := range []*metadata.Inode{res.Inode, res.Parent} {
			if i == nil || res.Failed {
				continue
			}
			if now, err := v.Inode(i.Ino); err != nil || !bytes.Equal(metadata.EncodeInode(now), metadata.EncodeInode(i)) {
				d.t.Fatalf("step %d: %T %+v: result %+v, then %+v %v", d.seq, c, c, i, now, err)
			}
		}
	})
}

func (d *duel) compare() {
	d.t.Helper()
	d.check()
	d.compareUsage()
	d.view(func(v metadata.View) {
		all, err := v.Buckets()
		if err != nil || len(all) != len(d.m.buckets) {
			d.t.Fatalf("buckets %v %v", all, err)
		}
		for _, b := range all {
			d.compareNode(v, d.m.buckets[b.Name].root, b.Root, string(b.Name))
			d.compareKeys(v, &b)
		}
		for n := range d.m.nodes {
			if n.links == 0 {
				d.compareNode(v, n, n.ino, "orphan")
			}
		}
		orphans, err := v.Orphans(0, 0)
		if want := len(d.m.nodes) - d.reachable(); err != nil || len(orphans) != want {
			d.t.Fatalf("%d orphans, want %d (%v)", len(orphans), want, err)
		}
		if c, ok := v.(*view); ok {
			d.compareTrash(c)
		}
	})
}

func (d *duel) reachable() (n int) {
	for x := range d.m.nodes {
		if x.links > 0 {
			n++
		}
	}
	return n
}

// compareNode compares an inode, its content, and what is below it.
func (d *duel) compareNode(v metadata.View, n *mnode, ino twofold.Ino, path string) {
	d.t.Helper()
	i, err := v.Inode(ino)
	if err != nil {
		d.t.Fatalf("step %d: %s: %v", d.seq, path, err)
	}
	if n.ino == 0 {
		n.ino = ino
	}
	links := n.links
	if n.typ == metadata.TypeDir && n.links > 0 {
		links = 2
		for s := range n.children {
			if strings.HasSuffix(s, "/") {
				links++
			}
		}
	}
	got := []any{i.Ino, i.Type, i.Mode, i.ModeSet, i.UID, i.UIDSet, i.GID, i.GIDSet, int(i.Nlink), i.Size, i.Mtime, i.Ctime, i.Explicit, i.Version, int(i.Children)}
	a := n.attr
	want := []any{n.ino, n.typ, a.Mode, a.ModeSet, a.UID, a.UIDSet, a.GID, a.GIDSet, links, n.data.size, a.Mtime, a.Ctime, n.explicit, n.version, len(n.children)}
	if !bytes.Equal(i.ACL, a.ACL) || !bytes.Equal(i.DefaultACL, a.DefaultACL) {
		d.t.Fatalf("step %d: %s: ACLs\ngot  %x %x\nwant %x %x", d.seq, path, i.ACL, i.DefaultACL, a.ACL, a.DefaultACL)
	}
	if !reflect.DeepEqual(got, want) || !maps.Equal(i.UserMeta, a.UserMeta) {
		d.t.Fatalf("step %d: %s:\ngot  %v %v\nwant %v %v", d.seq, path, got, i.UserMeta, want, a.UserMeta)
	}
	if n.etag == "?" && strings.HasSuffix(i.ETag, "-1") {
		n.etag = i.ETag // whatever it is, until content changes
	}
	if i.ETag != n.etag && path != "one" && path != "two" {
		d.t.Fatalf("step %d: %s: ETag %q, want %q", d.seq, path, i.ETag, n.etag)
	}
	exts, err := v.Extents(ino, 0, maxFileLen, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	if data := dataOf(i.Size, exts); !maps.Equal(data.bytes, n.data.bytes) {
		d.t.Fatalf("step %d: %s: content\n%v\nwant\n%v", d.seq, path, data.bytes, n.data.bytes)
	}
	if n.typ == metadata.TypeDir {
		d.compareDir(v, n, path)
	}
}

func (d *duel) compareDir(v metadata.View, n *mnode, path string) {
	d.t.Helper()
	var items []metadata.DirItem
	cursor := ""
	for more := true; more; {
		page, left, err := v.ReadDir(n.ino, cursor, 2, true)
		if err != nil {
			d.t.Fatal(err)
		}
		if more = left; len(page) > 0 {
			cursor = page[len(page)-1].Cursor
		}
		items = append(items, page...)
	}
	if len(items) != len(n.children) {
		d.t.Fatalf("step %d: %s: entries %v, want %v", d.seq, path, items, n.children)
	}
	for _, it := range items {
		child := n.children[suffix(it.Name.Comp, it.Type == metadata.TypeDir)]
		_, shadowed := n.children[it.Name.Comp+"/"]
		if child == nil || it.Name.File != (shadowed && it.Type != metadata.TypeDir) || it.Inode.Ino != it.Ino {
			d.t.Fatalf("step %d: %s: entry %+v", d.seq, path, it)
		}
		if i, err := v.Lookup(n.ino, it.Name); err != nil || i.Ino != it.Ino {
			d.t.Fatalf("step %d: %s: lookup %+v: %v %v", d.seq, path, it, i, err)
		}
		d.compareNode(v, child, it.Ino, path+"/"+it.Cursor)
	}
}

// compareKeys compares the S3 view of a bucket.
func (d *duel) compareKeys(v metadata.View, b *metadata.Bucket) {
	d.t.Helper()
	var keys []string
	nodes := map[string]*mnode{}
	var walk func(n *mnode, key string)
	walk = func(n *mnode, key string) {
		for s, c := range n.children {
			if c.typ != metadata.TypeDir || c.explicit {
				keys = append(keys, key+s)
				nodes[key+s] = c
			}
			walk(c, key+s)
		}
	}
	walk(d.m.buckets[b.Name].root, "")
	for _, q := range []metadata.ListQuery{{Max: 1000}, {Max: 3, Delimiter: "/", After: "a"}} {
		want, _ := naiveList(keys, q)
		p, err := v.List(b.ID, q)
		if err != nil {
			d.t.Fatal(err)
		}
		var got []string
		for _, it := range p.Items {
			if it.Inode == nil {
				it.Key += "<"
			}
			got = append(got, it.Key)
		}
		if !slices.Equal(got, want) {
			d.t.Fatalf("step %d: keys %q, want %q", d.seq, got, want)
		}
	}
	for k, n := range nodes {
		if i, err := v.Resolve(b.ID, twofold.Key(k)); err != nil || i.Ino != n.ino {
			d.t.Fatalf("step %d: %q resolves to %v %v, want %d", d.seq, k, i, err, n.ino)
		}
	}
}

// compareTrash: what was referred to and is not any more is in the trash.
func (d *duel) compareTrash(v *view) {
	d.t.Helper()
	now := map[twofold.BlobID]bool{}
	err := v.prefixed("r", "", func(k, _ []byte) (bool, error) {
		now[twofold.BlobID(k[1:17])] = true
		d.used[twofold.BlobID(k[1:17])] = true
		return true, nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	trash, err := v.Trash(twofold.BlobID{}, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, t := range trash {
		if now[t.Blob.ID] || t.Blob.Size != 100 || t.Blob.Data != 2 {
			d.t.Fatalf("trash %+v", t)
		}
	}
	if len(trash)+len(now) != len(d.used) {
		d.t.Fatalf("step %d: %d blobs in the trash, %d in use, of %d", d.seq, len(trash), len(now), len(d.used))
	}
}
