package behind

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// maxErrs is of how many inodes it is remembered that something of them was lost.
const maxErrs = 16 << 10

// lost notes for who will ask that something of inodes is lost; b.mu is held.
func (b *Files) lost(err error, inos []twofold.Ino) {
	for _, ino := range inos {
		if len(b.errs) >= maxErrs {
			for old := range b.errs {
				delete(b.errs, old)
				break
			}
		}
		b.errs[ino] = err
	}
}

// lose drops all that is queued: the lease under which it was done has ended, and others were
// told that it is not there; over: so has the session. b.mu is held.
func (b *Files) lose(err error, over bool) {
	q := &b.queue
	var n news
	stale := make(map[twofold.Ino]bool)
	for _, o := range q.ops {
		b.lost(errs.E("behind", errs.Other, err), o.of)
		for _, ino := range o.of {
			stale[ino] = true
		}
	}
	if len(q.ops) > 0 {
		b.log.Error("changes that were not committed are lost", "operations", len(q.ops), "err", err)
	}
	for ino := range b.dirs {
		stale[ino] = true
	}
	for ino := range stale {
		n.add(ino, nil)
	}
	q.ops, q.bytes, q.failing, q.unread = nil, 0, nil, nil
	q.done = q.seq
	q.gen++
	clear(q.touched)
	held := b.held()
	for _, d := range b.dirs {
		b.avoid(d.ino)
		b.drop(d)
	}
	clear(b.inodes)
	clear(b.leases)
	b.broadcast()
	b.pass(&n)
	if over {
		return
	}
	go func() { // those of them that have not ended
		for _, h := range held {
			b.to.ReleaseWrite(b.ctx, h.Ino, h.Token)
		}
	}()
}

// makeWay gives up what is queued where the store has no space for it, and a last attempt
// fails as well, for something that is removed: that must work on a full store. b.mu is
// held, but not while it waits.
func (b *Files) makeWay(ctx context.Context) error {
	q := &b.queue
	if !errs.Is(q.failing, errs.NoSpace) && !errs.Is(q.failing, errs.Quota) {
		return nil
	}
	err := b.settle(ctx, q.seq)
	if errs.Is(err, errs.Canceled) {
		return err
	}
	if err != nil && q.failing != nil && !q.sending {
		b.lose(err, false)
	}
	return nil
}

// refused drops an operation that the volume does not take: the tree is not what it was here
// thought to be. What is behind it is tried. b.mu is held.
func (b *Files) refused(o *op, err error) {
	b.log.Error("a change is lost: the volume refused it after it was answered for", "operation", describe(&o.is), "err", err)
	b.lost(errs.E("behind", errs.Other, err), o.of)
	for i := range b.queue.ops {
		if b.queue.ops[i] == o {
			b.take(i)
			break
		}
	}
	b.passed()
	var n news
	for _, ino := range o.of {
		b.unkeep(ino)
		d := b.dirs[ino]
		n.add(ino, d)
		if d != nil {
			d.valid = false
			b.close(d)
		}
	}
	b.broadcast()
	b.pass(&n)
}

// describe is an operation for the log.
func describe(o *api.BatchOp) any {
	switch {
	case o.Create != nil:
		return *o.Create
	case o.Unlink != nil:
		return *o.Unlink
	case o.Rmdir != nil:
		return *o.Rmdir
	case o.Rename != nil:
		return *o.Rename
	case o.SetAttr != nil:
		return *o.SetAttr
	case o.Write != nil:
		return api.BatchWrite{Ino: o.Write.Ino, Size: o.Write.Size}
	}
	return nil
}
