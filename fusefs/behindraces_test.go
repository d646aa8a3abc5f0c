package fusefs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// TestBehindLastIsRefused: who waits for an operation that is dropped, with others before it
// that are committed later, comes to an end.
func TestBehindLastIsRefused(t *testing.T) {
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	v.mu.Lock() // as it should not happen: a name that nobody was told of
	v.link(v.inodes[dir], "y", v.add(fileOf(0600), 0))
	v.mu.Unlock()
	var inos []twofold.Ino
	for _, name := range []string{"x", "y"} {
		a, _, err := r.Create(ctx, dir, name, fileOf(0644))
		if err != nil {
			t.Fatal(err)
		}
		inos = append(inos, a.Ino)
	}
	if err := r.SyncAll(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Sync(ctx, inos[1]); err == nil {
		t.Error("nobody was told")
	}
	if a, err := (somebody{v.session()}).Lookup(ctx, dir, "x"); err != nil || a.Ino != inos[0] {
		t.Errorf("x is %+v, %v", a, err)
	}
}

// TestBehindTooLarge: a batch that is more than the volume takes is sent in parts, whatever
// operation that was noticed at.
func TestBehindTooLarge(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	v.mu.Lock()
	v.mostOps = 3
	v.mu.Unlock()
	for _, name := range []string{"1", "2", "3", "4", "5", "6", "7"} {
		if _, _, err := r.Create(ctx, dir, name, fileOf(0644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Sync(ctx, dir); err != nil {
		t.Fatal(err)
	}
	other := somebody{v.session()}
	for _, name := range []string{"1", "2", "3", "4", "5", "6", "7"} {
		if _, err := other.Lookup(ctx, dir, name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestBehindAnswerLostLate: as TestBehindAnswersLost, of a batch that begins with what can be
// done twice.
func TestBehindAnswerLostLate(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	a, _, err := r.Create(ctx, dir, "x", fileOf(0644))
	if err == nil {
		err = r.SyncAll(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	r.s.setHook(func(op string, _ twofold.Ino) (err error) {
		if op == "batched" {
			once.Do(func() { err = errs.Newf("fake", errs.UnknownOutcome, "the answer was lost") })
		}
		return err
	})
	mode := uint32(0600)
	if _, err := r.SetAttr(ctx, a.Ino, api.SetAttr{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	b, _, err := r.Create(ctx, dir, "y", fileOf(0644))
	if err != nil {
		t.Fatal(err)
	}
	for _, ino := range []twofold.Ino{dir, b.Ino, a.Ino} { // all in one batch
		if err := r.Sync(ctx, ino); err != nil {
			t.Errorf("inode %d: %v", ino, err)
		}
	}
}

// late is who is above, told of a recall before the lease that is recalled has come.
type late struct {
	aboveBehind
	recall func(ino twofold.Ino, token uint64) error
}

func (l late) Recall(_ context.Context, ino twofold.Ino, token uint64) error {
	return l.recall(ino, token)
}

// TestBehindRecallOvertakesGrant: a recall that comes before the lease has is answered when what was
// written under it is committed: it is not only passed on.
func TestBehindRecallOvertakesGrant(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	a, _, err := r.Create(ctx, dir, "x", fileOf(0644))
	if err == nil {
		err = r.SyncAll(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	granted, gate, acquired := make(chan struct{}), make(chan struct{}), make(chan api.Lease, 1)
	r.s.setHook(func(op string, _ twofold.Ino) error {
		if op == "granted" {
			close(granted)
			<-gate
		}
		return nil
	})
	h := r.Files.Holder(late{aboveBehind{r}, func(ino twofold.Ino, token uint64) error {
		close(gate)
		l := <-acquired
		if l.Token != token {
			t.Errorf("the lease has token %d, not %d", l.Token, token)
		}
		_, err := r.Write(ctx, ino, api.Write{Token: token, Segments: []api.Segment{{Data: []byte("seen")}}, Size: 4, Mtime: 9})
		return errors.Join(err, r.ReleaseWrite(ctx, ino, token))
	}})
	go func() {
		l, err := r.AcquireWrite(ctx, a.Ino)
		if err != nil {
			t.Error(err)
		}
		acquired <- l
	}()
	<-granted
	v.mu.Lock()
	token := v.inodes[a.Ino].token
	v.mu.Unlock()
	if err := h.Recall(ctx, a.Ino, token); err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	data, holder := string(v.inodes[a.Ino].data), v.inodes[a.Ino].holder
	v.mu.Unlock()
	if data != "seen" || holder != nil {
		t.Errorf("the recall was answered, and the volume has %q, and a holder %v", data, holder)
	}
}

// TestBehindLostDoesNotShow: where a directory's lease ended while the mount was away, what was
// done under it is not shown once it is connected again: others saw what was before.
func TestBehindLostDoesNotShow(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	a, _, err := r.Create(ctx, dir, "x", fileOf(0644))
	if err == nil {
		err = r.SyncAll(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	r.s.setHook(func(op string, _ twofold.Ino) error {
		if op == "Batch" {
			<-gate
		}
		return nil
	})
	mode := uint32(0600)
	if _, err := r.SetAttr(ctx, a.Ino, api.SetAttr{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	v.inodes[dir].holder = nil
	v.mu.Unlock()
	r.s.mu.Lock()
	h := r.s.holder
	r.s.mu.Unlock()
	h.Held()
	got := make(chan api.Attr, 1)
	go func() {
		now, err := r.GetAttr(ctx, a.Ino)
		if err != nil {
			t.Error(err)
		}
		got <- now
	}()
	select {
	case now := <-got:
		t.Errorf("shown before it is known to be lost: %+v", now)
		close(gate)
	case <-time.After(20 * time.Millisecond):
		close(gate)
		if now := <-got; now.Mode != 0644 {
			t.Errorf("it has mode %o", now.Mode)
		}
	}
	if err := r.Sync(ctx, a.Ino); err == nil {
		t.Error("nobody was told")
	}
}

// TestBehindHeldLeasesNothing: behind a lost connection the server may know of no read lease. While
// the cache above drops what it has, for which the kernel may take a second, nothing is
// answered here that it would keep again.
func TestBehindHeldLeasesNothing(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	_, _, err := r.Create(ctx, dir, "x", fileOf(0644))
	if err == nil {
		err = r.SyncAll(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	r.s.setHook(func(op string, _ twofold.Ino) error {
		if op == "Lookup" {
			asked.Add(1)
		}
		return nil
	})
	r.inHeld = func() {
		if a, err := r.Files.Lookup(ctx, dir, "x"); err != nil || asked.Load() == 0 && (a.Leased || a.NameLeased) {
			t.Errorf("leased without the server: %+v, %v", a, err)
		}
	}
	r.s.mu.Lock()
	h := r.s.holder
	r.s.mu.Unlock()
	h.Held()
}

// TestBehindOrdinaryShowsAtOnce: while a change is under way that goes the ordinary way, whoever
// looks, by name or by inode, sees the same.
func TestBehindOrdinaryShowsAtOnce(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	a, _, err := r.Create(ctx, dir, "x", fileOf(0644))
	if err == nil {
		err = r.SyncAll(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	r.s.setAfter(func(op string) { // it is done, and not answered
		if op != "SetAttr" && op != "Unlink" {
			return
		}
		looked++
		byIno, _ := r.GetAttr(ctx, a.Ino)
		byName, _ := r.Lookup(ctx, dir, "x")
		if op == "SetAttr" && (byIno.Size != 9 || byName.Size != 9) {
			t.Errorf("%d bytes by inode, %d by name", byIno.Size, byName.Size)
		}
		if op == "Unlink" && byName.Ino != 0 {
			t.Errorf("after it was unlinked it is %+v", byName)
		}
	})
	size := int64(9)
	if _, err := r.SetAttr(ctx, a.Ino, api.SetAttr{Size: &size}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Link(ctx, a.Ino, dir, "y"); err != nil {
		t.Fatal(err)
	}
	if err := r.Unlink(ctx, dir, "x"); err != nil { // which is one of two names
		t.Fatal(err)
	}
	r.s.setAfter(nil)
	if looked != 2 {
		t.Errorf("looked %d times", looked)
	}
}

// TestBehindManyNameless: of inodes that may get several names only so many are remembered: then
// what is known of names is forgotten.
func TestBehindManyNameless(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	for range 1<<16 + 1 {
		if _, err := r.Tmpfile(ctx, dir, fileOf(0600)); err != nil {
			t.Fatal(err)
		}
	}
	poll(t, "the lease to be given back", func() bool {
		if _, err := r.Lookup(ctx, dir, "first-0"); err != nil { // not because nobody uses it
			t.Fatal(err)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.inodes[dir].holder == nil
	})
}

// TestBehindTimes: the mtime of a directory may be any; what is made in it is of now.
func TestBehindTimes(t *testing.T) {
	ctx := context.Background()
	v := tokensAbove()
	r := newBehindRig(t, v)
	dir := r.leased(t, "d")
	sub, _, err := r.Create(ctx, dir, "sub", api.Create{Type: metadata.TypeDir, Mode: 0755, Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	future := twofold.Now() + twofold.Time(24*time.Hour)
	if _, err := r.SetAttr(ctx, sub.Ino, api.SetAttr{Mtime: &future}); err != nil {
		t.Fatal(err)
	}
	a, _, err := r.Create(ctx, sub.Ino, "x", fileOf(0644))
	if err != nil || a.Mtime >= future || a.Btime >= future {
		t.Errorf("made at %d, not before %d, %v", a.Mtime, future, err)
	}
}
