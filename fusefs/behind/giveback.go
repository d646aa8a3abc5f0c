package behind

import (
	"context"
	"time"

	"twofold/internal/errs"
)

// close begins to give a directory back: what was done in it is committed first. b.mu is
// held.
func (b *Files) close(d *dir) {
	switch d.state {
	case dirAsking: // it is given back when it comes
		d.revoked = ^uint64(0)
	case dirLoading, dirBorn, dirHeld:
		d.state = dirClosing
		b.broadcast()
		go b.giveBack(d)
	}
}

// giveBack commits what was done in a directory and releases its lease. It waits for
// the volume only.
func (b *Files) giveBack(d *dir) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.dirs[d.ino] == d {
		seq := max(b.pending(d.ino), d.born)
		if b.queue.done < seq {
			if err := b.settle(b.ctx, seq); err != nil {
				b.refuse(d, err)
				return
			}
			continue
		}
		if d.telling == 0 {
			break
		}
		if b.wait(b.ctx) != nil {
			return
		}
	}
	if b.dirs[d.ino] != d {
		return // lost
	}
	// What is known under it goes before others can change it.
	token := d.token
	b.forget(d)
	b.unkeepAll(d)
	d.valid = false
	if token != 0 {
		b.mu.Unlock()
		if err := b.to.ReleaseWrite(b.ctx, d.ino, token); err != nil {
			b.log.Debug("release of a directory's write lease", "dir", d.ino, "token", token, "err", err)
		}
		b.mu.Lock()
	}
	b.drop(d)
}

// refuse keeps a directory whose operations can't be committed now; b.mu is held.
func (b *Files) refuse(d *dir, err error) {
	if b.dirs[d.ino] != d || d.state != dirClosing || b.ctx.Err() != nil {
		return
	}
	d.state = dirHeld
	if d.token == 0 {
		d.state = dirBorn
	}
	d.refusals++
	d.refusal = unwritten(err)
	b.broadcast()
}

// unwritten is why a lease is not given back.
func unwritten(err error) error {
	if errs.Is(err, errs.Canceled) {
		return err
	}
	return errs.E("behind.recall", errs.Unwritten, err)
}

// recalled gives a directory back that somebody else wants, and returns when that is done.
// errs.Unwritten where what was done in it can't be committed now. b.mu is held.
func (b *Files) recalled(ctx context.Context, d *dir) error {
	b.avoid(d.ino)
	refusals := d.refusals
	for b.dirs[d.ino] == d {
		if d.refusals != refusals {
			return d.refusal
		}
		b.close(d)
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sweeper gives back what is not used, until the mount ends.
func (b *Files) sweeper() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case now := <-tick.C:
			b.sweep(now)
		}
	}
}

func (b *Files) sweep(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	idle, most := idleDir, manyRelease
	if len(b.dirs) > maxDirs/2 || b.known > maxKnown/2 {
		idle, most = idleDir/10, 256
	}
	for _, d := range b.dirs {
		if d.state == dirHeld && now.Sub(d.used) > idle && most > 0 {
			most--
			b.close(d)
		}
	}
	b.sweepInodes()
}
