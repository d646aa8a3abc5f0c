package lease

import (
	"context"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/internal/errs"
)

// The write lease of a directory is one as those of files are: Acquire is called AcquireDir,
// all else is the same. Its holder decides alone about the names in the directory, and about
// links, ctime and place of the inodes whose home it is (metadata.Inode.Home). So
//
//	an observer  asks Settled of the directories that it looked at, and of the homes
//	a change     excludes them, unless it is the holder's own (Use without a token)
//	a reader     has no lease of the directory, nor of an inode whose home it is
//
// While there is no lease of a directory nobody pays for that: observers look at a counter
// (Dirs, Same), and changes are let go without exclusions (Change.Excludes). Such a change
// keeps leases of directories from being granted instead, as do those that are of anything
// in a bucket (Unguarded): errs.Busy, and for a while changes come with exclusions and guards.

// dirs are the leases of directories, all together; Table.mu guards what is not atomic.
type dirs struct {
	held   atomic.Int64  // how many there are
	grants atomic.Uint64 // how often one was granted
	light  int           // changes under way that exclude nobody
	wanted time.Time     // until then changes exclude
}

// DirMark is a moment at which Dirs was asked.
type DirMark struct {
	grants uint64
	some   bool
}

// Some reports whether there were leases of directories.
func (m DirMark) Some() bool { return m.some }

// Dirs tells an observer whether it has to know what directories it looks at. It is called
// before the snapshot, and once the table is ready.
func (t *Table) Dirs() DirMark {
	m := DirMark{grants: t.dirs.grants.Load()}
	m.some = t.dirs.held.Load() > 0
	return m
}

// Same reports whether there was no lease of a directory all the time since m, at which there
// was none.
func (t *Table) Same(m DirMark) bool { return !m.some && t.dirs.grants.Load() == m.grants }

// AcquireDir grants h the write lease of a directory in a bucket, recalling another holder's
// first, and returns when nobody else caches anything that the lease is about. A holder
// that has it gets its token again, and fresh is false. errs.Busy where the directory, or anything in the bucket,
// is being changed, or the lease is on its way back. errs.Unwritten where another holder
// can't give it back; errs.Canceled, errs.Unavailable.
func (t *Table) AcquireDir(ctx context.Context, h Holder, b twofold.BucketID, dir twofold.Ino) (token uint64, fresh bool, err error) {
	token, fresh, err = t.takeDir(ctx, h, b, dir)
	if err != nil || !fresh {
		return token, fresh, err
	}
	// Whoever comes from now on is granted nothing: register looks at the lease.
	if err := t.tell(ctx, t.readersIn(dir, h.ID())); err != nil {
		t.Release(h, dir, token)
		return 0, false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.inodes[dir]; s != nil && s.token == token {
		s.granting = false
	}
	return token, true, nil
}

func (t *Table) takeDir(ctx context.Context, h Holder, b twofold.BucketID, dir twofold.Ino) (token uint64, fresh bool, err error) {
	if err := t.waitReady(ctx); err != nil {
		return 0, false, err
	}
	for {
		t.mu.Lock()
		s := t.stateOf(dir)
		switch {
		case s.holder != nil && s.holder.ID() == h.ID() && s.exclusive == 0 && s.recalling == nil && !s.granting:
			token := s.token
			t.mu.Unlock()
			return token, false, nil
		case s.holder != nil && s.holder.ID() != h.ID():
			rec := t.recallLocked(dir, s)
			ch := s.changed
			t.mu.Unlock()
			if err := t.wait(ctx, ch); err != nil {
				return 0, false, err
			}
			if err := t.refused(rec); err != nil {
				return 0, false, err
			}
			continue
		case s.holder != nil || s.exclusive > 0 || s.busy > 0 || t.dirs.light > 0 || t.readers.bucket(b).unguarded > 0:
			t.wantDir(b)
			t.wake(dir, s)
			t.mu.Unlock()
			return 0, false, errs.Newf("lease.AcquireDir", errs.Busy, "directory %d is being changed", dir)
		}
		t.lastToken++
		s.holder, s.token, s.granting = h, t.lastToken, true
		t.heldDir(s, b)
		token := s.token
		t.mu.Unlock()
		return token, true, nil
	}
}

// wantDir has changes come with guards and exclusions for a while; t.mu is held.
func (t *Table) wantDir(b twofold.BucketID) {
	t.dirs.wanted = time.Now().Add(wantedFor)
	t.readers.bucket(b).wanted = t.dirs.wanted
}

// heldDir notes that the lease of s is a directory's; t.mu is held.
func (t *Table) heldDir(s *state, b twofold.BucketID) {
	s.dir, s.bucket = true, b
	t.readers.bucket(b).dirs++
	t.dirs.held.Add(1)
	t.dirs.grants.Add(1)
}

// droppedDir notes that the lease of s has ended, if it is a directory's; t.mu is held.
func (t *Table) droppedDir(s *state) {
	if !s.dir {
		return
	}
	s.dir, s.granting = false, false
	t.wantDir(s.bucket) // its holder, or another, is likely to come again
	t.readers.bucket(s.bucket).dirs--
	t.dirs.held.Add(-1)
}

// readersIn are the sessions that cache something that the lease of a directory is about, but
// for its holder.
func (t *Table) readersIn(dir twofold.Ino, holder twofold.SessionID) map[*session][]Stale {
	t.mu.Lock()
	defer t.mu.Unlock()
	tell := map[*session][]Stale{}
	add := func(ino twofold.Ino) {
		r := t.readers.reads[ino]
		if r == nil {
			return
		}
		for _, by := range r.by {
			if by.session != holder {
				s := t.readers.sessions[by.session]
				tell[s] = append(tell[s], Stale{Target: Target{Ino: ino}})
			}
		}
	}
	add(dir)
	for ino := range t.readers.homes[dir] {
		add(ino)
	}
	return tell
}

// ReclaimDir is Reclaim of a directory's lease.
func (t *Table) ReclaimDir(h Holder, b twofold.BucketID, dir twofold.Ino, token uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock() // for both: an observer must not find the lease, and no directory's
	if err := t.reclaimLocked(h, dir, token); err != nil {
		return err
	}
	if s := t.inodes[dir]; s != nil && s.holder != nil && s.token == token && !s.dir {
		t.heldDir(s, b)
	}
	return nil
}

// dirsOf lists the directories of a bucket of which somebody has the lease, but for those of one.
func (t *Table) dirsOf(b twofold.BucketID, but twofold.SessionID) (inos []twofold.Ino) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers.bucket(b).dirs == 0 {
		return nil
	}
	for ino, s := range t.inodes {
		if s.holder != nil && s.dir && s.bucket == b && s.holder.ID() != but {
			inos = append(inos, ino)
		}
	}
	return inos
}

// recallDirs recalls the leases of a bucket's directories, but for those of one, until there are
// none: what is committed for a recall may make directories, whose leases come with it
// (AcquireNew).
func (t *Table) recallDirs(ctx context.Context, b twofold.BucketID, but twofold.SessionID) error {
	for {
		inos := t.dirsOf(b, but)
		if len(inos) == 0 {
			return nil
		}
		t.mu.Lock()
		for _, ino := range inos {
			if s := t.inodes[ino]; s != nil && s.holder != nil && s.holder.ID() != but {
				t.recallLocked(ino, s) // all at once, waited for below
			}
		}
		t.mu.Unlock()
		for _, ino := range inos {
			if err := t.waitFree(ctx, ino, but); err != nil {
				return err
			}
		}
	}
}

// ExcludeDirs recalls the leases of all directories of a bucket, and keeps them from being
// granted until end is called. errs.Unwritten where a holder can't give one back.
func (t *Table) ExcludeDirs(ctx context.Context, b twofold.BucketID) (end func(), err error) {
	if err := t.waitReady(ctx); err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.readers.bucket(b).unguarded++
	t.mu.Unlock()
	end = func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.endUnguarded(b)
	}
	if err := t.recallDirs(ctx, b, 0); err != nil {
		end()
		return nil, err
	}
	return end, nil
}
