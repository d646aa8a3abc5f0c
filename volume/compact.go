package volume

import (
	"bytes"
	"context"
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
// Bound: a blob less than half alive is rewritten, so a file that has rested takes at
// most twice its size (and parity), plus what its last window wrote.

const (
	compactRest   = 2 * time.Second // a file is left alone for so long after a flush
	compactWindow = 4 << 20         // bytes that are rewritten at once
	compactMany   = 32              // extents of a window that are too many
	compactEvery  = 2000            // flushes after which a file that never rests is looked at
	compactLook   = 4096            // extents that are looked through at once
)

// touched are inodes that mounts have written to since they were compacted.
type touched struct {
	mu   sync.Mutex
	inos map[twofold.Ino]*touch
}

type touch struct {
	last    time.Time
	flushes int
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

// due takes the inodes whose turn it is.
func (t *touched) due() []twofold.Ino {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []twofold.Ino
	for ino, s := range t.inos {
		if rested := time.Since(s.last) > compactRest; rested || s.flushes >= compactEvery {
			delete(t.inos, ino)
			out = append(out, ino)
		}
	}
	return out
}

// compact works off the inodes that are due.
func (v *Volume) compact(ctx context.Context) error {
	for _, ino := range v.touched.due() {
		err := v.compactInode(ctx, ino)
		switch errs.KindOf(err) {
		case errs.Conflict, errs.Stale: // changed or gone meanwhile: the next flush brings it back
			err = nil
		}
		if err != nil {
			v.touched.note(ino)
			return err
		}
	}
	return nil
}

// compactInode goes through an inode's extents once.
func (v *Volume) compactInode(ctx context.Context, ino twofold.Ino) error {
	for off := int64(0); ; {
		leave := v.pins.enter()
		var n *metadata.Inode
		var exts []metadata.Extent
		err := v.Meta.View(ctx, func(w metadata.View) (err error) {
			if n, err = w.Inode(ino); err != nil || off >= n.Size {
				return err
			}
			exts, err = w.Extents(ino, off, n.Size-off, compactLook)
			return err
		})
		if err != nil || n.Nlink == 0 || len(exts) == 0 {
			leave()
			return err
		}
		unpin := v.pins.pin(exts)
		leave()
		done, err := v.compactExtents(ctx, n, exts)
		unpin()
		if err != nil || len(exts) < compactLook {
			return err
		}
		off = done
	}
}

// compactExtents rewrites the windows among consecutive extents that are worth it,
// and returns the offset up to which it has looked.
func (v *Volume) compactExtents(ctx context.Context, n *metadata.Inode, exts []metadata.Extent) (int64, error) {
	dead := mostlyDead(exts)
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

// mostlyDead tells the blobs of which these extents use less than half. Extents
// elsewhere in the file may use more: then a rewrite was early, and not wrong.
func mostlyDead(exts []metadata.Extent) map[twofold.BlobID]bool {
	used := map[twofold.BlobID]int64{}
	for i := range exts {
		if b := exts[i].Blob; b != nil {
			used[b.ID] += exts[i].Len
		}
	}
	dead := map[twofold.BlobID]bool{}
	for i := range exts {
		if b := exts[i].Blob; b != nil && 2*used[b.ID] < b.Size {
			dead[b.ID] = true
		}
	}
	return dead
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
