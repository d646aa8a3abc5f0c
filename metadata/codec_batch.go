package metadata

import (
	"math"

	"twofold"
	"twofold/internal/errs"
)

// The codec of a Batch's body, which a mount may send fifty times a second with
// hundreds of operations. The operations' bodies are the bytes that the reflecting
// encoder makes of them in a command of their own.
//
//	array of 2: session, array of operations
//	operation: array of 5: its Op, Now, Ino, Replaced, body

// opOf is the operation of a body in a batch; 0 where it can't be in one.
func opOf(body any) Op {
	switch body.(type) {
	case *Create:
		return OpCreate
	case *Write:
		return OpWrite
	case *SetAttr:
		return OpSetAttr
	case *Unlink:
		return OpUnlink
	case *Rmdir:
		return OpRmdir
	case *Rename:
		return OpRename
	}
	return 0
}

// Frees reports whether all that a batch does is to remove names.
func (c *Batch) Frees() bool {
	for i := range c.Ops {
		switch c.Ops[i].Body.(type) {
		case *Unlink, *Rmdir:
		default:
			return false
		}
	}
	return true
}

// size is about how many bytes the body takes, and rather more.
func (c *Batch) size() int {
	n := 64
	for i := range c.Ops {
		n += 192
		switch b := c.Ops[i].Body.(type) {
		case *Create:
			n += len(b.Name.Comp) + len(b.Target)
		case *Write:
			n += len(b.ETag)
			for k := range b.Extents {
				n += 64 + len(b.Extents[k].Data)
			}
		case *Unlink:
			n += len(b.Name.Comp)
		case *Rename:
			n += len(b.OldName.Comp) + len(b.NewName.Comp)
		}
	}
	return n
}

func appendBatch(b []byte, c *Batch) ([]byte, error) {
	b = appendHead(append(b, majorArray<<5|2), majorUint, uint64(c.Session))
	b = appendHead(b, majorArray, uint64(len(c.Ops)))
	for i := range c.Ops {
		o := &c.Ops[i]
		op := opOf(o.Body)
		if op == 0 {
			return nil, errs.Newf("metadata.Encode", errs.Invalid, "operation %d of a batch has a body of type %T", i, o.Body)
		}
		b = appendHead(append(b, majorArray<<5|5), majorUint, uint64(op))
		b = appendInt(b, int64(o.Now))
		b = appendHead(b, majorUint, uint64(o.Ino))
		b = appendHead(b, majorUint, uint64(o.Replaced))
		b = appendBody(b, o.Body)
	}
	return b, nil
}

func appendBody(b []byte, body any) []byte {
	w := beginMap(b)
	switch c := body.(type) {
	case *Create:
		w.alwaysUint(1, uint64(c.Parent))
		w.name(2, &c.Name)
		w.alwaysUint(3, uint64(c.Type))
		w.alwaysUint(4, uint64(c.Mode))
		w.alwaysUint(5, uint64(c.UID))
		w.alwaysUint(6, uint64(c.GID))
		w.uint(7, uint64(c.Rdev))
		w.text(8, c.Target)
		w.bool(9, c.Exclusive)
		w.uint(10, uint64(c.Asked))
	case *Write:
		w.write(c)
	case *SetAttr:
		w.setAttr(c)
	case *Unlink:
		w.alwaysUint(1, uint64(c.Parent))
		w.name(2, &c.Name)
	case *Rmdir:
		w.alwaysUint(1, uint64(c.Parent))
		w.name(2, &c.Name)
	case *Rename:
		w.alwaysUint(1, uint64(c.OldParent))
		w.name(2, &c.OldName)
		w.alwaysUint(3, uint64(c.NewParent))
		w.name(4, &c.NewName)
		w.uint(5, uint64(c.Flags))
	}
	return w.end()
}

func (w *mapWriter) name(k uint64, n *Name) {
	w.key(k)
	v := beginMap(w.b)
	v.key(1)
	v.b = appendText(v.b, n.Comp)
	v.bool(2, n.File)
	w.b = v.end()
}

func (w *mapWriter) write(c *Write) {
	w.alwaysUint(1, uint64(c.Ino))
	if len(c.Extents) > 0 {
		w.key(2)
		w.b = appendHead(w.b, majorArray, uint64(len(c.Extents)))
		for i := range c.Extents {
			w.b = appendExtent(w.b, &c.Extents[i])
		}
	}
	if len(c.Punch) > 0 {
		w.key(3)
		w.b = appendHead(w.b, majorArray, uint64(len(c.Punch)))
		for _, r := range c.Punch {
			w.b = appendInt(appendInt(append(w.b, majorArray<<5|2), r.Off), r.Len)
		}
	}
	w.int(4, c.Size)
	w.int(5, int64(c.Mtime))
	w.text(6, c.ETag)
	w.bool(7, c.KillPriv)
	w.bool(8, c.Unbounded)
	w.int(9, int64(c.Atime))
	if c.Crowd != nil {
		w.key(10)
		w.b = appendInt(appendInt(append(w.b, majorArray<<5|2), int64(c.Crowd.Extents)), c.Crowd.Bytes)
	}
}

func (w *mapWriter) setAttr(c *SetAttr) {
	w.alwaysUint(1, uint64(c.Ino))
	for i, p := range []*uint32{c.Mode, c.UID, c.GID} {
		if p != nil {
			w.alwaysUint(uint64(2+i), uint64(*p))
		}
	}
	if c.Size != nil {
		w.alwaysInt(5, *c.Size)
	}
	for i, p := range []*twofold.Time{c.Atime, c.Mtime} {
		if p != nil {
			w.alwaysInt(uint64(6+i), int64(*p))
		}
	}
	w.text(8, c.ETag)
	w.bool(9, c.KillPriv)
}

// batch reads what appendBatch wrote. Inline data stays where it is: it shares the memory of
// what is read.
func (r *cborReader) batch(c *Batch) {
	if r.want(majorArray) != 2 {
		r.fail(errForm)
	}
	c.Session = twofold.SessionID(r.uint(math.MaxUint64))
	n := r.count(majorArray, 8)
	if n > 0 {
		c.Ops = make([]BatchOp, n)
	}
	for i := range c.Ops {
		o := &c.Ops[i]
		if r.want(majorArray) != 5 {
			r.fail(errForm)
		}
		op := Op(r.uint(math.MaxUint16))
		o.Now = twofold.Time(r.int())
		o.Ino = twofold.Ino(r.uint(math.MaxUint64))
		o.Replaced = twofold.Ino(r.uint(math.MaxUint64))
		if o.Body = r.body(op); r.err != nil {
			return
		}
	}
}

func (r *cborReader) body(op Op) any {
	switch op {
	case OpCreate:
		return r.create()
	case OpWrite:
		return r.write()
	case OpSetAttr:
		return r.setAttr()
	case OpUnlink:
		c := &Unlink{}
		c.Parent, c.Name = r.named()
		return c
	case OpRmdir:
		c := &Rmdir{}
		c.Parent, c.Name = r.named()
		return c
	case OpRename:
		return r.rename()
	}
	r.fail(errForm)
	return nil
}

// need fails where a field is missing that is always written.
func (r *cborReader) need(have, want uint64) {
	if r.err == nil && have&want != want {
		r.fail(errField)
	}
}

func (r *cborReader) name() (n Name) {
	have := uint64(0)
	r.fields(func(k uint64) {
		switch k {
		case 1:
			n.Comp = r.text()
			have = 1
		case 2:
			n.File = r.bool()
		default:
			r.fail(errField)
		}
	})
	r.need(have, 1)
	return n
}

func (r *cborReader) named() (dir twofold.Ino, n Name) {
	have := uint64(0)
	r.fields(func(k uint64) {
		switch k {
		case 1:
			dir = twofold.Ino(r.uint(math.MaxUint64))
		case 2:
			n = r.name()
		default:
			r.fail(errField)
		}
		have |= 1 << (k & 63)
	})
	r.need(have, 1<<1|1<<2)
	return dir, n
}

func (r *cborReader) create() *Create {
	c, have := &Create{}, uint64(0)
	r.fields(func(k uint64) {
		switch k {
		case 1:
			c.Parent = twofold.Ino(r.uint(math.MaxUint64))
		case 2:
			c.Name = r.name()
		case 3:
			c.Type = Type(r.uint(math.MaxUint8))
		case 4:
			c.Mode = uint32(r.uint(math.MaxUint32))
		case 5:
			c.UID = uint32(r.uint(math.MaxUint32))
		case 6:
			c.GID = uint32(r.uint(math.MaxUint32))
		case 7:
			c.Rdev = uint32(r.uint(math.MaxUint32))
		case 8:
			c.Target = r.text()
		case 9:
			c.Exclusive = r.bool()
		case 10:
			c.Asked = uint32(r.uint(math.MaxUint32))
		default:
			r.fail(errField)
		}
		have |= 1 << (k & 63)
	})
	r.need(have, 1<<1|1<<2|1<<3|1<<4|1<<5|1<<6)
	return c
}

func (r *cborReader) rename() *Rename {
	c, have := &Rename{}, uint64(0)
	r.fields(func(k uint64) {
		switch k {
		case 1:
			c.OldParent = twofold.Ino(r.uint(math.MaxUint64))
		case 2:
			c.OldName = r.name()
		case 3:
			c.NewParent = twofold.Ino(r.uint(math.MaxUint64))
		case 4:
			c.NewName = r.name()
		case 5:
			c.Flags = uint32(r.uint(math.MaxUint32))
		default:
			r.fail(errField)
		}
		have |= 1 << (k & 63)
	})
	r.need(have, 1<<1|1<<2|1<<3|1<<4)
	return c
}

func (r *cborReader) write() *Write {
	c, have := &Write{}, uint64(0)
	r.fields(func(k uint64) {
		switch k {
		case 1:
			c.Ino = twofold.Ino(r.uint(math.MaxUint64))
			have = 1
		case 2:
			c.Extents = make([]Extent, r.count(majorArray, 3))
			for i := range c.Extents {
				r.extent(&c.Extents[i], true)
			}
		case 3:
			c.Punch = make([]Range, r.count(majorArray, 3))
			for i := range c.Punch {
				if r.want(majorArray) != 2 {
					r.fail(errForm)
				}
				c.Punch[i] = Range{Off: r.int(), Len: r.int()}
			}
		case 4:
			c.Size = r.int()
		case 5:
			c.Mtime = twofold.Time(r.int())
		case 6:
			c.ETag = r.text()
		case 7:
			c.KillPriv = r.bool()
		case 8:
			c.Unbounded = r.bool()
		case 9:
			c.Atime = twofold.Time(r.int())
		case 10:
			if r.want(majorArray) != 2 {
				r.fail(errForm)
			}
			c.Crowd = &Crowd{Extents: int(r.int()), Bytes: r.int()}
		default:
			r.fail(errField)
		}
	})
	r.need(have, 1)
	return c
}

func (r *cborReader) setAttr() *SetAttr {
	c, have := &SetAttr{}, uint64(0)
	number := func() *uint32 { n := uint32(r.uint(math.MaxUint32)); return &n }
	clock := func() *twofold.Time { t := twofold.Time(r.int()); return &t }
	r.fields(func(k uint64) {
		switch k {
		case 1:
			c.Ino = twofold.Ino(r.uint(math.MaxUint64))
			have = 1
		case 2:
			c.Mode = number()
		case 3:
			c.UID = number()
		case 4:
			c.GID = number()
		case 5:
			n := r.int()
			c.Size = &n
		case 6:
			c.Atime = clock()
		case 7:
			c.Mtime = clock()
		case 8:
			c.ETag = r.text()
		case 9:
			c.KillPriv = r.bool()
		default:
			r.fail(errField)
		}
	})
	r.need(have, 1)
	return c
}
