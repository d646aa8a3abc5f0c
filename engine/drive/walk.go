package drive

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// walkWindow is how many ids a Walk holds in memory, 16 bytes each. Directories are
// not in the order of ids: with more shards than that on the drive, each window
// takes another look at all of them.
const walkWindow = 1 << 20

// Walk visits the committed shards in the order of their ids, see Drive.
func (d *Local) Walk(ctx context.Context, after twofold.BlobID, fn func(twofold.BlobID) error) error {
	return d.walk(ctx, after, walkWindow, fn)
}

func (d *Local) walk(ctx context.Context, after twofold.BlobID, window int, fn func(twofold.BlobID) error) error {
	for {
		ids, more, err := d.window(ctx, after, window)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := fn(id); err != nil {
				return err
			}
			after = id
		}
		if !more {
			return nil
		}
	}
}

// window returns the first ids > after, sorted, and whether there are more.
func (d *Local) window(ctx context.Context, after twofold.BlobID, size int) (_ []twofold.BlobID, more bool, _ error) {
	const op = "drive.Walk"
	var low lowest
	for fan := range fanOut {
		var ids []twofold.BlobID // the task's, until it ended
		err := d.guard.run(ctx, op, 3*d.opt.Deadline, func() (err error) {
			ids, err = d.listFan(fan, after)
			return d.fail(op, err)
		}, nil)
		if err != nil {
			return nil, false, err
		}
		for _, id := range ids {
			if len(low) < size {
				heap.Push(&low, id)
				continue
			}
			more = true
			if bytes.Compare(id[:], low[0][:]) < 0 {
				low[0] = id
				heap.Fix(&low, 0)
			}
		}
	}
	slices.SortFunc(low, func(a, b twofold.BlobID) int { return bytes.Compare(a[:], b[:]) })
	return low, more, nil
}

// listFan lists the ids > after in one directory. Names that are no ids, or belong
// elsewhere, are not ours and are left out.
func (d *Local) listFan(fan int, after twofold.BlobID) ([]twofold.BlobID, error) {
	var ids []twofold.BlobID
	err := d.fs.List(fmt.Sprintf("%s/%s/%02x", d.opt.Path, blobsDir, fan), func(e vfs.Entry) error {
		id, err := twofold.ParseBlobID(e.Name)
		if err == nil && !e.Dir && int(id[len(id)-1]) == fan && id.String() == e.Name && bytes.Compare(id[:], after[:]) > 0 {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// No names, or no directory, of the drive; or is it not the drive any more?
	if err == nil && len(ids) > 0 {
		return ids, nil
	}
	if e := d.still("drive.Walk"); e != nil {
		return nil, e
	}
	if err != nil && d.dirs[fan].made.Load() {
		d.lose("directories of the drive are gone: " + err.Error())
		return nil, errs.E("drive.Walk", errs.Unavailable, err)
	}
	return ids, nil
}

// lowest is a heap with the highest id on top.
type lowest []twofold.BlobID

func (l lowest) Len() int           { return len(l) }
func (l lowest) Less(i, j int) bool { return bytes.Compare(l[i][:], l[j][:]) > 0 }
func (l lowest) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *lowest) Push(x any)        { *l = append(*l, x.(twofold.BlobID)) }
func (l *lowest) Pop() any {
	last := len(*l) - 1
	x := (*l)[last]
	*l = (*l)[:last]
	return x
}
