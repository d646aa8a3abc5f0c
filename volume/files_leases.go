package volume

import (
	"context"
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"
	"twofold/volume/lease"
)

var _ lease.Reader = (*Session)(nil)

// Cache lets the session have read leases from now on, and returns the lease term.
func (s *Session) Cache() time.Duration {
	s.caches.Store(true)
	s.v.leases.AddReader(s)
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if ended { // and the table may have let it go before
		s.v.leases.ReleaseAll(s.id)
		return 0
	}
	return s.v.LeaseTerm
}

// Forget implements api.Files.
func (s *Session) Forget(_ context.Context, inos []twofold.Ino) error {
	s.v.leases.Forget(s.id, inos)
	return nil
}

// Invalidate implements lease.Reader: the mount is told, with names as it knows them. What
// is too much for one message (all of a bucket may be 256Ki inodes) goes in several at once.
func (s *Session) Invalidate(ctx context.Context, stale []lease.Stale) error {
	out := make([]api.Stale, len(stale))
	for i, st := range stale {
		out[i] = api.Stale{Ino: st.Ino, Drop: st.Drop}
		for _, comp := range st.Names {
			if st.Ino == twofold.RootIno {
				out[i].Names = append(out[i].Names, comp)
				continue
			}
			// What a component's name is depends on whether there is an object
			// beside a directory. The first level of a long one is not cached, but
			// the directory's attributes are.
			out[i].Names = append(out[i].Names, keypath.ToPosix(comp, false)[0])
			if keypath.CanBeFile(comp) {
				out[i].Names = append(out[i].Names, keypath.ToPosix(comp, true)[0])
			}
		}
	}
	all := pieces(out)
	if len(all) == 1 {
		return s.holder.Invalidate(ctx, out)
	}
	failed := make(chan error, len(all))
	for _, p := range all {
		go func() { failed <- s.holder.Invalidate(ctx, p) }()
	}
	var first error
	for range all {
		if err := <-failed; first == nil {
			first = err
		}
	}
	return first
}

// pieces cuts what is stale into what fits an Invalidate each.
func pieces(all []api.Stale) (out [][]api.Stale) {
	from, n, text := 0, 0, 0
	for i, st := range all {
		k, t := 1+len(st.Names), 0
		for _, name := range st.Names {
			t += len(name)
		}
		if i > from && (n+k > api.MaxStale || text+t > api.MaxStaleText) {
			out = append(out, all[from:i])
			from, n, text = i, 0, 0
		}
		n, text = n+k, text+t
	}
	return append(out, all[from:])
}

// spareFor is for how long a mount that has come back may pin what it had opened under
// leases that were revoked.
const spareFor = 15 * time.Second

// Revoked implements lease.Reader: the connection is given up, as far as there is one.
// A mount opens files under their leases, and pins them when it is told that they change,
// which it was not: they stay until it has come back and had the time to, or has ended.
func (s *Session) Revoked(inos []twofold.Ino) {
	s.mu.Lock()
	if !s.ended {
		s.back = time.Time{}
		for _, ino := range inos {
			if _, ok := s.spared[ino]; !ok && s.v.opens.add(ino, 1) {
				s.spared[ino] = struct{}{}
			}
		}
	}
	s.mu.Unlock()
	if r, ok := s.holder.(revocable); ok {
		r.Revoked()
	}
}

// unspare ends that; s.mu is held.
func (s *Session) unspare() {
	for ino := range s.spared {
		s.v.opens.drop(ino, 1)
	}
	clear(s.spared)
	s.v.kick(s.v.kickReaper)
}

// revocable is a holder whose read leases may end without its knowledge.
type revocable interface {
	// Revoked makes the mount drop all it has cached before it is heard of again.
	Revoked()
}

// grant marks attributes that a snapshot of generation gen has as leased, where the
// mount may cache them. An inode without a name may be gone at any moment: it is not.
func (s *Session) grant(gen uint64, n *metadata.Inode, a *api.Attr) {
	if s.homes.Load() {
		a.Home = n.Home()
	}
	if s.caches.Load() && n.Nlink > 0 {
		a.Leased = s.v.leases.Grant(s.id, gen, n.Bucket, n.Ino, n.Home())
	}
}

// grantName is grant for an entry, or for there being none.
func (s *Session) grantName(gen uint64, b twofold.BucketID, dir twofold.Ino, comp string, a *api.Attr) {
	if s.caches.Load() {
		a.NameLeased = s.v.leases.GrantName(s.id, gen, b, dir, comp)
	}
}

// granted is attrOf the inode that a change's own command tells of, leased where the mount
// may cache it, and the entry that at says, where that is given. A result may be a kept
// one, of long before: what is leased is read again.
func (s *Session) granted(ctx context.Context, c *change, n *metadata.Inode, at *nameAt) api.Attr {
	a := s.attrOf(n)
	if !s.caches.Load() {
		return a
	}
	var now *metadata.Inode
	named := false
	if err := s.v.Meta.View(ctx, func(w metadata.View) (err error) {
		if now, err = w.Inode(n.Ino); err != nil || at == nil {
			return err
		}
		there, err := w.Lookup(at.dir, at.name)
		named = err == nil && there.Ino == n.Ino
		return nil
	}); err != nil || now.Nlink == 0 {
		return a
	}
	if c.under.Grant(n.Bucket, n.Ino, now.Home()) {
		a = s.attrOf(now)
		a.Leased = true
	}
	a.NameLeased = named && c.under.GrantName(n.Bucket, at.dir, at.name.Comp)
	return a
}

// tellDirs tells the call, if it wants to know, what its committed change has made of
// directories, as far as the mount may cache that. A directory that others change at the same
// time is left out. A result may be a kept one, of long before: they are read now.
func (s *Session) tellDirs(ctx context.Context, c *change, dirs ...twofold.Ino) {
	to := api.DirsOf(ctx)
	if to == nil || !s.caches.Load() {
		return
	}
	var now []*metadata.Inode
	if err := s.v.Meta.View(ctx, func(w metadata.View) error {
		for i, dir := range dirs {
			if i > 0 && dir == dirs[0] {
				continue
			}
			if n, err := w.Inode(dir); err == nil && n.Nlink > 0 {
				now = append(now, n)
			}
		}
		return nil
	}); err != nil {
		return // it is cached no more, and asked for
	}
	for _, n := range now {
		if c.under.Grant(n.Bucket, n.Ino, n.Home()) {
			a := s.attrOf(n)
			a.Leased = true
			to.Add(a)
		}
	}
}

// change begins a change of what the mount itself named.
func (s *Session) change(ctx context.Context, known ...metadata.Target) (*change, error) {
	c, err := s.v.beginChange(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := c.add(ctx, false, known...); err != nil {
		c.done(nil)
		return nil, err
	}
	return c, nil
}

// resolved adds to a change what the names of a call stand for now: the mount may not know.
func (s *Session) resolved(ctx context.Context, c *change, names ...nameAt) error {
	var targets []metadata.Target
	err := s.v.Meta.View(ctx, func(w metadata.View) error {
		for _, at := range names {
			n, err := w.Lookup(at.dir, at.name)
			if err != nil {
				continue // the command will say so
			}
			targets = append(targets, metadata.Target{Ino: n.Ino})
			if n.Type != metadata.TypeDir {
				continue
			}
			if _, err := w.Lookup(at.dir, metadata.Name{Comp: at.name.Comp, File: true}); err == nil {
				// The object beside the directory gets another name.
				targets = append(targets, metadata.Target{Ino: at.dir, Names: []string{at.name.Comp}})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.add(ctx, true, targets...)
}

// nameAt is a name in a directory of the tree.
type nameAt struct {
	dir  twofold.Ino
	name metadata.Name
}

// changeNames begins a change of entries that a mount named, each in the directory that it
// knows beside it. In a synthetic level it does not know what the directory is, and is
// told; all says that it is told in any case.
func (s *Session) changeNames(ctx context.Context, all bool, dirs []twofold.Ino, names []nameAt) (c *change, err error) {
	if c, err = s.change(ctx); err != nil {
		return nil, err
	}
	for i, at := range names {
		if err = c.add(ctx, all || dirs[i] != at.dir, metadata.Target{Ino: at.dir, Names: []string{at.name.Comp}}); err != nil {
			c.done(nil)
			return nil, err
		}
	}
	return c, nil
}

// send sends the mount's command, of something in dir, with the change's guard.
func (s *Session) send(ctx context.Context, c *change, dir twofold.Ino, op metadata.Op, body any) (*metadata.Result, error) {
	bucket := func() (b twofold.BucketID, err error) {
		err = s.v.Meta.View(ctx, func(w metadata.View) error {
			n, err := w.Inode(dir)
			if err == nil {
				b = n.Bucket
			}
			return err
		})
		return b, err
	}
	return c.send(ctx, bucket, func(guard []metadata.Target) (*metadata.Result, error) {
		return s.commandGuarded(ctx, op, body, guard)
	})
}
