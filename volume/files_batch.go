package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// Homes lets the session be told of each inode which directory's lease decides about it
// (api.Attr.Home), from now on.
func (s *Session) Homes() { s.homes.Store(true) }

// attrOf is an inode as the session is shown it.
func (s *Session) attrOf(n *metadata.Inode) api.Attr {
	a := attrOf(n)
	if s.homes.Load() {
		a.Home = n.Home()
	}
	return a
}

// Inos implements api.Files.
func (s *Session) Inos(ctx context.Context, n int) (first twofold.Ino, count int, err error) {
	count = max(1, min(n, api.MaxInos))
	res, err := s.command(ctx, metadata.OpReserveInos, metadata.ReserveInos{Session: s.id, N: uint64(count)})
	if err != nil {
		return 0, 0, err
	}
	return twofold.Ino(res.ID), count, nil
}

// Batch implements api.Files. Nobody else can have changed what it is about since the mount
// decided, nor see it before this has returned: the leases of the directories are in use
// until then. So the command has no guard. Readers that there are all the same are told, as of
// any change.
func (s *Session) Batch(ctx context.Context, in api.Batch) (out api.BatchResult, err error) {
	out.Failed = -1
	b := &batch{s: s, made: map[twofold.Ino]metadata.Type{}, seen: map[twofold.Ino]struct{}{}}
	if i, err := b.read(in); err != nil {
		out.Failed = i
		return out, err
	}
	cmd := metadata.Batch{Session: s.id, Ops: b.ops}
	if err := s.v.Placer.Writable(); errs.Is(err, errs.WriteQuorum) {
		b.inline = true
		defer s.returnDirs(in.Dirs)
	} else if err != nil && !cmd.Frees() {
		return out, err
	}
	defer func() { s.v.whenKnown(err, b.release) }()
	if out.Failed, err = b.useAll(ctx, in); err != nil {
		return out, err
	}
	if out.Failed, err = b.look(ctx, in); err != nil {
		return out, err
	}
	content := b.bytes
	if b.inline {
		content = 0 // of blobs
	}
	space, err := s.v.claim(ctx, s.id, content)
	if err != nil {
		return out, err
	}
	defer func() { space.done(err) }()
	data, err := b.store(ctx, in)
	if err != nil {
		return out, err
	}
	ch, err := s.v.beginChange(ctx, s)
	if err != nil {
		data.settle(err)
		return out, err
	}
	defer func() { ch.done(err) }()
	if err = ch.tell(ctx, false, b.targets()...); err != nil { // a recall may wait for this: it waits for none
		data.settle(err)
		return out, err
	}
	out.Tokens = b.leaseNew(in)
	res, err := s.command(ctx, metadata.OpBatch, cmd)
	data.settle(err)
	if err != nil {
		if !errs.Is(err, errs.UnknownOutcome) { // it may come again then, or the session ends
			b.unlease(out.Tokens)
			out.Tokens = nil
		}
		if res != nil && res.ID > 0 {
			out.Failed = int(res.ID) - 1
		}
		return out, err
	}
	s.v.kick(s.v.kickTrash)
	if b.removes {
		s.v.kick(s.v.kickReaper)
	}
	out.Attrs = s.batched(ctx, ch, b.all)
	b.note(in, out.Attrs)
	return out, nil
}

// returnDirs recalls leases of directories of this session. Where too few drives are online for
// blobs, what a mount has done by itself is committed, as the metadata still can, for else
// nobody could look at it; but it does no more by itself, and is told errs.WriteQuorum.
func (s *Session) returnDirs(dirs []api.HeldWrite) {
	for _, d := range dirs {
		s.v.background(func() {
			if end, err := s.v.leases.Exclude(s.v.ctx, d.Ino); err == nil {
				end()
			}
		})
	}
}

// batched are the attributes of what a batch has made and changed, leased where the mount
// may cache them. The result may be a kept one, of long before: they are read now.
func (s *Session) batched(ctx context.Context, ch *change, inos []twofold.Ino) []api.Attr {
	now := make([]*metadata.Inode, 0, len(inos))
	if err := s.v.Meta.View(ctx, func(w metadata.View) error {
		for _, ino := range inos {
			if n, err := w.Inode(ino); err == nil {
				now = append(now, n)
			}
		}
		return nil
	}); err != nil {
		return nil // it is cached no more, and asked for
	}
	attrs := make([]api.Attr, len(now))
	for i, n := range now {
		attrs[i] = s.attrOf(n)
		attrs[i].Leased = s.caches.Load() && n.Nlink > 0 && ch.under.Grant(n.Bucket, n.Ino, n.Home())
	}
	return attrs
}
