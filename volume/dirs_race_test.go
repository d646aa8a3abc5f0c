package volume

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// ledgerOfNames knows which names there must be, and must not be. No name comes twice.
type ledgerOfNames struct {
	mu    sync.Mutex
	clock int
	names map[string]*span // by key
}

// span is when a name was: made returned, removal began, removal returned; 0: not yet.
type span struct{ made, going, gone int }

func (l *ledgerOfNames) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	return l.clock
}

func (l *ledgerOfNames) at(key string, fn func(s *span, now int)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names[key] == nil {
		l.names[key] = &span{}
	}
	l.clock++
	fn(l.names[key], l.clock)
}

func (l *ledgerOfNames) made(key string)  { l.at(key, func(s *span, now int) { s.made = now }) }
func (l *ledgerOfNames) going(key string) { l.at(key, func(s *span, now int) { s.going = now }) }
func (l *ledgerOfNames) gone(key string)  { l.at(key, func(s *span, now int) { s.gone = now }) }

// check compares what was seen of the names with a prefix, by a look that began at since.
func (l *ledgerOfNames) check(t *testing.T, who, prefix string, since int, seen map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, s := range l.names {
		switch {
		case len(key) < len(prefix) || key[:len(prefix)] != prefix:
		case s.made != 0 && s.made < since && s.going == 0 && !seen[key]:
			t.Errorf("%s does not see %s, which was there before it looked", who, key)
		case s.gone != 0 && s.gone < since && seen[key]:
			t.Errorf("%s sees %s, which was removed before it looked", who, key)
		}
	}
}

// own is a name that an actor has made, which only it removes.
type own struct {
	dir  int
	name string
	ino  twofold.Ino
}

// TestDecidersAndObservers: mounts that decide on their own about the same directories, calls
// that go the ordinary way, across directories too, and S3: at every look there is what
// there was when it began.
func TestDecidersAndObservers(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	const rounds = 120
	for i := range 3 {
		h.put("docs", fmt.Sprintf("d%d/", i), nil)
	}
	l := &ledgerOfNames{names: map[string]*span{}}
	deciders := []*decider{h.decider(t), h.decider(t)}
	looker := h.decider(t)
	var dirs []twofold.Ino
	root, _ := looker.s.Lookup(ctx, twofold.RootIno, "docs")
	for i := range 3 {
		a, err := looker.s.Lookup(ctx, root.Ino, fmt.Sprint("d", i))
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, a.Ino)
	}
	var count atomic.Int64
	fresh := func() string { return fmt.Sprint("n", count.Add(1)) }
	key := func(dir int, name string) string { return fmt.Sprintf("d%d/%s", dir, name) }
	var local, busy atomic.Int64

	var wg, looking sync.WaitGroup
	for _, d := range deciders {
		wg.Go(func() {
			var mine []own
			for range rounds {
				i := rand.IntN(len(dirs))
				if _, err := d.ask(dirs[i]); err != nil {
					if busy.Add(1); !errs.Is(err, errs.Busy) {
						t.Error(err)
					}
				}
				for range 1 + rand.IntN(4) {
					mine = d.act(l, dirs, i, mine, fresh, key, &local)
				}
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if err := d.flush(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() { // S3
		var mine []own
		for range rounds {
			if len(mine) > 0 && rand.IntN(3) == 0 {
				o := mine[0]
				mine = mine[1:]
				k := key(o.dir, o.name)
				l.going(k)
				if err := h.v.DeleteObject(ctx, "docs", twofold.Key(k), metadata.Conditions{}); err != nil {
					t.Error(err)
				}
				l.gone(k)
				continue
			}
			o := own{dir: rand.IntN(len(dirs)), name: fresh()}
			h.put("docs", key(o.dir, o.name), []byte("x"))
			l.made(key(o.dir, o.name))
			mine = append(mine, o)
		}
	})
	stop := make(chan struct{})
	for range 2 {
		looking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				i, since, seen := rand.IntN(len(dirs)), l.now(), map[string]bool{}
				prefix := key(i, "")
				switch rand.IntN(3) {
				case 0:
					prefix = ""
					p, err := h.v.List(ctx, "docs", metadata.ListQuery{Max: 10000})
					if err != nil {
						t.Error(err)
					}
					for _, it := range p.Items {
						seen[it.Key] = true
					}
				case 1:
					p, err := h.v.List(ctx, "docs", metadata.ListQuery{Prefix: prefix, Max: 10000})
					if err != nil {
						t.Error(err)
					}
					for _, it := range p.Items {
						seen[it.Key] = true
					}
				case 2:
					es, _, err := looker.s.ReadDir(ctx, dirs[i], "", 10000, true)
					if err != nil {
						t.Error(err)
					}
					for _, e := range es {
						seen[key(i, e.Name)] = true
					}
				}
				l.check(t, "an observer", prefix, since, seen)
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			}
		})
	}
	wg.Wait()
	close(stop)
	looking.Wait()
	if local.Load() == 0 || deciders[0].recalls()+deciders[1].recalls() == 0 {
		t.Error("nothing was decided by a mount on its own, or nobody was recalled")
	}
	t.Logf("%d operations of mounts on their own, recalled %d and %d times, %d times busy", local.Load(), deciders[0].recalls(), deciders[1].recalls(), busy.Load())
}

// act makes, removes or moves a name: on its own where it has the lease, else by a call.
func (d *decider) act(l *ledgerOfNames, dirs []twofold.Ino, i int, mine []own, fresh func() string, key func(int, string) string, local *atomic.Int64) []own {
	d.mu.Lock()
	_, alone := d.held[dirs[i]]
	if alone {
		defer d.mu.Unlock()
		if len(mine) > 0 && rand.IntN(3) == 0 {
			o := mine[0]
			if _, has := d.held[dirs[o.dir]]; !has {
				return mine
			}
			l.going(key(o.dir, o.name))
			local.Add(1)
			to := own{dir: i, name: fresh(), ino: o.ino}
			if rand.IntN(2) == 0 {
				d.ops = append(d.ops, api.BatchOp{Now: twofold.Now(), Unlink: &api.BatchName{Dir: dirs[o.dir], Name: o.name, Ino: o.ino}})
				l.gone(key(o.dir, o.name))
				return mine[1:]
			}
			d.ops = append(d.ops, api.BatchOp{Now: twofold.Now(), Rename: &api.BatchRename{OldDir: dirs[o.dir], OldName: o.name, NewDir: dirs[i], NewName: to.name, Ino: o.ino}})
			l.gone(key(o.dir, o.name))
			l.made(key(i, to.name))
			return append(mine[1:], to)
		}
		o := own{dir: i, name: fresh(), ino: d.ino()}
		d.ops = append(d.ops, api.BatchOp{Now: twofold.Now(), Create: &api.BatchCreate{Dir: dirs[i], Name: o.name, Ino: o.ino, Type: metadata.TypeFile, Mode: 0o600}})
		l.made(key(i, o.name))
		local.Add(1)
		return append(mine, o)
	}
	if err := d.flush(ctx); err != nil {
		d.t.Error(err)
	}
	d.mu.Unlock()
	if len(mine) > 0 && rand.IntN(3) == 0 {
		o := mine[0]
		to := own{dir: i, name: fresh(), ino: o.ino}
		l.going(key(o.dir, o.name))
		if err := d.s.Rename(ctx, dirs[o.dir], o.name, dirs[i], to.name, 0); err != nil {
			d.t.Errorf("rename of %s to %s: %v", key(o.dir, o.name), key(i, to.name), err)
		}
		l.gone(key(o.dir, o.name))
		l.made(key(i, to.name))
		return append(mine[1:], to)
	}
	name := fresh()
	a, _, err := d.s.Create(ctx, dirs[i], name, api.Create{Type: metadata.TypeFile, Mode: 0o600, Exclusive: true})
	if err != nil {
		d.t.Error(err)
		return mine
	}
	l.made(key(i, name))
	return append(mine, own{dir: i, name: name, ino: a.Ino})
}

// TestBelieversBesideADecider: what mounts cache is right while another one decides about
// directories, and that one is alone: what it expects when it commits is what there is.
func TestBelieversBesideADecider(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	believers := []*believer{h.believer(t), h.believer(t)}
	for _, b := range believers {
		b.peers = believers
	}
	d := h.decider(t)
	h.store.mu.Lock()
	h.store.after = func(c *metadata.Command) {
		if err := h.store.m.View(func(w metadata.View) error {
			for _, b := range believers {
				b.check(w, fmt.Sprintf("behind %T", c.Body))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	h.store.mu.Unlock()
	const rounds = 80
	var wg sync.WaitGroup
	for _, b := range believers {
		wg.Go(func() { b.look(2 * rounds) })
		wg.Go(func() { b.disturb(rounds) })
	}
	wg.Go(func() { h.disturb(t, rounds) })
	var local int
	var deciding sync.WaitGroup
	over := make(chan struct{})
	deciding.Go(func() {
		for more := true; more; {
			local += d.decide(believers)
			select {
			case <-over:
				more = local < 10 // at last it is alone
			default:
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if err := d.flush(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	close(over)
	deciding.Wait()
	if local == 0 || d.recalls() == 0 {
		t.Errorf("%d operations of a mount on its own, recalled %d times: nothing was tested", local, d.recalls())
	}
	t.Logf("%d operations of a mount on its own, recalled %d times", local, d.recalls())
}

// decide gets the lease of some directory, learns its names, and changes some on its own.
func (d *decider) decide(believers []*believer) (done int) {
	a, err := d.s.Lookup(ctx, twofold.RootIno, "docs")
	if err != nil {
		d.t.Error(err)
		return 0
	}
	dir := a.Ino
	if a, err := d.s.Lookup(ctx, dir, oneOf("a", "b", "c")); err == nil && a.Type == metadata.TypeDir && rand.IntN(2) == 0 {
		dir = a.Ino
	}
	l, err := d.ask(dir)
	if err != nil {
		return 0
	}
	d.mu.Lock()
	err = d.flush(ctx)
	d.mu.Unlock()
	if err != nil {
		d.t.Error(err)
	}
	entries, eof, err := d.s.ReadDir(ctx, dir, "", 1000, true)
	if err != nil || !eof {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held[dir] != l.Token {
		return 0
	}
	names := map[string]api.Attr{}
	for _, e := range entries {
		if !e.Attr.Leased || !e.Attr.NameLeased {
			return 0 // there was a recall meanwhile
		}
		names[e.Name] = e.Attr
	}
	for range 3 {
		name := oneOf("a", "b", "c")
		a, there := names[name]
		switch {
		case !there:
			a = api.Attr{Ino: d.ino(), Type: oneOf(metadata.TypeFile, metadata.TypeDir), Home: dir}
			d.ops = append(d.ops, api.BatchOp{Now: twofold.Now(), Create: &api.BatchCreate{Dir: dir, Name: name, Ino: a.Ino, Type: a.Type, Mode: 0o700}})
			names[name] = a
		case a.Type != metadata.TypeDir && a.Home == dir:
			d.ops = append(d.ops, api.BatchOp{Now: twofold.Now(), Unlink: &api.BatchName{Dir: dir, Name: name, Ino: a.Ino}})
			delete(names, name)
		default:
			continue
		}
		done++
		// From here on the call would have returned with nobody told.
		for _, b := range believers {
			b.mu.Lock()
			_, attrs := b.attrs[dir]
			_, home := b.attrs[a.Ino]
			_, named := b.names[bname{dir, name}]
			if attrs || named || there && home {
				d.t.Errorf("session %d believes something of directory %d, about which session %d decides", b.s.id, dir, d.s.id)
			}
			b.mu.Unlock()
		}
	}
	return done
}
