package fusefs

import (
	"bytes"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
)

// mountDirect is mountFake where the kernel can do direct I/O.
func mountDirect(t *testing.T, v *fakeVolume, change func(*Options)) *testMount {
	t.Helper()
	m := mountFake(t, v, change)
	if !m.s.f.direct {
		t.Skip("this kernel can't map files that are open for direct I/O (Linux 6.6 can)")
	}
	return m
}

// TestWriteIsNotSeenBeforeItIsSent: while a write(2) waits for its lease, others of
// the same mount read what was there before, as S3 does.
func TestWriteIsNotSeenBeforeItIsSent(t *testing.T) {
	const size = 8 << 10
	before, after := strings.Repeat("b", size), bytes.Repeat([]byte("a"), size)
	v := newFakeVolume()
	m := mountDirect(t, v, nil)
	must(t, os.WriteFile(m.path("f"), []byte(before), 0644))
	m.awaitNoLease(t)
	r, err := os.Open(m.path("f"))
	must(t, err)
	defer r.Close()
	w, err := os.OpenFile(m.path("f"), os.O_WRONLY, 0)
	must(t, err)
	defer w.Close()
	read := func() string {
		p := make([]byte, size)
		n, _ := r.ReadAt(p, 0)
		return string(p[:n])
	}
	read() // the pages, where there are any
	asked, hang := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "AcquireWrite" && once.CompareAndSwap(false, true) {
			close(asked)
			<-hang
		}
		return nil
	})
	written := make(chan error, 1)
	go func() {
		_, err := w.WriteAt(after, 0)
		written <- err
	}()
	<-asked
	for range 3 {
		if got := read(); got != before {
			t.Errorf("a write(2) that waits is seen: %.10q", got)
		}
	}
	close(hang)
	must(t, <-written)
	if got := read(); got != string(after) {
		t.Errorf("a write(2) that returned is not seen: %.10q", got)
	}
}

// TestMappingAndCalls: one file, mapped and read and written at the same time in one
// mount. Each sees what the other did before.
func TestMappingAndCalls(t *testing.T) {
	for _, c := range []struct {
		name  string
		pages bool
	}{{"direct", false}, {"pages", true}} {
		t.Run(c.name, func(t *testing.T) {
			v := newFakeVolume()
			change := func(o *Options) { o.throughPages = c.pages }
			m, s3 := mountFake(t, v, change), somebody{v.session()}
			must(t, os.WriteFile(m.path("f"), bytes.Repeat([]byte("."), 10000), 0644))
			k := startTalk(t, "mapping", m.path("f"))
			f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			want := func(off int64, text string) {
				t.Helper()
				p := make([]byte, len(text))
				if _, err := f.ReadAt(p, off); err != nil || string(p) != text {
					t.Fatalf("read %q, %v, want %q", p, err, text)
				}
			}
			for _, word := range []string{"one", "two", "six"} {
				k.want("store 100 "+word, "ok") // no msync
				want(100, word)
				k.want("load 300 3", string(readAt(t, f, 300, 3)))
				_, err := f.WriteAt([]byte(word), 300)
				must(t, err)
				k.want("load 300 3", word)
				k.want("load 100 3", word)
				k.want("store 9000 "+word, "ok")
				_, err = f.WriteAt([]byte(word), 9100) // the same page, dirty
				must(t, err)
				got := s3.get(t, "f")
				for _, off := range []int{100, 300, 9000, 9100} {
					if got[off:off+3] != word {
						t.Fatalf("others see %q at %d, want %q", got[off:off+3], off, word)
					}
				}
				s3.overwrite(t, "f", 500, "other"+word)
				want(500, "other"+word)
				k.want("load 500 8", "other"+word)
			}
			k.want("store 9999 !", "ok")
			k.want("munmap", "ok")
			if got := s3.get(t, "f"); got[9999] != '!' {
				t.Fatalf("after munmap others see %q", got[9999])
			}
		})
	}
}

func readAt(t *testing.T, f *os.File, off int64, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	_, err := f.ReadAt(p, off)
	must(t, err)
	return p
}

// TestReadOnlyMappingFollows: pages of a mapping for reading are older than what a
// read(2) shows; they are gone when it returns.
func TestReadOnlyMappingFollows(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountDirect(t, v, nil), somebody{v.session()}
	must(t, os.WriteFile(m.path("f"), bytes.Repeat([]byte("."), 5000), 0644))
	k := startTalk(t, "view", m.path("f"))
	f, err := os.Open(m.path("f"))
	must(t, err)
	defer f.Close()
	for _, word := range []string{"one", "two", "six"} {
		k.say("load 4500 3")
		s3.overwrite(t, "f", 4500, word)
		if got := readAt(t, f, 4500, 3); string(got) != word {
			t.Fatalf("read %q, want %q", got, word)
		}
		k.want("load 4500 3", word)
	}
}

// TestDirectReadTakesNoLease: only a page that a mapping may store to needs the
// lease, so readers of a file that is open for writing in two mounts do not pass the
// lease to and fro.
func TestDirectReadTakesNoLease(t *testing.T) {
	m := mountDirect(t, newFakeVolume(), nil)
	must(t, os.WriteFile(m.path("f"), []byte("content"), 0644))
	m.awaitNoLease(t)
	f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	readAt(t, f, 0, 7)
	if held := m.holder.Held(); len(held.Writes) != 0 {
		t.Fatalf("a read took the lease: %+v", held)
	}
}

// awaitNoLease waits until writers' leases are given back: the kernel tells of a
// file's end a moment after close(2).
func (m *testMount) awaitNoLease(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); len(m.holder.Held().Writes) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a lease is not given back")
		}
	}
}
