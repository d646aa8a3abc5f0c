package behind

import (
	"context"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
	"twofold/volume/keypath"
)

// dirState is where a directory's write lease is.
//
//	none -> asking -> loading -> held -> closing -> none
//	        born --------------> held
type dirState uint8

const (
	dirAsking  dirState = iota // AcquireDir is under way
	dirLoading                 // its names are read; who wants to change them waits
	dirBorn                    // made here, and not committed: nobody else knows of it
	dirHeld
	dirClosing // what was done in it is committed, and it is given back
)

// dir is a directory whose write lease the mount has, or nearly.
type dir struct {
	ino   twofold.Ino
	state dirState
	token uint64 // of the lease; 0 while asking, or born
	born  uint64 // the operation that makes it, if one does
	used  time.Time

	attr   api.Attr
	valid  bool // attr is what it is, with what was done here
	reader bool // the session is a reader of it: what is answered of it may be cached
	gone   bool // it was removed here: what its lease was for
	plain  bool // it has neither ACL nor other attributes: it was made here

	unlimited bool // its bucket has no quota

	names   map[string]entry
	whole   bool   // a name without a record is free
	escapes bool   // it has names that others depend on
	rev     uint64 // moves when what the volume says of names may be old
	below   uint64 // the last operation on an inode whose home it is

	homes map[twofold.Ino]struct{} // of Files.inodes those whose home it is

	revoked  uint64 // leases up to this token were recalled before they arrived
	telling  int    // caches above that are being told of what a batch has brought
	refusals uint64 // how often it could not be given back
	refusal  error
}

const (
	maxDirs     = 4096
	idleDir     = 10 * time.Second // what is not used for so long is given back
	maxListing  = 2000             // entries that are read to know all names
	soonAgain   = time.Second      // two changes within are worth a lease
	firstAvoid  = time.Second      // for so long a directory is left alone that others want
	lastAvoid   = time.Minute
	offForAll   = time.Minute // for so long a server that gives no leases is not asked
	sweepEvery  = time.Second
	maxHeat     = 8192
	levelBit    = twofold.Ino(1) << 63 // of synthetic directories, which have no lease
	manyRelease = 64                   // directories are given back at a time
)

// heat is how a directory was changed lately, and whether others want it.
type heat struct {
	last  time.Time // a change that went the ordinary way
	avoid time.Time // until then its lease is not asked for
	pause time.Duration
}

// usable reports whether changes may be made in the directory here; b.mu is held.
func (d *dir) usable() bool { return d != nil && (d.state == dirHeld || d.state == dirBorn) }

// pending is the last operation of a directory, or of what has its home there.
func (b *Files) pending(ino twofold.Ino) uint64 {
	seq := b.queue.touched[ino]
	if d := b.dirs[ino]; d != nil {
		seq = max(seq, d.below)
	}
	return seq
}

// writable returns the directory if names in it may be changed here, with its attributes
// known; nil: go the ordinary way. It waits for ordinary changes that are under way.
// b.mu is held, but not while it waits.
func (b *Files) writable(ctx context.Context, ino twofold.Ino) (*dir, error) {
	for {
		d := b.dirs[ino]
		switch {
		case d == nil || !b.alive() || d.state == dirAsking || d.state == dirClosing:
			return nil, nil
		case b.queue.failing != nil:
			return nil, b.queue.failing
		case d.state == dirLoading || b.outside[ino] > 0 || b.queue.full():
			if b.queue.full() {
				b.queue.want = max(b.queue.want, b.queue.ops[0].seq)
				b.wakeFlusher()
			}
			if err := b.wait(ctx); err != nil {
				return nil, err
			}
		case !d.valid:
			if err := b.refresh(ctx, d); err != nil {
				return nil, err
			}
		default:
			d.used = time.Now()
			return d, nil
		}
	}
}

// refresh asks for a directory's attributes; b.mu is held, but not meanwhile.
func (b *Files) refresh(ctx context.Context, d *dir) error {
	if err := b.settle(ctx, b.queue.touched[d.ino]); err != nil {
		return err
	}
	rev, seq := d.rev, b.queue.touched[d.ino]
	b.mu.Unlock()
	a, err := b.to.GetAttr(ctx, d.ino)
	b.mu.Lock()
	if err != nil {
		return err
	}
	if d.rev == rev && b.queue.touched[d.ino] == seq && b.outside[d.ino] == 0 {
		d.attr, d.valid = a, true
		d.reader = d.reader && a.Leased
	}
	return nil
}

// changedNames notes a change of names that went the ordinary way: the lease is asked for
// where there was another one just before. b.mu is held.
func (b *Files) changedNames(ino twofold.Ino) {
	if ino == twofold.RootIno || ino&levelBit != 0 || b.dirs[ino] != nil {
		return
	}
	now := time.Now()
	h := b.heatOf(ino)
	soon := now.Sub(h.last) <= soonAgain
	h.last = now
	if !soon || now.Before(h.avoid) || now.Before(b.off) || len(b.dirs) >= maxDirs || !b.alive() {
		return
	}
	d := &dir{ino: ino, state: dirAsking, used: now}
	b.dirs[ino] = d
	go b.acquire(d)
}

func (b *Files) heatOf(ino twofold.Ino) *heat {
	h := b.heat[ino]
	if h == nil {
		if len(b.heat) >= maxHeat {
			clear(b.heat)
		}
		h = new(heat)
		b.heat[ino] = h
	}
	return h
}

// avoid leaves a directory alone for a while that others want; b.mu is held.
func (b *Files) avoid(ino twofold.Ino) {
	h, now := b.heatOf(ino), time.Now()
	switch {
	case h.pause == 0 || now.Sub(h.avoid) > lastAvoid:
		h.pause = firstAvoid
	default:
		h.pause = min(2*h.pause, lastAvoid)
	}
	h.avoid = now.Add(h.pause)
}

// acquire asks for a directory's lease and reads its names.
func (b *Files) acquire(d *dir) {
	l, err := b.to.AcquireDir(b.ctx, d.ino)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil:
		if errs.Is(err, errs.Unsupported) {
			b.off = time.Now().Add(offForAll)
		}
		b.log.Debug("no write lease of a directory", "dir", d.ino, "err", err)
		b.avoid(d.ino)
		b.drop(d)
		return
	case b.dirs[d.ino] != d: // everything was lost meanwhile
		b.call(func() { b.to.ReleaseWrite(b.ctx, d.ino, l.Token) })
		return
	case l.Token <= d.revoked || !l.Attr.Leased || l.DefaultACL || !l.Unlimited:
		// With a quota, what was removed has to be free for others at once.
		b.avoid(d.ino)
		b.call(func() { b.to.ReleaseWrite(b.ctx, d.ino, l.Token) })
		b.drop(d)
		return
	}
	d.state, d.token = dirLoading, l.Token
	d.attr, d.valid, d.reader, d.unlimited = l.Attr, true, true, l.Unlimited
	d.used = time.Now()
	b.moreNumbers()
	for b.outside[d.ino] > 0 && d.state == dirLoading {
		if b.wait(b.ctx) != nil {
			return
		}
	}
	d.valid = false // it may have changed meanwhile
	if d.state == dirLoading {
		b.load(d)
	}
	switch {
	case d.state != dirLoading:
	case d.escapes: // what its names mean depends on others
		b.avoid(d.ino)
		b.close(d)
	default:
		d.state = dirHeld
	}
	b.broadcast()
}

// load reads the names of a directory, if they are few. Without them they are asked for one
// by one. b.mu is held, but not meanwhile.
func (b *Files) load(d *dir) {
	d.rev++
	rev := d.rev
	b.mu.Unlock()
	list, eof, err := b.to.ReadDir(b.ctx, d.ino, "", maxListing+1, true)
	b.mu.Lock()
	if err != nil || !eof || len(list) > maxListing || d.rev != rev || b.dirs[d.ino] != d || b.known+len(list) > maxKnown {
		return
	}
	d.whole = true
	for i := range list {
		e := &list[i]
		b.place(d.ino, &e.Attr, nil)
		d.escapes = d.escapes || !keypath.Ordinary(e.Name)
		b.set(d, e.Name, entry{e.Attr.Ino, b.kindOf(d.ino, e.Name, &e.Attr)})
	}
}

// drop forgets a directory, its lease being gone, and what is known under it; b.mu is held.
func (b *Files) drop(d *dir) {
	if b.dirs[d.ino] != d {
		return
	}
	b.forget(d)
	delete(b.dirs, d.ino)
	b.unkeepAll(d)
	b.broadcast()
}
