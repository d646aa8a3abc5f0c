package fusefs

import (
	"bytes"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
)

// pattern is n bytes that tell their offset.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// awaitAhead waits until something was read ahead for the file that was opened last,
// and nothing is on its way.
func (m *testMount) awaitAhead(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !m.isAhead(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing was read ahead")
		}
	}
}

func (m *testMount) isAhead() bool {
	h := &m.s.f.handles
	h.mu.RLock()
	defer h.mu.RUnlock()
	last := h.files[h.last]
	return last != nil && last.ahead.settled()
}

// settled reports whether there are pieces, and all are here.
func (a *ahead) settled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pieces {
		if !p.over {
			return false
		}
	}
	return len(a.pieces) > 0 && !a.asking
}

// TestReadAhead: a file that is read in sequence is asked for in larger pieces, and
// one that is read here and there is not.
func TestReadAhead(t *testing.T) {
	const size, step = 8<<20 + 12345, 64 << 10
	v := newFakeVolume()
	m := mountDirect(t, v, nil)
	want := pattern(size)
	must(t, os.WriteFile(m.path("f"), want, 0644))
	m.awaitNoLease(t)
	f, err := os.Open(m.path("f"))
	must(t, err)
	defer f.Close()
	asked := m.count("GetAttr")
	got, p := []byte(nil), make([]byte, step)
	for i := 0; ; i++ {
		if i == 3 {
			m.awaitAhead(t)
		}
		n, err := f.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		must(t, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes, not those that were written", len(got))
	}
	calls := m.count("Read")
	if calls > size/step/2 {
		t.Errorf("%d reads of the volume for %d of the file", calls, size/step)
	}
	// The version that pieces must have is known under the read lease.
	if n := m.count("GetAttr") - asked; n > 1 {
		t.Errorf("the volume was asked for attributes %d times", n)
	}
	for i := range 20 {
		off := (i * 7 % 20) * (size / 20)
		if got := readAt(t, f, int64(off), 100); !bytes.Equal(got, want[off:off+100]) {
			t.Fatalf("at %d: other bytes", off)
		}
	}
	if n := m.count("Read") - calls; n != 20 {
		t.Errorf("%d reads of the volume for 20 here and there", n)
	}
}

// TestReadAheadIsNotStale: whoever changes the file after it was read ahead, by
// whatever operation, a read that begins then shows it.
func TestReadAheadIsNotStale(t *testing.T) {
	const size, step = 1 << 20, 64 << 10
	v := newFakeVolume()
	m, other := mountDirect(t, v, nil), somebody{v.session()}
	for name, change := range map[string]func(t *testing.T, off int64) string{
		"somebody else writes": func(t *testing.T, off int64) string {
			other.overwrite(t, "f", off, "other")
			return "other"
		},
		"this mount writes": func(t *testing.T, off int64) string {
			w, err := os.OpenFile(m.path("f"), os.O_WRONLY, 0)
			must(t, err)
			defer w.Close()
			_, err = w.WriteAt([]byte("ours!"), off)
			must(t, err)
			return "ours!"
		},
		"truncate": func(t *testing.T, off int64) string {
			must(t, os.Truncate(m.path("f"), off+2))
			must(t, os.Truncate(m.path("f"), size))
			return string(pattern(size)[off:off+2]) + "\x00\x00\x00"
		},
		"cut": func(t *testing.T, off int64) string {
			must(t, os.Truncate(m.path("f"), off+3))
			return string(pattern(size)[off : off+3])
		},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.WriteFile(m.path("f"), pattern(size), 0644))
			m.awaitNoLease(t)
			f, err := os.Open(m.path("f"))
			must(t, err)
			defer f.Close()
			for i := range 3 {
				readAt(t, f, int64(i*step), step)
			}
			m.awaitAhead(t)
			want := change(t, 3*step)
			p := make([]byte, 5)
			n, _ := f.ReadAt(p, 3*step)
			if string(p[:n]) != want {
				t.Fatalf("read %q, want %q", p[:n], want)
			}
		})
	}
}

// TestReadAheadWhileChanged: somebody gives the whole file a new content over and
// over. Each read in sequence is of one content, and of none that was over when it
// began.
func TestReadAheadWhileChanged(t *testing.T) {
	const size, step = 512 << 10, 64 << 10
	v := newFakeVolume()
	m, other := mountDirect(t, v, nil), mountFake(t, v, nil)
	must(t, os.WriteFile(m.path("f"), make([]byte, size), 0644))
	m.awaitNoLease(t)
	f, err := os.Open(m.path("f"))
	must(t, err)
	defer f.Close()
	w, err := os.OpenFile(other.path("f"), os.O_WRONLY, 0)
	must(t, err)
	defer w.Close()
	var finished atomic.Int32
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		for i := 1; i < 250; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if _, err := w.WriteAt(bytes.Repeat([]byte{byte(i)}, size), 0); err != nil {
				t.Error(err)
				return
			}
			finished.Store(int32(i))
		}
	})
	for range 30 {
		for off := int64(0); off < size; off += step {
			least := finished.Load()
			p := readAt(t, f, off, step)
			if int32(p[0]) < least || !bytes.Equal(p, bytes.Repeat(p[:1], step)) {
				t.Fatalf("at %d: %d..%d when %d was there", off, p[0], p[step-1], least)
			}
		}
	}
}

// TestReadAheadIsBounded: what all handles have read ahead stays within the mount's
// bound; who reads gets it from who does not.
func TestReadAheadIsBounded(t *testing.T) {
	const most = 2 << 20
	v := newFakeVolume()
	m := mountDirect(t, v, func(o *Options) { o.MaxAhead = most })
	must(t, os.WriteFile(m.path("f"), pattern(4<<20), 0644))
	m.awaitNoLease(t)
	m.setHook(func(op string, _ twofold.Ino) error {
		if n := m.s.f.aheads.inUse(); n > most {
			t.Errorf("%d bytes read ahead", n)
		}
		return nil
	})
	before := 0
	for range 5 { // none is closed before the others have read
		f, err := os.Open(m.path("f"))
		must(t, err)
		defer f.Close()
		for i := range 20 {
			readAt(t, f, int64(i)<<17, 1<<17)
			if i == 3 {
				m.awaitAhead(t)
			}
		}
		if n := m.count("Read") - before; n > 18 {
			t.Errorf("%d reads of the volume for 20 of the file: nothing was read ahead", n)
		}
		before = m.count("Read")
	}
}
