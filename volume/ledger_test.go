package volume

import (
	"bytes"
	"context"
	"fmt"
	"io"
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

const mib = 1 << 20

// testRoom is a ledger over drives of which the test says what they have.
func testRoom(n int64) (*ledger, *atomic.Int64) {
	var room atomic.Int64
	room.Store(n)
	return newLedger(func(context.Context) (uint64, error) { return uint64(max(0, room.Load())), nil }), &room
}

func wantKind(t *testing.T, err error, k errs.Kind) {
	t.Helper()
	if !errs.Is(err, k) {
		t.Fatalf("%v, want kind %v", err, k)
	}
}

func mustClaim(t *testing.T, l *ledger, id twofold.SessionID, n int64) *claim {
	t.Helper()
	c, err := l.claim(ctx, id, n, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// promiseAll asks until nothing is left, and returns what it got.
func promiseAll(t *testing.T, l *ledger, id twofold.SessionID, n int64) (got int64) {
	t.Helper()
	for {
		g, err := l.promise(ctx, id, n)
		if errs.Is(err, errs.NoSpace) {
			return got
		}
		if err != nil || g <= 0 || g > n {
			t.Fatalf("granted %d of %d: %v", g, n, err)
		}
		got += g
	}
}

func TestLedgerPromisesWhatIsFree(t *testing.T) {
	const room = 9*mib + 123
	l, _ := testRoom(room)
	l.begin(1, 0)
	l.begin(2, 0)
	first, err := l.promise(ctx, 1, 64*mib)
	if err != nil || first > room/4 {
		t.Fatalf("with %d free one session is promised %d: %v", room, first, err)
	}
	if got := first + promiseAll(t, l, 2, 64*mib); got != room {
		t.Fatalf("%d bytes are promised of %d", got, room)
	}
	_, err = l.promise(ctx, 1, 1)
	wantKind(t, err, errs.NoSpace)
	_, err = l.claim(ctx, 0, 1, 0)
	wantKind(t, err, errs.NoSpace)
	mustClaim(t, l, 0, 0).done(nil)

	l.unpromise(2)
	l.end(1)
	_, err = l.promise(ctx, 1, 1)
	wantKind(t, err, errs.Fenced)
	l.unpromise(1)
	if got := promiseAll(t, l, 2, 1<<40); got != room {
		t.Fatalf("after both gave theirs back %d of %d are promised", got, room)
	}
}

func TestLedgerBoundsASession(t *testing.T) {
	l, _ := testRoom(1 << 50)
	l.begin(1, 0)
	if got := promiseAll(t, l, 1, 1<<40); got != api.MaxPromise {
		t.Fatalf("promised %d", got)
	}
}

// A flush takes what was promised, whatever else is asked for, and has it again when
// it fails.
func TestLedgerFlushUsesThePromise(t *testing.T) {
	l, room := testRoom(4 * mib)
	l.begin(1, 0)
	promiseAll(t, l, 1, mib)
	for range 2 {
		mustClaim(t, l, 1, 3*mib).done(io.ErrUnexpectedEOF)
	}
	c := mustClaim(t, l, 1, 3*mib)
	_, err := l.claim(ctx, 1, 2*mib, 0) // only one more is promised
	wantKind(t, err, errs.NoSpace)
	c.done(nil)
	room.Add(-3 * mib)
	_, err = l.claim(ctx, 0, 1, 0)
	wantKind(t, err, errs.NoSpace)
	mustClaim(t, l, 1, mib).done(nil)

	// The end of a session in the middle of its flush gives nothing back twice.
	l, _ = testRoom(4 * mib)
	l.begin(1, 0)
	l.begin(2, 0)
	promiseAll(t, l, 1, mib)
	c = mustClaim(t, l, 1, 4*mib)
	l.end(1)
	c.done(io.ErrUnexpectedEOF)
	if got := promiseAll(t, l, 2, mib); got != 4*mib {
		t.Fatalf("%d bytes are free, not 4 MiB", got)
	}
}

// What was written since the last measurement counts, and a refusal is by a new one.
func TestLedgerMeasures(t *testing.T) {
	l, room := testRoom(4 * mib)
	mustClaim(t, l, 0, 3*mib).done(nil)
	room.Store(mib)
	_, err := l.claim(ctx, 0, 2*mib, 0)
	wantKind(t, err, errs.NoSpace)
	room.Store(2 * mib) // something was deleted
	mustClaim(t, l, 0, 2*mib).done(nil)
	broken := newLedger(func(context.Context) (uint64, error) { return 0, io.ErrUnexpectedEOF })
	if _, err := broken.claim(ctx, 0, 1, 0); err != io.ErrUnexpectedEOF {
		t.Fatalf("the drives can't be asked: %v", err)
	}
}

// What a large body has on the drives already is not counted once more.
func TestLedgerLargeBody(t *testing.T) {
	const size = 3 * claimLag
	l, room := testRoom(size + 10*mib)
	l.begin(1, 0)
	c := mustClaim(t, l, 0, size)
	io.CopyN(io.Discard, c.reader(zeros{}), size)
	room.Add(-size)
	l.at = time.Time{}
	if got := promiseAll(t, l, 1, mib); got > 10*mib || got < 10*mib-claimLag && got != 0 {
		t.Fatalf("%d are promised", got)
	}
	l.mu.Lock()
	left := l.claimed
	l.mu.Unlock()
	if left > claimLag+2*leastGrant {
		t.Fatalf("%d bytes of a body that was read are still claimed", left)
	}
	c.done(nil)
	l.unpromise(1)
	if got := promiseAll(t, l, 1, mib); got != 10*mib {
		t.Fatalf("afterwards %d are promised", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Many at once never write more than there is, and what was promised is there.
func TestLedgerRace(t *testing.T) {
	const all = 64 * mib
	l, room := testRoom(all)
	write := func(id twofold.SessionID, n int64) error {
		c, err := l.claim(ctx, id, n, 0)
		if err != nil {
			return err
		}
		if room.Add(-n) < 0 {
			t.Error("more is written than the drives have")
		}
		c.done(nil)
		return nil
	}
	var wg sync.WaitGroup
	for i := range 4 {
		id := twofold.SessionID(i + 1)
		l.begin(id, 0)
		wg.Go(func() {
			for write(0, 100_000) == nil {
			}
		})
		wg.Go(func() {
			for {
				g, err := l.promise(ctx, id, 3*mib)
				if err != nil {
					return
				}
				for _, n := range []int64{g / 3, g / 3, g - 2*(g/3)} {
					if err := write(id, n); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if left := room.Load(); left > 10*mib {
		t.Fatalf("%d bytes are left", left)
	}
}

// smallDrives lets the store have n bytes of content.
func (h *harness) smallDrives(n int64) {
	h.placer.room = func() uint64 {
		var used int64
		for _, d := range h.dirs {
			for _, dir := range []string{"blobs", "tmp"} {
				filepath.WalkDir(filepath.Join(d, dir), func(_ string, e os.DirEntry, err error) error {
					if err == nil && !e.IsDir() {
						if st, err := e.Info(); err == nil {
							used += st.Size() / 2 // of 4 shards 2 are data
						}
					}
					return nil
				})
			}
		}
		return uint64(max(0, n-used))
	}
}

// TestLastBytes: two mounts and PUTs compete for the last bytes. What was promised can
// be written, and who is too late is told so before it has begun.
func TestLastBytes(t *testing.T) {
	h := newHarness(t)
	const all = 24 * mib
	h.smallDrives(all)
	h.bucket("bbb")
	mounts := []*mount{h.mount(), h.mount()}
	var written atomic.Int64
	var wg sync.WaitGroup
	chunk := random(mib)
	for i, m := range mounts {
		a, _, err := m.s.Create(ctx, m.lookup("bbb").Ino, fmt.Sprint("file", i), api.Create{Type: metadata.TypeFile, Mode: 0o644})
		if err != nil {
			t.Fatal(err)
		}
		l, err := m.s.AcquireWrite(ctx, a.Ino)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			var has, off int64
			for {
				for has < mib {
					g, err := m.s.Promise(ctx, 4*mib)
					if errs.Is(err, errs.NoSpace) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					has += g
				}
				if _, err := m.s.Write(ctx, a.Ino, api.Write{Token: l.Token, Segments: []api.Segment{{Off: off, Data: chunk}}, Size: off + mib}); err != nil {
					t.Errorf("a write of promised bytes: %v", err)
					return
				}
				has, off = has-mib, off+mib
				written.Add(mib)
			}
		})
	}
	wg.Go(func() {
		for i := 0; ; i++ {
			_, err := h.v.PutObject(ctx, put("bbb", fmt.Sprint("object", i), chunk))
			if errs.Is(err, errs.NoSpace) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			written.Add(mib)
		}
	})
	wg.Wait()
	if n := written.Load(); n > all || n < all-8*mib {
		t.Fatalf("%d MiB are written to drives of %d MiB", n/mib, all/mib)
	}

	// A PUT takes nothing of what is promised, until it is given back.
	h.smallDrives(all + 6*mib)
	for _, m := range mounts {
		m.s.Promise(ctx, 0)
	}
	promised := int64(0)
	for {
		g, err := mounts[0].s.Promise(ctx, mib)
		if errs.Is(err, errs.NoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		promised += g
	}
	if promised < 3*mib {
		t.Fatalf("%d bytes are promised", promised)
	}
	_, err := h.v.PutObject(ctx, put("bbb", "late", chunk))
	wantKind(t, err, errs.NoSpace)
	_, err = mounts[1].s.Promise(ctx, 1)
	wantKind(t, err, errs.NoSpace)
	if err := mounts[0].s.End(ctx); err != nil {
		t.Fatal(err)
	}
	h.put("bbb", "late", chunk)
	if got := h.get("bbb", "late"); !bytes.Equal(got, chunk) {
		t.Fatal("the late PUT has other content")
	}
}

// TestPromisesOutliveTheServer: a server that restarts gives nothing away that a mount
// of before may have been promised.
func TestPromisesOutliveTheServer(t *testing.T) {
	h := newHarness(t)
	const all = 8 * mib
	h.smallDrives(all)
	h.bucket("bbb")
	m, other := h.mount(), h.mount()
	var promised int64
	for promised < 6*mib {
		g, err := m.s.Promise(ctx, 6*mib-promised)
		if err != nil {
			t.Fatal(err)
		}
		promised += g
	}
	other.s.End(ctx)
	h.open(Options{LeaseTerm: time.Hour})
	done := make(chan error, 1)
	go func() {
		_, err := h.v.PutObject(ctx, put("bbb", "k", random(4*mib)))
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("a PUT did not wait for the mount: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	held := m.Held()
	held.Promised = promised
	s, err := h.v.ResumeMount(ctx, m.s.ID(), m.s.Token(), held, m)
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, <-done, errs.NoSpace)
	a, _, err := s.Create(ctx, m.lookup("bbb").Ino, "f", api.Create{Type: metadata.TypeFile, Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.AcquireWrite(ctx, a.Ino)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(ctx, a.Ino, api.Write{Token: l.Token, Segments: []api.Segment{{Data: random(6 * mib)}}, Size: 6 * mib}); err != nil {
		t.Fatalf("what was promised before the restart: %v", err)
	}
}
