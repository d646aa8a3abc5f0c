package fsm

import (
	"errors"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// batch does what a mount has done on its own, in one transaction: every inode, directory
// and counter is read once and written once, however many operations change it.
func (a *applier) batch(c *metadata.Batch) (*metadata.Result, error) {
	if a.cmd.Guard != nil {
		return nil, refusef(errs.Invalid, "a batch has no guard")
	}
	if err := checkBatch(c); err != nil {
		return nil, err
	}
	w, err := a.window(c.Session)
	if err != nil {
		return nil, err
	}
	if !w.alive() {
		return nil, refusef(errs.Fenced, "session %d has ended", c.Session)
	}
	n, err := a.numbers(c.Session)
	if err != nil {
		return nil, err
	}
	whole := a.cmd
	one := *whole
	defer func() { a.cmd, a.given = whole, 0 }()
	a.cmd = &one
	for i := range c.Ops {
		one.Now = c.Ops[i].Now
		err := a.batchOp(&c.Ops[i], n)
		if err == nil && len(a.undo) > maxBatchSets {
			err = refusef(errs.TooLarge, "more than %d changes in one batch", maxBatchSets)
		}
		if err != nil {
			return nil, ofOp(i, err)
		}
	}
	a.unbounded, a.batched = false, true
	n.flush(a)
	return &metadata.Result{}, nil
}

// checkBatch refuses batches beyond the bounds.
func checkBatch(c *metadata.Batch) error {
	inline, exts := 0, 0
	for i := range c.Ops {
		w, ok := c.Ops[i].Body.(*metadata.Write)
		if !ok {
			continue
		}
		for k := range w.Extents {
			inline += len(w.Extents[k].Data)
		}
		exts += len(w.Extents) + len(w.Punch)
	}
	if len(c.Ops) > maxBatchOps || inline > maxInlineBytes || exts > maxWriteExts {
		return refusef(errs.TooLarge, "a batch of %d operations, %d extents, %d inline bytes", len(c.Ops), exts, inline)
	}
	return nil
}

// ofOp makes an operation's refusal the batch's: a tree that is not what the mount knows is a
// conflict, whatever the operation made of it.
func ofOp(i int, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	out := &refusal{kind: r.kind, msg: r.Error(), id: uint64(i) + 1}
	if r.kind != errs.TooLarge && r.kind != errs.Conflict {
		out.kind, out.msg = errs.Conflict, r.kind.String()+": "+r.msg
	}
	return out
}

func (a *applier) batchOp(o *metadata.BatchOp, n *numbers) (err error) {
	switch b := o.Body.(type) {
	case *metadata.Create:
		if err := n.take(o.Ino); err != nil {
			return err
		}
		if err := a.expect(b.Parent, b.Name, 0); err != nil {
			return err
		}
		a.given = o.Ino
		_, err = a.create(b)
		a.given = 0
		if b.Type == metadata.TypeDir {
			n.dirs = append(n.dirs, o.Ino)
		}
	case *metadata.Write:
		var res *metadata.Result
		if res, err = a.write(b); err == nil && res.More {
			err = refusef(errs.TooLarge, "a write over too many extents")
		}
	case *metadata.SetAttr:
		if b.Size != nil {
			return refusef(errs.Invalid, "a size in a batch")
		}
		_, err = a.setAttr(b)
	case *metadata.Unlink:
		if err = a.expect(b.Parent, b.Name, o.Ino); err == nil {
			_, err = a.unlink(b)
		}
	case *metadata.Rmdir:
		if err = a.expect(b.Parent, b.Name, o.Ino); err == nil {
			_, err = a.rmdir(b)
		}
	case *metadata.Rename:
		if b.Flags != 0 {
			return refusef(errs.Invalid, "a rename with flags in a batch")
		}
		if err = a.expect(b.OldParent, b.OldName, o.Ino); err == nil {
			err = a.expect(b.NewParent, b.NewName, o.Replaced)
		}
		if err == nil {
			err = n.movable(a, o.Ino)
		}
		if err == nil {
			_, err = a.rename(b)
		}
	default:
		err = refusef(errs.Invalid, "%T in a batch", b)
	}
	return err
}

// expect refuses what a name does not stand for; 0: it stands for nothing.
func (a *applier) expect(dir twofold.Ino, n metadata.Name, ino twofold.Ino) error {
	d, err := a.directory(dir)
	if err != nil {
		return err
	}
	s, err := a.lookup(d, n)
	if err != nil {
		return err
	}
	if s.Ino != ino { // 0 where it was not found
		return refusef(errs.Conflict, "%q in directory %d is inode %d, not %d", n.Comp, dir, s.Ino, ino)
	}
	return nil
}
