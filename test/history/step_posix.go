package history

import (
	"slices"
)

// gone is what may be answered about what is in a directory that was removed.
var gone = []string{"ENOENT", "ESTALE"}

// stepName are the operations on names.
func (t *tree) stepName(op *Op, out *Out) (bool, *tree) {
	dir := t.byNum(op.Dir)
	if dir == nil {
		return false, t // nobody can have had a descriptor of it
	}
	c := t.clone()
	if op.Kind == ReadDir {
		if dir.links == 0 {
			return slices.Contains(gone, out.Err) || out.Err == "" && len(out.Names) == 0, t
		}
		var names []string
		for _, e := range c.children(dir.id) {
			names = append(names, e.name)
		}
		return out.Err == "" && slices.Equal(names, out.Names), t
	}
	if dir.links == 0 {
		return t.answer(out, t, gone...)
	}
	n := c.child(dir.id, op.Name)
	switch op.Kind {
	case Lookup:
		if n == nil {
			return t.answer(out, t, "ENOENT")
		}
		return out.Err == "" && (out.Ino == 0 || c.bind(n.id, out.Ino)), c
	case Create:
		return t.create(op, out, c, dir, n)
	case Mkdir:
		if n != nil {
			return t.answer(out, t, "EEXIST")
		}
		n = c.make(node{id: op.id(0), dir: true, explicit: true, holder: none})
		c.add(dir.id, op.Name, n.id)
		c.makeExplicit(dir.id)
		return t.answer(out, c)
	case Link:
		return t.link(op, out, c, dir, n)
	case Rename:
		return t.rename(op, out, c, dir, n)
	}
	if n == nil {
		return t.answer(out, t, "ENOENT")
	}
	if op.Kind == Rmdir && len(c.children(n.id)) > 0 {
		return t.answer(out, t, "ENOTEMPTY")
	}
	c.remove(dir.id, op.Name)
	c.makeExplicit(dir.id)
	return t.answer(out, c)
}

// create is open(2) with O_CREAT, of a path that may be there.
func (t *tree) create(op *Op, out *Out, c *tree, dir, n *node) (bool, *tree) {
	if n != nil && op.Flag {
		return t.answer(out, t, "EEXIST")
	}
	if n == nil {
		n = c.make(node{id: op.id(0), now: []content{""}, holder: none})
		c.add(dir.id, op.Name, n.id)
		c.makeExplicit(dir.id)
	}
	if out.Ino != 0 && !c.bind(n.id, out.Ino) {
		return false, t
	}
	return t.answer(out, c)
}

// link is linkat(2) of an open file.
func (t *tree) link(op *Op, out *Out, c *tree, dir, n *node) (bool, *tree) {
	src := c.byNum(op.Ino)
	if src == nil {
		return false, t
	}
	var errs []string
	if n != nil {
		errs = append(errs, "EEXIST")
	}
	if src.links == 0 {
		errs = append(errs, gone...)
	}
	if len(errs) > 0 {
		return t.answer(out, t, errs...)
	}
	c.add(dir.id, op.Name, src.id)
	c.makeExplicit(dir.id)
	return t.answer(out, c)
}

// rename is renameat(2). Rounds rename files over files and directories over
// directories only, and no name of a file that has others.
func (t *tree) rename(op *Op, out *Out, c *tree, dir, n *node) (bool, *tree) {
	to := c.byNum(op.ToDir)
	if to == nil {
		return false, t
	}
	var errs []string
	if n == nil {
		errs = append(errs, "ENOENT")
	}
	if to.links == 0 {
		errs = append(errs, gone...)
	}
	if len(errs) > 0 {
		return t.answer(out, t, errs...)
	}
	if old := c.child(to.id, op.ToName); old == n {
		return t.answer(out, t)
	} else if old != nil {
		if old.dir && len(c.children(old.id)) > 0 {
			return t.answer(out, t, "ENOTEMPTY")
		}
		c.remove(to.id, op.ToName)
	}
	// The node must not go between its two names.
	c.add(to.id, op.ToName, n.id)
	c.remove(dir.id, op.Name)
	for _, id := range []uint64{dir.id, to.id, n.id} {
		c.makeExplicit(id)
	}
	return t.answer(out, c)
}

// stepFile are the operations on an open file.
func (t *tree) stepFile(op *Op, out *Out) (bool, *tree) {
	n := t.byNum(op.Ino)
	if n == nil {
		return false, t
	}
	if out.Err != "" && !out.Unknown {
		return false, t // none of these fails
	}
	c := t.clone()
	see := func(ok func(content) bool) (bool, *tree) { return c.observe(n.id, op.View, ok), c }
	change := func(held bool, f func(content) content) (bool, *tree) {
		c.change(n.id, op.View, held, f)
		return true, c
	}
	switch op.Kind {
	case GetAttr:
		if n.links != out.Nlink {
			return false, t
		}
		return see(func(x content) bool { return x.len() == out.Size })
	case Read:
		return see(func(x content) bool { return x.cut(op.Off, op.Len) == out.Data })
	case Load:
		return see(func(x content) bool { return op.Off < x.len() && x.at(op.Off).head == out.Meta })
	case Write:
		return change(true, func(x content) content { return x.write(op.Off, op.Data) })
	case Append:
		return change(true, func(x content) content { return x.write(x.len(), op.Data) })
	case Store:
		return change(true, func(x content) content { return x.store(op.Off, op.Meta) })
	case Truncate:
		if len(n.now) == 1 && len(n.olds) == 0 && n.now[0].len() == op.Off {
			return true, t // nothing changes, nor does the ETag
		}
		return change(false, func(x content) content { return x.truncate(op.Off) })
	case Fsync:
		if out.Unknown {
			c.died(op.View) // it failed: some of it may be lost
			return true, c
		}
		c.synced(n.id, op.View)
		return true, c
	case GetXattr:
		return n.meta == out.Meta, t
	case SetXattr:
		c.edit(n.id).meta = op.Meta
		return true, c
	}
	return false, t
}
