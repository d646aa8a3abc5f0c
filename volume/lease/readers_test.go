package lease

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
)

const inBucket = twofold.BucketID(7)

// fakeReader answers invalidations as the test says.
type fakeReader struct {
	id     twofold.SessionID
	silent atomic.Int64
	lost   atomic.Int32 // calls of Revoked
	mu     sync.Mutex
	told   []Stale
	answer func(ctx context.Context) error // nil: at once
}

func (r *fakeReader) ID() twofold.SessionID { return r.id }
func (r *fakeReader) Silent() time.Duration { return time.Duration(r.silent.Load()) }
func (r *fakeReader) Revoked([]twofold.Ino) { r.lost.Add(1) }
func (r *fakeReader) Invalidate(ctx context.Context, stale []Stale) error {
	r.mu.Lock()
	r.told = append(r.told, stale...)
	r.mu.Unlock()
	if r.answer != nil {
		return r.answer(ctx)
	}
	return nil
}

// heard is what it was told since it was asked last.
func (r *fakeReader) heard() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.told
	r.told = nil
	return fmt.Sprint(told)
}

func (t *Table) reader(id twofold.SessionID) *fakeReader {
	r := &fakeReader{id: id}
	t.AddReader(r)
	return r
}

func generation(t *testing.T, tab *Table) uint64 {
	return must[uint64](t)(tab.Generation(context.Background()))
}

func change(t *testing.T, tab *Table, actor twofold.SessionID) *Change {
	t.Helper()
	return must[*Change](t)(tab.Change(context.Background(), actor))
}

func (c *Change) add(t *testing.T, told bool, targets ...Target) {
	t.Helper()
	if err := c.Add(context.Background(), told, targets...); err != nil {
		t.Fatal(err)
	}
}

func names(n ...string) Target { return Target{Ino: ino, Names: n} }

func TestReadersAreTold(t *testing.T) {
	tab := readyTable(t)
	r, actor := tab.reader(1), tab.reader(2)
	grant := func() {
		t.Helper()
		for _, x := range []*fakeReader{r, actor} {
			if !tab.Grant(x.id, generation(t, tab), inBucket, ino, 0) {
				t.Fatal("nothing is under way: granted")
			}
		}
	}
	grant()
	c := change(t, tab, actor.id)
	c.add(t, false, Target{Ino: ino})
	if got := r.heard(); got != fmt.Sprint([]Stale{{Target: Target{Ino: ino}}}) {
		t.Errorf("the reader was told %v", got)
	}
	if got := actor.heard(); got != "[]" {
		t.Errorf("the actor was told %v", got)
	}
	if tab.Grant(r.id, generation(t, tab), inBucket, ino, 0) || tab.GrantName(r.id, generation(t, tab), inBucket, ino, "a") {
		t.Error("granted while a change is under way")
	}
	gen := generation(t, tab)
	c.End()
	if tab.Grant(r.id, gen, inBucket, ino, 0) {
		t.Error("granted for a snapshot of before the end")
	}
	if tab.Reads(r.id) != 0 || tab.Reads(actor.id) != 1 {
		t.Errorf("leases: reader %d, actor %d", tab.Reads(r.id), tab.Reads(actor.id))
	}
	grant()
	c = change(t, tab, actor.id)
	c.add(t, true, Target{Ino: ino})
	if actor.heard() == "[]" {
		t.Error("the actor can't know, and was not told")
	}
	c.End()
}

func TestNamesAreTakenAlone(t *testing.T) {
	tab := readyTable(t)
	r := tab.reader(1)
	if !tab.GrantName(r.id, generation(t, tab), inBucket, ino, "b") {
		t.Fatal("not granted")
	}
	c := change(t, tab, 0)
	c.add(t, false, names("a"))
	if got := r.heard(); got != fmt.Sprint([]Stale{{Target: names("a")}}) {
		t.Errorf("told %v", got)
	}
	if gen := generation(t, tab); tab.GrantName(r.id, gen, inBucket, ino, "a") || tab.Grant(r.id, gen, inBucket, ino, 0) {
		t.Error("the name, or the directory's attributes, granted while they change")
	}
	before := generation(t, tab)
	if !tab.GrantName(r.id, before, inBucket, ino, "c") {
		t.Error("another name is not granted")
	}
	c.End()
	if tab.GrantName(r.id, before, inBucket, ino, "a") || tab.Grant(r.id, before, inBucket, ino, 0) || !tab.GrantName(r.id, before, inBucket, ino, "c") {
		t.Error("for a snapshot of before the change, names other than the changed one are to be granted, and nothing else")
	}
	if tab.Reads(r.id) != 1 {
		t.Error("the lease of the other names is gone")
	}
}

// TestContendedDirectoryIsDropped: a directory that others change and its reader does not
// look at costs them a number of rounds, not one each.
func TestContendedDirectoryIsDropped(t *testing.T) {
	tab := readyTable(t)
	r := tab.reader(1)
	put := func() string {
		c := change(t, tab, 0)
		defer c.End()
		c.add(t, false, names("a"))
		return r.heard()
	}
	look := func() bool { return tab.GrantName(r.id, generation(t, tab), inBucket, ino, "b") }
	look()
	for range dropAfter - 1 {
		put()
	}
	look() // it is used after all
	for range dropAfter - 1 {
		if got := put(); got != fmt.Sprint([]Stale{{Target: names("a")}}) {
			t.Fatalf("told %v", got)
		}
	}
	c := change(t, tab, 0)
	c.add(t, false, names("a"))
	if got := r.heard(); got != fmt.Sprint([]Stale{{names("a"), true}}) {
		t.Fatalf("told %v, the whole directory should go", got)
	}
	if look() {
		t.Error("granted in a directory that is being dropped: the drop would take it back unheard")
	}
	c.End()
	if got := put(); got != "[]" || tab.Reads(r.id) != 0 {
		t.Errorf("dropped, and still told %v", got)
	}
	if !look() {
		t.Error("not granted again")
	}
}

// TestUnguardedChanges: while nobody reads in a bucket changes need not say what they
// change; somebody who wants to read ends that.
func TestUnguardedChanges(t *testing.T) {
	tab := readyTable(t)
	r := tab.reader(1)
	ctx := context.Background()
	end, ok, err := tab.Unguarded(ctx, inBucket)
	if err != nil || !ok {
		t.Fatalf("nobody reads: %v %v", ok, err)
	}
	gen := generation(t, tab)
	if tab.Grant(r.id, gen, inBucket, ino, 0) {
		t.Error("granted while anything may change")
	}
	if _, ok, _ := tab.Unguarded(ctx, inBucket); ok {
		t.Error("somebody wanted a lease, and changes still come unguarded")
	}
	if end2, ok, _ := tab.Unguarded(ctx, inBucket+1); !ok {
		t.Error("another bucket is concerned")
	} else {
		end2()
	}
	end()
	if tab.Grant(r.id, gen, inBucket, ino, 0) {
		t.Error("granted for a snapshot of before the end")
	}
	if !tab.Grant(r.id, generation(t, tab), inBucket, ino, 0) {
		t.Error("not granted")
	}
	// A change of anything after all.
	c := change(t, tab, 0)
	if err := c.AddBucket(ctx, inBucket); err != nil || r.heard() != fmt.Sprint([]Stale{{Target: Target{Ino: ino}}}) || tab.Reads(r.id) != 0 {
		t.Errorf("the bucket's reader: %v, has %d", err, tab.Reads(r.id))
	}
	if tab.Grant(r.id, generation(t, tab), inBucket, ino, 0) {
		t.Error("granted while anything may change")
	}
	c.End()
}

// TestActorIsGranted: who changes something and is told what became of it may cache
// that, where nobody else changed it meanwhile.
func TestActorIsGranted(t *testing.T) {
	tab := readyTable(t)
	r := tab.reader(1)
	c := change(t, tab, r.id)
	c.add(t, false, names("new"))
	made := ino + 1
	if !c.Grant(inBucket, made, 0) || !c.GrantName(inBucket, ino, "new") {
		t.Error("what it made is its own")
	}
	c.End()
	c, other := change(t, tab, r.id), change(t, tab, 0)
	c.add(t, false, Target{Ino: made})
	other.add(t, false, Target{Ino: made})
	if c.Grant(inBucket, made, 0) {
		t.Error("granted beside another change")
	}
	other.End()
	if c.Grant(inBucket, made, 0) {
		t.Error("granted with another change that came meanwhile")
	}
	c.End()
	other = change(t, tab, 0)
	other.add(t, false, names("x"))
	c = change(t, tab, r.id)
	c.add(t, false, names("y"))
	if !c.GrantName(inBucket, ino, "y") || c.GrantName(inBucket, ino, "x") {
		t.Error("of the names beside one another, its own is to be granted")
	}
	other.End()
	if c.Grant(inBucket, ino, 0) {
		t.Error("granted with another change that was under way before")
	}
	c.End()
}

func TestSilentReaderIsNotWaitedFor(t *testing.T) {
	tab := newTable(t, 80*time.Millisecond)
	tab.Ready()
	r := tab.reader(1)
	r.answer = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	tab.Grant(r.id, generation(t, tab), inBucket, ino, 0)
	tab.Grant(r.id, generation(t, tab), inBucket, ino+1, 0)
	c := change(t, tab, 0)
	if err := c.Add(short(t), false, Target{Ino: ino}); !errs.Is(err, errs.Canceled) {
		t.Fatalf("a reader that is alive: %v", err)
	}
	r.silent.Store(int64(time.Hour))
	c.add(t, false, Target{Ino: ino})
	c.End()
	if tab.Reads(r.id) != 0 || r.lost.Load() != 1 {
		t.Errorf("it has %d leases yet, and was told %d times that it has none", tab.Reads(r.id), r.lost.Load())
	}
	r.silent.Store(0)
	tab.Grant(r.id, generation(t, tab), inBucket, ino, 0)
	c = change(t, tab, 0)
	done := make(chan error)
	go func() { done <- c.Add(context.Background(), false, Target{Ino: ino}) }()
	tab.ReleaseAll(r.id)
	if err := <-done; err != nil {
		t.Fatalf("a session that has ended: %v", err)
	}
	c.End()
	if tab.Grant(r.id, generation(t, tab), inBucket, ino, 0) {
		t.Error("granted to a session that has ended")
	}
}

// TestUnansweringReaderIsCutOff: a mount that is heard of and never answers holds up
// nobody for ever, and is not waited for again at once.
func TestUnansweringReaderIsCutOff(t *testing.T) {
	tab := newTable(t, 80*time.Millisecond)
	tab.Ready()
	tab.patience = 50 * time.Millisecond
	r := tab.reader(1)
	r.answer = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	tab.Grant(r.id, generation(t, tab), inBucket, ino, 0)
	tab.Grant(r.id, generation(t, tab), inBucket, ino+1, 0)
	began := time.Now()
	c := change(t, tab, 0)
	c.add(t, false, Target{Ino: ino})
	if d := time.Since(began); d < tab.term+tab.patience {
		t.Errorf("committed after %v: it may believe in its leases for a term yet", d)
	}
	c.End()
	if tab.Reads(r.id) != 0 || r.lost.Load() != 1 {
		t.Errorf("it has %d leases yet, and was told %d times that it has none", tab.Reads(r.id), r.lost.Load())
	}
	if tab.Grant(r.id, generation(t, tab), inBucket, ino, 0) {
		t.Error("granted again at once")
	}
	tab.mu.Lock()
	tab.readers.sessions[r.id].barred = time.Time{} // a minute passes
	tab.mu.Unlock()
	if !tab.Grant(r.id, generation(t, tab), inBucket, ino, 0) {
		t.Error("never granted again")
	}
}

// TestFailedAnswerIsAskedForAgain: an error is no answer.
func TestFailedAnswerIsAskedForAgain(t *testing.T) {
	tab := newTable(t, 80*time.Millisecond)
	tab.Ready()
	r := tab.reader(1)
	var asked atomic.Int32
	r.answer = func(context.Context) error {
		if asked.Add(1) < 3 {
			return errs.Newf("test", errs.Canceled, "lost")
		}
		return nil
	}
	tab.Grant(r.id, generation(t, tab), inBucket, ino, 0)
	c := change(t, tab, 0)
	c.add(t, false, Target{Ino: ino})
	if asked.Load() != 3 || tab.Reads(r.id) != 0 {
		t.Errorf("asked %d times, has %d", asked.Load(), tab.Reads(r.id))
	}
	c.End()
}

func TestWriteLeasesAndReaders(t *testing.T) {
	tab := readyTable(t)
	r, h := tab.reader(2), gives(tab)
	tab.AddReader(&fakeReader{id: h.id})
	ctx := context.Background()
	token := must[uint64](t)(tab.Acquire(ctx, h, ino))
	if gen := generation(t, tab); tab.Grant(r.id, gen, inBucket, ino, 0) || !tab.Grant(h.id, gen, inBucket, ino, 0) {
		t.Error("under a write lease it is its holder alone who reads")
	}
	gen := generation(t, tab)
	tab.Release(h, ino, token)
	if tab.Grant(r.id, gen, inBucket, ino, 0) {
		t.Error("granted for a snapshot of before the release")
	}
	if !tab.Grant(r.id, generation(t, tab), inBucket, ino, 0) {
		t.Error("not granted")
	}
	tab.Forget(r.id, []twofold.Ino{ino, ino + 9})
	if tab.Reads(r.id) != 0 {
		t.Error("not forgotten")
	}
}

func TestNoGrantsBeforeReady(t *testing.T) {
	tab := newTable(t, time.Minute)
	tab.reader(1)
	if tab.Grant(1, 0, inBucket, ino, 0) {
		t.Error("granted before Ready")
	}
	if _, err := tab.Change(short(t), 0); !errs.Is(err, errs.Canceled) {
		t.Errorf("Change before Ready: %v", err)
	}
	if _, _, err := tab.Unguarded(short(t), inBucket); !errs.Is(err, errs.Canceled) {
		t.Errorf("Unguarded before Ready: %v", err)
	}
}

// believer caches all that it is granted, as a mount would: what was asked for before an
// invalidation is not kept.
type believer struct {
	id     twofold.SessionID
	mu     sync.Mutex
	cache  map[entry]int
	epochs map[entry]int
}

func (b *believer) ID() twofold.SessionID { return b.id }
func (b *believer) Silent() time.Duration { return 0 }
func (b *believer) Revoked([]twofold.Ino) {}

func (b *believer) Invalidate(_ context.Context, stale []Stale) error {
	time.Sleep(rand.N(200 * time.Microsecond))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range stale {
		for e := range b.epochs {
			if e.ino == s.Ino && (len(s.Names) == 0 || s.Drop || e.name == anything || slices.Contains(s.Names, e.name)) {
				b.epochs[e]++
				delete(b.cache, e)
			}
		}
	}
	return nil
}

// TestNobodyBelievesWhatChanged: sessions cache all they are granted, others change it,
// and at no moment is a cached value another one than the store's.
func TestNobodyBelievesWhatChanged(t *testing.T) {
	tab := readyTable(t)
	ctx := context.Background()
	var mu sync.Mutex // guards store; taken inside of a believer's
	store := map[entry]int{}
	var things []entry
	for i := range twofold.Ino(4) {
		things = append(things, entry{ino + i, anything}, entry{ino + i, "a"}, entry{ino + i, "b"})
	}
	var believers []*believer
	for i := range twofold.SessionID(3) {
		b := &believer{id: i + 1, cache: map[entry]int{}, epochs: map[entry]int{}}
		for _, e := range things {
			b.epochs[e] = 0
		}
		believers = append(believers, b)
		tab.AddReader(b)
	}
	commit := func(es ...entry) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range es {
			store[e]++
		}
	}
	var hits, grants, changes, unguarded atomic.Int32
	deadline := time.Now().Add(time.Second)
	over := func() bool { return time.Now().After(deadline) || t.Failed() }
	var wg sync.WaitGroup
	for _, b := range believers {
		for range 2 {
			wg.Go(func() {
				for !over() {
					e := things[rand.IntN(len(things))]
					b.mu.Lock()
					epoch := b.epochs[e]
					if v, ok := b.cache[e]; ok {
						mu.Lock()
						if store[e] != v {
							t.Errorf("session %d believes that %v is %d, it is %d", b.id, e, v, store[e])
						}
						mu.Unlock()
						hits.Add(1)
						if rand.IntN(30) == 0 { // given back, and not believed meanwhile
							for _, x := range things {
								if x.ino == e.ino {
									delete(b.cache, x)
									b.epochs[x]++
								}
							}
							tab.Forget(b.id, []twofold.Ino{e.ino})
						}
						b.mu.Unlock()
						time.Sleep(rand.N(50 * time.Microsecond))
						continue
					}
					b.mu.Unlock()
					gen, _ := tab.Generation(ctx)
					mu.Lock()
					v := store[e]
					mu.Unlock()
					time.Sleep(rand.N(100 * time.Microsecond))
					granted := false
					if e.name == anything {
						granted = tab.Grant(b.id, gen, inBucket, e.ino, 0)
					} else {
						granted = tab.GrantName(b.id, gen, inBucket, e.ino, e.name)
					}
					time.Sleep(rand.N(100 * time.Microsecond))
					b.mu.Lock()
					if granted && b.epochs[e] == epoch {
						b.cache[e] = v
						grants.Add(1)
					}
					b.mu.Unlock()
				}
			})
		}
	}
	for range 3 {
		wg.Go(func() {
			for !over() {
				e := things[rand.IntN(len(things))]
				if end, ok, _ := tab.Unguarded(ctx, inBucket); ok {
					commit(e, entry{e.ino, anything})
					end()
					unguarded.Add(1)
					continue
				}
				c, err := tab.Change(ctx, 0)
				if err != nil {
					t.Error(err)
					return
				}
				switch {
				case rand.IntN(50) == 0:
					err = c.AddBucket(ctx, inBucket)
				case e.name == anything:
					err = c.Add(ctx, false, Target{Ino: e.ino})
				default:
					err = c.Add(ctx, false, Target{Ino: e.ino, Names: []string{e.name}})
				}
				if err == nil {
					commit(e, entry{e.ino, anything})
				}
				c.End()
				changes.Add(1)
				time.Sleep(rand.N(300 * time.Microsecond))
			}
		})
	}
	wg.Wait()
	t.Logf("%d hits, %d grants, %d changes, %d unguarded", hits.Load(), grants.Load(), changes.Load(), unguarded.Load())
	if hits.Load() == 0 || changes.Load() == 0 {
		t.Error("nothing was tested")
	}
}
