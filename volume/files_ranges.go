package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// Seek implements api.Files.
func (s *Session) Seek(ctx context.Context, ino twofold.Ino, off int64, hole bool) (pos int64, err error) {
	err = s.v.observe(ctx, s.id, func(w metadata.View) ([]twofold.Ino, error) {
		in, err := w.Inode(ino)
		if err != nil {
			return nil, err
		}
		if in.Type == metadata.TypeDir {
			return nil, errs.Newf("volume.Seek", errs.IsDir, "inode %d is a directory", ino)
		}
		if hole {
			pos, err = seekHole(w, in, off)
		} else {
			pos, err = seekData(w, in, off)
		}
		return []twofold.Ino{ino}, err
	})
	return pos, err
}

func seekData(w metadata.View, in *metadata.Inode, off int64) (int64, error) {
	if off < 0 || off >= in.Size {
		return -1, nil
	}
	exts, err := w.Extents(in.Ino, off, in.Size-off, 1)
	if err != nil || len(exts) == 0 {
		return -1, err
	}
	return exts[0].Off, nil
}

// seekBatch is how many extents seekHole looks at in one go.
const seekBatch = 512

func seekHole(w metadata.View, in *metadata.Inode, off int64) (int64, error) {
	if off < 0 || off >= in.Size {
		return -1, nil
	}
	for off < in.Size {
		exts, err := w.Extents(in.Ino, off, in.Size-off, seekBatch)
		if err != nil {
			return -1, err
		}
		for i := range exts {
			if exts[i].Off > off {
				return off, nil
			}
			off = exts[i].Off + exts[i].Len
		}
		if len(exts) < seekBatch {
			break
		}
	}
	return off, nil
}

// CopyRange implements api.Files. The bytes stay where they are: both files refer to
// them (rule 18).
func (s *Session) CopyRange(ctx context.Context, c api.CopyRange) (a api.Attr, n int64, err error) {
	if err := s.v.Placer.Writable(); err != nil {
		return api.Attr{}, 0, err
	}
	if c.Src == twofold.RootIno || c.Dst == twofold.RootIno || (c.Src|c.Dst)&levelBit != 0 {
		return api.Attr{}, 0, errs.Newf("volume.CopyRange", errs.IsDir, "a directory has no content to copy")
	}
	// Neither file has unflushed writes until it is committed: it happens at one
	// moment for both. Nobody who holds a lease waits for another one meanwhile, but for
	// another CopyRange, and all of them take the lower inode first.
	end, err := s.useBoth(ctx, c)
	if err != nil {
		return api.Attr{}, 0, err
	}
	defer end()
	mtime := c.Mtime
	if mtime == 0 {
		mtime = s.v.now()
	}
	ch, err := s.change(ctx, metadata.Target{Ino: c.Dst})
	if err != nil {
		return api.Attr{}, 0, err
	}
	defer func() { ch.done(err) }()
	res, err := s.command(ctx, metadata.OpCopyRange, metadata.CopyRange{
		Src: c.Src, SrcOff: c.SrcOff, Dst: c.Dst, DstOff: c.DstOff, Len: c.Len, Mtime: mtime, KillPriv: c.KillPriv, Crowd: crowd(),
	})
	if err != nil {
		return api.Attr{}, 0, err
	}
	s.v.touched.noteRange(res.Inode, c.DstOff, int64(res.ID))
	s.v.kick(s.v.kickTrash)
	return s.granted(ctx, ch, res.Inode, nil), int64(res.ID), nil
}

func (s *Session) useBoth(ctx context.Context, c api.CopyRange) (end func(), err error) {
	type use struct {
		ino   twofold.Ino
		token uint64
	}
	uses := []use{{c.Src, c.SrcToken}, {c.Dst, c.DstToken}}
	switch {
	case c.Src == c.Dst:
		uses = uses[1:]
	case c.Dst < c.Src:
		uses[0], uses[1] = uses[1], uses[0]
	}
	var ends []func()
	end = func() {
		for _, e := range ends {
			e()
		}
	}
	for _, u := range uses {
		e, err := s.v.leases.Use(ctx, s, u.ino, u.token)
		if err != nil {
			end()
			if u.ino != c.Dst && errs.Is(err, errs.Fenced) {
				err = errs.E("volume.CopyRange", errs.Conflict, err)
			}
			return nil, err
		}
		ends = append(ends, e)
	}
	return end, nil
}
