package lease

import (
	"context"
	"slices"
	"time"

	"twofold"
)

// Reader is a session that caches what it reads.
type Reader interface {
	// ID is the session's.
	ID() twofold.SessionID
	// Invalidate takes leases back and returns when nothing of them is served from a
	// cache any more. It may be called several times at once. Called without locks held.
	Invalidate(ctx context.Context, stale []Stale) error
	// Silent is as Holder has it: behind the term the session serves nothing from its cache.
	Silent() time.Duration
	// Revoked tells that all leases were taken without an answer, or are going to be a term
	// from now, before anybody relies on it. The session's own clock may have stood still,
	// or it may be alive and never answer: it must not be heard of again as one that has
	// them. It may also have files open that nobody knows of: those are among inos, of
	// which it had leases. Called without locks held; it must be quick.
	Revoked(inos []twofold.Ino)
}

// Target is what changes: an inode with all that is of it; with Names, of a
// directory, these entries and its attributes.
type Target struct {
	Ino   twofold.Ino
	Names []string
}

// Stale is what a reader may not cache any more: as Target; with Drop all of the
// directory.
type Stale struct {
	Target
	Drop bool
}

// MaxReads is how many inodes a session may have read leases of.
const MaxReads = 1 << 18

// dropAfter is how often others may change a directory that a reader does not look at in
// between, before its lease of all of it is taken.
const dropAfter = 16

// wantedFor is for how long changes of a bucket come with guards after somebody wanted a lease
// in it, or had one.
const wantedFor = 10 * time.Second

// readers are the read leases; Table.mu guards them. A grant and a change of the same
// thing never overlap:
//
//	grant    generation; snapshot; not granted if a change is under way, or was since
//	change   marked as under way; readers are told, and answer; commit; mark off,
//	         generation + 1
//
// So whoever is registered at a change's mark is told before the commit, and whoever
// comes later is not granted before it can see the commit.
type readers struct {
	sessions map[twofold.SessionID]*session
	reads    map[twofold.Ino]*read
	homes    map[twofold.Ino]map[twofold.Ino]struct{} // by home: inodes of which anybody has a lease
	buckets  map[twofold.BucketID]*bucket
	marks    map[twofold.Ino]*marks
	changed  map[entry]uint64 // generation of the last change that ended
	forgot   uint64           // ends up to this generation are forgotten
}

func newReaders() readers {
	return readers{
		sessions: map[twofold.SessionID]*session{}, reads: map[twofold.Ino]*read{},
		homes:   map[twofold.Ino]map[twofold.Ino]struct{}{},
		buckets: map[twofold.BucketID]*bucket{}, marks: map[twofold.Ino]*marks{}, changed: map[entry]uint64{},
	}
}

type session struct {
	reader Reader
	inos   map[twofold.Ino]struct{}

	cutting bool          // it is being cut off: cut.go
	lost    uint64        // how often it was
	bar     time.Duration // for how long it was granted nothing the last time
	barred  time.Time     // until then it is granted nothing
}

// read is who has a lease of an inode: few.
type read struct {
	bucket twofold.BucketID
	home   twofold.Ino // as of the last grant: whatever moves it takes the leases back
	by     []reading
}

type reading struct {
	session twofold.SessionID
	unseen  int // changes of its names by others since it looked last
}

// bucket counts what lets changes in it go without guards.
type bucket struct {
	reads     int       // leases in it
	dirs      int       // write leases of its directories
	unguarded int       // changes under way that may be of anything in it
	ended     uint64    // generation at which such a change ended last
	wanted    time.Time // until then changes come with guards
}

// marks are the changes of an inode that are under way.
type marks struct {
	all   int            // those of anything
	whole int            // those of everything
	names map[string]int // those of entries
}

// entry is a key of changed: an entry of a directory, or one of the two below.
type entry struct {
	ino  twofold.Ino
	name string
}

const (
	anything   = "/"  // no entry has this name: the last change of any kind
	everything = "//" // the last change of everything
)

func (r *readers) bucket(b twofold.BucketID) *bucket {
	k := r.buckets[b]
	if k == nil {
		k = &bucket{}
		r.buckets[b] = k
	}
	return k
}

// AddReader lets a session have read leases, until ReleaseAll.
func (t *Table) AddReader(r Reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers.sessions[r.ID()] == nil {
		t.readers.sessions[r.ID()] = &session{reader: r, inos: map[twofold.Ino]struct{}{}}
	}
}

// Grant registers a session as a reader of an inode of which it is about to be shown
// what a snapshot has that was taken after Generation returned gen. False: it may not
// cache that. b is the inode's bucket, home the directory whose lease decides about it, or 0.
func (t *Table) Grant(id twofold.SessionID, gen uint64, b twofold.BucketID, ino, home twofold.Ino) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.readers.marks[ino]
	return (m == nil || m.all == 0) && t.unchanged(gen, ino, anything) && t.register(id, gen, b, ino, home)
}

// GrantName is Grant for an entry, or for there being none of that name.
func (t *Table) GrantName(id twofold.SessionID, gen uint64, b twofold.BucketID, dir twofold.Ino, name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.readers.marks[dir]
	return (m == nil || m.whole == 0 && m.names[name] == 0) &&
		t.unchanged(gen, dir, everything) && t.unchanged(gen, dir, name) && t.register(id, gen, b, dir, 0)
}

// unchanged reports whether no change of an entry has ended since gen; t.mu is held.
func (t *Table) unchanged(gen uint64, ino twofold.Ino, name string) bool {
	return gen >= t.readers.forgot && t.readers.changed[entry{ino, name}] <= gen
}

// register makes a session a reader, unless its bucket, a write lease or its number of
// leases is in the way; t.mu is held.
func (t *Table) register(id twofold.SessionID, gen uint64, b twofold.BucketID, ino, home twofold.Ino) bool {
	s := t.readers.sessions[id]
	if s == nil || !t.isReady || s.cutting || !s.barred.IsZero() && time.Now().Before(s.barred) {
		return false
	}
	k := t.readers.bucket(b)
	if k.reads == 0 { // else they come with guards anyway
		k.wanted = time.Now().Add(wantedFor)
	}
	if k.unguarded > 0 || k.ended > gen {
		return false
	}
	if t.written(id, gen, ino) || home != 0 && t.written(id, gen, home) {
		return false
	}
	r := t.readers.reads[ino]
	if r != nil {
		t.readers.setHome(ino, r, home)
		for i := range r.by {
			if r.by[i].session == id {
				r.by[i].unseen = 0
				return true
			}
		}
	}
	if len(s.inos) >= MaxReads {
		return false
	}
	if r == nil {
		r = &read{bucket: b}
		t.readers.reads[ino] = r
		t.readers.setHome(ino, r, home)
	}
	r.by = append(r.by, reading{session: id})
	s.inos[ino] = struct{}{}
	k.reads++
	return true
}

// written reports whether somebody else has the write lease of an inode, or anybody has given it
// back since gen; t.mu is held.
func (t *Table) written(id twofold.SessionID, gen uint64, ino twofold.Ino) bool {
	w := t.inodes[ino]
	return w != nil && w.holder != nil && w.holder.ID() != id || gen < t.floor || t.released[ino] > gen
}

// setHome notes where an inode is.
func (r *readers) setHome(ino twofold.Ino, of *read, home twofold.Ino) {
	if of.home == home {
		return
	}
	if in := r.homes[of.home]; of.home != 0 {
		if delete(in, ino); len(in) == 0 {
			delete(r.homes, of.home)
		}
	}
	if of.home = home; home == 0 {
		return
	}
	if r.homes[home] == nil {
		r.homes[home] = map[twofold.Ino]struct{}{}
	}
	r.homes[home][ino] = struct{}{}
}

// unregister takes a session's lease of an inode; t.mu is held.
func (t *Table) unregister(id twofold.SessionID, ino twofold.Ino) {
	r := t.readers.reads[ino]
	if r == nil {
		return
	}
	i := slices.IndexFunc(r.by, func(b reading) bool { return b.session == id })
	if i < 0 {
		return
	}
	r.by = slices.Delete(r.by, i, i+1)
	if s := t.readers.sessions[id]; s != nil {
		delete(s.inos, ino)
	}
	k := t.readers.bucket(r.bucket)
	if k.reads--; k.reads == 0 {
		k.wanted = time.Now().Add(wantedFor)
	}
	if len(r.by) == 0 {
		t.readers.setHome(ino, r, 0)
		delete(t.readers.reads, ino)
	}
}

// Forget takes leases that a session gives back.
func (t *Table) Forget(id twofold.SessionID, inos []twofold.Ino) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ino := range inos {
		t.unregister(id, ino)
	}
}

// forgetReader takes all leases of a session; t.mu is held.
func (t *Table) forgetReader(id twofold.SessionID) {
	if s := t.readers.sessions[id]; s != nil {
		for ino := range s.inos {
			t.unregister(id, ino)
		}
	}
}

// Reads is how many read leases a session has.
func (t *Table) Reads(id twofold.SessionID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.readers.sessions[id]; s != nil {
		return len(s.inos)
	}
	return 0
}

// ended notes the end of a change; t.mu is held.
func (r *readers) ended(ino twofold.Ino, name string, gen uint64) {
	if len(r.changed) >= maxReleased {
		clear(r.changed)
		r.forgot = gen
	}
	r.changed[entry{ino, name}] = gen
}
