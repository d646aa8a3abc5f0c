package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// Compaction keeps files that are overwritten for long readable and small. Each
// flush of a mount adds extents; over time a file becomes many small ones, and blobs
// of which only a part is still referred to keep all of their space. Once a file has
// rested, its extents are looked through in windows, and a window with too many of
// them, or with blobs mostly dead, is read and written again as one blob.
//
// The content doesn't change, so nobody is asked: the command applies only while the
// inode still has the version that was read, and else the work was for nothing.
//
// Bound: a blob of which all files together use less than half is rewritten, so files
// that have rested take at most twice their size (and parity). Which files are to be
// looked at is part of the metadata: a restart forgets none.

const (
	compactRest   = 2 * time.Second // a file is left alone for so long after a flush
	compactWindow = 4 << 20         // bytes that are rewritten at once
	compactMany   = 32              // extents of a window that are too many
	compactEvery  = 2000            // flushes after which a file that never rests is looked at
	compactLook   = 4096            // extents that are looked through at once
)

// touched knows which inodes mounts have written to lately.
type touched struct {
	mu   sync.Mutex
	inos map[twofold.Ino]*touch // guarded by mu
}

type touch struct {
	last    time.Time
	flushes int // since it was last compacted
}

func newTouched() *touched { return &touched{inos: map[twofold.Ino]*touch{}} }

// note counts a flush.
func (t *touched) note(ino twofold.Ino) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.inos[ino]
	if s == nil {
		s = &touch{}
		t.inos[ino] = s
	}
	s.last = time.Now()
	s.flushes++
}

// busy reports whether a file should be left alone: it was written to a moment ago,
// and not yet often since its turn came last.
func (t *touched) busy(ino twofold.Ino) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.inos[ino]
	switch {
	case s == nil:
		return false
	case time.Since(s.last) > compactRest:
		delete(t.inos, ino)
		return false
	case s.flushes >= compactEvery:
		s.flushes = 0
		return false
	}
	return true
}

// forget drops what has rested: that a file is not known says the same.
func (t *touched) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ino, s := range t.inos {
		if time.Since(s.last) > compactRest {
			delete(t.inos, ino)
		}
	}
}

// compactBatch is how many marks are read, and taken, at once.
const compactBatch = 1000

// compact works off the files that are marked (metadata/fsm/compaction.go) and rest.
func (v *Volume) compact(ctx context.Context) error {
	if v.Placer.Writable() != nil {
		return nil
	}
	defer v.touched.forget()
	var after twofold.Ino
	var failed error // the first one: a file that can't be read holds up no other
	for {
		var marks []metadata.CompactionMark
		if err := v.Meta.View(ctx, func(w metadata.View) (err error) {
			marks, err = w.CompactionDue(after, compactBatch)
			return err
		}); err != nil || len(marks) == 0 {
			return errors.Join(failed, err)
		}
		var done []metadata.CompactionMark
		for _, m := range marks {
			after = m.Ino
			if v.touched.busy(m.Ino) {
				continue
			}
			err := v.compactInode(ctx, m.Ino)
			switch errs.KindOf(err) {
			case errs.Conflict: // changed meanwhile: it keeps its mark
				continue
			case errs.Stale: // gone
				err = nil
			}
			if err != nil {
				if failed == nil {
					failed = fmt.Errorf("inode %d: %w", m.Ino, err)
				}
				continue
			}
			done = append(done, m)
		}
		if len(done) > 0 {
			if _, err := v.commit(ctx, metadata.OpCompacted, metadata.Compacted{Marks: done}); err != nil {
				return errors.Join(failed, err)
			}
		}
	}
}

// compactInode goes through an inode's extents once.
func (v *Volume) compactInode(ctx context.Context, ino twofold.Ino) error {
	for off := int64(0); ; {
		leave := v.pins.enter()
		var n *metadata.Inode
		var exts []metadata.Extent
		var dead map[twofold.BlobID]bool
		err := v.Meta.View(ctx, func(w metadata.View) (err error) {
			if n, err = w.Inode(ino); err != nil || off >= n.Size {
				return err
			}
			if exts, err = w.Extents(ino, off, n.Size-off, compactLook); err == nil {
				dead, err = mostlyDead(w, exts)
			}
			return err
		})
		if err != nil || n.Nlink == 0 || len(exts) == 0 {
			leave()
			return err
		}
		unpin := v.pins.pin(exts)
		leave()
		done, err := v.compactExtents(ctx, n, exts, dead)
		unpin()
		if err != nil || len(exts) < compactLook {
			return err
		}
		off = done
	}
}

// compactExtents rewrites the windows among consecutive extents that are worth it,
// and returns the offset up to which it has looked.
func (v *Volume) compactExtents(ctx context.Context, n *metadata.Inode, exts []metadata.Extent, dead map[twofold.BlobID]bool) (int64, error) {
	exts = split(exts, dead)
	var off int64
	for i := 0; i < len(exts); {
		j, worth := i, false
		for j < len(exts) && exts[j].Off+exts[j].Len-exts[i].Off <= compactWindow && (j == i || exts[j].Off == exts[j-1].Off+exts[j-1].Len) {
			worth = worth || exts[j].Blob != nil && dead[exts[j].Blob.ID]
			j++
		}
		j = max(j, i+1) // one extent larger than a window
		if len := j - i; len >= compactMany || worth {
			if err := v.rewrite(ctx, n, exts[i:j]); err != nil {
				return 0, err
			}
		}
		off = exts[j-1].Off + exts[j-1].Len
		i = j
	}
	return off, nil
}

// split cuts extents of dead blobs into pieces that fit a window.
func split(exts []metadata.Extent, dead map[twofold.BlobID]bool) []metadata.Extent {
	var out []metadata.Extent
	for _, e := range exts {
		for e.Len > compactWindow && e.Blob != nil && dead[e.Blob.ID] {
			piece := e
			piece.Len = compactWindow
			out = append(out, piece)
			e.Off, e.BlobOff, e.Len = e.Off+compactWindow, e.BlobOff+compactWindow, e.Len-compactWindow
		}
		out = append(out, e)
	}
	return out
}

// mostlyDead tells the blobs among extents of which all files together use less than
// half.
func mostlyDead(w metadata.View, exts []metadata.Extent) (map[twofold.BlobID]bool, error) {
	used := map[twofold.BlobID]int64{}
	for i := range exts {
		if b := exts[i].Blob; b != nil {
			used[b.ID] += exts[i].Len
		}
	}
	dead := map[twofold.BlobID]bool{}
	for i := range exts {
		b := exts[i].Blob
		if b == nil || dead[b.ID] || 2*used[b.ID] >= b.Size {
			continue
		}
		claims, err := w.Claims(b.ID)
		if err != nil {
			return nil, err
		}
		used[b.ID] = 0
		for _, n := range claims {
			used[b.ID] += n
		}
		dead[b.ID] = 2*used[b.ID] < b.Size
	}
	return dead, nil
}

// rewrite makes one extent of consecutive ones.
func (v *Volume) rewrite(ctx context.Context, n *metadata.Inode, exts []metadata.Extent) error {
	if err := v.Placer.Writable(); err != nil {
		return err
	}
	off := exts[0].Off
	last := exts[len(exts)-1]
	size := min(last.Off+last.Len, n.Size) - off
	if size <= 0 {
		return nil
	}
	p := make([]byte, size)
	for i := range exts { // the last one may reach behind the end
		exts[i].Len = min(exts[i].Len, off+size-exts[i].Off)
	}
	if err := v.readExtents(ctx, exts, off, p); err != nil {
		return err
	}
	why := purpose{Ino: n.Ino, Off: off}
	d, err := v.store(ctx, bytes.NewReader(p), size, inoName(n.Ino), n.Class, why.encode())
	if err != nil {
		return err
	}
	for i := range d.extents {
		d.extents[i].Off += off
	}
	_, err = v.commit(ctx, metadata.OpReplaceExtents, metadata.ReplaceExtents{
		Ino: n.Ino, Version: n.Version, Off: off, Len: size, Extents: d.extents,
	})
	d.settle(err)
	v.kick(v.kickTrash)
	return err
}
