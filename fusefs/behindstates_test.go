package fusefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// tokensAbove has the volume give tokens that are larger than those of package behind.
func tokensAbove() *fakeVolume {
	v := newFakeVolume()
	v.token = 1 << 40
	return v
}

// TestBehindRecall: who looks from elsewhere sees everything that was done, whatever of it is
// still on its way.
func TestBehindRecall(t *testing.T) {
	ctx := context.Background()
	for _, state := range []string{"queued", "in flight", "answered late"} {
		t.Run(state, func(t *testing.T) {
			v := tokensAbove()
			r := newBehindRig(t, v)
			dir := r.leased(t, "d")
			gate, reached := make(chan struct{}), make(chan struct{})
			var once sync.Once
			at := map[string]string{"in flight": "Batch", "answered late": "batched"}[state]
			r.s.setHook(func(op string, _ twofold.Ino) error {
				if op == at {
					once.Do(func() { close(reached) })
					<-gate
				}
				return nil
			})
			a, _, err := r.Create(ctx, dir, "x", fileOf(0644))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = r.put(ctx, a.Ino, []byte("seen")); err != nil {
				t.Fatal(err)
			}
			if at != "" {
				go r.SyncAll(ctx)
				<-reached
			}
			seen := make(chan error, 1)
			go func() {
				got, err := somebody{v.session()}.Lookup(ctx, dir, "x")
				if err == nil && (got.Ino != a.Ino || got.Size != 4) {
					err = fmt.Errorf("found %+v", got)
				}
				seen <- err
			}()
			if at != "" {
				time.Sleep(20 * time.Millisecond)
				select {
				case err := <-seen:
					t.Errorf("answered while the batch was on its way: %v", err)
				default:
				}
			}
			close(gate)
			if err := <-seen; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBehindTokens: a lease that was given before the file was committed goes on under the
// volume's token, for flushes, recalls and what is held.
func TestBehindTokens(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	a, _, err := r.Create(ctx, dir, "x", fileOf(0644))
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.AcquireWrite(ctx, a.Ino)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.tokens[a.Ino] = l.Token
	r.mu.Unlock()
	if l.Token >= 1<<40 || l.Allowed != twofold.MaxFileLen {
		t.Fatalf("it is not from here: %+v", l)
	}
	if err := r.Sync(ctx, a.Ino); err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	real, holder := v.inodes[a.Ino].token, v.inodes[a.Ino].holder
	v.mu.Unlock()
	if holder != r.s {
		t.Fatal("the session has no lease")
	}
	found := false
	for _, h := range r.s.holder.Held().Writes {
		found = found || h.Ino == a.Ino && h.Token == real
	}
	if !found {
		t.Error("the lease is not among what is held, under the volume's token")
	}
	// More than is written behind: it goes the ordinary way, under the volume's token.
	big := make([]byte, 300<<10)
	if _, err := r.Write(ctx, a.Ino, api.Write{Token: l.Token, Segments: []api.Segment{{Data: big}}, Size: int64(len(big)), Mtime: 5}); err != nil {
		t.Fatal(err)
	}
	if n := r.s.count("Write"); n != 1 {
		t.Errorf("%d calls of Write", n)
	}
	other := somebody{v.session()}
	if got, err := other.GetAttr(ctx, a.Ino); err != nil || got.Size != int64(len(big)) {
		t.Fatalf("somebody else sees %+v, %v", got, err)
	}
	r.mu.Lock()
	_, has := r.tokens[a.Ino]
	r.mu.Unlock()
	if has {
		t.Error("the lease was not recalled from above")
	}
	poll(t, "the lease to be given back", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.inodes[a.Ino].holder == nil
	})
	if _, err := r.Write(ctx, a.Ino, api.Write{Token: l.Token, Segments: []api.Segment{{Data: big[:1]}}, Size: 1}); !errs.Is(err, errs.Fenced) {
		t.Errorf("a write under the old token: %v", err)
	}
}

// TestBehindFenced: what was done under a lease that has ended is lost, and told once.
func TestBehindFenced(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	v.mu.Lock()
	v.inodes[dir].token++ // as if it had been given to somebody else, and back
	v.mu.Unlock()
	a, _, err := r.Create(ctx, dir, "x", fileOf(0644))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Sync(ctx, a.Ino); err == nil {
		t.Error("Sync of the file tells nothing")
	}
	if err := r.Sync(ctx, a.Ino); err != nil {
		t.Errorf("Sync tells twice: %v", err)
	}
	if err := r.Sync(ctx, dir); err == nil {
		t.Error("Sync of the directory tells nothing")
	}
	if got, err := r.Lookup(ctx, dir, "x"); err == nil && got.Ino != 0 {
		t.Errorf("it is there: %+v", got)
	}
	if _, _, err := r.Create(ctx, dir, "x", fileOf(0644)); err != nil {
		t.Errorf("and can't be made again: %v", err)
	}
}

// TestBehindLost: with the session everything goes that was queued.
func TestBehindLost(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	gate := make(chan struct{})
	r.s.setHook(func(op string, _ twofold.Ino) error {
		if op == "Batch" {
			<-gate
			return errs.Newf("fake", errs.Fenced, "the session has ended")
		}
		return nil
	})
	a, _, err := r.Create(ctx, dir, "x", fileOf(0644))
	if err != nil {
		t.Fatal(err)
	}
	r.s.holder.Lost(errors.New("gone"))
	close(gate)
	if err := r.Sync(ctx, a.Ino); err == nil {
		t.Error("nothing is told")
	}
	r.mu.Lock()
	lost := r.lost
	r.mu.Unlock()
	if lost != 1 {
		t.Errorf("above it was told %d times", lost)
	}
}

// TestBehindHeld: after a reconnect the directories are given back, since the server may not
// know who caches what.
func TestBehindHeld(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	if _, _, err := r.Create(ctx, dir, "x", fileOf(0644)); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, h := range r.s.holder.Held().Writes {
		found = found || h.Ino == dir
	}
	if !found {
		t.Error("the directory's lease is not told")
	}
	poll(t, "the directory to be given back", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.inodes[dir].holder == nil
	})
	if got, err := (somebody{v.session()}).Lookup(ctx, dir, "x"); err != nil || got.Ino == 0 {
		t.Errorf("what was done is not committed: %+v, %v", got, err)
	}
}

// TestBehindFullStore: what can't be committed now is kept, new operations get the error, and
// recalls are refused.
func TestBehindFullStore(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	v.mu.Lock()
	token := v.inodes[dir].token
	v.mu.Unlock()
	var full atomic.Bool
	full.Store(true)
	r.s.setHook(func(op string, _ twofold.Ino) error {
		if op == "Batch" && full.Load() {
			return errs.Newf("fake", errs.NoSpace, "full")
		}
		return nil
	})
	a, _, err := r.Create(ctx, dir, "x", fileOf(0644))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Sync(ctx, a.Ino); !errs.Is(err, errs.NoSpace) {
		t.Errorf("Sync: %v", err)
	}
	if _, _, err := r.Create(ctx, dir, "y", fileOf(0644)); !errs.Is(err, errs.NoSpace) {
		t.Errorf("another one: %v", err)
	}
	if err := r.s.holder.Recall(ctx, dir, token); !errs.Is(err, errs.Unwritten) {
		t.Errorf("recall: %v", err)
	}
	full.Store(false)
	poll(t, "the batch", func() bool { return r.Sync(ctx, a.Ino) == nil })
	if got, err := (somebody{v.session()}).Lookup(ctx, dir, "x"); err != nil || got.Ino != a.Ino {
		t.Errorf("it is %+v, %v", got, err)
	}
}

// TestBehindRemovesOnFullStore: what can't be committed for lack of space does not keep files
// from being removed; it is given up, and told.
func TestBehindRemovesOnFullStore(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	r.s.setHook(func(op string, _ twofold.Ino) error {
		if op == "Batch" {
			return errs.Newf("fake", errs.NoSpace, "full")
		}
		return nil
	})
	a, _, err := r.Create(ctx, dir, "x", fileOf(0644))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Sync(ctx, a.Ino); !errs.Is(err, errs.NoSpace) {
		t.Errorf("Sync: %v", err)
	}
	if err := r.Unlink(ctx, dir, "first-0"); err != nil {
		t.Fatalf("unlink: %v", err)
	}
	if got, err := (somebody{v.session()}).Lookup(ctx, dir, "first-0"); !errs.Is(err, errs.NotFound) {
		t.Errorf("it is still there: %+v, %v", got, err)
	}
	if err := r.Sync(ctx, a.Ino); err == nil {
		t.Error("nothing is told of the file that is given up")
	}
	if err := r.Sync(ctx, a.Ino); err != nil {
		t.Errorf("it is told twice: %v", err)
	}
}

// TestBehindConflict: an operation that the volume does not take is dropped alone, and told.
func TestBehindConflict(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	v.mu.Lock() // as it should not happen: a name that nobody was told of
	v.link(v.inodes[dir], "y", v.add(fileOf(0600), 0))
	v.mu.Unlock()
	var inos []twofold.Ino
	for _, name := range []string{"x", "y", "z"} {
		a, _, err := r.Create(ctx, dir, name, fileOf(0644))
		if err != nil {
			t.Fatal(err)
		}
		inos = append(inos, a.Ino)
	}
	for i, lost := range []bool{false, true, false} {
		if err := r.Sync(ctx, inos[i]); (err != nil) != lost {
			t.Errorf("file %d: %v", i, err)
		}
	}
	if a, err := r.Lookup(ctx, dir, "y"); err != nil || a.Mode != 0600 {
		t.Errorf("y is %+v, %v", a, err)
	}
	if a, err := r.Lookup(ctx, dir, "z"); err != nil || a.Ino != inos[2] {
		t.Errorf("z is %+v, %v", a, err)
	}
}

// TestBehindAnswersLost: a batch that was committed, and whose answer was lost, is not taken
// for refused when it is sent again.
func TestBehindAnswersLost(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	var once sync.Once
	r.s.setHook(func(op string, _ twofold.Ino) (err error) {
		if op == "batched" {
			once.Do(func() { err = errs.Newf("fake", errs.UnknownOutcome, "the answer was lost") })
		}
		return err
	})
	sub, _, err := r.Create(ctx, dir, "sub", api.Create{Type: metadata.TypeDir, Mode: 0755, Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := r.Create(ctx, sub.Ino, "x", fileOf(0644))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SyncAll(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Sync(ctx, a.Ino); err != nil {
		t.Error(err)
	}
	poll(t, "what it made to be given back", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.inodes[sub.Ino].holder == nil && v.inodes[dir].holder == nil
	})
	if got, err := r.Lookup(ctx, sub.Ino, "x"); err != nil || got.Ino != a.Ino {
		t.Errorf("it is %+v, %v", got, err)
	}
}

// TestBehindUnderLoad: many at once, with somebody who looks, leave one tree.
func TestBehindUnderLoad(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	other := v.session()
	var wg, looks sync.WaitGroup
	var failed atomic.Int64
	stop := make(chan struct{})
	looks.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
				other.ReadDir(ctx, dir, "", 1000, true)
			}
		}
	})
	want := make([]map[string]int64, 8)
	for i := range want {
		want[i] = make(map[string]int64)
		wg.Go(func() {
			for k := range 150 {
				name := fmt.Sprintf("%d-%d", i, k%40)
				switch size, there := want[i][name]; {
				case !there:
					a, _, err := r.Create(ctx, dir, name, fileOf(0644))
					if err != nil {
						failed.Add(1)
						continue
					}
					want[i][name] = 0
					if _, err := r.put(ctx, a.Ino, make([]byte, k+1)); err == nil {
						want[i][name] = int64(k + 1)
					} else if !errs.Is(err, errs.Fenced) { // the lease was recalled in between
						failed.Add(1)
					}
				case k%3 == 0:
					if r.Unlink(ctx, dir, name) != nil {
						failed.Add(1)
					}
					delete(want[i], name)
				default:
					if r.Rename(ctx, dir, name, dir, name+"m", 0) != nil {
						failed.Add(1)
					}
					delete(want[i], name)
					want[i][name+"m"] = size
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	looks.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d operations failed", n)
	}
	for _, from := range []api.Files{r, other} {
		list, _, err := from.ReadDir(ctx, dir, "", 10000, true)
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]int64)
		for _, e := range list {
			got[e.Name] = e.Attr.Size
		}
		for i := range want {
			for name, size := range want[i] {
				if is, ok := got[name]; !ok || is != size {
					t.Errorf("%s has %d bytes (there: %v), not %d", name, is, ok, size)
				}
			}
		}
	}
}

// TestMountBehind: programs in a mount make, write, rename and remove without a call for
// each, and fsync(2) commits.
func TestMountBehind(t *testing.T) {
	v := tokensAbove()
	m := mountFake(t, v, func(o *Options) { o.WriteBehind = true })
	if err := os.Mkdir(m.path("d"), 0755); err != nil {
		t.Fatal(err)
	}
	warm := 0
	poll(t, "the lease", func() bool {
		warm++
		before := m.count("Create")
		if err := os.WriteFile(m.path(fmt.Sprintf("d/warm-%d", warm)), []byte("x"), 0644); err != nil {
			t.Fatal(err)
		}
		return m.count("Create") == before
	})
	count := func() map[string]int {
		m.mu.Lock()
		defer m.mu.Unlock()
		c := make(map[string]int)
		for op, n := range m.ops {
			c[op] = n
		}
		return c
	}
	before := count()
	const files = 200
	for i := range files {
		if err := os.WriteFile(m.path(fmt.Sprintf("d/f%d", i)), make([]byte, 4096), 0644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range files {
		if err := os.Rename(m.path(fmt.Sprintf("d/f%d", i)), m.path(fmt.Sprintf("d/g%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range files / 2 {
		if err := os.Remove(m.path(fmt.Sprintf("d/g%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	after := count()
	for _, op := range []string{"Create", "Rename", "Unlink", "Write", "Lookup"} { // how many batches there are is a matter of time
		if n := after[op] - before[op]; n > 0 {
			t.Errorf("%d calls of %s for %d files", n, op, files)
		}
	}
	if after["Batch"] == before["Batch"] {
		t.Error("there was no batch")
	}
	f, err := os.OpenFile(m.path("d/synced"), os.O_CREATE|os.O_WRONLY, 0644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("durable"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	_, dd, _ := v.entry(twofold.RootIno, "d")
	_, in, err := v.entry(dd.attr.Ino, "synced")
	var size int64
	if err == nil {
		size = in.attr.Size
	}
	v.mu.Unlock()
	if err != nil || size != 7 {
		t.Errorf("after fsync(2) the volume has %d bytes, %v", size, err)
	}
	// Others see what was not synced.
	if err := os.WriteFile(m.path("d/last"), []byte("seen"), 0644); err != nil {
		t.Fatal(err)
	}
	other := somebody{v.session()}
	a, err := other.Lookup(context.Background(), dd.attr.Ino, "last")
	if err != nil || a.Size != 4 {
		t.Errorf("somebody else finds %+v, %v", a, err)
	}
	list, err := os.ReadDir(filepath.Join(m.dir, "d"))
	if err != nil || len(list) != files/2+warm+2 {
		t.Errorf("%d entries, %v", len(list), err)
	}
}

// TestBehindShowsDirectories: what is queued in a directory shows in the attributes with which
// its parent, which is not leased, lists it.
func TestBehindShowsDirectories(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	before, err := r.GetAttr(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	made := func(i int) {
		t.Helper()
		if _, _, err := r.Create(ctx, dir, fmt.Sprint("sub", i), api.Create{Type: metadata.TypeDir, Mode: 0755, Exclusive: true}); err != nil {
			t.Fatal(err)
		}
	}
	made(0)
	list, _, err := r.ReadDir(ctx, twofold.RootIno, "", 10, true)
	if err != nil || len(list) != 1 || list[0].Attr.Nlink != before.Nlink+1 {
		t.Errorf("listed: %+v, %v", list, err)
	}
	made(1)
	if a, err := r.Lookup(ctx, twofold.RootIno, "d"); err != nil || a.Nlink != before.Nlink+2 {
		t.Errorf("looked up: %+v, %v", a, err)
	}
}
