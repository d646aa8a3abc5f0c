package fsm

import (
	"maps"
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// clone is a copy that shares nothing that commands change.
func (m *model) clone() *model {
	c := newModel()
	c.now = m.now
	maps.Copy(c.config, m.config)
	buckets, nodes := map[*mbucket]*mbucket{}, map[*mnode]*mnode{nil: nil}
	copied := func(b *mbucket) *mbucket {
		if b != nil && buckets[b] == nil {
			n := *b
			buckets[b] = &n
		}
		return buckets[b]
	}
	for n := range m.nodes {
		x := *n
		x.bucket, x.data = copied(n.bucket), n.data.clone()
		nodes[n] = &x
		c.nodes[&x] = true
	}
	for n, x := range nodes {
		if n == nil {
			continue
		}
		x.up, x.children = nodes[n.up], map[string]*mnode{}
		for s, child := range n.children {
			x.children[s] = nodes[child]
		}
	}
	for name, b := range m.buckets {
		x := copied(b)
		x.root = nodes[b.root]
		c.buckets[name] = x
	}
	for id, u := range m.uploads {
		c.uploads[id] = &mupload{u.Upload, maps.Clone(u.parts)}
	}
	return c
}

// standsFor is the number of what a name means; 0: nothing.
func (m *model) standsFor(dir twofold.Ino, n metadata.Name) twofold.Ino {
	if d := m.byIno(dir); d != nil {
		if x := m.lookup(d, n); x != nil {
			return x.ino
		}
	}
	return 0
}

// batchOp is what one operation of a batch makes of the model.
// made are the nodes that the batch has made before.
func (m *model) batchOp(o metadata.BatchOp, made map[*mnode]bool) outcome {
	m.now = o.Now
	defer m.watch()()
	is := func(dir twofold.Ino, n metadata.Name, ino twofold.Ino) bool {
		_, o := m.dir(dir)
		return !o.failed && m.standsFor(dir, n) == ino
	}
	no := bad(errs.Conflict)
	switch c := o.Body.(type) {
	case *metadata.Create:
		if !is(c.Parent, c.Name, 0) {
			return no
		}
		out := m.create(*c)
		if !out.failed {
			n := m.lookup(m.byIno(c.Parent), c.Name)
			n.ino = o.Ino
			made[n] = true
		}
		return out
	case *metadata.Write:
		return m.write(*c)
	case *metadata.SetAttr:
		return m.setAttr(*c)
	case *metadata.Unlink:
		if !is(c.Parent, c.Name, o.Ino) {
			return no
		}
		return m.unlink(*c)
	case *metadata.Rmdir:
		if !is(c.Parent, c.Name, o.Ino) {
			return no
		}
		return m.rmdir(*c)
	case *metadata.Rename:
		if !is(c.OldParent, c.OldName, o.Ino) || !is(c.NewParent, c.NewName, o.Replaced) {
			return no
		}
		if n := m.byIno(o.Ino); n != nil && len(n.children) > 0 && !made[n] {
			return no
		}
		return m.rename(*c)
	}
	return no
}

// reserveInos has the session get numbers, sometimes.
func (d *duel) reserveInos() {
	if d.rnd.IntN(4) > 0 && len(d.inos) > 0 {
		return
	}
	n := 1 + d.rnd.IntN(12)
	res := d.do(metadata.OpReserveInos, metadata.ReserveInos{Session: d.session, N: uint64(n)})
	if res.Failed && res.Kind == errs.Busy {
		return
	}
	first := twofold.Ino(res.ID)
	if res.Failed || d.m.byIno(first) != nil {
		d.t.Fatalf("step %d: %d numbers from %d on: %+v", d.seq, n, first, res)
	}
	var all []twofold.Ino
	for i := range n {
		all = append(all, first+twofold.Ino(i))
	}
	if k := len(d.inos) - 1; k >= 0 && d.inos[k][len(d.inos[k])-1]+1 == first {
		d.inos[k] = append(d.inos[k], all...)
		return
	}
	d.inos = append(d.inos, all)
}

// newIno takes a number, and reports whether it is one that may be taken.
func (d *duel) newIno(left [][]twofold.Ino) (ino twofold.Ino, rest [][]twofold.Ino, ok bool) {
	if len(left) == 0 || d.rnd.IntN(30) == 0 {
		return pick(d, twofold.Ino(77), d.ino()), left, false
	}
	k := d.rnd.IntN(len(left))
	at := 0
	if d.rnd.IntN(5) == 0 {
		at = d.rnd.IntN(len(left[k]))
	}
	ino = left[k][at]
	for i, r := range left {
		if i == k {
			r = r[at+1:]
		}
		if len(r) > 0 {
			rest = append(rest, r)
		}
	}
	return ino, rest, true
}

func (d *duel) batchOp() metadata.BatchOp {
	o := metadata.BatchOp{Now: d.now + twofold.Time(d.rnd.IntN(3))}
	wrong := d.rnd.IntN(25) == 0
	switch d.rnd.IntN(10) {
	case 0, 1, 2, 3:
		c := &metadata.Create{Parent: d.dirIno(), Name: metadata.Name{Comp: pick(d, "p", "q", "r", "s", d.comp())},
			Type: pick(d, metadata.TypeFile, metadata.TypeFile, metadata.TypeDir, metadata.TypeSymlink),
			Mode: uint32(d.rnd.IntN(0o10000)), UID: 1, GID: uint32(d.rnd.IntN(3))}
		for try := 0; try < 4 && d.m.standsFor(c.Parent, c.Name) != 0; try++ {
			c.Name.Comp += pick(d, "1", "2")
		}
		if c.Type == metadata.TypeSymlink {
			c.Target = "to/" + d.comp()
		}
		o.Body = c
	case 4, 5:
		off := int64(d.rnd.IntN(60))
		c := &metadata.Write{Ino: d.ino(metadata.TypeFile), Extents: d.extents(off, int64(d.rnd.IntN(70))), KillPriv: d.rnd.IntN(2) == 0}
		for _, e := range c.Extents {
			c.Size = e.Off + e.Len + int64(d.rnd.IntN(2))
		}
		o.Body = c
	case 6:
		o.Body = &metadata.SetAttr{Ino: d.ino(), Mode: opt(d, uint32(d.rnd.IntN(0o10000))), UID: opt(d, uint32(3)), Mtime: opt(d, twofold.Time(7))}
	case 7, 8:
		dir, name := d.entry()
		n := d.m.byIno(d.m.standsFor(dir, name))
		if n != nil {
			o.Ino = n.ino
		}
		if o.Body = any(&metadata.Unlink{Parent: dir, Name: name}); n != nil && n.typ == metadata.TypeDir {
			o.Body = &metadata.Rmdir{Parent: dir, Name: name}
		}
	default:
		c := &metadata.Rename{}
		c.OldParent, c.OldName = d.entry()
		c.NewParent, c.NewName = d.dirIno(), metadata.Name{Comp: pick(d, "p", "q", d.comp())}
		o.Ino, o.Replaced = d.m.standsFor(c.OldParent, c.OldName), d.m.standsFor(c.NewParent, c.NewName)
		o.Body = c
	}
	if wrong {
		o.Ino = pick(d, 0, o.Ino+1, d.ino())
		if _, ok := o.Body.(*metadata.Rename); ok && d.rnd.IntN(2) == 0 {
			o.Replaced++
		}
	}
	return o
}

// batchStep runs a batch on the machine, and its operations one by one on the model: all of
// them, or none.
func (d *duel) batchStep() {
	d.t.Helper()
	d.reserveInos()
	before, left := d.m, d.inos
	d.m = d.m.clone()
	counts := d.m.counts()
	c := metadata.Batch{Session: d.session}
	failed, made := -1, map[*mnode]bool{}
	for range 1 + d.rnd.IntN(8) {
		o := d.batchOp()
		if failed < 0 {
			numbered := true
			if _, ok := o.Body.(*metadata.Create); ok {
				o.Ino, left, numbered = d.newIno(left)
			}
			if !numbered || d.m.batchOp(o, made).failed {
				failed = len(c.Ops)
			}
		}
		c.Ops = append(c.Ops, o)
	}
	res := d.do(metadata.OpBatch, c)
	if res.Failed && res.Kind == errs.Quota {
		defer d.lift(counts)()
		res = d.do(metadata.OpBatch, c)
	} else {
		defer func() {
			if d.m != before {
				d.within(counts)
			}
		}()
	}
	switch {
	case res.Failed && res.Kind == errs.Conflict && strings.Contains(res.Msg, "not referred to"):
		d.m = before // a blob that was given up is offered again: the model knows no blobs
	case failed >= 0:
		if d.m = before; !res.Failed || res.Kind != errs.Conflict || res.ID != uint64(failed)+1 {
			d.t.Fatalf("step %d: a batch whose operation %d (%+v) fails: %+v\n%+v", d.seq, failed, c.Ops[failed].Body, res, c)
		}
	case res.Failed:
		d.t.Fatalf("step %d: a good batch: %+v\n%+v", d.seq, res, c)
	default:
		d.inos = left
		for _, o := range c.Ops {
			if w, ok := o.Body.(*metadata.Write); ok {
				for _, e := range w.Extents {
					if e.Blob != nil {
						d.used[e.Blob.ID] = true // in use now, or given up within the batch
					}
				}
			}
		}
	}
	d.compare()
}
