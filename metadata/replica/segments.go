package replica

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"twofold/internal/errs"
)

// segments is raft-wal's Filer with three things mended:
//   - a segment that was cut short by a truncation of the log's tail has no index and
//     can't be opened by the library (v0.4.0): it is scanned instead;
//   - a segment file that is gone is not taken for one that was never written, when
//     it held entries;
//   - an fsync counts only while the file still has a name.
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

// walFS is the library's file system, with files whose fsync fails once they were
// removed: rm -rf leaves them open, and an fsync of them means nothing.
type walFS struct{ *walfs.FS }

var _ types.VFS = walFS{}

// Create implements types.VFS.
func (v walFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	return named(v.FS.Create(dir, name, size))
}

// OpenWriter implements types.VFS.
func (v walFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	return named(v.FS.OpenWriter(dir, name))
}

func named(f types.WritableFile, err error) (types.WritableFile, error) {
	if err != nil {
		return nil, err
	}
	return namedFile{f}, nil
}

type namedFile struct{ types.WritableFile }

func (f namedFile) Sync() error {
	if err := f.WritableFile.Sync(); err != nil {
		return err
	}
	st, ok := f.WritableFile.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return nil
	}
	info, err := st.Stat()
	if err != nil {
		return err
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && sys.Nlink == 0 {
		return errs.Newf("replica.wal", errs.Unavailable, "the log's file was removed")
	}
	return nil
}
