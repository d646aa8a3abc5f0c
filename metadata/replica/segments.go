package replica

import (
	"errors"
	"io/fs"
	"sync/atomic"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"twofold/internal/errs"
)

// segments is raft-wal's Filer with two things mended, and files as segmentFile has them:
//   - a segment that was cut short by a truncation of the log's tail has no index and
//     can't be opened by the library (v0.4.0): it is scanned instead;
//   - a segment file that is gone is not taken for one that was never written, when
//     it held entries.
type segments struct {
	*segment.Filer
	meta *walMeta
}

var _ types.SegmentFiler = (*segments)(nil)

func newSegments(dir string, meta *walMeta, vfs types.VFS) *segments {
	return &segments{Filer: segment.NewFiler(dir, vfs), meta: meta}
}

// Create implements types.SegmentFiler.
func (s *segments) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := s.Filer.Create(info)
	if err != nil {
		return nil, err
	}
	return &segmentWriter{SegmentWriter: w, s: s, id: info.ID}, nil
}

// RecoverTail implements types.SegmentFiler.
func (s *segments) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := s.Filer.RecoverTail(info)
	if errors.Is(err, fs.ErrNotExist) && s.meta.born(info.ID) {
		return nil, errs.Newf("replica.segments", errs.Corrupt, "the log's segment %s is gone", segment.FileName(info))
	}
	if err != nil {
		return nil, err
	}
	return &segmentWriter{SegmentWriter: w, s: s, id: info.ID}, nil
}

// Open implements types.SegmentFiler.
func (s *segments) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	if info.IndexStart == 0 {
		return s.Filer.RecoverTail(info)
	}
	return s.Filer.Open(info)
}

// segmentWriter notes the first entry of a segment.
type segmentWriter struct {
	types.SegmentWriter
	s    *segments
	id   uint64
	born atomic.Bool
}

// Append implements types.SegmentWriter.
func (w *segmentWriter) Append(entries []types.LogEntry) error {
	if err := w.SegmentWriter.Append(entries); err != nil {
		return err
	}
	if w.born.Load() {
		return nil
	}
	if err := w.s.meta.bear(w.id); err != nil {
		return err
	}
	w.born.Store(true)
	return nil
}
