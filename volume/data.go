package volume

import (
	"context"
	"io"

	"twofold"
	"twofold/engine"
	"twofold/internal/errs"
	"twofold/metadata"
)

// stored is data on its way to become part of an object: durable, but nothing
// refers to it yet.
type stored struct {
	v       *Volume
	extents []metadata.Extent
	blobs   []twofold.Blob
}

// store reads exactly size bytes (and then the end) from r and makes them extents
// at offset 0: inline if they are few, else one blob. Name places the blob. If it
// fails nothing is left behind. An error of r comes back in the chain.
func (v *Volume) store(ctx context.Context, r io.Reader, size int64, name, class string, purpose []byte) (s *stored, err error) {
	if size < 0 || size > twofold.MaxObjectLen {
		return nil, errs.Newf("volume.store", errs.TooLarge, "%d bytes are not a size that is possible", size)
	}
	space, err := v.claim(ctx, 0, size)
	if err != nil {
		return nil, err
	}
	defer func() { space.done(err) }()
	s = &stored{v: v}
	if size <= v.InlineMax {
		p := make([]byte, size)
		if _, err := io.ReadFull(r, p); err != nil {
			return nil, short(err)
		}
		if err := atEnd(r); err != nil {
			return nil, err
		}
		if size > 0 {
			s.extents = []metadata.Extent{{Len: size, Data: p}}
		}
		return s, nil
	}
	b, err := v.writeBlob(ctx, space.reader(r), size, name, class, purpose)
	if err != nil {
		return nil, err
	}
	s.blobs = []twofold.Blob{b}
	if b.Size != size {
		s.settle(io.ErrUnexpectedEOF)
		return nil, short(io.ErrUnexpectedEOF)
	}
	s.extents = []metadata.Extent{{Len: size, Blob: &b}}
	return s, nil
}

func short(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errs.E("volume.store", errs.IncompleteBody, err)
	}
	return err
}

// atEnd reads the end of r: a body's last checks (signature, checksum) happen there.
func atEnd(r io.Reader) error {
	var one [1]byte
	for {
		n, err := r.Read(one[:])
		switch {
		case n > 0:
			return errs.Newf("volume.store", errs.Invalid, "the body is longer than announced")
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// writeBlob stores a blob of this process's session.
func (v *Volume) writeBlob(ctx context.Context, r io.Reader, size int64, name, class string, purpose []byte) (twofold.Blob, error) {
	set, parity, err := v.Placer.Place(name, class)
	if err != nil {
		return twofold.Blob{}, err
	}
	id := twofold.MakeBlobID(v.writer, v.blobNo.next())
	v.mu.Lock()
	v.writing[id] = struct{}{}
	v.mu.Unlock()
	b, err := v.Blobs.Write(ctx, engine.WriteOptions{ID: id, Set: set, Parity: parity, Purpose: purpose, SizeHint: size}, r)
	if err != nil {
		v.written(id)
		return b, err
	}
	return b, nil
}

// written ends the protection that a blob has while nothing refers to it.
func (v *Volume) written(id twofold.BlobID) {
	v.mu.Lock()
	delete(v.writing, id)
	v.mu.Unlock()
}

// isWriting reports whether a blob is on its way to be committed.
func (v *Volume) isWriting(id twofold.BlobID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.writing[id]
	return ok
}

// settle ends the matter: err is what became of the command that refers to the
// data. Where it certainly failed the blobs go; where it succeeded they are claimed;
// where it is unknown they stay protected until this process's session has ended,
// because the command may still be applied. errs.Fenced is unknown as well: the command may
// have been sent twice, around the end of its session, with which results are forgotten.
func (s *stored) settle(err error) {
	if errs.Is(err, errs.UnknownOutcome) || errs.Is(err, errs.Fenced) {
		return
	}
	for _, b := range s.blobs {
		if err != nil {
			// A failure here leaves garbage that the orphan walk finds.
			if derr := s.v.Blobs.Delete(context.WithoutCancel(s.v.ctx), b); derr != nil {
				s.v.log.Debug("blob of a failed write not deleted", "blob", b.ID, "err", derr)
			}
		}
		s.v.written(b.ID)
	}
}
