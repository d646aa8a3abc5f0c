package volume

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// Compaction keeps files that are overwritten for long readable and small. Each
// flush of a mount adds extents; over time a file becomes many small ones, and blobs
// of which only a part is still referred to keep all of their space. Once it is a
// file's turn (volume/touched.go), its extents are looked through in windows, and a
// window with too many of them, or with blobs mostly dead, is read and written again
// as one blob.
//
// The content doesn't change, so nobody is asked, and no writer waits: what was
// written between the reading and the command stays as it was written, and only the
// rest of the window is replaced (metadata/fsm/relocate.go).
//
// Bounds: a blob of which all files together use less than half is rewritten, so files
// that have rested take at most twice their size (and parity). One that never rests is
// looked at when as many bytes were written to it as it has, and takes at most three
// times its size, and compactBytes, and what is written to it while it is gone through.
// Its windows with many extents are rewritten when that costs no more than the writing
// did (volume/touched.go), so no reader meets more extents than a window gets between two
// turns. Which files are to be looked at is part of the metadata: a restart forgets none.

const (
	compactWindow = 4 << 20 // bytes that are rewritten at once
	compactMany   = 32      // extents of a window that are too many
	compactLook   = 4096    // extents that are looked through at once
)

// crowd tells a command which files are to be looked at.
func crowd() *metadata.Crowd { return &metadata.Crowd{Extents: compactMany, Bytes: compactWindow} }

// compactBatch is how many marks are read, and taken, at once.
const compactBatch = 1000

func (v *Volume) compactor() { v.loop("compaction", v.kickCompact, v.compact) }

// compact works off the files that are marked (metadata/fsm/compaction.go) and whose
// turn it is.
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
			t := v.touched.take(m.Ino)
			if t.none() {
				continue
			}
			wrote, err := v.compactTurn(ctx, m.Ino, t)
			if t.rested && wrote {
				v.touched.rewritten(m.Ino)
			}
			if err == nil && !t.whole {
				continue // the rest of it is still to be looked at
			}
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

// compactTurn goes through what of an inode has its turn, and reports whether anything
// was rewritten.
func (v *Volume) compactTurn(ctx context.Context, ino twofold.Ino, t turn) (wrote bool, err error) {
	if t.whole {
		return v.compactRange(ctx, ino, 0, twofold.MaxFileLen)
	}
	for _, w := range t.windows {
		some, err := v.compactRange(ctx, ino, w*compactWindow, (w+1)*compactWindow)
		if wrote = wrote || some; err != nil && !errs.Is(err, errs.Conflict) {
			return wrote, err
		}
	}
	return wrote, nil
}

// compactRange goes through an inode's extents in [off, end) once.
func (v *Volume) compactRange(ctx context.Context, ino twofold.Ino, off, end int64) (wrote bool, err error) {
	var changed error // errs.Conflict: some of it was overwritten meanwhile
	for {
		leave := v.pins.enter()
		var n *metadata.Inode
		var exts []metadata.Extent
		var dead map[twofold.BlobID]bool
		err := v.Meta.View(ctx, func(w metadata.View) (err error) {
			if n, err = w.Inode(ino); err != nil || off >= min(end, n.Size) {
				return err
			}
			if exts, err = w.Extents(ino, off, min(end, n.Size)-off, compactLook); err == nil {
				dead, err = mostlyDead(w, exts)
			}
			return err
		})
		if err != nil || n.Nlink == 0 && !v.opens.has(ino) || len(exts) == 0 {
			leave()
			return wrote, errors.Join(err, changed)
		}
		unpin := v.pins.pin(exts)
		leave()
		done, some, err := v.compactExtents(ctx, n, exts, dead)
		unpin()
		wrote = wrote || some
		if errs.Is(err, errs.Conflict) {
			changed, err = err, nil
		}
		if err != nil || len(exts) < compactLook {
			return wrote, errors.Join(err, changed)
		}
		off = done
	}
}

// compactExtents rewrites the windows among consecutive extents that are worth it,
// and returns the offset up to which it has looked, and whether any was.
func (v *Volume) compactExtents(ctx context.Context, n *metadata.Inode, exts []metadata.Extent, dead map[twofold.BlobID]bool) (off int64, wrote bool, err error) {
	exts = split(exts, dead)
	var changed error // a window of which nothing was left when it was to be replaced
	for i := 0; i < len(exts); {
		j, worth := i, false
		for j < len(exts) && exts[j].Off+exts[j].Len-exts[i].Off <= compactWindow && (j == i || exts[j].Off == exts[j-1].Off+exts[j-1].Len) {
			worth = worth || exts[j].Blob != nil && dead[exts[j].Blob.ID]
			j++
		}
		j = max(j, i+1) // one extent larger than a window
		if len := j - i; len >= compactMany || worth {
			if err := v.rewrite(ctx, n, exts[i:j]); errs.Is(err, errs.Conflict) {
				changed = err
			} else if err != nil {
				return 0, wrote, err
			} else {
				wrote = true
			}
		}
		off = exts[j-1].Off + exts[j-1].Len
		i = j
	}
	return off, wrote, changed
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
		Ino: n.Ino, Version: n.Version, Off: off, Len: size, Extents: d.extents, Was: sources(exts),
	})
	d.settle(err)
	v.kick(v.kickTrash)
	return err
}

// sources says where the bytes of extents come from.
func sources(exts []metadata.Extent) []metadata.ExtentSource {
	was := make([]metadata.ExtentSource, len(exts))
	for i, e := range exts {
		was[i] = metadata.ExtentSource{Off: e.Off, Len: e.Len}
		if e.Blob != nil {
			was[i].Blob, was[i].BlobOff = &e.Blob.ID, e.BlobOff
		} else {
			sum := sha256.Sum256(e.Data)
			was[i].Sum = sum[:]
		}
	}
	return was
}
