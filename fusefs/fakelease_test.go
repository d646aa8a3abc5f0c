package fusefs

import (
	"context"
	"sync"
	"time"

	"twofold"
	"twofold/volume/api"
)

// cachedUntil is what the session's connection would say.
func (s *fakeSession) cachedUntil() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.silent.IsZero() {
		return s.silent
	}
	return time.Now().Add(10 * time.Second)
}

// cutOff has the session's leases end then, unless t is zero.
func (s *fakeSession) cutOff(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = t
}

// grant makes the session a reader of an inode, if nobody is about to change it, and
// returns its attributes; v.mu is held.
func (s *fakeSession) grant(in *fakeInode) api.Attr {
	a := in.attr
	a.Home = s.v.home(in)
	if s.caches && s.v.changing[key{ino: a.Ino}] == 0 && (in.holder == nil || in.holder == s) {
		in.readers[s] = true
		a.Leased = true
	}
	return a
}

// grantName is the same for an entry; in is nil where there is none.
func (s *fakeSession) grantName(d *fakeInode, name string, in *fakeInode) (a api.Attr) {
	if in != nil {
		a = s.grant(in)
	}
	if s.caches && s.v.changing[key{d.attr.Ino, name}] == 0 && s.v.changing[key{d.attr.Ino, allNames}] == 0 {
		d.readers[s] = true
		a.NameLeased = true
	}
	return a
}

// tellDirs tells what a change has made of directories; it is under way, and v.mu is held.
func (s *fakeSession) tellDirs(ctx context.Context, dirs ...*fakeInode) {
	for _, d := range dirs {
		a := d.attr
		if a.Leased = d.readers[s] && s.v.changing[key{ino: a.Ino}] == 1; a.Leased {
			api.DirsOf(ctx).Add(a)
		}
	}
}

// setAfter sets what runs when a change is done, before it is answered.
func (s *fakeSession) setAfter(f func(op string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = f
}

func (s *fakeSession) answer(op string) {
	s.mu.Lock()
	f := s.after
	s.mu.Unlock()
	if f != nil {
		f(op)
	}
}

// change recalls ino's write lease, if ino is not 0, and takes the read leases of all
// others of what is going to change, as the volume does: what that is is asked for with
// v.mu held, until nobody is left. It returns with v.mu held; end lets go of it.
func (s *fakeSession) change(ctx context.Context, ino twofold.Ino, targets func() []api.Stale) (end func()) {
	v := s.v
	type asked struct {
		s *fakeSession
		k key
	}
	done := make(map[asked]bool)
	marked := make(map[key]bool)
	for {
		if ino != 0 {
			s.recall(ctx, ino)
		} else {
			v.mu.Lock()
		}
		if s.alone(ctx, targets()) {
			v.mu.Unlock()
			continue
		}
		asks := make(map[*fakeSession][]api.Stale)
		for _, t := range targets() {
			in := v.inodes[t.Ino]
			if in == nil {
				continue
			}
			keys := []key{{ino: t.Ino}, {t.Ino, allNames}}
			if len(t.Names) > 0 {
				keys = []key{{ino: t.Ino}, {t.Ino, t.Names[0]}}
			}
			for _, k := range keys {
				if !marked[k] {
					marked[k] = true
					v.changing[k]++
				}
			}
			for r := range in.readers {
				if r == s || done[asked{r, keys[1]}] {
					continue
				}
				done[asked{r, keys[1]}] = true
				asks[r] = append(asks[r], t)
				if len(t.Names) == 0 {
					delete(in.readers, r)
				}
			}
		}
		if len(asks) == 0 {
			return func() {
				for k := range marked {
					if v.changing[k]--; v.changing[k] == 0 {
						delete(v.changing, k)
					}
				}
				v.mu.Unlock()
			}
		}
		v.mu.Unlock()
		var wg sync.WaitGroup
		for r, stale := range asks {
			wg.Go(func() {
				for r.holder.Invalidate(context.Background(), stale) != nil {
					time.Sleep(time.Millisecond)
				}
			})
		}
		wg.Wait()
	}
}

// named are the targets of changes of entries: they, and what they stand for.
func (v *fakeVolume) named(entries ...key) func() []api.Stale {
	return func() (stale []api.Stale) {
		for _, e := range entries {
			stale = append(stale, api.Stale{Ino: e.ino, Names: []string{e.name}})
			if _, in, err := v.entry(e.ino, e.name); err == nil {
				stale = append(stale, api.Stale{Ino: in.attr.Ino})
			}
		}
		return stale
	}
}

func itself(inos ...twofold.Ino) func() []api.Stale {
	return func() (stale []api.Stale) {
		for _, ino := range inos {
			stale = append(stale, api.Stale{Ino: ino})
		}
		return stale
	}
}

func (s *fakeSession) Forget(ctx context.Context, inos []twofold.Ino) error {
	if err := s.before("Forget", 0); err != nil {
		return err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	for _, ino := range inos {
		if in := s.v.inodes[ino]; in != nil {
			delete(in.readers, s)
		}
	}
	return nil
}

// reads reports whether the session is a reader of an inode.
func (s *fakeSession) reads(ino twofold.Ino) bool {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	in := s.v.inodes[ino]
	return in != nil && in.readers[s]
}
