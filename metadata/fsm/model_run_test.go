package fsm

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// duel runs random commands on a machine and on the model.
type duel struct {
	*rig
	m      *model
	rnd    *rand.Rand
	blobs  uint64
	used   map[twofold.BlobID]bool // blobs that were referred to
	upload byte

	usage   bool // also with counts and quotas
	counted bool // CountUsage is through

	inos [][]twofold.Ino // numbers that the session may still give to inodes of batches
}

func newDuel(t testing.TB, seed uint64) *duel {
	return &duel{rig: newRig(t), m: newModel(), rnd: rand.New(rand.NewPCG(seed, 99)), used: map[twofold.BlobID]bool{}}
}

func pick[T any](d *duel, of ...T) T { return of[d.rnd.IntN(len(of))] }

func (d *duel) comp() string { return pick(d, "a", "a", "b", "c", "a!", "a0", "") }

func (d *duel) name() metadata.Name { return metadata.Name{Comp: d.comp(), File: d.rnd.IntN(6) == 0} }

// entry is a directory and a name: mostly of something that is there.
func (d *duel) entry() (twofold.Ino, metadata.Name) {
	dir := d.node(func(n *mnode) bool { return len(n.children) > 0 })
	if dir == nil || d.rnd.IntN(3) == 0 {
		return d.dirIno(), d.name()
	}
	s := pick(d, slices.Sorted(maps.Keys(dir.children))...)
	_, shadowed := dir.children[s+"/"]
	return dir.ino, metadata.Name{Comp: strings.TrimSuffix(s, "/"), File: shadowed}
}

func (d *duel) key() twofold.Key {
	n := 1 + d.rnd.IntN(3)
	var comps []string
	for range n {
		comps = append(comps, d.comp())
	}
	return twofold.Key(strings.Join(comps, "/"))
}

// someBucket is a bucket's number, mostly of one that is there.
func (d *duel) someBucket() twofold.BucketID {
	ids := []twofold.BucketID{999}
	for _, name := range slices.Sorted(maps.Keys(d.m.buckets)) {
		ids = append(ids, d.m.buckets[name].id, d.m.buckets[name].id, d.m.buckets[name].id)
	}
	return pick(d, ids...)
}

// node picks one of the nodes that fit, or nil.
func (d *duel) node(fits func(n *mnode) bool) *mnode {
	var all []*mnode
	for n := range d.m.nodes {
		if fits(n) {
			all = append(all, n)
		}
	}
	if len(all) == 0 {
		return nil
	}
	sort.Slice(all, func(i, j int) bool { return all[i].ino < all[j].ino })
	return pick(d, all...)
}

func (d *duel) ino(types ...metadata.Type) twofold.Ino {
	if d.rnd.IntN(15) == 0 {
		types = nil
	}
	n := d.node(func(n *mnode) bool {
		return len(types) == 0 || slices.Contains(types, n.typ) && (n.links > 0 || d.rnd.IntN(8) == 0)
	})
	if n == nil || d.rnd.IntN(40) == 0 {
		return 77
	}
	return n.ino
}

func (d *duel) dirIno() twofold.Ino { return d.ino(metadata.TypeDir) }

// extents are random ones in [off, off+n), in order.
func (d *duel) extents(off, n int64) (exts []metadata.Extent) {
	for at := off; ; {
		at += int64(d.rnd.IntN(12))
		l := int64(1 + d.rnd.IntN(30))
		if at+l > off+n || len(exts) == 5 {
			return exts
		}
		e := metadata.Extent{Off: at, Len: l}
		if d.rnd.IntN(2) == 0 {
			e.Data = make([]byte, l)
			for i := range e.Data {
				e.Data[i] = byte(d.rnd.IntN(4))
			}
		} else {
			e.Blob, e.BlobOff = d.blob(), int64(d.rnd.IntN(50))
		}
		exts = append(exts, e)
		at += l
	}
}

func (d *duel) blob() *twofold.Blob {
	if d.rnd.IntN(3) > 0 || d.blobs == 0 {
		d.blobs++
	}
	return &twofold.Blob{ID: twofold.MakeBlobID(d.session, d.blobs), Data: 2, Parity: 2, Size: 100}
}

func (d *duel) content() metadata.Content {
	c := metadata.Content{ETag: fmt.Sprintf("etag-%d", d.rnd.IntN(3))}
	if d.rnd.IntN(2) == 0 {
		c.UserMeta = map[string]string{"k": fmt.Sprint(d.rnd.IntN(9))}
	}
	if d.rnd.IntN(4) == 0 {
		mode, uid, when := uint32(d.rnd.IntN(0o10000)), uint32(5), twofold.Time(d.rnd.IntN(100))
		c.Posix = &metadata.PosixAttrs{Mode: &mode, UID: &uid, Mtime: &when}
	}
	return c
}

func (d *duel) cond() (c metadata.Conditions) {
	switch d.rnd.IntN(12) {
	case 0:
		c.IfMatch = "*"
	case 1:
		c.IfMatch = "etag-1"
	case 2:
		c.IfNoneMatch = "*"
	case 3:
		c.IfNoneMatch = "etag-2"
	}
	return c
}

// version is what a caller that has just read the inode knows; sometimes it's late.
// named makes the source of a copy what some key names, mostly of the inode that it is.
func (d *duel) named(c *metadata.CopyObject) {
	var all []*mnode
	for n := range d.m.nodes {
		if n.typ == metadata.TypeFile {
			all = append(all, n)
		}
	}
	keys := map[*mnode]string{}
	var walk func(dir *mnode, path string)
	walk = func(dir *mnode, path string) {
		for s, n := range dir.children {
			if strings.HasSuffix(s, "/") {
				walk(n, path+s)
			} else if s != "" && (keys[n] == "" || path+s < keys[n]) {
				keys[n] = path + s
			}
		}
	}
	for _, b := range d.m.buckets {
		walk(b.root, "")
	}
	slices.SortFunc(all, func(a, b *mnode) int { return cmp.Compare(a.ino, b.ino) })
	all = slices.DeleteFunc(all, func(n *mnode) bool { return keys[n] == "" })
	if len(all) == 0 {
		return
	}
	n := pick(d, all...)
	c.SrcBucket, c.SrcKey, c.SrcCtime = n.bucket.id, twofold.Key(keys[n]), n.attr.Ctime
	if d.rnd.IntN(4) > 0 {
		c.Src, c.SrcVersion = n.ino, n.version
	}
	if d.rnd.IntN(8) == 0 {
		c.SrcCtime--
	}
}

func (d *duel) version(ino twofold.Ino) uint64 {
	if n := d.m.byIno(ino); n != nil && d.rnd.IntN(6) > 0 {
		return n.version
	}
	return 1
}

func opt[T any](d *duel, v T) *T {
	if d.rnd.IntN(2) == 0 {
		return nil
	}
	return &v
}

// step runs one random command on both, and compares.
func (d *duel) step() {
	d.m.now = d.now + 1
	if d.usage && d.rnd.IntN(5) == 0 {
		d.usageStep()
		return
	}
	switch d.rnd.IntN(30) {
	case 26, 27, 28, 29:
		d.batchStep()
	case 0:
		d.bucketStep()
	case 1, 2, 3, 4:
		size := int64(d.rnd.IntN(80))
		c := metadata.PutObject{Bucket: d.someBucket(), Key: d.key(), Content: d.content(), Extents: d.extents(0, size), Cond: d.cond()}
		c.Content.Size = size
		both(d, metadata.OpPutObject, c, d.m.putObject)
	case 5, 6:
		both(d, metadata.OpDeleteObject, metadata.DeleteObject{Bucket: d.someBucket(), Key: d.key() + twofold.Key(pick(d, "", "", "/")), Cond: d.cond()}, func(c metadata.DeleteObject) outcome {
			if c.Key == "" {
				if d.m.bucketByID(c.Bucket) == nil {
					return bad(errs.NoBucket)
				}
				return bad(errs.Invalid)
			}
			return d.m.deleteObject(c)
		})
	case 7, 8:
		src := d.ino(metadata.TypeFile, metadata.TypeSymlink)
		c := metadata.CopyObject{Src: src, SrcVersion: d.version(src), Bucket: d.someBucket(), Key: d.key() + "a", Content: d.content(), Cond: d.cond()}
		if d.rnd.IntN(2) == 0 {
			d.named(&c)
		}
		both(d, metadata.OpCopyObject, c, d.m.copyObject)
	case 9, 10, 11, 12:
		d.uploadStep()
	case 13, 14:
		c := metadata.Create{Parent: d.dirIno(), Name: d.name(), Type: pick(d, metadata.TypeFile, metadata.TypeDir, metadata.TypeSymlink, metadata.TypeFIFO),
			Mode: uint32(d.rnd.IntN(0o10000)), Asked: uint32(d.rnd.IntN(0o1000)), UID: 1, GID: uint32(d.rnd.IntN(3)), Exclusive: d.rnd.IntN(2) == 0}
		if c.Type == metadata.TypeSymlink {
			c.Target = "to/" + d.comp()
		}
		both(d, metadata.OpCreate, c, d.m.create)
	case 15:
		both(d, metadata.OpLink, metadata.Link{Ino: d.ino(), Parent: d.dirIno(), Name: d.name()}, d.m.link)
	case 16:
		dir, name := d.entry()
		both(d, metadata.OpUnlink, metadata.Unlink{Parent: dir, Name: name}, d.m.unlink)
	case 17:
		dir, name := d.entry()
		both(d, metadata.OpRmdir, metadata.Rmdir{Parent: dir, Name: name}, d.m.rmdir)
	case 18, 19:
		c := metadata.Rename{Flags: pick[uint32](d, 0, 0, 0, 1, 2, 2, 3)}
		c.OldParent, c.OldName = d.entry()
		c.NewParent, c.NewName = d.dirIno(), d.name()
		if c.Flags == 2 || d.rnd.IntN(3) == 0 {
			c.NewParent, c.NewName = d.entry()
		}
		both(d, metadata.OpRename, c, d.m.rename)
	case 20, 21:
		off := int64(d.rnd.IntN(60))
		c := metadata.Write{Ino: d.ino(metadata.TypeFile), Extents: d.extents(off, int64(d.rnd.IntN(70))), KillPriv: d.rnd.IntN(2) == 0}
		if d.rnd.IntN(4) == 0 {
			c.Mtime, c.Atime = twofold.Time(8), twofold.Time(9)
		}
		for _, e := range c.Extents {
			c.Size = e.Off + e.Len + int64(d.rnd.IntN(2))
		}
		for d.rnd.IntN(3) == 0 {
			c.Punch = append(c.Punch, metadata.Range{Off: int64(d.rnd.IntN(60)), Len: int64(d.rnd.IntN(40))})
		}
		both(d, metadata.OpWrite, c, d.m.write)
	default:
		d.attrStep()
	}
}

func (d *duel) bucketStep() {
	name := twofold.BucketName(pick(d, "one", "two"))
	if d.rnd.IntN(3) == 0 {
		both(d, metadata.OpDeleteBucket, metadata.DeleteBucket{Name: name}, d.m.deleteBucket)
	} else {
		both(d, metadata.OpCreateBucket, metadata.CreateBucket{Name: name}, d.m.createBucket)
	}
}

func (d *duel) uploadStep() {
	ids := []twofold.UploadID{{99}}
	for id := range d.m.uploads {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b twofold.UploadID) int { return bytes.Compare(a[:], b[:]) })
	id := ids[d.rnd.IntN(len(ids))]
	switch d.rnd.IntN(7) {
	case 0:
		d.upload++
		u := metadata.Upload{ID: twofold.UploadID{1, d.upload}, Bucket: d.someBucket(), Key: d.key() + "k", UserMeta: map[string]string{"u": "1"}}
		both(d, metadata.OpCreateUpload, metadata.CreateUpload{Upload: u}, d.m.createUpload)
	case 1, 2, 3, 4:
		size := pick(d, int64(twofold.MinPartLen), 60)
		c := metadata.PutPart{Upload: id, Part: metadata.Part{Number: 1 + d.rnd.IntN(3), Size: size, ETag: pick(d, "p1", "p2")}}
		if d.rnd.IntN(3) == 0 {
			c.Src = d.ino(metadata.TypeFile)
			c.SrcVersion = d.version(c.Src)
			c.SrcOff, c.Part.Size = int64(d.rnd.IntN(20)), int64(d.rnd.IntN(40))
		} else {
			c.Part.Extents = d.extents(0, 60)
		}
		both(d, metadata.OpPutPart, c, d.m.putPart)
	case 5:
		c := metadata.CompleteUpload{Upload: id, Content: metadata.Content{ETag: "done"}, Cond: d.cond()}
		if u := d.m.uploads[id]; u != nil {
			for _, n := range slices.Sorted(maps.Keys(u.parts)) {
				if d.rnd.IntN(4) > 0 {
					c.Parts = append(c.Parts, metadata.PartRef{Number: n, ETag: u.parts[n].etag})
				}
			}
			if d.rnd.IntN(8) == 0 {
				c.Parts = append(c.Parts, metadata.PartRef{Number: 1 + d.rnd.IntN(3), ETag: "p1"})
			}
		}
		both(d, metadata.OpCompleteUpload, c, d.m.completeUpload)
	case 6:
		if d.rnd.IntN(3) == 0 {
			both(d, metadata.OpAbortUpload, metadata.AbortUpload{Upload: id}, func(c metadata.AbortUpload) outcome {
				if d.m.uploads[c.Upload] == nil {
					return bad(errs.NoUpload)
				}
				delete(d.m.uploads, c.Upload)
				return good
			})
		}
	}
}

func (d *duel) attrStep() {
	switch d.rnd.IntN(6) {
	case 5:
		d.aclStep()
	case 0:
		c := metadata.SetAttr{Ino: d.ino(), Mode: opt(d, uint32(d.rnd.IntN(0o10000))), UID: opt(d, uint32(3)), Mtime: opt(d, twofold.Time(7)), KillPriv: d.rnd.IntN(3) == 0}
		both(d, metadata.OpSetAttr, c, d.m.setAttr)
	case 1:
		size := int64(d.rnd.IntN(80))
		both(d, metadata.OpSetAttr, metadata.SetAttr{Ino: d.ino(metadata.TypeFile), Size: &size, ETag: pick(d, "", "known")}, d.m.setAttr)
	case 2:
		both(d, metadata.OpSetXattrs, metadata.SetXattrs{Ino: d.ino(), Space: metadata.SpaceUserMeta, Name: pick(d, "k", "l"), Value: []byte("v"),
			Remove: d.rnd.IntN(3) == 0, Flags: uint32(d.rnd.IntN(3))}, d.m.setXattrs)
	case 3:
		n := d.node(func(n *mnode) bool { return n.links == 0 })
		if n == nil {
			return
		}
		if d.rnd.IntN(2) == 0 {
			d.freeSeveral(n)
			return
		}
		before := d.m.nodes[n]
		for more := before; more; {
			more = d.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: n.ino, Max: 1 + d.rnd.IntN(2)}).More
		}
		d.m.freeInode(metadata.FreeInode{Ino: n.ino})
		d.compare()
	case 4:
		n := d.node(func(n *mnode) bool { return n.typ == metadata.TypeFile && n.data.size > 0 })
		if n == nil {
			return
		}
		off := d.rnd.Int64N(n.data.size)
		c := metadata.ReplaceExtents{Ino: n.ino, Version: d.version(n.ino), Off: off, Len: 1 + d.rnd.Int64N(n.data.size-off)}
		c.Extents = d.extents(off, c.Len)
		both(d, metadata.OpReplaceExtents, c, d.m.replaceExtents)
	}
}

// freeSeveral frees a node without links, and others that may have some, or be gone.
func (d *duel) freeSeveral(n *mnode) {
	c := metadata.FreeInodes{Inos: []twofold.Ino{n.ino}, Max: 1 + d.rnd.IntN(4)}
	for range d.rnd.IntN(4) {
		more := d.node(func(n *mnode) bool { return n.links == 0 || d.rnd.IntN(20) == 0 })
		c.Inos = append(c.Inos, more.ino, more.ino+1000)
	}
	for d.ok(metadata.OpFreeInodes, c).More {
	}
	for _, ino := range c.Inos {
		d.m.freeInode(metadata.FreeInode{Ino: ino})
	}
	d.compare()
}

func TestModel(t *testing.T) {
	seeds, steps := 40, 250
	if testing.Short() {
		seeds = 5
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d := newDuel(t, seed)
			for range steps {
				d.step()
				if d.rnd.IntN(50) == 0 {
					d.reopen()
				}
			}
			d.replay()
		})
	}
}

// replay applies the whole log again, cut differently, with stops in between: the
// stores must be the same, byte for byte.
func (d *duel) replay() {
	want := dump(d.t, d.store)
	for range 3 {
		store := kv.NewMemory()
		o := Options{MaxWrite: pick(d, 1, 2000, 1<<20), CacheBytes: pick(d, 1, 10_000, 1<<20), ExtentBytes: pick(d, 1, 4000, 0)}
		log := d.log
		for len(log) > 0 {
			m, err := New(store, o)
			if err != nil {
				d.t.Fatal(err)
			}
			for range 1 + d.rnd.IntN(5) {
				n := min(1+d.rnd.IntN(40), len(log))
				if _, err := m.ApplyBatch(log[:n]); err != nil {
					d.t.Fatal(err)
				}
				log = log[max(0, n-d.rnd.IntN(3)):] // some come again
				if n == len(log) || n == 0 {
					break
				}
			}
			if m.Applied() == d.index {
				break
			}
		}
		if got := dump(d.t, store); got != want {
			d.t.Fatalf("the same log, other bytes:\n%s\n%s", got, want)
		}
	}
}

func dump(t testing.TB, s kv.Store) string {
	var b strings.Builder
	err := s.View(func(r kv.Reader) error {
		return r.Scan(nil, nil, func(k, v []byte) (bool, error) {
			fmt.Fprintf(&b, "%x=%x\n", k, v)
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
