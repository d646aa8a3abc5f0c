package behind

import (
	"context"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// committed notes a batch that the volume has; b.mu is held.
func (b *Files) committed(s *sending, r *api.BatchResult) {
	q := &b.queue
	attrs := make(map[twofold.Ino]*api.Attr, len(r.Attrs))
	for i := range r.Attrs {
		a := &r.Attrs[i]
		if _, old := q.unread[a.Ino]; old || q.unsure {
			a.Leased = false
		}
		attrs[a.Ino] = a
	}
	q.unread = nil
	for _, t := range r.Tokens {
		b.token(t)
	}
	var n news
	seen := make(map[twofold.Ino]bool)
	for _, o := range s.ops {
		if c := o.is.Create; c != nil {
			b.born(c, s.last)
		}
		for _, ino := range o.of {
			if !seen[ino] {
				seen[ino] = true
				b.brought(ino, attrs[ino], q.touched[ino] > s.last, &n)
			}
		}
	}
	b.finish(s.last)
	b.pass(&n)
}

// token takes the lease of an inode that a batch has made; b.mu is held.
func (b *Files) token(t api.HeldWrite) {
	if d := b.dirs[t.Ino]; d != nil {
		d.token = t.Token
		if d.state == dirBorn {
			d.state = dirHeld
		}
		return
	}
	l := b.leases[t.Ino]
	if l == nil { // nobody wants it
		l = new(lease)
		b.leases[t.Ino] = l
	}
	l.real = t.Token
	if l.local == 0 {
		b.leave(t.Ino, l)
	}
}

// born notes that an inode is committed, whose lease has come, or does not come; b.mu is held.
func (b *Files) born(c *api.BatchCreate, last uint64) {
	if l := b.leases[c.Ino]; l != nil && l.real == 0 {
		l.asked = false
		if l.local == 0 {
			delete(b.leases, c.Ino)
		}
	}
	if d := b.dirs[c.Ino]; c.Type == metadata.TypeDir && d != nil && d.state == dirBorn && b.pending(c.Ino) <= last {
		b.drop(d)
	}
}

// news is what a batch has brought that the caches above have to be told.
type news struct {
	stale []api.Stale
	homes []*dir // of which it is
}

func (n *news) add(ino twofold.Ino, d *dir) {
	n.stale = append(n.stale, api.Stale{Ino: ino})
	if d != nil {
		d.telling++
		n.homes = append(n.homes, d)
	}
}

// brought compares what is known of an inode with what the volume says, a, which is nil where
// it is gone, or not said. later tells that more is queued of it. b.mu is held.
func (b *Files) brought(ino twofold.Ino, a *api.Attr, later bool, n *news) {
	in, d := b.inodes[ino], b.dirs[ino]
	switch {
	case in != nil && in.attr.Nlink == 0:
		if !later {
			b.unkeep(ino)
		}
	case in != nil:
		home := b.dirs[in.attr.Home]
		in.reader = a != nil && a.Leased
		if !in.reader {
			n.add(ino, home)
		}
		switch {
		case later:
		case a == nil:
			b.unkeep(ino)
		default:
			if !same(&in.attr, a) {
				b.log.Debug("an inode is not what was expected", "expected", in.attr, "is", *a)
				if in.reader {
					n.add(ino, home)
				}
			}
			a.Home = in.attr.Home
			in.attr = *a
		}
	case d != nil && !d.gone:
		d.reader = a != nil && a.Leased
		if !d.reader {
			n.add(ino, d)
		}
		switch {
		case later:
		case a == nil:
			d.valid = false
		case d.valid:
			if !same(&d.attr, a) {
				b.log.Debug("a directory is not what was expected", "expected", d.attr, "is", *a)
				if d.reader {
					n.add(ino, d)
				}
			}
			d.attr = *a
		}
	}
}

// pass tells the caches above what they keep and may not, or must not any more. No directory
// of which it is, is given back before. It is not waited for: the kernel may have to be
// told, whose requests may wait for a batch.
func (b *Files) pass(n *news) {
	if len(n.stale) == 0 {
		return
	}
	up := b.up
	go func() {
		for stale := n.stale; len(stale) > 0 && up != nil; {
			some := stale[:min(len(stale), api.MaxStale/2)]
			stale = stale[len(some):]
			if err := up.Invalidate(context.WithoutCancel(b.ctx), some); err != nil {
				b.log.Warn("what is cached is not up to date", "err", err)
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, d := range n.homes {
			d.telling--
		}
		b.broadcast()
	}()
}

// committedBefore notes a batch that an earlier attempt has committed, whose answer is lost.
// The leases of what it has made are asked for again; what is known of everything in it
// is dropped. b.mu is held, but not meanwhile.
func (b *Files) committedBefore(s *sending) {
	gen := b.queue.gen
	r := api.BatchResult{}
	b.call(func() {
		for _, o := range s.batch.Ops {
			c := o.Create
			if c == nil || !c.Lease {
				continue
			}
			if c.Type == metadata.TypeDir {
				if l, err := b.to.AcquireDir(b.ctx, c.Ino); err == nil {
					r.Tokens = append(r.Tokens, api.HeldWrite{Ino: c.Ino, Token: l.Token})
				}
			} else if l, err := b.to.AcquireWrite(b.ctx, c.Ino); err == nil {
				r.Tokens = append(r.Tokens, api.HeldWrite{Ino: c.Ino, Token: l.Token})
			}
		}
	})
	if b.queue.gen != gen {
		return
	}
	b.committed(s, &r)
	for _, o := range s.ops {
		for _, ino := range o.dirs {
			if d := b.dirs[ino]; d != nil {
				b.close(d)
			}
		}
	}
}
