package history

import "slices"

// step reports whether the answer is right in this state, and what the state is
// afterwards. An operation of unknown outcome is always right and has its effect; that
// it never happened is its place at the end of the history, where nobody looks.
func (t *tree) step(op *Op, out *Out) (bool, *tree) {
	if out.Torn != "" {
		return false, t
	}
	switch op.Kind {
	case Put, Get, Head, Delete, List, Copy, Complete:
		return t.stepS3(op, out)
	case Died, Lossy:
		c := t.clone()
		if op.Kind == Died {
			c.died(op.View)
		} else {
			c.lossy |= 1 << op.View
		}
		return true, c
	case Lookup, Create, Unlink, Rename, Link, Mkdir, Rmdir, ReadDir:
		return t.stepName(op, out)
	}
	return t.stepFile(op, out)
}

// answer is what a change comes to: the state it leads to if it was to succeed and did,
// or is not known; this state if it was to fail and did.
func (t *tree) answer(out *Out, next *tree, errs ...string) (bool, *tree) {
	if len(errs) == 0 {
		return out.Unknown || out.Err == "", next
	}
	return out.Unknown || slices.Contains(errs, out.Err), t
}

// see notes an ETag, which stays the same as long as the content does.
func (t *tree) see(id uint64, etag string) bool {
	n := t.node(id)
	if etag == "" || n.etag == etag {
		return true
	}
	if n.etag != "" {
		return false
	}
	t.edit(id).etag = etag
	return true
}

func (t *tree) stepS3(op *Op, out *Out) (bool, *tree) {
	switch op.Kind {
	case Get, Head:
		return t.get(op, out)
	case List:
		return t.list(op, out)
	case Delete:
		c := t.clone()
		c.delete(op.Key)
		return t.answer(out, c)
	case Copy:
		return t.copy(op, out)
	}
	if ok, certain := t.allows(op, out); !ok {
		return false, t
	} else if out.Err != "" && !out.Unknown || !certain {
		return true, t
	}
	c := t.clone()
	if op.IfETag != "" {
		n := c.object(op.Key)
		if !c.observe(n.id, S3View, func(x content) bool { return x == op.IfData }) || !c.see(n.id, op.IfETag) {
			return out.Unknown, t
		}
	}
	c.put(op.Key, op, []content{op.Data}, op.Meta, out.ETag)
	return true, c
}

// allows reports whether a conditional PUT may answer what it did, and, for one of
// unknown outcome, whether it is done.
func (t *tree) allows(op *Op, out *Out) (ok, done bool) {
	n := t.object(op.Key)
	want := ""
	switch {
	case op.Flag && n != nil:
		want = "PreconditionFailed"
	case op.IfETag != "" && n == nil:
		want = "NoSuchKey"
	case op.IfETag != "" && n.etag != "" && n.etag != op.IfETag:
		want = "PreconditionFailed"
	case op.IfETag != "" && n.etag == "":
		// The content may be the one that had this ETag and have another one now.
		if out.Err == "PreconditionFailed" {
			return true, false
		}
	}
	return out.Unknown || out.Err == want, want == ""
}

// put makes a new inode of a key: that of PUT, COPY and COMPLETE.
func (t *tree) put(key string, op *Op, now []content, meta uint32, etag string) {
	dir, base, part := uint64(rootID), "", uint64(0)
	for rest := key; ; part++ {
		i := slices.Index([]byte(rest), '/')
		if i < 0 {
			base = rest
			break
		}
		comp := rest[:i]
		rest = rest[i+1:]
		n := t.child(dir, comp)
		if n == nil {
			n = t.make(node{id: op.id(part), dir: true, holder: none})
			t.add(dir, comp, n.id)
		}
		dir = n.id
	}
	if base == "" {
		t.makeExplicit(dir)
		return
	}
	if t.child(dir, base) != nil {
		t.remove(dir, base)
	}
	n := t.make(node{id: op.id(part), holder: none, now: now, meta: meta, etag: etag})
	t.add(dir, base, n.id)
}

// id is what an inode is called that the operation makes.
func (o *Op) id(part uint64) uint64 { return uint64(o.N)<<8 | 1<<7 | part }

func (t *tree) delete(key string) {
	dir, base := t.walk(key)
	switch {
	case dir == 0:
	case base == "":
		if dir != rootID {
			t.edit(dir).explicit = false
			t.prune(dir)
		}
	case t.child(dir, base) != nil:
		t.remove(dir, base)
		t.prune(dir)
	}
}

func (t *tree) copy(op *Op, out *Out) (bool, *tree) {
	src := t.object(op.Key)
	if src == nil {
		return t.answer(out, t, "NoSuchKey")
	}
	c := t.clone()
	c.settle(src.id, S3View)
	src = c.node(src.id)
	if c.object(op.To) == src {
		return t.answer(out, c) // a copy onto itself keeps the inode
	}
	c.put(op.To, op, src.now, src.meta, out.ETag)
	return t.answer(out, c)
}

func (t *tree) get(op *Op, out *Out) (bool, *tree) {
	n := t.object(op.Key)
	if n == nil {
		return t.answer(out, t, "NoSuchKey")
	}
	c := t.clone()
	if out.Err == "InvalidRange" && op.Len > 0 {
		return c.observe(n.id, S3View, func(x content) bool { return x.len() <= op.Off }), c
	}
	if out.Err != "" || n.meta != out.Meta {
		return false, t
	}
	is := func(x content) bool { return x.len() == out.Size }
	if op.Kind == Get && op.Len == 0 {
		is = func(x content) bool { return x == out.Data }
	} else if op.Kind == Get {
		is = func(x content) bool {
			return x.len() == out.Size && op.Off < x.len() && x.cut(op.Off, op.Len) == out.Data
		}
	}
	return c.observe(n.id, S3View, is) && c.see(n.id, out.ETag), c
}

func (t *tree) list(op *Op, out *Out) (bool, *tree) {
	c := t.clone()
	got := out.List
	ok := true
	var walk func(dir uint64, path string)
	next := func(key string, prefix bool) *Listed {
		if !ok || len(got) == 0 || got[0].Key != key || got[0].Prefix != prefix {
			ok = false
			return nil
		}
		l := &got[0]
		got = got[1:]
		return l
	}
	walk = func(dir uint64, path string) {
		// Names of files and directories are in S3's order: none begins another.
		for _, e := range slices.Clone(c.children(dir)) {
			n := c.node(e.id)
			if n.dir {
				if op.Flag {
					next(path+e.name+"/", true)
					continue
				}
				if n.explicit {
					next(path+e.name+"/", false)
				}
				walk(n.id, path+e.name+"/")
				continue
			}
			l := next(path+e.name, false)
			ok = ok && c.observe(n.id, S3View, func(x content) bool { return x.len() == l.Size }) && c.see(n.id, l.ETag)
		}
	}
	dir, _ := c.walk(op.Key) // a prefix is "" or a directory's key
	if dir != 0 {
		if dir != rootID && c.node(dir).explicit {
			next(op.Key, false)
		}
		walk(dir, op.Key)
	}
	return ok && len(got) == 0, c
}
