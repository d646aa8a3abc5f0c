package volume

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// Collection, in two loops and a walk (compaction has a loop of its own):
//
//	reaper     inodes without links that nobody has open -> FreeInode -> their
//	           blobs' last claims go -> trash
//	collector  blobs in the trash that nobody reads -> shards deleted -> TrashDone
//	orphans    shards on the drives that no metadata knows, of sessions that ended
//
// Nothing is collected before the mounts of before a restart had their time to say
// what they have open.

// kick wakes a loop, once.
func (v *Volume) kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

const (
	burst     = 20 * time.Millisecond // kicks of this time are one
	longPause = time.Second           // the most that a round is put off
)

// loop runs work when kicked, or when idle for long, until the volume closes. Kicks
// come with every unlink and close, and a round walks over what earlier ones have
// deleted, which the store keeps for a while: so rounds take a tenth of the time at
// most, unless there is much to do.
func (v *Volume) loop(name string, kick <-chan struct{}, work func(context.Context) error) {
	defer v.wg.Done()
	if _, err := v.leases.Generation(v.ctx); err != nil {
		return // closed before it was ready
	}
	tick := time.NewTicker(v.Idle)
	defer tick.Stop()
	pause := burst
	for {
		select {
		case <-v.ctx.Done():
			return
		case <-kick:
			select {
			case <-time.After(pause):
			case <-v.ctx.Done():
				return
			}
		case <-tick.C:
		}
		began := time.Now()
		if err := work(v.ctx); err != nil && v.ctx.Err() == nil {
			v.log.Warn("collection will go on later", "loop", name, "err", err)
		}
		pause = min(max(burst, 9*time.Since(began)), longPause)
	}
}

func (v *Volume) reaper() {
	seen := map[twofold.Ino]time.Time{}
	v.loop("reaper", v.kickReaper, func(ctx context.Context) error {
		v.expire(ctx)
		v.returnReserves(ctx)
		return v.reap(ctx, seen)
	})
}

// freeAtOnce is how many commands that free inodes are under way at once: they share commits.
const freeAtOnce = 4

// freeInos is how many inodes one of them frees, and freeBatch how many extents it drops, at
// most.
const (
	freeInos  = 250
	freeBatch = 2000
)

// reapAfter is how long an inode stays after its last name went. A mount may have
// looked the name up a moment before and be about to open it: it is to find the old
// file, as on any file system, and not ESTALE.
const reapAfter = time.Second

// reap frees inodes without links that no mount has open. seen has when the ones
// that wait were first met.
func (v *Volume) reap(ctx context.Context, seen map[twofold.Ino]time.Time) error {
	var after twofold.Ino
	defer func() {
		for ino, at := range seen { // those that got a link again
			if time.Since(at) > time.Minute {
				delete(seen, ino)
			}
		}
		if len(seen) > 0 {
			time.AfterFunc(reapAfter, func() { v.kick(v.kickReaper) })
		}
	}()
	for {
		var inos []twofold.Ino
		if err := v.Meta.View(ctx, func(w metadata.View) (err error) {
			inos, err = w.Orphans(after, 1000)
			return err
		}); err != nil {
			return err
		}
		if len(inos) == 0 {
			v.kick(v.kickTrash)
			return nil
		}
		var frees errgroup.Group
		frees.SetLimit(freeAtOnce)
		var due []twofold.Ino
		free := func() {
			if these := due; len(these) > 0 {
				due = nil
				frees.Go(func() error { return v.free(ctx, these) })
			}
		}
		for _, ino := range inos {
			after = ino
			if _, ok := seen[ino]; !ok {
				seen[ino] = time.Now()
			}
			if time.Since(seen[ino]) < reapAfter || v.leases.Leased(ino) || !v.opens.condemn(ino) {
				continue
			}
			delete(seen, ino)
			if due = append(due, ino); len(due) == freeInos {
				free()
			}
		}
		free()
		if err := frees.Wait(); err != nil {
			return err
		}
	}
}

// free frees condemned inodes; one that has a link again stays.
func (v *Volume) free(ctx context.Context, inos []twofold.Ino) error {
	defer func() {
		for _, ino := range inos {
			v.opens.buried(ino)
		}
	}()
	for {
		res, err := v.commit(ctx, metadata.OpFreeInodes, metadata.FreeInodes{Inos: inos, Max: freeBatch})
		if err != nil || !res.More {
			return err
		}
	}
}

func (v *Volume) collector() { v.loop("collector", v.kickTrash, v.collect) }

// collect deletes the shards of trashed blobs that nobody reads.
func (v *Volume) collect(ctx context.Context) error {
	var after twofold.BlobID
	for {
		var trash []metadata.TrashBlob
		if err := v.Meta.View(ctx, func(w metadata.View) (err error) {
			trash, err = w.Trash(after, 1000)
			return err
		}); err != nil || len(trash) == 0 {
			return err
		}
		stamp := v.pins.stamp()
		var gone []twofold.BlobID
		for i := range trash {
			b := trash[i].Blob
			after = b.ID
			if v.isWriting(b.ID) || !v.waitFree(ctx, stamp, b.ID) {
				continue
			}
			if err := v.Blobs.Delete(ctx, b); err != nil {
				v.log.Warn("blob not deleted; will be tried again", "blob", b.ID, "err", err)
				continue
			}
			gone = append(gone, b.ID)
		}
		if len(gone) > 0 {
			if _, err := v.commit(ctx, metadata.OpTrashDone, metadata.TrashDone{Blobs: gone}); err != nil {
				return err
			}
		}
	}
}

// waitFree gives readers that are between snapshot and pin a moment: they are quick.
func (v *Volume) waitFree(ctx context.Context, stamp uint64, b twofold.BlobID) bool {
	for range 5 {
		if v.pins.free(stamp, b) {
			return true
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// Wanted reports whether anything refers to a blob, or may still come to: for repair,
// which does not rebuild garbage.
func (v *Volume) Wanted(ctx context.Context, id twofold.BlobID) (wanted bool, err error) {
	if v.isWriting(id) {
		return true, nil
	}
	err = v.Meta.View(ctx, func(w metadata.View) error {
		wanted, err = w.Claimed(id)
		return err
	})
	return wanted, err
}

// CollectOrphans walks all drives and deletes blobs that nothing refers to and that
// nobody is writing: what killed processes left, and shards that came back with a
// drive after their blob was deleted. It returns how many it deleted.
func (v *Volume) CollectOrphans(ctx context.Context) (int, error) {
	if _, err := v.leases.Generation(ctx); err != nil {
		return 0, err
	}
	deleted := 0
	var batch []twofold.Blob
	flush := func() error {
		n, err := v.deleteUnclaimed(ctx, batch)
		deleted += n
		batch = batch[:0]
		return err
	}
	err := v.Blobs.WalkBlobs(ctx, func(id twofold.BlobID, sets []twofold.SetID) error {
		for _, set := range sets {
			batch = append(batch, twofold.Blob{ID: id, Set: set})
		}
		if len(batch) < 1000 {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return deleted, err
}

// deleteUnclaimed deletes those of the blobs that nothing refers to. The order
// matters: a blob that is not being written any more was committed, or failed,
// before the snapshot that is asked for its claims.
func (v *Volume) deleteUnclaimed(ctx context.Context, blobs []twofold.Blob) (int, error) {
	candidates := blobs[:0:0]
	for _, b := range blobs {
		if !v.isWriting(b.ID) {
			candidates = append(candidates, b)
		}
	}
	var dead []twofold.Blob
	if err := v.Meta.View(ctx, func(w metadata.View) error {
		for _, b := range candidates {
			claimed, err := w.Claimed(b.ID)
			if err != nil {
				return err
			}
			if s := b.ID.Session(); !claimed && s != v.writer {
				// Of an ended session, or of one so old that it was forgotten.
				switch rec, err := w.Session(s); {
				case err == nil && !rec.Ended:
					continue
				case err != nil && !errs.Is(err, errs.Fenced):
					return err // it is not known
				}
			}
			if !claimed {
				dead = append(dead, b)
			}
		}
		return nil
	}); err != nil {
		return 0, err
	}
	n := 0
	for _, b := range dead {
		if err := v.Blobs.Delete(ctx, b); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
