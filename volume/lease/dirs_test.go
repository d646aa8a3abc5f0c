package lease

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
)

const (
	dirIno  = twofold.Ino(3000)
	fileIno = twofold.Ino(3101)
)

var bg = context.Background()

func takeDir(t *testing.T, tab *Table, h Holder, dir twofold.Ino) uint64 {
	t.Helper()
	token, _, err := tab.AcquireDir(bg, h, inBucket, dir)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func busyDir(t *testing.T, tab *Table, h Holder, dir twofold.Ino, why string) {
	t.Helper()
	if _, _, err := tab.AcquireDir(bg, h, inBucket, dir); !errs.Is(err, errs.Busy) {
		t.Errorf("AcquireDir while %s: %v", why, err)
	}
}

// TestDirTakesReadersAway: who gets a directory's lease is alone with the directory, and with
// the inodes whose home it is.
func TestDirTakesReadersAway(t *testing.T) {
	tab := readyTable(t)
	h := gives(tab)
	own, r := tab.reader(h.id), tab.reader(2)
	const elsewhere = fileIno + 1
	for _, id := range []twofold.SessionID{own.id, r.id} {
		gen := generation(t, tab)
		if !tab.GrantName(id, gen, inBucket, dirIno, "a") || !tab.Grant(id, gen, inBucket, fileIno, dirIno) ||
			!tab.Grant(id, gen, inBucket, elsewhere, dirIno) || !tab.Grant(id, gen, inBucket, elsewhere, dirIno+1) {
			t.Fatal("not granted")
		}
	}
	token := takeDir(t, tab, h, dirIno)
	if got := own.heard(); got != "[]" {
		t.Errorf("the holder was told %s", got)
	}
	if got := r.heard(); got != fmt.Sprintf("[{{%d []} false} {{%d []} false}]", dirIno, fileIno) {
		t.Errorf("the other one was told %s", got)
	}
	gen := generation(t, tab)
	if tab.Grant(r.id, gen, inBucket, dirIno, 0) || tab.GrantName(r.id, gen, inBucket, dirIno, "b") || tab.Grant(r.id, gen, inBucket, fileIno, dirIno) {
		t.Error("granted to another one while the directory is leased")
	}
	c := change(t, tab, r.id)
	if c.Grant(inBucket, fileIno, dirIno) || c.GrantName(inBucket, dirIno, "b") {
		t.Error("granted to another one's change while the directory is leased")
	}
	c.End()
	if !tab.Grant(own.id, gen, inBucket, dirIno, 0) || !tab.Grant(own.id, gen, inBucket, fileIno, dirIno) || !tab.Grant(r.id, gen, inBucket, elsewhere, dirIno+1) {
		t.Error("not granted to the holder, or of another directory")
	}
	tab.Release(h, dirIno, token)
	if tab.Grant(r.id, gen, inBucket, fileIno, dirIno) {
		t.Error("granted what a snapshot of before the release shows")
	}
	if !tab.Grant(r.id, generation(t, tab), inBucket, fileIno, dirIno) {
		t.Error("not granted when the lease was given back")
	}
	// Where it is counts as of the last grant.
	takeDir(t, tab, h, dirIno+1)
	if got := r.heard(); got != fmt.Sprintf("[{{%d []} false}]", elsewhere) {
		t.Errorf("the reader of a moved inode was told %s", got)
	}
	if len(tab.readers.homes[dirIno+1]) != 1 { // the holder's own
		t.Errorf("the index of homes has %v", tab.readers.homes)
	}
	tab.ReleaseAll(h.id)
	tab.ReleaseAll(r.id)
	if len(tab.readers.homes) != 0 || tab.dirs.held.Load() != 0 || tab.readers.bucket(inBucket).dirs != 0 {
		t.Errorf("left behind: %v, %d leases", tab.readers.homes, tab.dirs.held.Load())
	}
}

// TestDirsMadeForTheRecall: what a holder commits for a recall may make directories, whose leases
// it gets: they are recalled as well.
func TestDirsMadeForTheRecall(t *testing.T) {
	tab := readyTable(t)
	h := &fakeHolder{id: 1}
	h.recall = func(ino twofold.Ino, token uint64) error {
		if ino < dirIno+2 {
			if _, ok := tab.AcquireNew(h, inBucket, ino+1, true); !ok {
				t.Error("no lease of what is new")
			}
		}
		tab.Release(h, ino, token)
		return nil
	}
	takeDir(t, tab, h, dirIno)
	end := must[func()](t)(tab.ExcludeDirs(bg, inBucket))
	if held := tab.Held(); len(held) > 0 || h.asked.Load() != 3 {
		t.Errorf("recalled %d times, and left %v", h.asked.Load(), held)
	}
	end()
	takeDir(t, tab, h, dirIno)
	c := change(t, tab, 2)
	if err := c.AddBucket(bg, inBucket); err != nil {
		t.Fatal(err)
	}
	if held := tab.Held(); len(held) > 0 {
		t.Errorf("a change of anything left %v", held)
	}
	c.End()
}

// TestDirIsBusy: changes that exclude nobody keep the lease from being granted, and the next
// ones exclude.
func TestDirIsBusy(t *testing.T) {
	tab := readyTable(t)
	h := gives(tab)
	unguarded := func() (func(), bool) {
		end, ok, err := tab.Unguarded(bg, inBucket)
		if err != nil {
			t.Fatal(err)
		}
		return end, ok
	}
	end, ok := unguarded()
	if !ok {
		t.Fatal("a change of anything is refused with no lease around")
	}
	busyDir(t, tab, h, dirIno, "anything in the bucket may change")
	if _, ok := unguarded(); ok {
		t.Error("a change of anything is let go although a lease is wanted")
	}
	end()
	token := takeDir(t, tab, h, dirIno)
	if again := takeDir(t, tab, h, dirIno); again != token {
		t.Errorf("the token was %d, and is %d", token, again)
	}
	if _, ok := unguarded(); ok {
		t.Error("a change of anything is let go beside the lease")
	}
	if _, err := tab.Acquire(bg, h, dirIno); !errs.Is(err, errs.IsDir) {
		t.Errorf("it is given as a file's: %v", err)
	}
	c := change(t, tab, 0)
	if !c.Excludes() {
		t.Error("a change excludes nobody beside the lease")
	}
	c.End()
	free := must[func()](t)(tab.Exclude(bg, dirIno))
	if h.asked.Load() != 1 {
		t.Errorf("recalled %d times", h.asked.Load())
	}
	busyDir(t, tab, h, dirIno, "it is excluded")
	free()

	tab.mu.Lock()
	tab.dirs.wanted = time.Time{}
	tab.mu.Unlock()
	if c = change(t, tab, 0); c.Excludes() {
		t.Error("a change has to exclude although nobody has had a lease for long")
	}
	busyDir(t, tab, h, dirIno, "a change excludes nobody")
	if later := change(t, tab, 0); !later.Excludes() {
		t.Error("a lease is wanted, and changes still exclude nobody")
	}
	c.End()
	takeDir(t, tab, h, dirIno)
}

// TestDirWhileReadersAreTold: until all have answered the lease is nobody's to use.
func TestDirWhileReadersAreTold(t *testing.T) {
	tab := readyTable(t)
	h := gives(tab)
	r := tab.reader(2)
	asked, answer := make(chan struct{}), make(chan struct{})
	r.answer = func(context.Context) error {
		close(asked)
		<-answer
		return nil
	}
	tab.Grant(r.id, generation(t, tab), inBucket, dirIno, 0)
	got := make(chan error)
	go func() {
		_, _, err := tab.AcquireDir(bg, h, inBucket, dirIno)
		got <- err
	}()
	<-asked
	busyDir(t, tab, h, dirIno, "readers have not answered")
	close(answer)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	takeDir(t, tab, h, dirIno)
}

// TestDirsOfABucket: all of them can be taken, and kept away.
func TestDirsOfABucket(t *testing.T) {
	tab := readyTable(t)
	h := gives(tab)
	takeDir(t, tab, h, dirIno)
	takeDir(t, tab, h, dirIno+1)
	if _, _, err := tab.AcquireDir(bg, h, inBucket+1, dirIno+2); err != nil {
		t.Fatal(err)
	}
	end := must[func()](t)(tab.ExcludeDirs(bg, inBucket))
	if h.asked.Load() != 2 || tab.Leased(dirIno) || !tab.Leased(dirIno+2) {
		t.Errorf("recalled %d times", h.asked.Load())
	}
	busyDir(t, tab, h, dirIno, "the bucket's are kept away")
	end()
	takeDir(t, tab, h, dirIno)
	c := change(t, tab, 0)
	if err := c.AddBucket(bg, inBucket); err != nil {
		t.Fatal(err)
	}
	if h.asked.Load() != 3 || tab.Leased(dirIno) {
		t.Error("a change of anything in the bucket has not recalled the lease")
	}
	busyDir(t, tab, h, dirIno, "anything in the bucket changes")
	c.End()
	h.recall = func(twofold.Ino, uint64) error { return errs.Newf("test", errs.Unwritten, "full") }
	takeDir(t, tab, h, dirIno)
	if _, err := tab.ExcludeDirs(bg, inBucket); !errs.Is(err, errs.Unwritten) {
		t.Errorf("a holder that can't write: %v", err)
	}
	if tab.readers.bucket(inBucket).unguarded != 0 {
		t.Error("the refusal left the bucket closed")
	}
}

// TestDirMarks: an observer knows whether there was a lease while it looked.
func TestDirMarks(t *testing.T) {
	tab := newTable(t, time.Minute)
	h := gives(tab)
	if err := tab.ReclaimDir(h, inBucket, dirIno, 7); err != nil {
		t.Fatal(err)
	}
	if err := tab.ReclaimDir(h, inBucket, dirIno, 7); err != nil { // over a new connection
		t.Fatal(err)
	}
	tab.Ready()
	if m := tab.Dirs(); !m.Some() || tab.Same(m) {
		t.Error("a lease of before the start does not count")
	}
	tab.Release(h, dirIno, 7)
	m := tab.Dirs()
	if m.Some() || !tab.Same(m) {
		t.Error("there is none, and it counts")
	}
	tab.Release(h, dirIno, takeDir(t, tab, h, dirIno))
	if tab.Same(m) {
		t.Error("one that came and went is not noticed")
	}
	token, ok := tab.AcquireNew(h, inBucket, dirIno, true)
	if !ok || !tab.Dirs().Some() || takeDir(t, tab, h, dirIno) != token {
		t.Error("that of a new directory is none")
	}
}

// fakeDir is a directory's contents as one number: names that were made.
type fakeDir struct{ committed, local, returned atomic.Int64 }

// dirHolder makes names on its own under leases, and commits them when asked.
type dirHolder struct {
	fakeHolder
	tab  *Table
	dirs []*fakeDir
	mu   []sync.Mutex // of a directory: it is decided about, or flushed
	has  []uint64     // tokens
}

func newDirHolder(tab *Table, id twofold.SessionID, dirs []*fakeDir) *dirHolder {
	h := &dirHolder{tab: tab, dirs: dirs, mu: make([]sync.Mutex, len(dirs)), has: make([]uint64, len(dirs))}
	h.id = id
	h.recall = func(ino twofold.Ino, token uint64) error {
		i := int(ino - dirIno)
		h.mu[i].Lock()
		defer h.mu[i].Unlock()
		if h.has[i] != token {
			return nil
		}
		end, err := tab.Use(bg, h, ino, token)
		if err != nil {
			return err
		}
		h.dirs[i].committed.Store(h.dirs[i].local.Load())
		end()
		h.has[i] = 0
		tab.Release(h, ino, token)
		return nil
	}
	return h
}

// TestDirRaces: whoever looks sees all names that were made before it began, whoever changes
// is alone, and nobody waits for ever: two holders after the same directories, observers of
// several at once, changes that exclude several.
func TestDirRaces(t *testing.T) {
	tab := readyTable(t)
	var dirs []*fakeDir
	for range 3 {
		dirs = append(dirs, &fakeDir{})
	}
	inos := []twofold.Ino{dirIno, dirIno + 1, dirIno + 2}
	var granted, changed, busy atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	again := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	for id := range twofold.SessionID(2) {
		h := newDirHolder(tab, id+1, dirs)
		wg.Go(func() {
			for again() {
				i := rand.IntN(len(dirs))
				h.mu[i].Lock()
				token, _, err := tab.AcquireDir(bg, h, inBucket, inos[i])
				if err != nil {
					h.mu[i].Unlock()
					if busy.Add(1); !errs.Is(err, errs.Busy) {
						t.Error(err)
					}
					continue
				}
				granted.Add(1)
				h.has[i] = token
				for range rand.IntN(4) {
					d := dirs[i]
					if d.local.Load() < d.committed.Load() {
						t.Error("the lease came before what another one had was committed")
					}
					d.returned.Store(d.local.Add(1))
				}
				h.mu[i].Unlock()
			}
		})
	}
	for range 2 {
		wg.Go(func() { // an observer
			for again() {
				var before, seen [3]int64
				for i, d := range dirs {
					before[i] = d.returned.Load()
				}
				for {
					gen := generation(t, tab)
					m := tab.Dirs()
					for i, d := range dirs {
						seen[i] = d.committed.Load()
					}
					ok := true
					if m.Some() {
						ok = must[bool](t)(tab.Settled(bg, gen, 0, inos...))
					}
					if ok && (m.Some() || tab.Same(m)) {
						break
					}
				}
				for i := range seen {
					if seen[i] < before[i] {
						t.Errorf("directory %d had %d names when the observer began, it sees %d", i, before[i], seen[i])
					}
				}
			}
		})
		wg.Go(func() { // a change
			for again() {
				c := change(t, tab, 0)
				i, j := rand.IntN(len(dirs)), rand.IntN(len(dirs))
				var ends []func()
				if c.Excludes() {
					ends = append(ends, must[func()](t)(tab.Exclude(bg, inos[i])), must[func()](t)(tab.Exclude(bg, inos[j])))
				}
				for range 3 {
					if l, n := dirs[i].local.Load(), dirs[i].committed.Load(); l != n {
						t.Errorf("a change in directory %d, of which %d names are committed of %d", i, n, l)
					}
				}
				changed.Add(1)
				for _, end := range ends {
					end()
				}
				c.End()
			}
		})
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && (granted.Load() < 500 || changed.Load() < 500); {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if granted.Load() < 500 || changed.Load() < 500 {
		t.Errorf("%d grants, %d changes, %d refusals: it hangs", granted.Load(), changed.Load(), busy.Load())
	}
}
