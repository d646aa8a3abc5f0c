package drives

import (
	"context"

	"twofold"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// Walk visits the committed shards in the order of their ids, see drive.Drive. They come
// in pages; one that is lost on the way makes the walk begin again behind the last one.
func (d *Remote) Walk(ctx context.Context, after twofold.BlobID, fn func(twofold.BlobID) error) error {
	const op = "drives.Walk"
	q := walkRequest{Drive: d.id, Walk: d.n.newHandle(), After: after}
	var ids []twofold.BlobID
	for {
		if d.State() == drive.Offline {
			return d.offline(op)
		}
		var a walkAnswer
		c := d.call(op, mWalk, &q, &a)
		c.into = buffers.get(pageIDs * len(after))
		// The first page waits for a look at the whole drive.
		if err := d.do(ctx, 6*d.n.opt.Deadline, c); err != nil {
			return err
		}
		var err error
		ids, err = parsePage(ids[:0], c.into[:c.got], q.After, a.More)
		buffers.put(c.into)
		if err != nil {
			return errs.E(op, errs.Invalid, err)
		}
		for _, id := range ids {
			if err := fn(id); err != nil {
				if a.More {
					d.endWalk(q)
				}
				return err
			}
			q.After = id
		}
		if !a.More {
			return nil
		}
	}
}

// endWalk has the server forget a walk, some time.
func (d *Remote) endWalk(q walkRequest) {
	q.End = true
	go func() {
		var a walkAnswer
		c := d.call("drives.Walk", mWalk, &q, &a)
		if err := d.do(d.n.ctx, d.n.opt.Deadline, c); err != nil {
			d.n.opt.Logger.Debug("end of a walk", "drive", d.String(), "err", err)
		}
	}()
}
