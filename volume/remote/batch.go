package remote

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// A batch on the wire: the operations are in the header, the bytes of all segments are the
// payload, one behind the other.
type (
	batchReq struct {
		Dirs []api.HeldWrite `cbor:"1,keyasint,omitempty"`
		Ops  []batchOp       `cbor:"2,keyasint,omitempty"`
	}
	// batchOp is an api.BatchOp, of which Write is without its bytes.
	batchOp struct {
		Now     twofold.Time      `cbor:"1,keyasint"`
		Create  *api.BatchCreate  `cbor:"2,keyasint,omitempty"`
		Write   *writeReq         `cbor:"3,keyasint,omitempty"`
		SetAttr *api.BatchSetAttr `cbor:"4,keyasint,omitempty"`
		Unlink  *api.BatchName    `cbor:"5,keyasint,omitempty"`
		Rmdir   *api.BatchName    `cbor:"6,keyasint,omitempty"`
		Rename  *api.BatchRename  `cbor:"7,keyasint,omitempty"`
	}
	// batchAns has Refused where an operation failed: an error alone can't say which.
	batchAns struct {
		Attrs   []api.Attr      `cbor:"1,keyasint,omitempty"`
		Tokens  []api.HeldWrite `cbor:"2,keyasint,omitempty"`
		Refused *refusedOp      `cbor:"3,keyasint,omitempty"`
	}
	refusedOp struct {
		_     struct{} `cbor:",toarray"`
		Index int
		Kind  errs.Kind
		Msg   string
	}
	inosReq struct {
		N int `cbor:"1,keyasint"`
	}
	inosAns struct {
		First twofold.Ino `cbor:"1,keyasint"`
		Count int         `cbor:"2,keyasint"`
	}
)

// maxRefusal is the most bytes of a refusal's message.
const maxRefusal = 1024

func (r inosReq) check() error {
	if r.N < 1 || r.N > api.MaxInos {
		return bad("%d inode numbers", r.N)
	}
	return nil
}

func (r batchReq) check() error {
	if len(r.Ops) > api.MaxBatchOps || len(r.Dirs) > api.MaxBatchDirs {
		return errs.Newf("remote.check", errs.TooLarge, "a batch of %d operations in %d directories", len(r.Ops), len(r.Dirs))
	}
	for _, d := range r.Dirs {
		if d.Ino == 0 || d.Token == 0 {
			return bad("token %d of directory %d", d.Token, d.Ino)
		}
	}
	for i := range r.Ops {
		if err := r.Ops[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (o *batchOp) check() error {
	var all []error
	if c := o.Create; c != nil {
		all = append(all, checkIno(c.Ino), createReq{Dir: c.Dir, Name: c.Name, Create: api.Create{
			Type: c.Type, Mode: c.Mode, Target: c.Target,
		}}.check())
	}
	if o.Write != nil {
		all = append(all, o.Write.check())
	}
	if c := o.SetAttr; c != nil {
		all = append(all, setAttrReq{c.Ino, c.Attr}.check())
	}
	for _, c := range []*api.BatchName{o.Unlink, o.Rmdir} {
		if c != nil {
			all = append(all, checkIno(c.Ino), checkIno(c.Dir), checkName(c.Name))
		}
	}
	if c := o.Rename; c != nil {
		all = append(all, checkIno(c.Ino), checkIno(c.OldDir), checkName(c.OldName), checkIno(c.NewDir), checkName(c.NewName))
	}
	if len(all) == 0 {
		return bad("an operation that is none")
	}
	return first(all...)
}

// batch is the batch with its bytes, which are payload's.
func (r batchReq) batch(payload []byte) (api.Batch, error) {
	b := api.Batch{Dirs: r.Dirs, Ops: make([]api.BatchOp, len(r.Ops))}
	for i := range r.Ops {
		o := &r.Ops[i]
		b.Ops[i] = api.BatchOp{Now: o.Now, Create: o.Create, SetAttr: o.SetAttr, Unlink: o.Unlink, Rmdir: o.Rmdir, Rename: o.Rename}
		w := o.Write
		if w == nil {
			continue
		}
		segs, rest, err := w.take(payload)
		if err != nil {
			return b, err
		}
		payload = rest
		b.Ops[i].Write = &api.BatchWrite{
			Ino: w.Ino, Token: w.Token, Segments: segs, Size: w.Size, Mtime: w.Mtime, Atime: w.Atime, ETag: w.ETag, KillPriv: w.KillPriv,
		}
	}
	if len(payload) != 0 {
		return b, bad("%d bytes behind the segments", len(payload))
	}
	return b, nil
}

func batch(ctx context.Context, f api.Files, q batchReq, payload []byte) (any, error) {
	b, err := q.batch(payload)
	if err != nil {
		return nil, err
	}
	r, err := f.Batch(ctx, b)
	if err != nil && r.Failed >= 0 && !again(errs.KindOf(err)) {
		msg := err.Error()
		return batchAns{Refused: &refusedOp{Index: r.Failed, Kind: errs.KindOf(err), Msg: msg[:min(len(msg), maxRefusal)]}}, nil
	}
	return batchAns{Attrs: r.Attrs, Tokens: r.Tokens}, err
}

// Batch implements api.Files: the segments' bytes go to the socket as they are. What a batch
// has written is taken from what was promised, as of Write.
func (c *Client) Batch(ctx context.Context, b api.Batch) (api.BatchResult, error) {
	r := batchReq{Dirs: b.Dirs, Ops: make([]batchOp, len(b.Ops))}
	var payload [][]byte
	size := int64(0)
	for i := range b.Ops {
		o := &b.Ops[i]
		r.Ops[i] = batchOp{Now: o.Now, Create: o.Create, SetAttr: o.SetAttr, Unlink: o.Unlink, Rmdir: o.Rmdir, Rename: o.Rename}
		w := o.Write
		if w == nil {
			continue
		}
		q := &writeReq{Ino: w.Ino, Token: w.Token, Size: w.Size, Mtime: w.Mtime, Atime: w.Atime, ETag: w.ETag, KillPriv: w.KillPriv}
		for _, s := range inOrder(w.Segments) {
			if len(s.Data) > 0 {
				q.Segments = append(q.Segments, segment{Off: s.Off, Len: len(s.Data)})
				payload = append(payload, s.Data)
				size += int64(len(s.Data))
			}
		}
		r.Ops[i].Write = q
	}
	var a batchAns
	space := func() {
		if a.Refused == nil {
			c.promised = max(0, c.promised-size)
		}
	}
	// It may be what a recall waits for.
	err := do(ctx, c, change{method: mBatch, urgent: true, payload: payload, reply: &a, space: space}, r)
	out := api.BatchResult{Attrs: a.Attrs, Tokens: a.Tokens, Failed: -1}
	if err == nil && a.Refused != nil {
		out.Failed = a.Refused.Index
		err = &errs.Error{Op: "remote.Batch", Kind: a.Refused.Kind, Msg: a.Refused.Msg}
	}
	return out, err
}

// Inos implements api.Files.
func (c *Client) Inos(ctx context.Context, n int) (twofold.Ino, int, error) {
	var a inosAns
	err := do(ctx, c, change{method: mInos, urgent: true, reply: &a}, inosReq{n})
	return a.First, a.Count, err
}

// AcquireDir implements api.Files.
func (c *Client) AcquireDir(ctx context.Context, dir twofold.Ino) (l api.DirLease, err error) {
	_, err = c.ask(ctx, mAcquireDir, inoReq{dir}, &l, nil)
	return l, err
}
