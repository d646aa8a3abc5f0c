package lease

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"twofold"
	"twofold/internal/errs"
)

// Change is a change under way: from before its readers are told until its command was
// committed, or is known not to be. Changes do not exclude each other. For one
// goroutine at a time.
type Change struct {
	t     *Table
	actor twofold.SessionID
	gen   uint64 // when it began
	light bool   // it excludes nobody: dirs.go
	marks []mark
	// buckets of which everything may change
	buckets []twofold.BucketID
}

// mark is a target as it was marked.
type mark struct {
	Target
	drop bool // everything was marked, because a reader loses all of the directory
	sole bool // no other change of the inode was under way at the time
	free bool // none of the names, nor one of everything
}

// Change begins a change that session actor asks for; 0: none does. End must follow.
func (t *Table) Change(ctx context.Context, actor twofold.SessionID) (*Change, error) {
	if err := t.waitReady(ctx); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &Change{t: t, actor: actor, gen: t.gen}
	if t.dirs.held.Load() == 0 && !time.Now().Before(t.dirs.wanted) {
		c.light = true
		t.dirs.light++
	}
	return c, nil
}

// Excludes reports whether the change has to keep write leases of directories away: of those
// that it changes, those that it looked at to know what it changes, and the homes of
// inodes. If not, none is granted before End.
func (c *Change) Excludes() bool { return !c.light }

// Unguarded begins a change of anything in a bucket: ok is false where somebody has
// leases in it, or wants some. Otherwise end must be called when it is over.
func (t *Table) Unguarded(ctx context.Context, b twofold.BucketID) (end func(), ok bool, err error) {
	if err := t.waitReady(ctx); err != nil {
		return nil, false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.readers.bucket(b)
	if k.reads > 0 || k.dirs > 0 || !k.wanted.IsZero() && time.Now().Before(k.wanted) {
		return nil, false, nil
	}
	k.unguarded++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.endUnguarded(b)
	}, true, nil
}

// endUnguarded is called with t.mu held.
func (t *Table) endUnguarded(b twofold.BucketID) {
	k := t.readers.bucket(b)
	k.unguarded--
	t.gen++
	k.ended = t.gen
}

// Add returns when nobody caches the targets any more, nor can before End: but the
// actor, who knows what it changes, unless told says that it is to be asked as well.
// errs.Canceled, errs.Unavailable: nothing may be committed then.
func (c *Change) Add(ctx context.Context, told bool, targets ...Target) error {
	t := c.t
	t.mu.Lock()
	tell := map[*session][]Stale{}
	for _, g := range targets {
		m := mark{Target: g}
		if r := t.readers.reads[g.Ino]; r != nil {
			for i := range r.by {
				by := &r.by[i]
				if by.session == c.actor && !told {
					continue
				}
				st := Stale{Target: g}
				if len(g.Names) > 0 {
					by.unseen++
					st.Drop = by.unseen >= dropAfter
					m.drop = m.drop || st.Drop
				}
				s := t.readers.sessions[by.session]
				tell[s] = append(tell[s], st)
			}
		}
		t.readers.mark(&m)
		c.marks = append(c.marks, m)
	}
	t.mu.Unlock()
	return t.tell(ctx, tell)
}

// AddBucket is Add for everything in a bucket, and keeps all write leases of its directories
// away that are not the actor's. errs.Unwritten where a holder can't give one back.
func (c *Change) AddBucket(ctx context.Context, b twofold.BucketID) error {
	t := c.t
	t.mu.Lock()
	t.readers.bucket(b).unguarded++
	c.buckets = append(c.buckets, b)
	tell := map[*session][]Stale{}
	for ino, r := range t.readers.reads {
		if r.bucket != b {
			continue
		}
		for _, by := range r.by {
			s := t.readers.sessions[by.session]
			tell[s] = append(tell[s], Stale{Target: Target{Ino: ino}})
		}
	}
	t.mu.Unlock()
	if err := t.recallDirs(ctx, b, c.actor); err != nil {
		return err
	}
	return t.tell(ctx, tell)
}

// End ends the change: when the command was committed, or certainly will not be.
func (c *Change) End() {
	t := c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gen++
	for i := range c.marks {
		t.readers.unmark(&c.marks[i], t.gen)
	}
	for _, b := range c.buckets {
		t.endUnguarded(b)
	}
	c.marks, c.buckets = nil, nil
	if c.light {
		c.light = false
		t.dirs.light--
	}
}

// Grant registers the actor as a reader of what the change's own command says that an
// inode is now: false where another change of it may have come before or behind. It is
// called before End. The inode may be a new one. home is as Table.Grant's.
func (c *Change) Grant(b twofold.BucketID, ino, home twofold.Ino) bool {
	t := c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	own := 0
	for i := range c.marks {
		if c.marks[i].Ino == ino {
			own++
			if !c.marks[i].sole && own == 1 {
				return false
			}
		}
	}
	m := t.readers.marks[ino]
	return (m == nil || m.all == own) && t.unchanged(c.gen, ino, anything) && t.register(c.actor, c.gen, b, ino, home)
}

// GrantName is Grant for an entry that the command made.
func (c *Change) GrantName(b twofold.BucketID, dir twofold.Ino, name string) bool {
	t := c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	own := 0
	for i := range c.marks {
		if c.marks[i].Ino != dir {
			continue
		}
		if !c.marks[i].free || len(c.marks[i].Names) == 0 || c.marks[i].drop {
			return false
		}
		if slices.Contains(c.marks[i].Names, name) {
			own++
		}
	}
	m := t.readers.marks[dir]
	return (m == nil || m.whole == 0 && m.names[name] == own) &&
		t.unchanged(c.gen, dir, everything) && t.unchanged(c.gen, dir, name) && t.register(c.actor, c.gen, b, dir, 0)
}

// mark notes that a change is under way, and whether it is the only one.
func (r *readers) mark(g *mark) {
	m := r.marks[g.Ino]
	if m == nil {
		m = &marks{}
		r.marks[g.Ino] = m
	}
	g.sole, g.free = m.all == 0, m.whole == 0
	m.all++
	if len(g.Names) == 0 || g.drop {
		m.whole++
	}
	if m.names == nil && len(g.Names) > 0 {
		m.names = map[string]int{}
	}
	for _, n := range g.Names {
		g.free = g.free && m.names[n] == 0
		m.names[n]++
	}
}

func (r *readers) unmark(g *mark, gen uint64) {
	m := r.marks[g.Ino]
	r.ended(g.Ino, anything, gen)
	if len(g.Names) == 0 || g.drop {
		m.whole--
		r.ended(g.Ino, everything, gen)
	}
	for _, n := range g.Names {
		if m.names[n]--; m.names[n] == 0 {
			delete(m.names, n)
		}
		r.ended(g.Ino, n, gen)
	}
	if m.all--; m.all == 0 {
		delete(r.marks, g.Ino)
	}
}

// tell takes leases back from all sessions at once, and returns when they have
// answered, or their leases have ended otherwise.
func (t *Table) tell(ctx context.Context, tell map[*session][]Stale) error {
	if len(tell) == 0 {
		return nil
	}
	failed := make([]error, 0, len(tell))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for s, stale := range tell {
		wg.Go(func() {
			if err := t.invalidate(ctx, s, stale); err != nil {
				mu.Lock()
				failed = append(failed, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(failed) > 0 {
		return failed[0]
	}
	return nil
}

// invalidate asks a session until it has answered, until it was silent for the term,
// which ends all its leases, or until it has ended. What it has answered for is taken
// from it: there were no grants of it since the mark. One that is heard of and does not
// answer is cut off (cut.go): nobody waits for it for longer than patience and the term.
func (t *Table) invalidate(ctx context.Context, s *session, stale []Stale) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	id := s.reader.ID()
	lost := t.losses(s)
	patience := time.After(t.patience)
	asked := make(chan error, 1)
	ask := func() { asked <- s.reader.Invalidate(ctx, stale) }
	go ask()
	tick := time.NewTicker(t.term / 8)
	defer tick.Stop()
	for {
		select {
		case err := <-asked:
			if err == nil {
				t.taken(id, stale)
				return nil
			}
			t.log.Debug("invalidation not answered", "session", id, "err", err)
			time.AfterFunc(t.term/8, ask)
		case <-tick.C:
		case <-patience:
			t.cutOff(s)
		case <-ctx.Done():
			return errs.E("lease.invalidate", errs.Canceled, ctx.Err())
		case <-t.done:
			return errs.Newf("lease.invalidate", errs.Unavailable, "the server is stopping")
		}
		if t.losses(s) != lost || t.deaf(s) {
			return nil
		}
	}
}

// taken unregisters a reader of what it has answered for.
func (t *Table) taken(id twofold.SessionID, stale []Stale) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, st := range stale {
		if len(st.Names) == 0 || st.Drop {
			t.unregister(id, st.Ino)
		}
	}
}

// deaf reports whether a session has ended, or was silent for so long that it serves
// nothing from its cache: then its leases are gone.
func (t *Table) deaf(s *session) bool {
	id := s.reader.ID()
	silent := s.reader.Silent() > t.term
	if silent {
		t.mu.Lock()
		inos := slices.Collect(maps.Keys(s.inos))
		t.mu.Unlock()
		s.reader.Revoked(inos)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers.sessions[id] != s {
		return true
	}
	if silent {
		t.log.Warn("read leases revoked: their mount was not heard of for the lease term", "session", id, "leases", len(s.inos), "term", t.term)
		t.forgetReader(id)
	}
	return silent
}
