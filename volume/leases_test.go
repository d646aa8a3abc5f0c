package volume

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/procid"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"
	"twofold/volume/lease"
)

// believer is a mount that caches all that it is granted, and says what it believes.
type believer struct {
	t *testing.T
	s *Session

	mu     sync.Mutex
	attrs  map[twofold.Ino]api.Attr
	names  map[bname]twofold.Ino           // 0: there is none
	seq    uint64                          // counts invalidations, and its own changes
	whole  map[twofold.Ino]map[string]bool // directories of its own making that others have not changed: names that may be there
	gone   map[bname]uint64                // when what was invalidated; "" are attributes, "/" all
	own    map[twofold.Ino]int             // its own changes of this that are in flight
	deaf   chan struct{}                   // closed when it answers invalidations; nil: it does
	told   atomic.Int32
	wholes atomic.Int32 // directories that it knew all names of
	dirs   atomic.Int32 // directories that its own changes told of
	peers  []*believer  // the other mounts, and itself
	using  sync.Mutex   // held while it writes: a recall waits
}

type bname struct {
	dir  twofold.Ino
	name string
}

var _ api.Holder = (*believer)(nil)

func (h *harness) believer(t *testing.T) *believer {
	b := &believer{t: t, attrs: map[twofold.Ino]api.Attr{}, names: map[bname]twofold.Ino{}, gone: map[bname]uint64{}, whole: map[twofold.Ino]map[string]bool{}, own: map[twofold.Ino]int{}}
	s, err := h.v.BeginMount(context.Background(), "test", b)
	if err != nil {
		t.Fatal(err)
	}
	b.s = s
	if s.Cache() != h.v.LeaseTerm {
		t.Fatal("no read leases")
	}
	return b
}

func (b *believer) Held() api.Held { return api.Held{} }
func (b *believer) Lost(error)     {}

func (b *believer) Recall(ctx context.Context, ino twofold.Ino, token uint64) error {
	b.using.Lock()
	defer b.using.Unlock()
	return b.s.ReleaseWrite(ctx, ino, token)
}

func (b *believer) Invalidate(ctx context.Context, stale []api.Stale) error {
	b.told.Add(1)
	b.mu.Lock()
	deaf := b.deaf
	b.mu.Unlock()
	if deaf != nil {
		select {
		case <-deaf:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range stale {
		b.drop(s.Ino, s.Names, s.Drop)
	}
	return nil
}

// drop is called with mu held.
func (b *believer) drop(ino twofold.Ino, names []string, all bool) {
	b.seq++
	delete(b.attrs, ino)
	b.gone[bname{ino, ""}] = b.seq
	delete(b.whole, ino)
	for _, n := range names {
		delete(b.names, bname{ino, n})
		b.gone[bname{ino, n}] = b.seq
	}
	if len(names) > 0 && !all {
		return
	}
	b.gone[bname{ino, "/"}] = b.seq
	for at := range b.names {
		if at.dir == ino {
			delete(b.names, at)
		}
	}
}

// ask notes the moment before a call.
func (b *believer) ask() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seq
}

// learn believes what a call answered that began at since. mine is how many of its own
// changes of the inode may be in flight.
func (b *believer) learn(since uint64, mine int, a api.Attr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.Leased && b.own[a.Ino] <= mine && b.gone[bname{a.Ino, ""}] <= since && b.gone[bname{a.Ino, "/"}] <= since {
		a.Leased, a.NameLeased = false, false
		b.attrs[a.Ino] = a
	}
}

func (b *believer) learnName(since uint64, mine int, dir twofold.Ino, name string, a api.Attr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.NameLeased && b.own[dir] <= mine && b.gone[bname{dir, name}] <= since && b.gone[bname{dir, "/"}] <= since {
		b.names[bname{dir, name}] = a.Ino
	}
}

// lookup asks, and believes the answer.
func (b *believer) lookup(dir twofold.Ino, name string) twofold.Ino {
	since := b.ask()
	a, err := b.s.Lookup(ctx, dir, name)
	if err != nil {
		return 0
	}
	b.learnName(since, 0, dir, name, a)
	if a.Ino != 0 {
		b.learn(since, 0, a)
	}
	return a.Ino
}

func (b *believer) getattr(ino twofold.Ino) (a api.Attr) {
	since := b.ask()
	a, err := b.s.GetAttr(ctx, ino)
	if err == nil {
		b.learn(since, 0, a)
	}
	return a
}

// change makes a change of its own: what it names it does not believe from before it asks,
// and believes the answer alone.
func (b *believer) change(named []bname, call func(ctx context.Context) (api.Attr, error)) error {
	b.mu.Lock()
	for _, n := range named {
		b.own[n.dir]++
		whole := b.whole[n.dir]
		if n.name == "" {
			b.drop(n.dir, nil, true)
		} else {
			b.drop(n.dir, []string{n.name}, false)
		}
		if whole != nil && !strings.HasPrefix(n.name, "%tf-") {
			whole[n.name] = true
			b.whole[n.dir] = whole
		}
	}
	since := b.seq
	b.mu.Unlock()
	asked, dirs := api.WithDirs(ctx)
	a, err := call(asked)
	mine := 0
	for _, n := range named {
		if err == nil && n.name != "" && a.NameLeased {
			b.learnName(since, 1, n.dir, n.name, a)
		}
		if n.dir == a.Ino {
			mine++
		}
	}
	if err == nil {
		b.learn(since, mine, a)
	}
	if err == nil && a.Type == metadata.TypeDir && a.Leased && a.Ctime == a.Btime && named[0].name != "" {
		b.mu.Lock()
		if b.gone[bname{a.Ino, ""}] <= since {
			b.whole[a.Ino] = map[string]bool{}
			b.wholes.Add(1)
		}
		b.mu.Unlock()
	}
	for _, d := range dirs.Attrs() {
		mine := 0
		for _, n := range named {
			if n.dir == d.Ino {
				mine++
			}
		}
		b.dirs.Add(1)
		b.learn(since, mine, d)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range named {
		if b.own[n.dir]--; b.own[n.dir] == 0 {
			delete(b.own, n.dir)
		}
		// What was asked for while it was in flight is not believed.
		b.seq++
		if n.name != "" || a.Ino != n.dir {
			if _, ok := b.attrs[n.dir]; !ok {
				b.gone[bname{n.dir, ""}] = b.seq
			}
		}
		if _, ok := b.names[n]; !ok && n.name != "" {
			b.gone[n] = b.seq
		}
	}
	return err
}

// check compares what it believes with the state.
func (b *believer) check(w metadata.View, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ino, believed := range b.attrs {
		var now api.Attr
		if ino == twofold.RootIno {
			all, _ := w.Buckets()
			now = rootAttr(len(all))
		} else if n, err := w.Inode(ino); err == nil {
			now = attrOf(n)
		}
		if now != believed {
			b.t.Errorf("%s: session %d believes\n%+v\nit is\n%+v", why, b.s.id, believed, now)
			delete(b.attrs, ino)
		}
	}
	for dir, names := range b.whole {
		items, _, err := w.ReadDir(dir, "", 100, false)
		if err != nil {
			continue // removed, by itself
		}
		for _, it := range items {
			if name := keypath.ToPosix(it.Name.Comp, it.Name.File)[0]; !names[name] && !strings.HasPrefix(name, "%tf-") {
				b.t.Errorf("%s: session %d has made directory %d and does not know of %q in it", why, b.s.id, dir, name)
				delete(b.whole, dir)
			}
		}
	}
	for at, believed := range b.names {
		var now twofold.Ino
		if at.dir == twofold.RootIno {
			if k, err := w.Bucket(twofold.BucketName(at.name)); err == nil {
				now = k.Root
			}
		} else if n, _, err := keypath.FromPosix(at.name); err == nil {
			if in, err := w.Lookup(at.dir, n); err == nil {
				now = in.Ino
			}
		}
		if now != believed {
			b.t.Errorf("%s: session %d believes that %q in %d is %d, it is %d", why, b.s.id, at.name, at.dir, believed, now)
			delete(b.names, at)
		}
	}
}

func (b *believer) beliefs() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.attrs) + len(b.names)
}

// TestBelieversAreRight: two mounts that believe everything they were granted, and S3,
// change one small tree in all ways. Behind every single command what a mount believes is
// what the state is.
func TestBelieversAreRight(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	mounts := []*believer{h.believer(t), h.believer(t)}
	for _, b := range mounts {
		b.peers = mounts
	}
	var checks, held atomic.Int64
	h.store.mu.Lock()
	h.store.after = func(c *metadata.Command) {
		err := h.store.m.View(func(w metadata.View) error {
			for _, b := range mounts {
				held.Add(int64(b.beliefs()))
				b.check(w, fmt.Sprintf("behind %T %+v", c.Body, c.Body))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		checks.Add(1)
	}
	h.store.mu.Unlock()

	rounds := 250
	var wg sync.WaitGroup
	for _, b := range mounts {
		wg.Go(func() { b.look(3 * rounds) })
		wg.Go(func() { b.disturb(rounds) })
	}
	wg.Go(func() { h.disturb(t, rounds) })
	wg.Go(func() { h.disturb(t, rounds) })
	wg.Wait()
	if checks.Load() == 0 || held.Load() < checks.Load() {
		t.Errorf("%d beliefs at %d commands: nothing was tested", held.Load(), checks.Load())
	}
	t.Logf("%d beliefs at %d commands", held.Load(), checks.Load())
	for _, b := range mounts {
		if b.dirs.Load() == 0 || b.wholes.Load() == 0 {
			t.Error("no change has told of a directory, or none was made")
		}
		b.deepCheck(h)
		if err := b.s.End(ctx); err != nil {
			t.Error(err)
		}
	}
}

// deepCheck compares with the answers of another session, at rest.
func (b *believer) deepCheck(h *harness) {
	if err := h.store.View(ctx, func(w metadata.View) error { b.check(w, "at the end"); return nil }); err != nil {
		b.t.Error(err)
	}
}

var (
	someNames = []string{"a", "b", "c", "%tf-file-a"}
	someKeys  = []string{"a", "b", "c", "a/a", "a/b", "b/a/c", "a/", "b/"}
)

func oneOf[T any](of ...T) T { return of[rand.IntN(len(of))] }

// somewhere walks down to some directory.
func (b *believer) somewhere() twofold.Ino {
	dir := b.lookup(twofold.RootIno, "docs")
	for rand.IntN(2) == 0 {
		ino := b.lookup(dir, oneOf(someNames...))
		if ino == 0 || b.getattr(ino).Type != metadata.TypeDir {
			break
		}
		dir = ino
	}
	return dir
}

// open believes what Open answers.
func (b *believer) open(ino twofold.Ino) {
	since := b.ask()
	if a, err := b.s.Open(ctx, ino); err == nil {
		b.learn(since, 0, a)
		b.s.Release(ctx, ino)
	}
}

// list believes a listing.
func (b *believer) list(dir twofold.Ino) {
	since := b.ask()
	entries, _, err := b.s.ReadDir(ctx, dir, "", 100, true)
	if err != nil {
		return
	}
	for _, e := range entries {
		b.learnName(since, 0, dir, e.Name, e.Attr)
		b.learn(since, 0, e.Attr)
	}
}

func (b *believer) look(rounds int) {
	for range rounds {
		dir := b.somewhere()
		if rand.IntN(4) == 0 {
			b.list(dir)
		}
		if ino := b.lookup(dir, oneOf(someNames...)); ino != 0 {
			b.getattr(ino)
		}
		b.getattr(dir)
		b.getattr(twofold.RootIno)
		b.lookup(twofold.RootIno, oneOf("one", "two"))
		b.open(dir)
		if rand.IntN(40) == 0 {
			b.mu.Lock()
			var inos []twofold.Ino
			for ino := range b.attrs {
				inos = append(inos, ino)
			}
			for _, ino := range inos {
				b.own[ino]++
				b.drop(ino, nil, true)
			}
			b.mu.Unlock()
			b.s.Forget(ctx, inos)
			b.mu.Lock()
			for _, ino := range inos {
				b.drop(ino, nil, true) // what was asked for meanwhile
				b.own[ino]--
			}
			b.mu.Unlock()
		}
	}
}

func (b *believer) disturb(rounds int) {
	for range rounds {
		dir, name := b.somewhere(), oneOf(someNames...)
		ino := b.lookup(dir, name)
		entry := []bname{{dir, name}}
		none := func(err error) (api.Attr, error) { return api.Attr{}, err }
		switch rand.IntN(9) {
		case 0, 1:
			b.change(entry, func(ctx context.Context) (api.Attr, error) {
				a, _, err := b.s.Create(ctx, dir, name, api.Create{Type: oneOf(metadata.TypeFile, metadata.TypeDir), Mode: 0o755})
				return a, err
			})
		case 2:
			b.change(entry, func(ctx context.Context) (api.Attr, error) { return none(b.s.Unlink(ctx, dir, name)) })
		case 3:
			b.change(entry, func(ctx context.Context) (api.Attr, error) { return none(b.s.Rmdir(ctx, dir, name)) })
		case 4:
			to, other := b.somewhere(), oneOf(someNames...)
			flags := oneOf[uint32](0, 0, 1, 2)
			b.change([]bname{{dir, name}, {to, other}}, func(ctx context.Context) (api.Attr, error) { return none(b.s.Rename(ctx, dir, name, to, other, flags)) })
		case 5:
			if to := b.somewhere(); ino != 0 {
				b.change([]bname{{to, "b"}, {ino, ""}}, func(ctx context.Context) (api.Attr, error) { return b.s.Link(ctx, ino, to, "b") })
			}
		case 6:
			if ino != 0 {
				mode := uint32(rand.IntN(0o1000))
				b.change([]bname{{ino, ""}}, func(ctx context.Context) (api.Attr, error) { return b.s.SetAttr(ctx, ino, api.SetAttr{Mode: &mode}) })
			}
		case 7:
			if ino != 0 {
				b.change([]bname{{ino, ""}}, func(ctx context.Context) (api.Attr, error) {
					return none(b.s.SetXattr(ctx, ino, "user.k", []byte{'v'}, 0))
				})
			}
		case 8:
			if ino != 0 {
				b.write(ino)
			}
		}
	}
}

// write holds the write lease for a moment, in which nobody else may believe anything of
// the file.
func (b *believer) write(ino twofold.Ino) {
	b.using.Lock()
	defer b.using.Unlock()
	b.change([]bname{{ino, ""}}, func(ctx context.Context) (api.Attr, error) {
		l, err := b.s.AcquireWrite(ctx, ino)
		if err != nil {
			return api.Attr{}, err
		}
		defer b.s.ReleaseWrite(ctx, ino, l.Token)
		// From here on write(2) would return with nobody told.
		for _, p := range b.peers {
			p.mu.Lock()
			if a, ok := p.attrs[ino]; ok && p != b {
				b.t.Errorf("session %d believes %+v, and session %d may write", p.s.id, a, b.s.id)
			}
			p.mu.Unlock()
		}
		return b.s.Write(ctx, ino, api.Write{Token: l.Token, Segments: []api.Segment{{Off: 0, Data: []byte("xyz")[:1+rand.IntN(3)]}}, Size: 2})
	})
}

// disturb changes the tree from S3.
func (h *harness) disturb(t *testing.T, rounds int) {
	for range rounds {
		key := twofold.Key(oneOf(someKeys...))
		switch rand.IntN(6) {
		case 0, 1:
			size := len("x")
			if key[len(key)-1] == '/' {
				size = 0
			}
			if _, err := h.v.PutObject(ctx, put("docs", string(key), []byte("x")[:size])); err != nil && !errs.Is(err, errs.Conflict) {
				t.Errorf("PUT %s: %v", key, err)
			}
		case 2, 3:
			if err := h.v.DeleteObject(ctx, "docs", key, metadata.Conditions{}); err != nil {
				t.Errorf("DELETE %s: %v", key, err)
			}
		case 4:
			in := &api.CopyInput{SrcBucket: "docs", SrcKey: key, Bucket: "docs", Key: twofold.Key(oneOf(someKeys[:6]...)),
				Prepare: func(api.ObjectInfo) (api.Attrs, api.Sum, error) { return api.Attrs{}, api.Sum{}, nil }}
			if _, err := h.v.CopyObject(ctx, in); err != nil && !errs.Is(err, errs.NotFound) {
				t.Errorf("copy %s: %v", key, err)
			}
		case 5:
			name := twofold.BucketName(oneOf("one", "two"))
			if h.v.CreateBucket(ctx, name, "") != nil {
				h.v.DeleteBucket(ctx, name)
			}
		}
	}
}

// TestChangeWaitsForReaders: a change is not committed before all have answered who cache
// what it changes, dead and silent ones are not waited for, and what is granted is what it
// should be.
func TestChangeWaitsForReaders(t *testing.T) {
	h := newHarness(t)
	h.open(Options{LeaseTerm: 200 * time.Millisecond})
	h.bucket("docs")
	h.put("docs", "f", []byte("old"))
	b := h.believer(t)
	alive := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { close(alive) }()
	wg.Go(func() {
		for {
			select {
			case <-alive:
				return
			case <-time.After(20 * time.Millisecond):
				b.s.Alive()
			}
		}
	})
	dir := b.lookup(twofold.RootIno, "docs")
	believe := func() twofold.Ino {
		t.Helper()
		var ino twofold.Ino
		eventually(t, "the name and its attributes are granted", func() bool {
			ino = b.lookup(dir, "f")
			b.mu.Lock()
			defer b.mu.Unlock()
			_, known := b.attrs[ino]
			return known && b.names[bname{dir, "f"}] == ino
		})
		return ino
	}
	believe()
	b.lookup(dir, "not there")
	b.mu.Lock()
	if none, ok := b.names[bname{dir, "not there"}]; none != 0 || !ok {
		t.Errorf("that there is none is not granted: %v", b.names)
	}
	b.mu.Unlock()
	b.mu.Lock()
	b.deaf = make(chan struct{})
	b.mu.Unlock()
	putFile := func(data string) {
		if _, err := h.v.PutObject(ctx, put("docs", "f", []byte(data))); err != nil {
			t.Error(err)
		}
	}
	done := make(chan struct{})
	wg.Go(func() { putFile("new"); close(done) })
	eventually(t, "the reader is told", func() bool { return b.told.Load() > 0 })
	select {
	case <-done:
		t.Fatal("committed before the reader answered")
	case <-time.After(3 * h.v.LeaseTerm): // it is alive: it is waited for
	}
	if got := h.get("docs", "f"); string(got) != "old" {
		t.Fatalf("S3 sees %q while a mount is served the old", got)
	}
	close(b.deaf)
	<-done
	b.mu.Lock()
	if ino, ok := b.names[bname{dir, "f"}]; ok {
		t.Errorf("it believes that the file is %d, which was replaced", ino)
	}
	b.mu.Unlock()
	b.mu.Lock()
	b.deaf = nil
	b.mu.Unlock()
	believe()

	// A mount that has ended is not waited for, and gets nothing any more.
	b.mu.Lock()
	b.deaf = make(chan struct{})
	b.mu.Unlock()
	told := b.told.Load()
	done = make(chan struct{})
	wg.Go(func() { putFile("newer"); close(done) })
	eventually(t, "the reader is told", func() bool { return b.told.Load() > told })
	if err := b.s.End(ctx); err != nil {
		t.Fatal(err)
	}
	<-done
}

// TestRevokedReaderPinsLate: a mount that was silent when a file that it reads was removed
// may have it open without having said so. It finds it when it is back.
func TestRevokedReaderPinsLate(t *testing.T) {
	h := newHarness(t)
	h.open(Options{LeaseTerm: 200 * time.Millisecond})
	h.bucket("docs")
	h.put("docs", "f", []byte("old"))
	b := h.believer(t)
	dir := b.lookup(twofold.RootIno, "docs")
	var ino twofold.Ino
	eventually(t, "granted", func() bool {
		b.s.Alive()
		ino = b.lookup(dir, "f")
		a, err := b.s.GetAttr(ctx, ino)
		return err == nil && a.Leased
	})
	b.mu.Lock()
	b.deaf = make(chan struct{})
	b.mu.Unlock()
	defer close(b.deaf)
	h.put("docs", "g", nil)
	if err := h.v.DeleteObject(ctx, "docs", "f", metadata.Conditions{}); err != nil {
		t.Fatal(err)
	}
	if err := h.v.DeleteObject(ctx, "docs", "g", metadata.Conditions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what nobody can have open is freed", func() bool {
		var inos []twofold.Ino
		if err := h.v.Meta.View(ctx, func(w metadata.View) (err error) {
			inos, err = w.Orphans(0, 10)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return len(inos) == 1
	})
	b.s.Alive()
	if _, err := b.s.Open(ctx, ino); err != nil {
		t.Fatalf("the file that it has open: %v", err)
	}
	p := make([]byte, 10)
	if n, err := b.s.Read(ctx, ino, 0, p); err != nil || string(p[:n]) != "old" {
		t.Fatalf("%q %v", p[:n], err)
	}
	if err := b.s.End(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "freed with the session", func() bool {
		return errs.Is(h.v.Meta.View(ctx, func(w metadata.View) error {
			_, err := w.Inode(ino)
			return err
		}), errs.Stale)
	})
}

// TestUnknownOutcomeKeepsGrantsAway: while it isn't known whether a command takes effect,
// nothing that it would change is granted.
func TestUnknownOutcomeKeepsGrantsAway(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", []byte("old"))
	b := h.believer(t)
	dir := b.lookup(twofold.RootIno, "docs")
	ino := twofold.Ino(0)
	eventually(t, "granted", func() bool {
		ino = b.lookup(dir, "f")
		a, err := b.s.GetAttr(ctx, ino)
		return err == nil && a.Leased
	})
	var known atomic.Bool
	h.store.mu.Lock()
	h.store.fail = func(c *metadata.Command) error {
		switch {
		case known.Load():
			return nil
		case c.Op == metadata.OpPutObject:
			return errs.Newf("test", errs.UnknownOutcome, "the leader is lost")
		case c.Op == metadata.OpNop:
			return errs.Newf("test", errs.Unavailable, "there is no leader")
		}
		return nil
	}
	h.store.mu.Unlock()
	if _, err := h.v.PutObject(ctx, put("docs", "f", []byte("new"))); !errs.Is(err, errs.UnknownOutcome) {
		t.Fatal(err)
	}
	if a, err := b.s.GetAttr(ctx, ino); err != nil || a.Leased {
		t.Fatalf("granted what may change yet: %+v %v", a, err)
	}
	known.Store(true)
	eventually(t, "granted again", func() bool {
		a, err := b.s.GetAttr(ctx, ino)
		return err == nil && a.Leased
	})
}

// TestPlainMountsGetNoLeases: who did not ask for read leases gets the answers of before.
func TestPlainMountsGetNoLeases(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", []byte("x"))
	m := h.mount()
	dir := m.lookup("docs").Ino
	for range 3 {
		a, err := m.s.Lookup(ctx, dir, "f")
		if err != nil || a.Leased || a.NameLeased {
			t.Fatalf("%+v %v", a, err)
		}
	}
	if a, err := m.s.Lookup(ctx, dir, "none"); !errs.Is(err, errs.NotFound) {
		t.Fatalf("%+v %v", a, err)
	}
}

// TestRestartWaitsForReaders: a server that restarts knows of no read leases. It changes
// nothing before the mounts of before are back, which have dropped theirs by then.
func TestRestartWaitsForReaders(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	b := h.believer(t)
	old := b.s
	h.open(Options{LeaseTerm: time.Minute})
	done := make(chan error, 1)
	go func() {
		_, err := h.v.PutObject(ctx, put("docs", "f", []byte("x")))
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("changed before the mount of before was back: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s, err := h.v.ResumeMount(ctx, old.ID(), old.Token(), api.Held{}, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	dir, err := s.Lookup(ctx, twofold.RootIno, "docs")
	if err != nil || dir.Leased {
		t.Fatalf("granted before it asked for read leases: %+v %v", dir, err)
	}
}

// TestKeptResultIsNotLeased: a call that comes again after a restart is answered with the
// result of then; what may be cached is what there is now.
func TestKeptResultIsNotLeased(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	b := h.believer(t)
	dir := b.lookup(twofold.RootIno, "docs")
	once := api.WithSeq(ctx, api.Seq{N: 1, Acked: 1})
	create := func() api.Attr {
		t.Helper()
		a, _, err := b.s.Create(once, dir, "f", api.Create{Type: metadata.TypeFile, Mode: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first := create()
	if !first.Leased || !first.NameLeased {
		t.Fatalf("what it has made it may cache: %+v", first)
	}
	h.put("docs", "f", []byte("x"))
	old := b.s
	h.open(Options{})
	var err error
	if b.s, err = h.v.ResumeMount(ctx, old.ID(), old.Token(), api.Held{}, b); err != nil {
		t.Fatal(err)
	}
	b.s.Cache()
	if again := create(); again.Ino != first.Ino || again.Leased || again.NameLeased {
		t.Fatalf("the file was replaced, and may be cached: %+v", again)
	}
}

// TestDirsOfCrossingChanges: what a mount's own change has made of a directory comes with
// its answer, but not while S3 is about to change the directory, too.
func TestDirsOfCrossingChanges(t *testing.T) {
	h := newHarness(t)
	arrived, goOn := make(chan struct{}), make(chan struct{})
	h.v.stop()
	h.v.wg.Wait()
	h.store.enter = func(c *metadata.Command) {
		if put, ok := c.Body.(metadata.PutObject); ok && put.Key == "slow" {
			close(arrived)
			<-goOn
		}
	}
	h.open(Options{})
	h.bucket("docs")
	b := h.believer(t)
	dir := b.lookup(twofold.RootIno, "docs")
	told := func(change func(ctx context.Context) error) (leased []api.Attr) {
		t.Helper()
		ctx, dirs := api.WithDirs(ctx)
		if err := change(ctx); err != nil {
			t.Fatal(err)
		}
		return dirs.Attrs()
	}
	mkdir := func(ctx context.Context) error {
		_, _, err := b.s.Create(ctx, dir, "d", api.Create{Type: metadata.TypeDir, Mode: 0o755})
		return err
	}
	rename := func(from, to string) func(context.Context) error {
		return func(ctx context.Context) error { return b.s.Rename(ctx, dir, from, dir, to, 0) }
	}
	rmdir := func(ctx context.Context) error { return b.s.Rmdir(ctx, dir, "e") }
	for _, change := range []func(context.Context) error{mkdir, rename("d", "e"), rmdir} {
		got := told(change)
		if len(got) == 0 || !got[0].Leased {
			t.Fatalf("told of %+v", got)
		}
		if now := b.getattr(dir); now != got[0] {
			t.Fatalf("told of\n%+v\nit is\n%+v", got[0], now)
		}
	}

	done := make(chan struct{})
	go func() {
		defer close(done)
		h.put("docs", "slow", []byte("x"))
	}()
	<-arrived
	for _, change := range []func(context.Context) error{mkdir, rename("d", "e"), rmdir} {
		if got := told(change); len(got) != 0 {
			t.Errorf("told of what changes: %+v", got)
		}
	}
	close(goOn)
	<-done
}

// TestOpenWaitsForNobody: a mount pins what it has to give back before it answers, so
// Open recalls nothing; what it tells may not be cached then.
func TestOpenWaitsForNobody(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", []byte("x"))
	m, b := h.mount(), h.believer(t)
	ino := m.lookup("docs", "f").Ino
	m.write(ino, 0, "not flushed")
	m.mu.Lock()
	m.stuck = true // whoever recalled it would be refused
	m.mu.Unlock()
	a, err := b.s.Open(ctx, ino)
	if err != nil || a.Leased {
		t.Fatalf("%+v %v", a, err)
	}
	if err := b.s.Release(ctx, ino); err != nil {
		t.Fatal(err)
	}
}

// TestGuardThatNeverHolds: a command whose guard is outdated each time is not sent for
// ever: all leases of the bucket are taken back, and it goes without one.
func TestGuardThatNeverHolds(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", []byte("old"))
	b := h.believer(t)
	dir := b.lookup(twofold.RootIno, "docs")
	ino := twofold.Ino(0)
	eventually(t, "granted", func() bool {
		ino = b.lookup(dir, "f")
		b.getattr(dir)
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.attrs[ino].Ino != 0 && b.attrs[dir].Ino != 0 && b.names[bname{dir, "f"}] == ino
	})
	guarded, alone := 0, 0
	h.store.failing(func(c *metadata.Command) error {
		switch {
		case c.Op != metadata.OpPutObject:
		case c.Guard != nil:
			guarded++
			c.Guard = []metadata.Target{} // as if the tree were another one each time
		default:
			alone++
			b.mu.Lock()
			defer b.mu.Unlock()
			if _, ok := b.names[bname{dir, "f"}]; ok || b.attrs[ino].Ino != 0 || b.attrs[dir].Ino != 0 {
				t.Errorf("it believes %v %v while anything may change", b.attrs, b.names)
			}
		}
		return nil
	})
	h.put("docs", "f", []byte("new"))
	h.store.failing(nil)
	if guarded != maxRounds || alone != 1 {
		t.Errorf("sent %d times with a guard and %d times without", guarded, alone)
	}
	eventually(t, "granted again", func() bool { return b.lookup(dir, "f") != ino && b.beliefs() > 1 })
}

// TestKernelOutlivesItsMount: the kernel answers fstat(2) within its timeouts also when the
// mount's process is dead. So what that had cached changes no earlier.
func TestKernelOutlivesItsMount(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	h.put("docs", "f", []byte("old"))
	b := h.believer(t)
	b.s.node = strings.Replace(procid.Self(), ".", ".1", 1) // another process of that number: dead
	if dir := b.lookup(twofold.RootIno, "docs"); b.lookup(dir, "f") == 0 || h.v.leases.Reads(b.s.id) == 0 {
		t.Fatal("nothing is cached")
	}
	b.mu.Lock()
	b.deaf = make(chan struct{})
	b.mu.Unlock()
	died := time.Now()
	b.s.Disconnected()
	h.put("docs", "f", []byte("new"))
	if d := time.Since(died); d < afterlife {
		t.Errorf("changed %v after the mount died", d)
	}
}

// TestManyLeasesAreTakenBack: all leases of a bucket are more than one message may have.
func TestManyLeasesAreTakenBack(t *testing.T) {
	h := newHarness(t)
	var mu sync.Mutex
	told := map[twofold.Ino]bool{}
	holder := counted{invalidate: func(stale []api.Stale) {
		text, n := 0, len(stale)
		for _, st := range stale {
			for _, name := range st.Names {
				text, n = text+len(name), n+1
			}
		}
		if n > api.MaxStale || text > api.MaxStaleText {
			t.Errorf("%d inodes and names, %d bytes in one message", n, text)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, st := range stale {
			told[st.Ino] = true
		}
	}}
	s, err := h.v.BeginMount(ctx, "test", holder)
	if err != nil {
		t.Fatal(err)
	}
	s.Cache()
	long := strings.Repeat("n", twofold.MaxNameLen)
	stale := make([]lease.Stale, 2*api.MaxStale)
	for i := range stale {
		stale[i].Ino = twofold.Ino(i + 2)
		if i%8 == 0 {
			stale[i].Names = []string{long}
		}
	}
	if err := s.Invalidate(ctx, stale); err != nil || len(told) != len(stale) {
		t.Fatalf("%v, told of %d", err, len(told))
	}
}

// counted is a mount that answers at once.
type counted struct{ invalidate func([]api.Stale) }

func (counted) Recall(context.Context, twofold.Ino, uint64) error { return nil }
func (counted) Held() api.Held                                    { return api.Held{} }
func (counted) Lost(error)                                        {}
func (c counted) Invalidate(_ context.Context, stale []api.Stale) error {
	c.invalidate(stale)
	return nil
}
