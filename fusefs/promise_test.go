package fusefs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
)

// held is what the mount believes to be promised.
func (b *budget) held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.promise.bytes)
}

// kept is what the volume keeps for a session.
func (s *fakeSession) kept() int64 {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	return s.promised
}

func (v *fakeVolume) setRoom(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.room = n
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not happen: %s", what)
		}
	}
}

// TestFullStoreRefusesWrites: write(2) is ENOSPC where there is no space for its
// bytes, and takes none of them; what it took is written by fsync and close.
func TestFullStoreRefusesWrites(t *testing.T) {
	v := newFakeVolume()
	const room = 11<<20 + 12345
	v.setRoom(room)
	a, b := mountFake(t, v, nil), mountFake(t, v, nil)
	chunk := bytes.Repeat([]byte("z"), 100_000)
	var mu sync.Mutex
	sizes := map[string]int{}
	var wg sync.WaitGroup
	for i := range 6 {
		m := []*testMount{a, b}[i%2]
		wg.Go(func() {
			name := fmt.Sprint("f", i)
			f, err := os.Create(m.path(name))
			if err != nil {
				t.Error(err)
				return
			}
			n := 0
			for {
				k, err := f.Write(chunk)
				n += k
				if errors.Is(err, syscall.ENOSPC) {
					break
				}
				if err != nil {
					t.Errorf("write: %v", err)
					break
				}
			}
			if st, err := f.Stat(); err != nil || st.Size() != int64(n) {
				t.Errorf("%d bytes were written, and the file has %v: %v", n, st.Size(), err)
			}
			if err := f.Sync(); err != nil {
				t.Errorf("fsync: %v", err)
			}
			if err := f.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			sizes[name] = n
		})
	}
	wg.Wait()
	all := 0
	for name, n := range sizes {
		all += n
		want := bytes.Repeat(chunk, n/len(chunk)+1)[:n]
		wantFile(t, b.path(name), string(want))
	}
	if all > room || all < room-4<<20 {
		t.Fatalf("%d bytes were taken of %d", all, room)
	}
	v.setRoom(1 << 30)
	must(t, os.WriteFile(a.path("f0"), chunk, 0644))
}

// TestOnePromiseForManyWrites: small writes don't ask each.
func TestOnePromiseForManyWrites(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	f, err := os.Create(m.path("f"))
	must(t, err)
	p := make([]byte, 4096)
	for i := range 3000 {
		_, err := f.WriteAt(p, int64(i%1500)*4096) // the second half over the first
		must(t, err)
	}
	must(t, f.Sync())
	if n := m.count("Promise"); n != 1 {
		t.Fatalf("%d promises for 12 MiB", n)
	}
	if n := m.kept(); n != m.s.f.budget.held() || n > promisePiece-1500*4096 {
		t.Fatalf("the volume keeps %d bytes, the mount believes %d", n, m.s.f.budget.held())
	}
	m.s.f.returnPromise(time.Now().Add(time.Hour))
	await(t, "the promise is given back", func() bool { return m.kept() == 0 })
	_, err = f.WriteAt(p, 0)
	must(t, err)
	m.s.f.returnPromise(time.Now().Add(time.Hour)) // not while something is dirty
	must(t, f.Close())
	if n := m.count("Promise"); n != 3 {
		t.Fatalf("%d calls, want 3: ask, give back, ask", n)
	}
}

// TestOverwritesCountOnce: bytes over dirty ones need no more space.
func TestOverwritesCountOnce(t *testing.T) {
	v := newFakeVolume()
	v.setRoom(1 << 20)
	m := mountFake(t, v, nil)
	f, err := os.Create(m.path("f"))
	must(t, err)
	p := make([]byte, 100_000)
	for range 100 {
		_, err := f.WriteAt(p, 0)
		must(t, err)
	}
	must(t, f.Close())
}

// TestServerWithoutPromises: an older server is written to as before.
func TestServerWithoutPromises(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "Promise" {
			return errs.E("test", errs.Unsupported, nil)
		}
		return nil
	})
	for i := range 3 {
		must(t, os.WriteFile(m.path(fmt.Sprint(i)), []byte("content"), 0644))
		wantFile(t, m.path(fmt.Sprint(i)), "content")
	}
	if n := m.count("Promise"); n != 1 {
		t.Fatalf("it was asked %d times", n)
	}
}

// TestPromiseEndsWithTheSession: what an old session was promised is worth nothing, and
// writes ask again.
func TestPromiseEndsWithTheSession(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	must(t, os.WriteFile(m.path("f"), []byte("one"), 0644))
	m.awaitNoLease(t)
	v.mu.Lock()
	m.promised = 0
	v.mu.Unlock()
	m.s.Holder().Lost(errs.E("test", errs.Fenced, nil))
	if n := m.s.f.budget.held(); n != 0 {
		t.Fatalf("%d bytes of the old promise are left", n)
	}
	failed := false
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "Promise" && !failed {
			failed = true
			return errs.E("test", errs.UnknownOutcome, nil) // the call was under way
		}
		return nil
	})
	must(t, os.WriteFile(m.path("f"), []byte("two"), 0644))
	if m.kept() == 0 || !failed {
		t.Fatal("nothing is promised")
	}
}

// TestMappedStoresAreCovered: what mappings store is counted, and asked for.
func TestMappedStoresAreCovered(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	must(t, os.WriteFile(m.path("f"), bytes.Repeat([]byte("."), 5000), 0644))
	m.awaitNoLease(t)
	m.s.f.returnPromise(time.Now().Add(time.Hour))
	await(t, "the promise is given back", func() bool { return m.kept() == 0 })
	k := startTalk(t, "mapping", m.path("f"))
	k.want("store 10 durable", "ok")
	k.want("msync", "ok")
	await(t, "more is promised", func() bool { return m.kept() > 0 })
	if m.s.f.budget.held() > m.kept() {
		t.Fatalf("the mount believes that %d bytes are promised, of %d", m.s.f.budget.held(), m.kept())
	}
}
